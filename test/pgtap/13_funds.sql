-- funds and funds_violations: the proof. Whatever is tampered with behind the functions' back is found.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- An order of each kind, with money in every place that money can be.
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
SELECT t.create_order('open', 100), t.pay('open', 'open-1', 60);
SELECT t.create_order('paid', 100), t.pay('paid', 'paid-1', 130), t.pay('paid', 'paid-2', 50), t.pay('paid', 'paid-eur', 50, 'EUR');
SELECT order_timeout.request_refund('paid', 'k', 25);
SELECT t.create_order('shut', 100), t.pay('shut', 'shut-1', 60), t.expire('shut'), t.pay('shut', 'shut-2', 100);
SELECT t.create_order('held', 100, 'hold'), t.expire('held'), t.pay('held', 'held-1', 100), t.pay('held', 'held-2', 40);
SELECT order_timeout.complete_refund(t.ref('shut-1'), 'succeeded');
SELECT order_timeout.complete_refund(t.ref('paid-2'), 'succeeded', refunded_amount => 30);
SELECT t.pay('nobody', 'orphan-1', 10);
SELECT t.pay('nobody', 'orphan-2', 10);
SELECT order_timeout.refund_orphan('bank', 'orphan-2');

-- funds
SELECT is((SELECT f::text FROM order_timeout.funds('open') AS f), '(pending,100,CNY,60,0,0,0,60,t)', 'a pending order');
SELECT is((SELECT f::text FROM order_timeout.funds('paid') AS f), '(paid,100,CNY,180,30,75,0,75,t)', 'a paid order');
SELECT is((SELECT f::text FROM order_timeout.funds('shut') AS f), '(expired,100,CNY,160,60,100,0,0,t)', 'a closed order');
SELECT is((SELECT f::text FROM order_timeout.funds('held') AS f), '(expired,100,CNY,140,0,0,140,0,t)', 'held money');
SELECT throws_ok($$SELECT * FROM order_timeout.funds('nobody')$$, 'OT001', NULL, 'an order that does not exist');
SELECT t.sound('nothing was tampered with');

-- What funds_violations says of a database that someone tampered with, which is then put right again
CREATE FUNCTION t.found_after(tamper text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
    found text;
BEGIN
    EXECUTE tamper;
    GET DIAGNOSTICS touched = ROW_COUNT;
    SELECT concat_ws(' ', CASE WHEN touched = 0 THEN 'touched no row' END,
                     string_agg(DISTINCT concat_ws('/', v.kind, v.order_id, v.gateway, v.payment_ref, v.refund_ref), ' '))
      INTO found FROM order_timeout.funds_violations() AS v;
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN found;
END
$$;
CREATE FUNCTION t.is_found(tamper text, who text) RETURNS text LANGUAGE sql AS $$
    SELECT matches(t.found_after($1), $2, $1)
$$;
SELECT is(t.found_after($$UPDATE order_timeout.orders SET metadata = '{"x": 1}'$$), '', 'what is no money is no violation');

-- Sums on orders that satisfy every CHECK and yet are not what the rows say
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + 1, refunded = refunded + 1 WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET refunded = refunded + 1, refund_pending = refund_pending - 1 WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET refund_pending = 0, held = held + refund_pending WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = 0 WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = 0, refunded = 0, refund_pending = 0, held = 0 WHERE order_id = 'held'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + CASE order_id WHEN 'open' THEN 1 ELSE -1 END WHERE order_id IN ('open', 'paid')$$,
                  'open.*paid');
SELECT t.is_found($$UPDATE order_timeout.orders SET currency = 'EUR' WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$DELETE FROM order_timeout.orders WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET order_id = 'opened' WHERE order_id = 'open'$$, 'open');

