-- forget_order: no word that somebody wrote is left, all money is.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
-- Where a word stands in any column of any table of ours
CREATE FUNCTION t.where_is(word text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    rel regclass;
    n bigint;
    found text;
BEGIN
    FOR rel IN SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind = 'r' ORDER BY c.relname LOOP
        EXECUTE format('SELECT count(*) FROM %s AS x WHERE to_jsonb(x)::text LIKE %L', rel, '%' || word || '%') INTO n;
        found := concat_ws(' ', nullif(found, ''), CASE WHEN n > 0 THEN rel::text END);
    END LOOP;
    RETURN found;
END
$$;
CREATE FUNCTION t.money(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' / ', t.sums($1), t.refunds($1), (SELECT string_agg(concat_ws(' ', p.payment_ref, p.amount, p.disposition, p.refunded), ', '
        ORDER BY p.payment_ref) FROM order_timeout.payments AS p WHERE p.order_id = $1),
        (SELECT count(*) FROM order_timeout.events AS e WHERE e.aggregateid = $1 AND e.type <> 'order.forgotten'))
$$;
CREATE FUNCTION t.try(order_id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT outcome FROM order_timeout.forget_order(order_id));
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;

-- An order that somebody wrote about wherever one can
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
SELECT order_timeout.create_order('o', 100, 'CNY', metadata => '{"name": "Jane Doe"}');
SELECT is(t.try('o'), 'OT005', 'an open order');
SELECT order_timeout.record_payment('o', 'bank', 'o-1', 100, 'CNY', NULL, '{"card": "Jane Doe"}');
SELECT order_timeout.request_refund('o', 'k', 30, 'Jane Doe wants it back');
SELECT is(t.try('o'), 'OT005', 'money that is owed');
SELECT * FROM order_timeout.claim_refunds('Jane Doe''s laptop') \gset
SELECT order_timeout.complete_refund(:'refund_ref', 'rejected', :'lease_token', error => 'Jane Doe has no account');
SELECT order_timeout.settle_refund(:'refund_ref', 'gave Jane Doe cash');
SELECT order_timeout.record_refund('bank', 'o-1', 'x-1', 500);
SELECT order_timeout.resolve_conflict(conflict_id, 'Jane Doe paid it back') FROM order_timeout.attention WHERE kind = 'conflict';
SELECT order_timeout.record_payment('o', 'bank', 'o-2', 10, 'EUR');
SELECT is(t.try('o'), 'OT005', 'money that is owed in another currency');
SELECT order_timeout.complete_refund(t.ref('o-2'), 'succeeded');
-- and one of an orphan that was told for another order
SELECT order_timeout.record_payment('wrong id', 'bank', 'w-1', 40, 'CNY', NULL, '{"card": "Jane Doe"}');
SELECT order_timeout.record_refund('bank', 'w-1', 'w-x', 10);
UPDATE order_timeout.events SET payload = payload || '{"note": "Jane Doe"}' WHERE aggregateid = 'wrong id' AND type = 'refund.recorded';
SELECT order_timeout.record_refund('bank', 'w-1', 'x-1', 10), order_timeout.record_refund('bank', 'w-1', 'x-1', 20);
SELECT order_timeout.resolve_conflict(min(conflict_id), 'Jane Doe knows') FROM order_timeout.conflicts WHERE payment_ref = 'w-1';
SELECT order_timeout.assign_orphan('bank', 'w-1', 'o');
SELECT order_timeout.resolve_conflict(max(conflict_id), 'Jane Doe knows') FROM order_timeout.conflicts WHERE payment_ref = 'w-1';
SELECT order_timeout.complete_refund(t.ref('w-1'), 'succeeded');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds WHERE settled_at IS NULL;
SELECT t.create_order('c', 100), order_timeout.cancel_order('c', 'Jane Doe called');
SELECT is(t.where_is('Jane Doe'), 'order_timeout.conflicts order_timeout.events order_timeout.orders order_timeout.payments order_timeout.refunds',
          'her name is everywhere');

SELECT t.money('o') AS money, t.money('c') AS closed \gset
SELECT is(t.try('c'), 'forgotten', 'a closed order');
SELECT is(t.try('o'), 'forgotten', 'a paid one');
SELECT is(t.where_is('Jane Doe'), '', 'her name is nowhere');
SELECT is(t.money('o'), :'money', 'the money is where it was');
SELECT is(t.money('c'), :'closed', 'of the closed one too');
SELECT is((SELECT count(*) FROM order_timeout.history('o') WHERE payload ? 'reason' AND type LIKE 'refund.%'),
          (SELECT count(*) FROM order_timeout.history('o') WHERE payload ? 'refund_ref' AND type LIKE 'refund.%' AND type <> 'refund.conflict'),
          'a refund''s reason is a word of ours');
SELECT t.sound();
SELECT is((SELECT count(*) FROM order_timeout.history('o') WHERE type = 'order.forgotten'), 1::bigint, 'an event says so');
SELECT is(t.unchanged_by($$SELECT order_timeout.forget_order('o')$$), '(forgotten)', 'again');
SELECT is(t.pay('o', 'o-1', 100), 'duplicate paid applied', 'a repeat is recognised');
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', 'o-1', 'x-1', 500)), 'conflict', 'of a refund too: told again after a conflict');

-- What comes later
SELECT order_timeout.record_payment('c', 'bank', 'c-1', 10, 'CNY', NULL, '{"card": "Jane Doe"}');
SELECT is(t.try('c'), 'OT005', 'a late payment');
SELECT order_timeout.complete_refund(t.ref('c-1'), 'succeeded');
SELECT is(t.try('c'), 'forgotten', 'is forgotten when it is back');
SELECT is(t.where_is('Jane Doe'), '', 'with what it told');

-- What follows an order and failed: the words of a hook
CREATE FUNCTION t.knows_her(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'Jane Doe has moved'; END$$;
SELECT order_timeout.set_hook('default', 'paid_hook', 't.knows_her');
SELECT t.create_order('hooked', 10), t.pay('hooked', 'hooked-1', 10), t.create_order('hooked too', 10), t.pay('hooked too', 'hooked-2', 10);
SELECT order_timeout.resolve_link('hooked too', 'hook', 'told Jane Doe');
SELECT is(ltrim(t.where_is('Jane Doe')), 'order_timeout.events order_timeout.follow_ups', 'a hook names her');
SELECT is(t.try('hooked') || t.try('hooked too'), 'forgottenforgotten', 'it is forgotten');
SELECT is(t.where_is('Jane Doe'), '', 'with what the hook said');
SELECT is((SELECT count(*) FROM order_timeout.follow_ups WHERE order_id = 'hooked'), 1::bigint, 'and waits as before');
SELECT is(t.unchanged_by($$SELECT order_timeout.forget_order('hooked')$$), '(forgotten)', 'again');
SELECT order_timeout.set_hook('default', 'paid_hook', NULL);

SELECT t.create_order('h', 100, 'hold'), t.expire('h'), t.pay('h', 'h-1', 100);
SELECT is(t.try('h'), 'OT005', 'money that is held');
SELECT is(t.try('none'), 'OT001', 'no such order');
SELECT is(t.try(''), '22023', 'no id');
SELECT is(t.try(NULL), '22004', 'null');
SELECT finish();
ROLLBACK;
