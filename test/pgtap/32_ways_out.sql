-- Each way out that doc/operations.md names, one by one: the situation, the calls of its row, true books after them.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

-- What the calls of a row may name: {n} the order, which is also its gateway and its payment, {ref} its newest refund,
-- {old} its oldest, {open} the open one, {stopped} one that is stopped, {token} the lease of that one, {conflict} its oldest open conflict.
CREATE FUNCTION t.filled(name text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    newest text := t.ref(name, name);
    oldest text := (SELECT r.refund_ref FROM order_timeout.refunds AS r WHERE r.gateway = name ORDER BY r.created_at LIMIT 1);
    open_one order_timeout.refunds := (SELECT r FROM order_timeout.refunds AS r WHERE r.gateway = name AND r.settled_at IS NULL LIMIT 1);
    stopped text := (SELECT r.refund_ref FROM order_timeout.refunds AS r
                      WHERE r.gateway = name AND r.state = 'needs_attention' AND r.last_error LIKE 'stopped:%' LIMIT 1);
    conflict bigint := (SELECT min(c.conflict_id) FROM order_timeout.conflicts AS c WHERE c.gateway = name AND c.resolved_at IS NULL);
BEGIN
    call := replace(call, '{n}', quote_literal(name));
    call := replace(replace(call, '{ref}', quote_nullable(newest)), '{old}', quote_nullable(oldest));
    call := replace(replace(call, '{open}', quote_nullable(open_one.refund_ref)), '{token}', quote_nullable(open_one.lease_token));
    call := replace(call, '{stopped}', quote_nullable(stopped));
    RETURN replace(call, '{conflict}', coalesce(conflict::text, 'NULL'));
END
$$;

-- Calls one after the other; answers their outcomes, or the SQLSTATE of an error.
CREATE FUNCTION t.do(name text, VARIADIC calls text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    call text;
    outcome text;
    outcomes text[];
BEGIN
    FOREACH call IN ARRAY calls LOOP
        BEGIN
            EXECUTE 'SELECT string_agg(CASE jsonb_typeof(to_jsonb(x)) WHEN ''object'' THEN to_jsonb(x) ->> ''outcome'' ELSE x::text END, '','')
                       FROM order_timeout.' || t.filled(name, call) || ' AS x' INTO outcome;
        EXCEPTION WHEN OTHERS THEN
            outcome := SQLSTATE;
        END;
        outcomes := outcomes || nullif(outcome, '');
    END LOOP;
    RETURN array_to_string(outcomes, ' ');
END
$$;

CREATE FUNCTION t.shown(name text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(a.kind, ' ' ORDER BY a.kind), 'nothing') FROM order_timeout.attention AS a
     WHERE a.gateway = $1 OR a.order_id = $1
$$;

-- The order, and any other that has a payment of this gateway; without an order what the payment says.
CREATE FUNCTION t.books(name text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce((SELECT string_agg(t.sums(o.order_id), '; ' ORDER BY o.order_id) FROM order_timeout.orders AS o
                      WHERE o.order_id = $1 OR EXISTS (SELECT FROM order_timeout.payments AS p
                                                        WHERE p.order_id = o.order_id AND p.gateway = $1)),
                    (SELECT format('%s %s = %s + %s + %s + %s', p.disposition, p.amount, p.refunded, p.refund_pending, p.held,
                                   p.amount - p.refunded - p.refund_pending - p.held)
                       FROM order_timeout.payments AS p WHERE p.gateway = $1))
$$;

-- What attention shows before, the outcomes, what funds() says after; nothing is shown any more, and all is accounted for.
CREATE FUNCTION t.way("row" text, name text, before text, outcomes text, books text, VARIADIC calls text[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    seen text := t.shown(name);
    got text := t.do(name, VARIADIC calls);
BEGIN
    RETURN is(concat_ws(' | ', seen, got, t.books(name), t.shown(name),
                        (SELECT string_agg(v::text, ', ') FROM order_timeout.funds_violations() AS v)),
              concat_ws(' | ', before, outcomes, books, 'nothing'), "row");
END
$$;

-- An order of 100 and a payment of it: paid, with a request of 30; late, so that 100 are owed; held; part: 40 of it are
-- paid; orphan: no order.
CREATE FUNCTION t.given(name text, kind text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF kind <> 'orphan' THEN
        PERFORM t.create_order(name, 100, CASE kind WHEN 'held' THEN 'hold' ELSE 'default' END);
    END IF;
    IF kind IN ('late', 'held') THEN
        PERFORM t.expire(name);
    END IF;
    PERFORM t.pay(name, name, CASE kind WHEN 'part' THEN 40 ELSE 100 END, gateway => name);
    IF kind = 'paid' THEN
        PERFORM order_timeout.request_refund(name, 'k', 30);
    END IF;
END
$$;

-- One refund that is owed, of a payment of each kind, at a gateway of its own.
CREATE FUNCTION t.owed(name text, kind text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    most bigint := CASE kind WHEN 'uncounted' THEN 9223372036854775807 ELSE 100 END;
BEGIN
    IF kind IN ('late', 'paid', 'orphan') THEN
        PERFORM t.given(name, kind);
    ELSE
        PERFORM t.create_order(name, most);
    END IF;
    CASE kind
    WHEN 'orphan' THEN PERFORM order_timeout.refund_orphan(name, name);
    WHEN 'expired' THEN PERFORM t.pay(name, name, 40, gateway => name), t.expire(name);
    WHEN 'wrong_currency' THEN PERFORM t.pay(name, name, 100, 'EUR', gateway => name);
    WHEN 'surplus', 'uncounted' THEN PERFORM t.pay(name, name || ' 1', most, gateway => 'first of ' || name), t.pay(name, name, most, gateway => name);
    ELSE
    END CASE;
END
$$;
CREATE FUNCTION t.handed_out(name text, kind text) RETURNS void LANGUAGE sql AS $$
    SELECT t.given($1, $2);
    SELECT t.do($1, 'claim_refunds(''worker'', gateway => {n})');
$$;
CREATE FUNCTION t.succeeded(name text, kind text) RETURNS void LANGUAGE sql AS $$
    SELECT t.handed_out($1, $2);
    SELECT t.do($1, 'complete_refund({open}, ''succeeded'', {token}, ''N'')');
$$;

----------------------------------------------------------------------------------------------------- stopped refunds

SELECT t.handed_out('stop 1', 'paid'), t.do('stop 1', $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('stopped: the money that was reported is this refund', 'stop 1', 'needs_attention', 'recorded',
             'paid 100 = 30 + 0 + 0 + 70', $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.handed_out('stop 1c', 'late'), t.do('stop 1c', $$record_refund({n}, {n}, 'N', 100)$$);
SELECT t.way('stopped: the same, where the report did not fit', 'stop 1c', 'conflict needs_attention', 'recorded',
             'expired 100 = 100 + 0 + 0 + 0', $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.handed_out('stop 2', 'late'), t.do('stop 2', $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$);
SELECT t.way('stopped: a chargeback returned the money, and this refund never will', 'stop 2', 'conflict needs_attention',
             'settled resolved', 'expired 100 = 100 + 0 + 0 + 0',
             $$settle_refund({open}, 'the chargeback returned it')$$, $$resolve_conflict({conflict}, 'the same money')$$);
SELECT t.handed_out('stop 2k', 'late'), t.do('stop 2k', $$complete_refund({open}, 'rejected', {token})$$,
             $$reverse_refund({open}, 'the key is dead')$$, $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('stopped: an earlier key returned the money', 'stop 2k', 'conflict needs_attention', 'settled resolved',
             'expired 100 = 100 + 0 + 0 + 0',
             $$settle_refund({open}, 'the first key returned it')$$, $$resolve_conflict({conflict}, 'once')$$);
SELECT t.handed_out('stop 3', 'paid'), t.do('stop 3', $$record_refund({n}, {n}, 'M', 30)$$);
SELECT t.way('stopped: what was reported is something else, and this refund is still owed', 'stop 3', 'needs_attention', 'retried',
             'paid 100 = 30 + 30 + 0 + 40', $$retry_refund({open})$$);
SELECT t.handed_out('stop 3c', 'late'), t.do('stop 3c', $$record_refund({n}, {n}, 'M', 20)$$);
SELECT t.way('stopped: the same, where the report did not fit', 'stop 3c', 'conflict needs_attention', 'retried resolved',
             'expired 100 = 0 + 100 + 0 + 0', $$retry_refund({open})$$, $$resolve_conflict({conflict}, 'a loss of 20')$$);

--------------------------------------------------------------------------------------------- all other refunds

SELECT t.handed_out('na ' || i, 'late'), t.do('na ' || i, $$complete_refund({open}, 'rejected', {token})$$) FROM generate_series(1, 6) AS i;
SELECT t.way('needs_attention: the refund is done', 'na 1', 'needs_attention', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('needs_attention: the obstacle is gone', 'na 2', 'needs_attention', 'retried', 'expired 100 = 0 + 100 + 0 + 0',
             $$retry_refund({open})$$);
SELECT t.way('needs_attention: the key is not accepted any more', 'na 3', 'needs_attention', 'reversed', 'expired 100 = 0 + 100 + 0 + 0',
             $$reverse_refund({open}, 'the key is dead')$$);
SELECT t.way('needs_attention: impossible, paid another way', 'na 4', 'needs_attention', 'settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$settle_refund({open}, 'by bank transfer')$$);
SELECT t.way('needs_attention: a part was paid another way', 'na 5', 'needs_attention', 'recorded retried', 'expired 100 = 60 + 40 + 0 + 0',
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'transfer 1', refunded_amount => 60)$$, $$retry_refund({open})$$);
SELECT t.way('needs_attention: nobody can be paid any more', 'na 6', 'needs_attention', 'settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$settle_refund({open}, 'to the state, as unclaimed')$$);
SELECT t.succeeded('bounced', 'late'), t.do('bounced', $$reverse_refund({ref}, 'sent back')$$);
SELECT t.way('needs_attention: the bank sent it back, paid another way', 'bounced', 'needs_attention', 'settled',
             'expired 100 = 100 + 0 + 0 + 0', $$settle_refund({open}, 'by bank transfer')$$);
SELECT t.succeeded('not bounced', 'late'), t.do('not bounced', $$reverse_refund({ref}, 'sent back')$$);
SELECT t.way('needs_attention: reverse_refund was a mistake, the buyer has the money', 'not bounced', 'needs_attention', 'settled',
             'expired 100 = 100 + 0 + 0 + 0', $$settle_refund({open}, 'refund N was right')$$);
SELECT is(t.do('not bounced', $$record_refund({n}, {n}, 'N', 100)$$, $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$)
          || ' ' || t.shown('not bounced'), 'duplicate duplicate nothing', 'and the statement agrees');

----------------------------------------------------------------------------------------------------------------- held

SELECT t.given('held ' || i, 'held') FROM generate_series(1, 4) AS i;
SELECT t.way('held: you can deliver', 'held 1', 'held', 'accepted', 'paid 100 = 0 + 0 + 0 + 100', $$resolve_held({n}, {n}, 'accept')$$);
SELECT t.way('held: you cannot', 'held 2', 'held', 'refunded', 'expired 100 = 0 + 100 + 0 + 0', $$resolve_held({n}, {n}, 'refund')$$);
SELECT t.way('held: accept_payment', 'held 3', 'held', 'accepted', 'paid 100 = 0 + 0 + 0 + 100', $$accept_payment({n}, {n})$$);
SELECT t.way('held: the buyer charged it back', 'held 4', 'held', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$);
SELECT t.create_order('short', 100, 'hold'), t.pay('short', 'part', 40, gateway => 'short'), t.expire('short'),
       t.pay('short', 'short', 60, gateway => 'short');
SELECT t.way('held: short, with money of that order that is being refunded', 'short', 'held', 'short accepted',
             'paid 100 = 0 + 0 + 0 + 100', $$resolve_held({n}, {n}, 'accept')$$, $$accept_payment({n}, {n})$$);
SELECT t.create_order('short 2', 100, 'hold'), t.expire('short 2'), t.pay('short 2', 'short 2', 60, gateway => 'short 2');
SELECT t.way('held: short, refund it', 'short 2', 'held', 'short short refunded', 'expired 60 = 0 + 60 + 0 + 0',
             $$resolve_held({n}, {n}, 'accept')$$, $$accept_payment({n}, {n})$$, $$resolve_held({n}, {n}, 'refund')$$);
SELECT t.create_order('short 3', 100, 'hold'), t.expire('short 3'), t.pay('short 3', 'short 3', 60, gateway => 'short 3');
SELECT t.way('held: short, wait for the rest', 'short 3', 'held', 'held accepted', 'paid 100 = 0 + 0 + 0 + 100',
             $$record_payment({n}, {n}, 'rest', 40, 'CNY')$$, $$resolve_held({n}, {n}, 'accept')$$);

--------------------------------------------------------------------------------------------------------------- orphan

SELECT t.given('orphan ' || i, 'orphan') FROM generate_series(1, 4) AS i;
SELECT t.way('orphan: the application creates the order', 'orphan 1', 'orphan', 'created', 'paid 100 = 0 + 0 + 0 + 100',
             $$create_order({n}, 100, 'CNY')$$);
SELECT t.create_order('orphan order', 100);
SELECT t.way('orphan: you find the order', 'orphan 2', 'orphan', 'paid', 'paid 100 = 0 + 0 + 0 + 100', $$assign_orphan({n}, {n}, 'orphan order')$$);
SELECT t.way('orphan: you do not', 'orphan 3', 'orphan', 'refunded', 'orphan 100 = 0 + 100 + 0 + 0', $$refund_orphan({n}, {n})$$);
UPDATE order_timeout.policies SET orphan_after = '1 day' WHERE policy = 'default';
UPDATE order_timeout.payments SET received_at = received_at - interval '2 days' WHERE gateway = 'orphan 4';
SELECT t.way('orphan: the sweeper refunds old ones', 'orphan 4', 'orphan', '', 'orphan 100 = 0 + 100 + 0 + 0', $$sweep_once()$$);
UPDATE order_timeout.policies SET orphan_after = NULL WHERE policy = 'default';

------------------------------------------------------------------------------------------------------------ set_aside

CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', NEW.order_id USING ERRCODE = 'P0042'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.state = 'expired') EXECUTE FUNCTION t.refuse();
SELECT t.create_order('aside ' || i, 100), t.pay('aside ' || i, 'aside ' || i, 40, gateway => 'aside ' || i), t.pass_deadline('aside ' || i)
  FROM generate_series(1, 5) AS i;
SELECT order_timeout.sweep_once();
DROP TRIGGER refuse ON order_timeout.orders;
SELECT t.way('set_aside, an order: expire_order tries now', 'aside 1', 'set_aside', 'expired', 'expired 40 = 0 + 40 + 0 + 0', $$expire_order({n})$$);
SELECT t.way('set_aside, an order: cancel_order', 'aside 2', 'set_aside', 'cancelled', 'cancelled 40 = 0 + 40 + 0 + 0', $$cancel_order({n})$$);
SELECT t.way('set_aside, an order: extend_order', 'aside 3', 'set_aside', 'extended', 'pending 40 = 0 + 0 + 0 + 40',
             $$extend_order({n}, now() + interval '1 day')$$);
SELECT t.way('set_aside, an order: a payment is in time', 'aside 4', 'set_aside', 'paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$record_payment({n}, {n}, 'rest', 60, 'CNY')$$);
UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() WHERE order_id = 'aside 5';
SELECT t.way('set_aside, an order: the sweeper tries again', 'aside 5', 'set_aside', '', 'expired 40 = 0 + 40 + 0 + 0', $$sweep_once()$$);

INSERT INTO order_timeout.policies (policy) VALUES ('gone');
SELECT t.create_order('gone ' || i, 100, 'gone'), t.expire('gone ' || i), t.pay('gone ' || i, 'gone ' || i, 100, gateway => 'gone ' || i)
  FROM generate_series(1, 3) AS i;
SET LOCAL session_replication_role = replica;
DELETE FROM order_timeout.policies WHERE policy = 'gone';
SET LOCAL session_replication_role = origin;
SELECT t.do('gone ' || i, $$claim_refunds('worker', gateway => {n})$$) FROM generate_series(1, 3) AS i;
SELECT t.way('set_aside, a refund: what the gateway says is taken', 'gone 1', 'set_aside', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('set_aside, a refund: paid another way', 'gone 2', 'set_aside', 'stopped settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$stop_refund({open}, 'by hand')$$, $$settle_refund({open}, 'in cash')$$);
INSERT INTO order_timeout.policies (policy) VALUES ('gone');
UPDATE order_timeout.set_aside_refunds SET retry_at = clock_timestamp();
SELECT t.way('set_aside, a refund: workers get it again', 'gone 3', 'set_aside', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$claim_refunds('worker', gateway => {n})$$, $$complete_refund({open}, 'succeeded', {token}, 'N')$$);

------------------------------------------------------------------------------------------------------------- conflicts

SELECT t.succeeded('c failed', 'paid'), t.do('c failed', $$complete_refund({ref}, 'failed')$$);
SELECT t.way('conflict: it failed after all', 'c failed', 'conflict', 'reversed retried', 'paid 100 = 0 + 30 + 0 + 70',
             $$reverse_refund({ref}, 'it failed')$$, $$retry_refund({open})$$);
SELECT t.given('c failed x', 'paid'), t.do('c failed x', $$record_refund({n}, {n}, 'N', 50)$$, $$complete_refund({ref}, 'failed')$$);
SELECT t.way('conflict: what record_refund recorded failed after all', 'c failed x', 'conflict', 'reversed', 'paid 100 = 0 + 30 + 0 + 70',
             $$reverse_chargeback({n}, 'N', 'it failed')$$);
SELECT t.succeeded('c not failed', 'paid'), t.do('c not failed', $$complete_refund({ref}, 'failed')$$);
SELECT t.way('conflict: it failed after all, which is not true', 'c not failed', 'conflict', 'resolved', 'paid 100 = 30 + 0 + 0 + 70',
             $$resolve_conflict({conflict}, 'the buyer has it')$$);
SELECT t.handed_out('c twice', 'late'), t.do('c twice', $$complete_refund({open}, 'rejected', {token})$$, $$reverse_refund({open}, 'dead')$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$, $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'M')$$);
SELECT t.way('conflict: reversed, and both keys returned it', 'c twice', 'conflict', 'resolved', 'expired 100 = 100 + 0 + 0 + 0',
             $$resolve_conflict({conflict}, 'a loss of 100')$$);
SELECT t.handed_out('c twice k', 'paid'), t.do('c twice k', $$complete_refund({open}, 'rejected', {token})$$, $$reverse_refund({open}, 'dead')$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$, $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'M')$$);
SELECT t.way('conflict: the same, out of what is kept', 'c twice k', 'conflict', 'resolved', 'paid 100 = 60 + 0 + 0 + 40',
             $$resolve_conflict({conflict}, 'it went twice', book => true)$$);
SELECT t.handed_out('c hand', 'late'), t.do('c hand', $$complete_refund({open}, 'rejected', {token})$$, $$settle_refund({open}, 'in cash')$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('conflict: settled by hand, and the gateway returned it too', 'c hand', 'conflict', 'resolved', 'expired 100 = 100 + 0 + 0 + 0',
             $$resolve_conflict({conflict}, 'a loss of 100')$$);
SELECT t.succeeded('c more', 'paid'), t.do('c more', $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 50)$$);
SELECT t.way('conflict: more than it was asked for, kept', 'c more', 'conflict', 'resolved', 'paid 100 = 50 + 0 + 0 + 50',
             $$resolve_conflict({conflict}, 'they did', book => true)$$);
SELECT t.handed_out('c more 2', 'paid'), t.do('c more 2', $$complete_refund({open}, 'succeeded', {token}, 'N', refunded_amount => 150)$$);
SELECT t.way('conflict: more than this payment', 'c more 2', 'conflict', 'OT004 resolved', 'paid 100 = 100 + 0 + 0 + 0',
             $$resolve_conflict({conflict}, 'too much', book => true)$$, $$resolve_conflict({conflict}, 'a loss of 50')$$);
SELECT t.handed_out('c left', 'paid'), t.do('c left', $$record_refund({n}, {n}, 'M', 80)$$);
SELECT t.way('conflict: more than this payment has left, our refund is part of it', 'c left', 'conflict needs_attention', 'settled resolved',
             'paid 100 = 100 + 0 + 0 + 0', $$settle_refund({open}, 'M returned it as well')$$, $$resolve_conflict({conflict}, '10 of M')$$);
SELECT t.handed_out('c left k', 'paid'), t.do('c left k', $$request_refund({n}, 'k2', 70)$$, $$record_refund({n}, {n}, 'M', 80)$$);
SELECT t.way('conflict: more than this payment has left, our refund is still owed', 'c left k', 'conflict needs_attention',
             'retried OT004 resolved', 'paid 100 = 70 + 30 + 0 + 0', $$retry_refund({open})$$,
             $$resolve_conflict({conflict}, 'too much', book => true)$$, $$resolve_conflict({conflict}, 'a loss of 10')$$);
SELECT t.handed_out('c once', 'paid'), t.do('c once', $$complete_refund({open}, 'succeeded', {token})$$, $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('conflict: counted once, it went once', 'c once', 'conflict', 'resolved', 'paid 100 = 30 + 0 + 0 + 70',
             $$resolve_conflict({conflict}, 'once')$$);
SELECT t.handed_out('c once 2', 'paid'), t.do('c once 2', $$complete_refund({open}, 'succeeded', {token})$$, $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('conflict: counted once, it went twice', 'c once 2', 'conflict', 'resolved', 'paid 100 = 60 + 0 + 0 + 40',
             $$resolve_conflict({conflict}, 'twice', book => true)$$);
SELECT t.given('c several', 'paid'), t.do('c several', $$request_refund({n}, 'k2', 30)$$, $$claim_refunds('w', gateway => {n})$$,
             $$complete_refund({ref}, 'succeeded')$$, $$complete_refund({old}, 'succeeded')$$, $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('conflict: may be one of several, it was', 'c several', 'conflict', 'reversed', 'paid 100 = 60 + 0 + 0 + 40',
             $$reverse_chargeback({n}, 'N', 'it was one of ours')$$);
SELECT t.given('c several 2', 'paid'), t.do('c several 2', $$request_refund({n}, 'k2', 30)$$, $$claim_refunds('w', gateway => {n})$$,
             $$complete_refund({ref}, 'succeeded')$$, $$complete_refund({old}, 'succeeded')$$, $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('conflict: may be one of several, it was one more', 'c several 2', 'conflict', 'resolved', 'paid 100 = 90 + 0 + 0 + 10',
             $$resolve_conflict({conflict}, 'three times')$$);
SELECT t.succeeded('c two', 'paid'), t.do('c two', $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'M')$$);
SELECT t.way('conflict: two numbers, one money', 'c two', 'conflict', 'resolved', 'paid 100 = 30 + 0 + 0 + 70', $$resolve_conflict({conflict}, 'once')$$);
SELECT t.succeeded('c two 2', 'paid'), t.do('c two 2', $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'M')$$);
SELECT t.way('conflict: two numbers, twice', 'c two 2', 'conflict', 'resolved', 'paid 100 = 60 + 0 + 0 + 40', $$resolve_conflict({conflict}, 'twice', book => true)$$);

SELECT t.given('c swap', 'paid'), t.do('c swap', $$request_refund({n}, 'k2', 20)$$, $$claim_refunds('w', gateway => {n})$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$, $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('conflict: a number of another refund, and this one succeeded too', 'c swap', 'conflict needs_attention', 'recorded resolved',
             'paid 100 = 50 + 0 + 0 + 50', $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'M')$$,
             $$resolve_conflict({conflict}, 'M was meant')$$);
SELECT t.given('c swap 2', 'paid'), t.do('c swap 2', $$request_refund({n}, 'k2', 20)$$, $$claim_refunds('w', gateway => {n})$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$, $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.way('conflict: a number of another refund, and this one is still owed', 'c swap 2', 'conflict needs_attention', 'retried resolved',
             'paid 100 = 30 + 20 + 0 + 50', $$retry_refund({open})$$, $$resolve_conflict({conflict}, 'a wrong report')$$);
SELECT t.given(name, 'paid'), t.pay(name, name || ' 2', 100, gateway => name), t.do(name, $$record_refund({n}, {n}, 'N', 50)$$,
             format($$record_refund({n}, '%s 2', 'N', 50)$$, name)) FROM unnest(ARRAY['c other', 'c other n']) AS name;
SELECT t.way('conflict: a number of another payment, and this one is right', 'c other', 'conflict needs_attention',
             'reversed recorded retried resolved', 'paid 200 = 50 + 80 + 0 + 70', $$reverse_chargeback({n}, 'N', 'wrong payment')$$,
             $$record_refund({n}, 'c other 2', 'N corrected', 50)$$, $$retry_refund({stopped})$$, $$resolve_conflict({conflict}, 'corrected')$$);
SELECT t.way('conflict: a number of another payment, and the first one is right', 'c other n', 'conflict needs_attention',
             'retried resolved', 'paid 200 = 50 + 100 + 0 + 50', $$retry_refund({stopped})$$, $$resolve_conflict({conflict}, 'a wrong report')$$);
SELECT t.succeeded('c part', 'paid'), t.do('c part', $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 150)$$);
SELECT t.way('conflict: more than it was asked for, of which a part is kept', 'c part', 'conflict', 'OT004 recorded resolved',
             'paid 100 = 100 + 0 + 0 + 0', $$resolve_conflict({conflict}, 'too much', book => true)$$,
             $$record_refund({n}, {n}, 'N excess', 70)$$, $$resolve_conflict({conflict}, '70 recorded, 50 lost')$$);
SELECT t.handed_out('c rest', 'late'), t.do('c rest', $$complete_refund({open}, 'succeeded', {token}, 'N', refunded_amount => 90)$$,
             $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 100)$$);
SELECT t.way('conflict: more than it was asked for, and the rest of it is still open', 'c rest', 'conflict needs_attention', 'settled resolved',
             'expired 100 = 100 + 0 + 0 + 0', $$settle_refund({stopped}, 'N returned it')$$,
             $$resolve_conflict({conflict}, 'all of it went')$$);
SELECT t.given('c orphan', 'orphan'), t.do('c orphan', $$record_refund({n}, {n}, 'N', 150)$$);
SELECT t.way('conflict: more than an orphan', 'c orphan', 'conflict', 'resolved', 'orphan 100 = 100 + 0 + 0 + 0',
             $$resolve_conflict({conflict}, 'a loss of 50')$$);
SELECT t.handed_out(name, 'paid'), t.do(name, $$record_refund({n}, {n}, 'N', 20)$$, $$complete_refund({open}, 'succeeded', {token}, 'N')$$)
  FROM unnest(ARRAY['c less', 'c less all']) AS name;
SELECT t.way('conflict: less than recorded, the rest is owed', 'c less', 'conflict needs_attention', 'retried resolved',
             'paid 100 = 20 + 10 + 0 + 70', $$retry_refund({open})$$, $$resolve_conflict({conflict}, '20 went')$$);
SELECT t.way('conflict: less than recorded, all of it went', 'c less all', 'conflict needs_attention', 'settled resolved',
             'paid 100 = 30 + 0 + 0 + 70', $$settle_refund({open}, 'N returned it')$$, $$resolve_conflict({conflict}, '30 went')$$);
SELECT is((SELECT count(DISTINCT problem) FROM order_timeout.conflicts), 11::bigint, 'each problem that tables.md lists was here');

------------------------------------------------------------------------------------------------------ a refund is stuck

SELECT t.given('s pending', 'late');
SELECT t.way('stuck: pending, start a worker', 's pending', 'nothing', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$claim_refunds('worker', gateway => {n})$$, $$complete_refund({open}, 'succeeded', {token}, 'N')$$);
SELECT t.handed_out('s lapse', 'late'), t.lapse_leases();
SELECT t.way('stuck: processing, wait until leased_until', 's lapse', 'nothing', 'recorded', 'expired 100 = 100 + 0 + 0 + 0',
             $$claim_refunds('worker', gateway => {n})$$, $$complete_refund({open}, 'succeeded', {token}, 'N')$$);
SELECT t.handed_out('s processing', 'late');
SELECT t.way('stuck: processing, sooner', 's processing', 'nothing', 'stopped retried', 'expired 100 = 0 + 100 + 0 + 0',
             $$stop_refund({open}, 'the worker died')$$, $$retry_refund({open})$$);
SELECT t.handed_out('s submitted ' || i, 'late'), t.do('s submitted ' || i, $$complete_refund({open}, 'submitted', {token})$$)
  FROM generate_series(1, 2) AS i;
SELECT t.way('stuck: submitted, it failed', 's submitted 1', 'nothing', 'recorded', 'expired 100 = 0 + 100 + 0 + 0',
             $$complete_refund({open}, 'failed')$$);
SELECT t.way('stuck: submitted, it was rejected', 's submitted 2', 'nothing', 'recorded settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$complete_refund({open}, 'rejected')$$, $$settle_refund({open}, 'in cash')$$);
SELECT t.handed_out('s ' || s, 'late'), t.do('s ' || s, format($$complete_refund({open}, '%s', {token})$$, s)) FROM unnest(ARRAY['unknown', 'failed']) AS s;
SELECT t.way('stuck: ' || s || ', now', 's ' || s, 'nothing', 'stopped retried', 'expired 100 = 0 + 100 + 0 + 0',
             $$stop_refund({open}, 'now')$$, $$retry_refund({open})$$) FROM unnest(ARRAY['unknown', 'failed']) AS s;
SELECT t.succeeded('s bounced', 'late');
SELECT t.way('stuck: succeeded, but the buyer has nothing', 's bounced', 'nothing', 'reversed settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$reverse_refund({ref}, 'bounced')$$, $$settle_refund({open}, 'in cash')$$);
SELECT t.given('s won ' || k, k), t.do('s won ' || k, $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$) FROM unnest(ARRAY['paid', 'late']) AS k;
SELECT t.way('stuck: recorded by record_refund, but no money went', 's won paid', 'nothing', 'reversed', 'paid 100 = 0 + 30 + 0 + 70',
             $$reverse_chargeback({n}, 'C', 'won')$$);
SELECT t.way('stuck: the same, of a closed order', 's won late', 'nothing', 'reversed retried', 'expired 100 = 0 + 100 + 0 + 0',
             $$reverse_chargeback({n}, 'C', 'won')$$, $$retry_refund({open})$$);

-- Each open state, whether the gateway may have the refund or not, stopped or not: each thing that may be wanted of it.
CREATE TABLE t.situation (situation text PRIMARY KEY, acts text[]);
INSERT INTO t.situation VALUES
    ('pending, clear', '{}'),
    ('processing', ARRAY['claim_refunds(''worker'', gateway => {n})']);
INSERT INTO t.situation SELECT v.situation, s.acts || v.acts
  FROM (VALUES ('submitted', ARRAY['complete_refund({open}, ''submitted'', {token})']),
               ('unknown', ARRAY['complete_refund({open}, ''unknown'', {token})']),
               ('failed, clear', ARRAY['complete_refund({open}, ''failed'', {token})']),
               ('needs_attention, clear', ARRAY['complete_refund({open}, ''rejected'', {token})']),
               ('pending, out', ARRAY['complete_refund({open}, ''unknown'', {token})', 'claim_refunds(''worker'', gateway => {n})',
                                      'complete_refund({open}, ''deferred'', {token})'])) AS v (situation, acts), t.situation AS s
 WHERE s.situation = 'processing';
INSERT INTO t.situation SELECT s.situation || ', stopped', s.acts || 'stop_refund({open}, ''look first'')'::text FROM t.situation AS s
 WHERE s.situation NOT LIKE 'needs_attention%';
CREATE TABLE t.wanted (wanted text PRIMARY KEY, kinds text[], goal text, acts text[]);
INSERT INTO t.wanted VALUES
    ('the gateway shows it as done', ARRAY['late', 'expired', 'paid', 'surplus', 'wrong_currency', 'uncounted', 'orphan'], 'back',
     ARRAY['complete_refund({open}, ''succeeded'', gateway_refund_ref => ''N'')']),
    ('to send it again now', ARRAY['late', 'expired', 'paid', 'surplus', 'wrong_currency', 'uncounted', 'orphan'], 'owed',
     ARRAY['stop_refund({open}, ''why'')', 'retry_refund({open})']),
    ('to give it a new key', ARRAY['late', 'expired', 'paid', 'surplus', 'wrong_currency', 'uncounted', 'orphan'], 'owed',
     ARRAY['stop_refund({open}, ''why'')', 'reverse_refund({open}, ''why'')', 'stop_refund({open}, ''why'')', 'retry_refund({open})']),
    ('to pay another way', ARRAY['late', 'expired', 'paid', 'surplus', 'wrong_currency', 'uncounted', 'orphan'], 'back',
     ARRAY['stop_refund({open}, ''why'')', 'settle_refund({open}, ''in cash'')']),
    ('to keep the money of a closed order', ARRAY['late'], 'kept',
     ARRAY['stop_refund({open}, ''why'')', 'complete_refund({open}, ''failed'', {token})', 'accept_payment({n}, {n})']),
    ('to keep the money of a requested refund', ARRAY['paid'], 'kept',
     ARRAY['stop_refund({open}, ''why'')', 'complete_refund({open}, ''failed'', {token})', 'withdraw_refund({open}, ''why'')']),
    ('to undo a success', ARRAY['late', 'expired', 'paid', 'surplus', 'wrong_currency', 'uncounted', 'orphan'], 'owed',
     ARRAY['complete_refund({open}, ''succeeded'', gateway_refund_ref => ''N'')', 'complete_refund({ref}, ''failed'')',
           'reverse_refund({ref}, ''it failed'')', 'retry_refund({open})']);
CREATE FUNCTION t.all_due_now(name text) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.refunds AS r SET next_attempt_at = clock_timestamp() WHERE r.gateway = $1 AND r.state = 'unknown'
$$;
-- Answers what is wrong afterwards.
CREATE FUNCTION t.tried(s t.situation, w t.wanted, kind text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text := format('%s, %s, %s', s.situation, w.wanted, kind);
    act text;
    owed bigint;
    is_state text;
    p order_timeout.payments;
BEGIN
    PERFORM t.owed(name, kind);
    FOREACH act IN ARRAY s.acts LOOP
        PERFORM t.all_due_now(name), t.do(name, act);
    END LOOP;
    SELECT r.amount, r.state INTO owed, is_state FROM order_timeout.refunds AS r WHERE r.gateway = name;
    IF is_state <> (CASE WHEN s.situation LIKE '%stopped' THEN 'needs_attention' ELSE split_part(s.situation, ',', 1) END) THEN
        RETURN name || ': did not come about, it is ' || is_state;
    END IF;
    PERFORM t.do(name, VARIADIC w.acts);
    SELECT * INTO p FROM order_timeout.payments AS x WHERE x.gateway = name;
    RETURN (SELECT name || ': ' || concat_ws(', ', p.refunded, p.refund_pending, p.held, t.shown(name))
             WHERE (p.refunded, p.refund_pending, p.held, t.shown(name))
                   IS DISTINCT FROM (CASE w.goal WHEN 'back' THEN owed ELSE 0 END, CASE w.goal WHEN 'owed' THEN owed ELSE 0 END, 0::bigint, 'nothing'));
END
$$;
SELECT is((SELECT string_agg(t.tried(s, w, k), '; ') FROM unnest(w.kinds) AS k), NULL, s.situation || ': ' || w.wanted)
  FROM t.situation AS s, t.wanted AS w ORDER BY s.situation, w.wanted;
SELECT t.sound('each thing wanted of each open refund');

-------------------------------------------------------------------------------------------------- a refund is recorded wrong

SELECT t.succeeded('w less', 'late'), t.do('w less', $$record_refund({n}, {n}, 'N', 90)$$);
SELECT t.way('recorded wrong: less went, the rest is owed', 'w less', 'conflict', 'reversed recorded retried resolved',
             'expired 100 = 90 + 10 + 0 + 0', $$reverse_refund({ref}, 'only 90')$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N corrected', refunded_amount => 90)$$,
             $$retry_refund({open})$$, $$resolve_conflict({conflict}, 'corrected')$$);
SELECT is(t.do('w less', $$record_refund({n}, {n}, 'N', 90)$$, $$record_refund({n}, {n}, 'N', 100)$$,
               $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N')$$,
               $$complete_refund({old}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 90)$$) || ' ' || t.shown('w less'),
          'conflict duplicate duplicate conflict nothing', 'the reports again: nothing more is shown');
SELECT t.succeeded('w less s', 'late');
SELECT t.way('recorded wrong: the same, noticed in the statement, the rest paid another way', 'w less s', 'nothing', 'reversed recorded settled',
             'expired 100 = 100 + 0 + 0 + 0', $$reverse_refund({ref}, 'only 90')$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N corrected', refunded_amount => 90)$$,
             $$settle_refund({open}, 'in cash')$$);
SELECT t.succeeded('w less k', 'paid');
SELECT t.way('recorded wrong: less went, and the rest is not wanted', 'w less k', 'nothing', 'reversed withdrawn recorded',
             'paid 100 = 20 + 0 + 0 + 80', $$reverse_refund({ref}, 'only 20')$$, $$withdraw_refund({open}, '20 is enough')$$,
             $$record_refund({n}, {n}, 'N corrected', 20)$$);
SELECT t.succeeded('w less r', 'paid');
SELECT t.way('recorded wrong: the same, the rest being owed already', 'w less r', 'nothing', 'reversed recorded withdrawn',
             'paid 100 = 20 + 0 + 0 + 80', $$reverse_refund({ref}, 'only 20')$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N corrected', refunded_amount => 20)$$,
             $$withdraw_refund({open}, '20 is enough')$$);
SELECT t.given('w less b', 'paid'), t.do('w less b', $$record_refund({n}, {n}, 'N', 30)$$);
SELECT t.way('recorded wrong: record_refund took the place of a request that is not wanted any more', 'w less b', 'nothing', 'reversed withdrawn',
             'paid 100 = 0 + 0 + 0 + 100', $$reverse_chargeback({n}, 'N', 'it bounced')$$, $$withdraw_refund({open}, 'nothing is wanted')$$);
SELECT t.given('w less x', 'paid'), t.do('w less x', $$record_refund({n}, {n}, 'X', 50)$$, $$record_refund({n}, {n}, 'X', 40)$$);
SELECT t.way('recorded wrong: by record_refund, less went', 'w less x', 'conflict', 'reversed recorded', 'paid 100 = 40 + 0 + 0 + 60',
             $$reverse_chargeback({n}, 'X', 'only 40')$$, $$record_refund({n}, {n}, 'X corrected', 40)$$);
SELECT t.given('w less o', 'late'), t.do('w less o', $$record_refund({n}, {n}, 'X', 100)$$);
SELECT t.way('recorded wrong: the same, of a closed order', 'w less o', 'nothing', 'reversed recorded retried', 'expired 100 = 90 + 10 + 0 + 0',
             $$reverse_chargeback({n}, 'X', 'only 90')$$, $$record_refund({n}, {n}, 'X corrected', 90)$$, $$retry_refund({open})$$);
SELECT t.succeeded('w more', 'paid');
SELECT t.way('recorded wrong: more went', 'w more', 'nothing', 'conflict resolved', 'paid 100 = 50 + 0 + 0 + 50',
             $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 50)$$,
             $$resolve_conflict({conflict}, '50 went', book => true)$$);
SELECT t.succeeded('w part', 'late');
SELECT t.way('recorded wrong: a part bounced', 'w part', 'nothing', 'reversed recorded settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$reverse_refund({ref}, '40 came back')$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N corrected', refunded_amount => 60)$$,
             $$settle_refund({open}, 'by bank transfer')$$);
SELECT t.given('w won ' || k, k), t.do('w won ' || k, $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$) FROM unnest(ARRAY['paid', 'late']) AS k;
SELECT t.way('recorded wrong: a chargeback was won in part', 'w won paid', 'nothing', 'reversed recorded', 'paid 100 = 40 + 0 + 0 + 60',
             $$reverse_chargeback({n}, 'C', '60 came back')$$, $$record_refund({n}, {n}, 'C corrected', 40, 'chargeback')$$);
SELECT t.way('recorded wrong: the same, of a closed order', 'w won late', 'nothing', 'reversed recorded retried', 'expired 100 = 40 + 60 + 0 + 0',
             $$reverse_chargeback({n}, 'C', '60 came back')$$, $$record_refund({n}, {n}, 'C corrected', 40, 'chargeback')$$,
             $$retry_refund({open})$$);
SELECT t.given('w again', 'paid'), t.do('w again', $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$, $$reverse_chargeback({n}, 'C')$$);
SELECT t.way('recorded wrong: reverse_chargeback was a mistake', 'w again', 'nothing', 'recorded', 'paid 100 = 100 + 0 + 0 + 0',
             $$record_refund({n}, {n}, 'C corrected', 100, 'chargeback')$$);
SELECT t.succeeded('w reversed', 'late'), t.do('w reversed', $$reverse_refund({ref}, 'bounced')$$, $$retry_refund({open})$$);
SELECT t.way('recorded wrong: reverse_refund was a mistake', 'w reversed', 'nothing', 'stopped settled', 'expired 100 = 100 + 0 + 0 + 0',
             $$stop_refund({open}, 'N was right')$$, $$settle_refund({open}, 'N was right')$$);
SELECT t.handed_out('w settled', 'late'), t.do('w settled', $$stop_refund({open}, 'why')$$, $$settle_refund({open}, 'in cash')$$);
SELECT t.way('recorded wrong: settle_refund was a mistake', 'w settled', 'nothing', 'reversed retried', 'expired 100 = 0 + 100 + 0 + 0',
             $$reverse_refund({ref}, 'nothing was paid')$$, $$retry_refund({open})$$);
SELECT t.handed_out('w retried', 'paid'), t.do('w retried', $$record_refund({n}, {n}, 'N', 30)$$, $$retry_refund({open})$$);
SELECT t.way('recorded wrong: retry_refund was a mistake', 'w retried', 'nothing', 'stopped recorded', 'paid 100 = 30 + 0 + 0 + 70',
             $$stop_refund({open}, 'N was this one')$$, $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.given('w withdrawn', 'paid'), t.do('w withdrawn', $$withdraw_refund({open}, 'why')$$);
SELECT t.way('recorded wrong: withdraw_refund was a mistake', 'w withdrawn', 'nothing', 'accepted', 'paid 100 = 0 + 30 + 0 + 70',
             $$request_refund({n}, 'k again', 30)$$);
SELECT t.succeeded(name, 'paid'), t.do(name, $$complete_refund({ref}, 'succeeded', gateway_refund_ref => 'N', refunded_amount => 50)$$,
             format($$resolve_conflict({conflict}, 'why', book => %L)$$, name = 'w booked')) FROM unnest(ARRAY['w booked', 'w not booked']) AS name;
SELECT t.way('recorded wrong: resolved with book, by mistake', 'w booked', 'nothing', 'reversed', 'paid 100 = 30 + 0 + 0 + 70',
             $$reverse_chargeback({n}, NULL, 'why', refund_ref => {ref})$$);
SELECT is((SELECT c.booked_by FROM order_timeout.conflicts AS c WHERE c.gateway = 'w booked'), t.ref('w booked', 'w booked'), 'booked_by names it');
SELECT t.way('recorded wrong: resolved without book, by mistake', 'w not booked', 'nothing', 'recorded', 'paid 100 = 50 + 0 + 0 + 50',
             $$record_refund({n}, {n}, 'N excess', 20)$$);
SELECT t.handed_out('w once', 'paid'), t.do('w once', $$complete_refund({open}, 'succeeded', {token})$$);
SELECT t.way('recorded wrong: a number of your own is taken for a refund without one', 'w once', 'nothing', 'conflict resolved',
             'paid 100 = 60 + 0 + 0 + 40', $$record_refund({n}, {n}, 'M corrected', 30)$$,
             $$resolve_conflict({conflict}, 'it is money of its own', book => true)$$);
SELECT t.given('w by hand', 'late');
SELECT t.way('recorded wrong: a part was paid another way', 'w by hand', 'nothing', 'stopped recorded retried', 'expired 100 = 60 + 40 + 0 + 0',
             $$stop_refund({open}, 'paid a part')$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'transfer 1', refunded_amount => 60)$$, $$retry_refund({open})$$);

----------------------------------------------------------------------------------------------- an order or a payment is wrong

SELECT t.given('o short ' || i, 'part') FROM generate_series(1, 3) AS i;
SELECT t.way('order: pending, too little was paid: accept it', 'o short 1', 'nothing', 'accepted', 'paid 40 = 0 + 0 + 0 + 40', $$accept_short({n}, 'why')$$);
SELECT t.way('order: pending, too little was paid: wait', 'o short 2', 'nothing', 'extended paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$extend_order({n}, now() + interval '1 day')$$, $$record_payment({n}, {n}, 'rest', 60, 'CNY')$$);
SELECT t.way('order: pending, too little was paid: cancel', 'o short 3', 'nothing', 'cancelled', 'cancelled 40 = 0 + 40 + 0 + 0', $$cancel_order({n})$$);
SELECT t.given('o paid', 'paid');
SELECT t.way('order: paid, and must not be delivered', 'o paid', 'nothing', 'accepted', 'paid 100 = 0 + 100 + 0 + 0', $$request_refund({n}, 'all')$$);
SELECT t.given('o short 4', 'part'), t.do('o short 4', $$accept_short({n}, 'why')$$);
SELECT t.way('order: accept_short was a mistake', 'o short 4', 'nothing', 'accepted created', 'paid 40 = 0 + 40 + 0 + 0',
             $$request_refund({n}, 'all')$$, $$create_order('o short 4 again', 100, 'CNY')$$);
SELECT t.given('o late', 'late');
SELECT t.way('order: closed, deliver after all', 'o late', 'nothing', 'accepted', 'paid 100 = 0 + 0 + 0 + 100', $$accept_payment({n}, {n})$$);
SELECT t.given('o cancelled', 'part'), t.cancel('o cancelled');
SELECT t.way('order: closed with a part payment, deliver after all', 'o cancelled', 'nothing', 'short late accepted', 'paid 100 = 0 + 0 + 0 + 100',
             $$accept_payment({n}, {n})$$, $$record_payment({n}, {n}, 'rest', 60, 'CNY')$$, $$accept_payment({n}, {n})$$);
SELECT t.handed_out('o out', 'late');
SELECT t.way('order: closed, deliver, and the gateway may have the refund', 'o out', 'nothing', 'too_late stopped recorded accepted',
             'paid 100 = 0 + 0 + 0 + 100', $$accept_payment({n}, {n})$$, $$stop_refund({open}, 'we deliver')$$,
             $$complete_refund({open}, 'failed', {token})$$, $$accept_payment({n}, {n})$$);
SELECT t.succeeded('o bounced', 'late');
SELECT t.way('order: closed, deliver, and the refund bounced', 'o bounced', 'nothing', 'reversed accepted', 'paid 100 = 0 + 0 + 0 + 100',
             $$reverse_refund({ref}, 'bounced')$$, $$accept_payment({n}, {n})$$);
SELECT t.succeeded('o back', 'late');
SELECT t.way('order: closed, deliver, and the money is back', 'o back', 'nothing', 'too_late created paid',
             'expired 100 = 100 + 0 + 0 + 0; paid 100 = 0 + 0 + 0 + 100', $$accept_payment({n}, {n})$$,
             $$create_order('o back 2', 100, 'CNY')$$, $$record_payment('o back 2', {n}, 'new', 100, 'CNY')$$);
SELECT t.given('o charged ' || k, k) FROM unnest(ARRAY['paid', 'part']) AS k;
SELECT t.way('order: the money was taken back', 'o charged paid', 'nothing', 'recorded', 'paid 100 = 100 + 0 + 0 + 0',
             $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$);
SELECT t.way('order: the money was taken back, of a pending order', 'o charged part', 'nothing', 'recorded paid', 'paid 140 = 40 + 0 + 0 + 100',
             $$record_refund({n}, {n}, 'C', 40, 'chargeback')$$, $$record_payment({n}, {n}, 'new', 100, 'CNY')$$);
SELECT t.given('o held', 'held'), t.do('o held', $$resolve_held({n}, {n}, 'refund')$$);
SELECT t.way('order: resolve_held with refund was a mistake', 'o held', 'nothing', 'accepted', 'paid 100 = 0 + 0 + 0 + 100', $$accept_payment({n}, {n})$$);
SELECT t.owed('p ' || k, k) FROM unnest(ARRAY['late', 'surplus', 'wrong_currency', 'uncounted']) AS k;
SELECT t.way('payment: ' || k || ', its refund goes on', 'p ' || k, 'nothing', 'recorded', v.books, $$claim_refunds('worker', gateway => {n})$$,
             $$complete_refund({open}, 'succeeded', {token}, 'N')$$)
  FROM (VALUES ('late', 'expired 100 = 100 + 0 + 0 + 0'), ('surplus', 'paid 200 = 100 + 0 + 0 + 100'), ('wrong_currency', 'pending 0 = 0 + 0 + 0 + 0'),
               ('uncounted', 'paid 9223372036854775807 = 0 + 0 + 0 + 9223372036854775807')) AS v (k, books);

-- of the wrong order
SELECT t.create_order('wrong ' || i, 100), t.create_order('right ' || i, 100), t.given('a ' || i, 'orphan'),
       t.do('a ' || i, format($$assign_orphan({n}, {n}, 'wrong %s')$$, i)) FROM generate_series(1, 2) AS i;
SELECT t.way('payment: of the wrong order, which it paid', 'a 1', 'nothing', 'accepted recorded paid',
             'paid 100 = 0 + 0 + 0 + 100; paid 100 = 100 + 0 + 0 + 0', $$request_refund('wrong 1', 'not its own', payment_ref => {n}, gateway => {n})$$,
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$, $$record_payment('right 1', {n}, 'again', 100, 'CNY')$$);
SELECT t.way('payment: of the wrong order, moved', 'a 2', 'nothing', 'accepted stopped settled paid', 'paid 100 = 100 + 0 + 0 + 0',
             $$request_refund('wrong 2', 'not its own', payment_ref => {n}, gateway => {n})$$, $$stop_refund({open}, 'moved')$$,
             $$settle_refund({open}, 'moved to right 2')$$, $$record_payment('right 2', 'moved', 'a 2/a 2', 100, 'CNY')$$);
SELECT is(t.sums('right 2') || ', ' || t.pay('a 2', 'a 2', 100, gateway => 'a 2'), 'paid 100 = 0 + 0 + 0 + 100, duplicate paid applied',
          'the right order has it, and the gateway may report it again');
SELECT t.create_order('wrong 3', 200), t.given('a 3', 'orphan'), t.do('a 3', $$assign_orphan({n}, {n}, 'wrong 3')$$);
SELECT t.way('payment: of the wrong order, which is pending', 'a 3', 'nothing', 'recorded paid', 'paid 300 = 100 + 0 + 0 + 200',
             $$record_refund({n}, {n}, 'N', 100)$$, $$record_payment('wrong 3', {n}, 'its own', 200, 'CNY')$$);
SELECT t.given('wrong 4', 'held'), t.given('a 4', 'orphan'), t.do('a 4', $$assign_orphan({n}, {n}, 'wrong 4')$$);
SELECT t.way('payment: of the wrong order, where it is held', 'a 4', 'held', 'refunded', 'expired 200 = 0 + 100 + 100 + 0',
             $$resolve_held({n}, {n}, 'refund')$$);
SELECT t.given('wrong 5', 'late'), t.given('a 5', 'orphan'), t.do('a 5', $$assign_orphan({n}, {n}, 'wrong 5')$$);
SELECT t.way('payment: of the wrong order, where it is late', 'a 5', 'nothing', 'recorded', 'expired 200 = 100 + 100 + 0 + 0',
             $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$);
SELECT t.create_order('wrong 6', 100), t.given('a 6', 'orphan'), t.do('a 6', $$assign_orphan({n}, {n}, 'wrong 6')$$,
       $$request_refund('wrong 6', 'not its own')$$, $$complete_refund({open}, 'succeeded')$$), t.pay('wrong 6', 'own 6', 100, gateway => 'own 6');
SELECT t.way('payment: the buyer pays an order that is paid with money that was not its own', 'own 6', 'nothing', 'created stopped settled paid',
             'paid 200 = 200 + 0 + 0 + 0', $$create_order('wrong 6 again', 100, 'CNY')$$, $$stop_refund({open}, 'moved')$$,
             $$settle_refund({open}, 'moved to wrong 6 again')$$, $$record_payment('wrong 6 again', 'moved', 'own 6/own 6', 100, 'CNY')$$);
SELECT is(t.sums('wrong 6 again'), 'paid 100 = 0 + 0 + 0 + 100', 'a new order has it');

-- an orphan that is refunded, and its order
SELECT t.owed('late orphan ' || i, 'orphan'), t.create_order('late orphan ' || i, 100) FROM generate_series(1, 5) AS i;
SELECT t.way('payment: an orphan on its way back, and its order is created', 'late orphan 1', 'nothing', 'recorded paid',
             'paid 100 = 0 + 0 + 0 + 100', $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$,
             $$record_payment({n}, {n}, 'again', 100, 'CNY')$$);
SELECT t.way('payment: the same, moved to its order', 'late orphan 2', 'nothing', 'stopped settled paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$stop_refund({open}, 'moved')$$, $$settle_refund({open}, 'moved to its order')$$,
             $$record_payment({n}, 'moved', 'late orphan 2/late orphan 2', 100, 'CNY')$$);
SELECT t.do('late orphan 3', $$complete_refund({open}, 'succeeded', gateway_refund_ref => 'N')$$, $$complete_refund({ref}, 'failed')$$);
SELECT t.way('payment: the same, and the refund bounced', 'late orphan 3', 'conflict', 'reversed settled paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$reverse_refund({ref}, 'bounced')$$, $$settle_refund({open}, 'moved to its order')$$,
             $$record_payment({n}, 'moved', 'late orphan 3/late orphan 3', 100, 'CNY')$$);
SELECT t.given('late orphan 6', 'orphan'), t.do('late orphan 6', $$record_refund({n}, {n}, 'C', 100, 'chargeback')$$), t.create_order('late orphan 6', 100);
SELECT t.way('payment: the same, and a chargeback that was won', 'late orphan 6', 'nothing', 'reversed', 'paid 100 = 0 + 0 + 0 + 100',
             $$reverse_chargeback({n}, 'C', 'won')$$);

-- money that is to count after all
SELECT t.owed('euro', 'wrong_currency');
SELECT t.way('payment: wrong_currency, and it is to count', 'euro', 'nothing', 'stopped settled paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$stop_refund({open}, 'moved')$$, $$settle_refund({open}, 'changed into CNY')$$, $$record_payment({n}, 'moved', 'euro/euro', 100, 'CNY')$$);
SELECT is(t.do('moved', $$request_refund('euro', 'k', 50, gateway => 'moved')$$, $$stop_refund({open}, 'by hand')$$, $$settle_refund({open}, 'in cash')$$)
          || ', ' || t.sums('euro'), 'accepted stopped settled, paid 100 = 50 + 0 + 0 + 50', 'what was moved goes back by hand');

SELECT t.owed('big', 'uncounted'), t.create_order('big 2', 9223372036854775807);
SELECT t.way('payment: uncounted, moved', 'big', 'nothing', 'stopped settled paid', 'paid 9223372036854775807 = 0 + 0 + 0 + 9223372036854775807',
             $$stop_refund({open}, 'moved')$$, $$settle_refund({open}, 'moved to big 2')$$,
             $$record_payment('big 2', 'moved', 'big/big', 9223372036854775807, 'CNY')$$);
SELECT t.owed('moved late', 'late'), t.create_order('moved late 2', 100);
SELECT t.way('payment: late, moved', 'moved late', 'nothing', 'stopped settled paid', 'expired 100 = 100 + 0 + 0 + 0',
             $$stop_refund({open}, 'moved')$$, $$settle_refund({open}, 'moved to moved late 2')$$,
             $$record_payment('moved late 2', 'moved', 'moved late/moved late', 100, 'CNY')$$);
SELECT is(t.sums('big 2') || ', ' || t.sums('moved late 2'), 'paid 9223372036854775807 = 0 + 0 + 0 + 9223372036854775807, paid 100 = 0 + 0 + 0 + 100',
          'their new orders have it');

-- a payment that is not what was recorded
SELECT t.create_order('twice', 100), t.pay('twice', 'intent', 100, gateway => 'twice'), t.pay('twice', 'charge', 100, gateway => 'twice');
SELECT t.way('payment: one capture under two numbers, the second is owed', 'twice', 'nothing', 'stopped settled', 'paid 200 = 100 + 0 + 0 + 100',
             $$stop_refund({open}, 'there is no such money')$$, $$settle_refund({open}, 'there was no such money')$$);
SELECT t.create_order('twice 2', 100), t.pay('twice 2', 'intent', 40, gateway => 'twice 2'), t.pay('twice 2', 'charge', 40, gateway => 'twice 2');
SELECT t.way('payment: one capture under two numbers, the second counts', 'twice 2', 'nothing', 'recorded', 'pending 80 = 40 + 0 + 0 + 40',
             $$record_refund({n}, 'charge', 'charge corrected', 40)$$);
SELECT t.create_order('too much', 100), t.pay('too much', 'too much', 100, gateway => 'too much');
SELECT t.way('payment: more was recorded than came', 'too much', 'nothing', 'recorded', 'paid 100 = 10 + 0 + 0 + 90',
             $$record_refund({n}, {n}, 'too much corrected', 10)$$);
SELECT t.create_order('too little', 100), t.pay('too little', 'too little', 90, gateway => 'too little');
SELECT t.way('payment: less was recorded than came', 'too little', 'nothing', 'OT003 paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$record_payment({n}, {n}, {n}, 100, 'CNY')$$, $$record_payment({n}, {n}, 'too little corrected', 10, 'CNY')$$);

------------------------------------------------------------------------------------------------ attempts and voids

-- An order of 100 and its attempt: cancelled, closing, or authorized with 40 of it captured and then cancelled.
INSERT INTO order_timeout.policies (policy, before_close) VALUES ('ask', 'void');
CREATE FUNCTION t.attempted(name text, kind text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(name, 100, CASE kind WHEN 'closing' THEN 'ask' ELSE 'default' END),
            t.do(name, $c$begin_attempt({n}, {n}, {n})$c$);
    CASE kind
    WHEN 'closing' THEN PERFORM t.expire(name);
    WHEN 'part' THEN PERFORM t.do(name, $c$authorize_attempt({n}, {n}, 100, 'CNY', '2999-01-01')$c$,
                                        $c$record_payment({n}, {n}, 'first', 40, 'CNY', attempt_ref => {n})$c$), t.cancel(name);
    ELSE PERFORM t.cancel(name);
    END CASE;
END
$$;
CREATE FUNCTION t.reported(name text, kind text, result text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    token text;
BEGIN
    PERFORM t.attempted(name, kind);
    SELECT c.lease_token INTO STRICT token FROM order_timeout.claim_voids('worker', gateway => name) AS c;
    PERFORM order_timeout.complete_void(name, name, result, token);
END
$$;

SELECT t.reported('v ' || i, 'closed', 'rejected') FROM generate_series(1, 6) AS i;
SELECT t.reported('v closing ' || i, 'closing', 'rejected') FROM generate_series(1, 3) AS i;
SELECT t.way('void: still open, and the obstacle is gone', 'v 1', 'void', 'retried', 'cancelled 0 = 0 + 0 + 0 + 0', $$retry_void({n}, {n})$$);
SELECT t.way('void: it was ended', 'v 2', 'void', 'recorded', 'cancelled 0 = 0 + 0 + 0 + 0', $$complete_void({n}, {n}, 'voided')$$);
SELECT t.way('void: it has expired', 'v 3', 'void', 'ended', 'cancelled 0 = 0 + 0 + 0 + 0', $$end_attempt({n}, {n}, 'expired')$$);
SELECT t.way('void: it was ended, and its order is closing', 'v closing 1', 'void', 'recorded', 'expired 0 = 0 + 0 + 0 + 0',
             $$complete_void({n}, {n}, 'voided')$$);
SELECT t.way('void: it has expired, and its order is closing', 'v closing 2', 'void', 'ended', 'expired 0 = 0 + 0 + 0 + 0',
             $$end_attempt({n}, {n}, 'expired')$$);
SELECT t.way('void: it was paid', 'v 4', 'void', 'late', 'cancelled 100 = 0 + 100 + 0 + 0',
             $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);
SELECT t.way('void: it was paid, and its order is closing', 'v closing 3', 'void', 'paid', 'paid 100 = 0 + 0 + 0 + 100',
             $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);
SELECT t.way('void: it was paid, and the payment is not known yet', 'v 5', 'void', 'recorded late', 'cancelled 100 = 0 + 100 + 0 + 0',
             $$complete_void({n}, {n}, 'paid')$$, $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);
SELECT t.way('void: open, cannot be ended, and ended although it was paid later', 'v 6', 'void', 'ended late', 'cancelled 100 = 0 + 100 + 0 + 0',
             $$end_attempt({n}, {n}, 'expired')$$, $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);

SELECT t.reported('vp ' || i, 'closed', 'paid') FROM generate_series(1, 4) AS i;
SELECT t.reported('vp closing', 'closing', 'paid'), t.reported('vp part', 'part', 'paid'), t.create_order('vp other', 100);
SELECT t.way('void, paid: the payment is not recorded', 'vp 1', 'void', 'late', 'cancelled 100 = 0 + 100 + 0 + 0',
             $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);
SELECT t.do('vp 2', $$record_payment({n}, {n}, 'charge', 100, 'CNY')$$);
SELECT t.way('void, paid: the payment is recorded without the attempt', 'vp 2', 'void', 'duplicate', 'cancelled 100 = 0 + 100 + 0 + 0',
             $$record_payment({n}, {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$);
SELECT t.do('vp 3', $$record_payment('vp other', {n}, 'charge', 100, 'CNY')$$);
SELECT t.way('void, paid: the payment was recorded for another order', 'vp 3', 'void', 'duplicate ended resolved',
             'cancelled 0 = 0 + 0 + 0 + 0; paid 100 = 0 + 0 + 0 + 100',
             $$record_payment('vp other', {n}, 'charge', 100, 'CNY', attempt_ref => {n})$$, $$end_attempt({n}, {n}, 'failed')$$,
             $$resolve_conflict({conflict}, 'moved')$$);
SELECT t.way('void, paid: the gateway released the rest', 'vp part', 'void', 'ended', 'cancelled 40 = 0 + 40 + 0 + 0',
             $$end_attempt({n}, {n}, 'expired')$$);
SELECT t.way('void, paid: nothing was paid', 'vp 4', 'void', 'ended', 'cancelled 0 = 0 + 0 + 0 + 0', $$end_attempt({n}, {n}, 'failed')$$);
SELECT t.way('void, paid: nothing was paid, and its order is closing', 'vp closing', 'void', 'ended', 'expired 0 = 0 + 0 + 0 + 0',
             $$end_attempt({n}, {n}, 'failed')$$);

------------------------------------------------------------------------------------------------------- all of them were here

SELECT results_eq($$SELECT DISTINCT state FROM order_timeout.orders ORDER BY state$$, ARRAY['cancelled', 'expired', 'paid', 'pending'], 'each state of an order');
SELECT results_eq($$SELECT DISTINCT disposition FROM order_timeout.payments ORDER BY disposition$$,
                  ARRAY['applied', 'held', 'late', 'orphan', 'surplus', 'uncounted', 'wrong_currency'], 'each disposition');
SELECT t.sound();
SELECT finish();
ROLLBACK;