-- Payments
SELECT t.is_found($$UPDATE order_timeout.payments SET amount = amount + 1 WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET refund_pending = refund_pending + 1 WHERE payment_ref = 'open-1'$$, 'open-1');
SELECT t.is_found($$UPDATE order_timeout.payments SET refunded = 0 WHERE payment_ref = 'shut-1'$$, 'shut-1');
SELECT t.is_found($$UPDATE order_timeout.payments SET refunded = refund_pending, refund_pending = 0 WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$UPDATE order_timeout.payments SET held = held - 1 WHERE payment_ref = 'held-1'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.payments SET held = held + CASE payment_ref WHEN 'held-1' THEN -1 ELSE 1 END, amount = amount + 1
                     WHERE order_id = 'held'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'paid' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'unheard of' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET currency = 'EUR' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET currency = 'USD' WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'orphan' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'wrong_currency' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'applied' WHERE payment_ref = 'orphan-1'$$, 'orphan-1');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'orphan-2'$$, 'orphan-2');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'open' WHERE payment_ref = 'orphan-1'$$, 'open/bank/orphan-1');
SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    VALUES ('bank', 'stray', 'paid', 1, 'CNY', now(), 'orphan')$$, 'paid/bank/stray');
SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    VALUES ('bank', 'free', 'paid', 1, 'CNY', now(), 'applied')$$, 'paid');

SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    SELECT 'bank', ref, 'open', 9223372036854775807, 'CNY', now(), 'applied' FROM unnest(ARRAY['much', 'more']) AS ref$$,
                  'overflow/open');

-- Refunds
SELECT t.is_found($$UPDATE order_timeout.refunds SET amount = amount - 1 WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'succeeded', settled_at = now(), next_attempt_at = NULL
                     WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'pending', settled_at = NULL, next_attempt_at = now()
                     WHERE payment_ref = 'shut-1'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'reversed', settled_at = now(), next_attempt_at = NULL
                     WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET payment_ref = 'shut-1' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET order_id = 'open' WHERE payment_ref = 'shut-2'$$, 'open|shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET gateway = 'alipay' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET currency = 'EUR' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'orphan-2'$$, 'orphan-2');
SELECT t.is_found($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                                       next_attempt_at, created_at)
                    VALUES ('made-up', 'open', 'bank', 'open-1', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$, 'open');
SELECT t.is_found($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                                       next_attempt_at, created_at)
                    VALUES ('made-up', 'open', 'bank', 'no such', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$, 'made-up');

-- Rows that agree with each other and break the identity, the CHECKs being gone
CREATE FUNCTION t.without_checks(tamper text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    ALTER TABLE order_timeout.orders DROP CONSTRAINT orders_funds;
    ALTER TABLE order_timeout.payments DROP CONSTRAINT payments_funds;
    found := t.found_after(tamper);
    RAISE EXCEPTION USING ERRCODE = 'P9998';
EXCEPTION WHEN SQLSTATE 'P9998' THEN
    RETURN found;
END
$$;
SELECT matches(t.without_checks(tamper), who, tamper || ' (no CHECKs)') FROM (VALUES
    ($$UPDATE order_timeout.orders SET state = 'expired', settled_at = now() WHERE order_id = 'open'$$, 'open'),
    ($$UPDATE order_timeout.orders SET state = 'cancelled' WHERE order_id = 'paid'$$, 'paid'),
    ($$UPDATE order_timeout.orders SET amount = 60 WHERE order_id = 'open'$$, 'open'),
    ($$UPDATE order_timeout.orders SET amount = 10 WHERE order_id = 'paid'$$, 'paid'),
    ($$UPDATE order_timeout.payments SET refund_pending = amount + 1 WHERE payment_ref = 'paid-eur'$$, 'paid-eur'),
    ($$UPDATE order_timeout.payments SET amount = 10 WHERE payment_ref = 'paid-eur'$$, 'paid-eur')
) AS x (tamper, who);

-- One thing wrong at a time, and what it is called
SELECT is(t.found_after(tamper), called, tamper || ': what it is called') FROM (VALUES
    ($$UPDATE order_timeout.orders SET paid = paid - 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET refunded = refunded + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET refund_pending = refund_pending + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET held = held + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET amount = 1000 WHERE order_id = 'shut'$$, ''),
    ($$UPDATE order_timeout.refunds SET currency = 'EUR' WHERE payment_ref = 'paid-1' AND reason = 'surplus'$$,
     'refund_currency/paid/bank/paid-1/' || (SELECT refund_ref FROM order_timeout.refunds WHERE payment_ref = 'paid-1' AND reason = 'surplus')),
    ($$UPDATE order_timeout.refunds SET order_id = 'open' WHERE payment_ref = 'paid-eur'$$, 'refund_order/paid/bank/paid-eur/' || t.ref('paid-eur')),
    ($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
       VALUES ('bank', 'stray', 'paid', 1, 'CNY', now(), 'orphan')$$, 'orphan_beside_order/paid/bank/stray'),
    ($$UPDATE order_timeout.payments SET order_id = 'none' WHERE payment_ref = 'paid-eur'$$,
     format('payment_without_order/none/bank/paid-eur refund_order/none/bank/paid-eur/%s', t.ref('paid-eur'))),
    ($$UPDATE order_timeout.payments SET refunded = refunded + 1 WHERE payment_ref = 'open-1'$$, 'payment_sums/open/bank/open-1'),
    ($$UPDATE order_timeout.orders SET state = 'cancelled', amount = 1 WHERE order_id = 'held'$$, ''),
    ($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                          next_attempt_at, created_at)
       VALUES ('made-up', 'open', 'bank', 'no such', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$,
     'refund_without_payment/open/bank/no such/made-up')
) AS x (tamper, called);

-- What no sum shows: each state has rows next to it
SELECT t.create_order('plain', 100), t.create_order('short', 100), t.pay('short', 'short-1', 60);
SELECT t.create_order('back', 100), t.pay('back', 'back-1', 100), order_timeout.request_refund('back', 'k');
SELECT order_timeout.complete_refund(t.ref('back-1'), 'succeeded');
SELECT t.refund_in('needs_attention', 'dead') AS dead \gset
SELECT order_timeout.reverse_refund(:'dead', 'the key is dead');
SELECT is(outcome, 'recorded', 'a chargeback of all that is kept') FROM order_timeout.record_refund('bank', 'paid-1', 'cb', 75, 'chargeback');
SELECT t.sound('a paid order whose money went back, one that was charged back, a reversed refund');
SELECT is(t.found_after(tamper), called, tamper || ': what it is called') FROM (VALUES
    ($$UPDATE order_timeout.orders SET state = 'paid', settled_at = now() WHERE order_id = 'plain'$$, 'order_paid/plain'),
    ($$UPDATE order_timeout.orders SET state = 'paid', settled_at = now() WHERE order_id = 'short'$$, 'order_paid/short'),
    ($$UPDATE order_timeout.orders SET state = 'paid' WHERE order_id = 'dead'$$, 'order_paid/dead'),
    ($$WITH r AS (UPDATE order_timeout.refunds SET state = 'reversed', returned_at = NULL WHERE payment_ref = 'back-1'),
            p AS (UPDATE order_timeout.payments SET refunded = 0 WHERE payment_ref = 'back-1')
       UPDATE order_timeout.orders SET refunded = 0 WHERE order_id = 'back'$$, 'refund_successor/back/bank/back-1/' || t.ref('back-1')),
    (format($$UPDATE order_timeout.refunds SET replaced_by = NULL WHERE refund_ref = %L$$, :'dead'),
     'refund_successor/dead/dead/dead/' || :'dead'),
    (format($$UPDATE order_timeout.refunds SET replaced_by = %L WHERE refund_ref = %L$$, t.ref('back-1'), :'dead'),
     'refund_successor/dead/dead/dead/' || :'dead'),
    (format($$UPDATE order_timeout.refunds SET replaced_by = NULL, withdrawn = true WHERE refund_ref = %L$$, :'dead'), ''),
    (format($$UPDATE order_timeout.refunds SET replaced_by = NULL, reason = 'chargeback' WHERE refund_ref = %L$$, :'dead'), ''),
    ($$UPDATE order_timeout.refunds SET withdrawn = true WHERE payment_ref = 'back-1'$$, 'refund_replaced/back/bank/back-1/' || t.ref('back-1')),
    ($$UPDATE order_timeout.refunds SET returned_at = NULL WHERE payment_ref = 'back-1'$$, 'refund_returned/back/bank/back-1/' || t.ref('back-1'))
) AS x (tamper, called);
DELETE FROM order_timeout.events WHERE aggregateid = 'back';
SELECT t.sound('without its old events');

-- Only what had an event since then
SELECT clock_timestamp() AS since \gset
SAVEPOINT since;
UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id IN ('open', 'short');
UPDATE order_timeout.payments SET order_id = 'gone' WHERE payment_ref = 'orphan-2';
SELECT is((SELECT count(DISTINCT order_id) FROM order_timeout.funds_violations()), 3::bigint, 'three orders are wrong');
SELECT is_empty(format('SELECT * FROM order_timeout.funds_violations(%L)', :'since'), 'none of them has an event since then');
SELECT t.pay('open', 'open-2', 1), t.pay('gone', 'gone-1', 1), t.create_order('young', 1);
SELECT is((SELECT string_agg(DISTINCT order_id, ' ') FROM order_timeout.funds_violations(:'since')), 'gone open', 'now two have');
SELECT is((SELECT count(*) FROM order_timeout.funds_violations(NULL)), (SELECT count(*) FROM order_timeout.funds_violations()), 'null: all');
SELECT is((SELECT count(*) FROM order_timeout.funds_violations('1970-01-01')), (SELECT count(*) FROM order_timeout.funds_violations()), 'since ever: all');
DELETE FROM order_timeout.payments WHERE payment_ref = 'short-1' OR payment_ref = 'gone-1' OR payment_ref = 'dead';
SELECT ok(NOT EXISTS (SELECT FROM order_timeout.funds_violations(:'since') WHERE kind = 'refund_without_payment'), 'an old refund without its payment');
SELECT isnt_empty($$SELECT * FROM order_timeout.funds_violations('1970-01-01') WHERE kind = 'refund_without_payment'$$, 'since ever');
SELECT throws_ok($$SELECT * FROM order_timeout.funds_violations('infinity')$$, '22023', NULL, 'no time');
ROLLBACK TO since;

-- Where the search for these events begins: behind what a sweep noted. A note that says too much shows that it is used; each
-- thing that makes a note doubtful brings the search back to the first event.
UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open';
SELECT t.pay('open', 'open-2', 1);
SELECT max(id) AS last FROM order_timeout.events \gset
CREATE FUNCTION t.noted(age text, last_event bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO order_timeout.sweeps (pid, started_at, active_at, last_event)
    VALUES (0, now() - age::interval, now() - age::interval, last_event)
$$;
CREATE FUNCTION t.found_since(age text, change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE change;
    SELECT string_agg(DISTINCT v.order_id, ' ') INTO found FROM order_timeout.funds_violations(now() - age::interval) AS v;
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN found;
END
$$;
SELECT is(t.found_since('1 hour', 'SELECT 1'), 'open', 'no sweep noted anything');
SELECT t.noted('2 hours', :last);
SELECT is(t.found_since('1 hour', 'SELECT 1'), NULL, 'the search begins at the note');
SELECT is(t.found_since('1 hour', format($$SELECT t.noted('90 minutes', %s - 1)$$, :last)), 'open', 'the latest of the notes before that time');
SELECT is(t.found_since('1 hour', format($$SELECT t.noted('30 minutes', %s - 1)$$, :last)), 'open', 'a note after that time is lower');
SELECT is(t.found_since('1 hour', $$SELECT t.noted('30 minutes', 0)$$), 'open', 'a sweep did not know the last id');
SELECT is(t.found_since('1 hour', $$UPDATE order_timeout.sweeps SET last_event = NULL$$), 'open', 'a sweep of version 0.1.0');
SELECT is(t.found_since('1 hour', format($$SELECT t.noted('30 minutes', %s)$$, :last)), NULL, 'a later note is not lower');
SELECT is(t.found_since('1 hour 55 minutes', 'SELECT 1'), 'open', 'the clock may have been set back by ten minutes');
SELECT is(t.found_since('1 hour 49 minutes', 'SELECT 1'), NULL, 'more than ten minutes before');
SELECT is(t.found_since('3 hours', 'SELECT 1'), 'open', 'all notes are of a later time');
SELECT is(t.found_since('1 hour', 'ALTER TABLE order_timeout.events ALTER id RESTART WITH 1'), 'open', 'the sequence is set back');
SELECT is(t.found_since('1 hour', 'ALTER TABLE order_timeout.events ALTER id SET CACHE 10'), 'open', 'sessions keep ids to themselves');
ROLLBACK TO since;

-- balanced tells it of one order
CREATE FUNCTION t.balanced_after(tamper text, order_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE tamper;
    SELECT f.balanced INTO answer FROM order_timeout.funds(order_id) AS f;
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN answer;
END
$$;
SELECT is(t.balanced_after(tamper, order_id), balanced, format('%s: funds(%L)', tamper, order_id)) FROM (VALUES
    ($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'open', false),
    ($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'paid', true),
    ($$UPDATE order_timeout.payments SET amount = amount + 1 WHERE payment_ref = 'open-1'$$, 'open', false),
    ($$UPDATE order_timeout.payments SET refunded = 0 WHERE payment_ref = 'shut-1'$$, 'shut', false),
    ($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'shut-2'$$, 'shut', false),
    ($$UPDATE order_timeout.refunds SET amount = amount - 1 WHERE payment_ref = 'paid-1'$$, 'paid', false)
) AS x (tamper, order_id, balanced);
SELECT t.sound('all tampering was put right');

-- The CHECKs themselves
SELECT throws_ok(tamper, '23514', NULL, tamper) FROM unnest(ARRAY[
    $$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.orders SET refund_pending = refund_pending - 1 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.orders SET paid = 1000 WHERE order_id = 'paid'$$,
    $$UPDATE order_timeout.orders SET refunded = 1000 WHERE order_id = 'paid'$$,
    $$UPDATE order_timeout.orders SET paid = 100 WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET state = 'expired', settled_at = now() WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET state = 'lost' WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET held = -1, refund_pending = 101 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.payments SET refund_pending = 61 WHERE payment_ref = 'open-1'$$,
    $$UPDATE order_timeout.payments SET refunded = -1 WHERE payment_ref = 'open-1'$$,
    $$UPDATE order_timeout.refunds SET amount = 0 WHERE payment_ref = 'shut-2'$$,
    $$UPDATE order_timeout.refunds SET state = 'lost' WHERE payment_ref = 'shut-2'$$]) AS tamper;

-- Of each state, settled or not, how much of an amount of 100 may be kept
CREATE FUNCTION t.may_keep(state text, settled boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    sums bigint[] := '{}';
BEGIN
    FOR kept IN -1..101 LOOP
        BEGIN
            UPDATE order_timeout.orders o SET state = may_keep.state, settled_at = CASE WHEN settled THEN now() END, paid = 7 + kept,
                   refunded = 1, refund_pending = 2, held = 4
             WHERE o.order_id = 'open';
            sums := sums || kept::bigint;
            RAISE EXCEPTION USING ERRCODE = 'P9999';
        EXCEPTION WHEN check_violation OR SQLSTATE 'P9999' THEN
        END;
    END LOOP;
    RETURN CASE WHEN cardinality(sums) = 0 THEN 'nothing'
                ELSE format('%s to %s, %s sums', sums[1], sums[cardinality(sums)], cardinality(sums)) END;
END
$$;
SELECT is(t.may_keep(state, settled), sums, format('%s order of state "%s"', CASE WHEN settled THEN 'a settled' ELSE 'an open' END, state))
  FROM (VALUES
    ('pending', '0 to 99, 100 sums', 'nothing'),
    ('authorized', '0 to 99, 100 sums', 'nothing'),
    ('closing', '0 to 99, 100 sums', 'nothing'),
    ('paid', 'nothing', '0 to 100, 101 sums'),
    ('expired', 'nothing', '0 to 0, 1 sums'),
    ('cancelled', 'nothing', '0 to 0, 1 sums'),
    ('lost', 'nothing', 'nothing'),
    ('', 'nothing', 'nothing'),
    ('Paid', 'nothing', 'nothing'),
    ('pending|closing', 'nothing', 'nothing'),
    ('expired,cancelled', 'nothing', 'nothing')
  ) AS x (state, open, closed), LATERAL (VALUES (false, x.open), (true, x.closed)) AS y (settled, sums);
SELECT finish();
ROLLBACK;
