-- Who decided: all events of such a call say which role called, and which one logged in; those of other calls do not.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
SELECT current_user AS me \gset
CREATE ROLE order_timeout_test_decider;
SELECT order_timeout.grant_access('order_timeout_test_decider', 'operator');
GRANT USAGE ON SCHEMA t TO order_timeout_test_decider;

-- The events that a query leaves behind, called as another role than the one that logged in: each with its role.
CREATE FUNCTION t.decides(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen bigint := (SELECT coalesce(max(e.id), 0) FROM order_timeout.events AS e);
BEGIN
    SET LOCAL ROLE order_timeout_test_decider;
    EXECUTE query;
    RESET ROLE;
    RETURN (SELECT string_agg(e.type || CASE WHEN e.payload ->> 'role' = 'order_timeout_test_decider' AND e.payload ->> 'session_user' = session_user
                                             THEN '' WHEN NOT e.payload ?| '{role,session_user}' THEN ' by nobody' ELSE ' by another' END,
                              ', ' ORDER BY e.type) FROM order_timeout.events AS e WHERE e.id > seen);
END
$$;

SELECT t.create_order('o', 100), t.pay('o', 'o-1', 60);
SELECT is(t.decides($$SELECT order_timeout.extend_order('o', '2998-01-01 00:00+00')$$), 'order.extended', 'extend_order');
SELECT is(t.decides($$SELECT order_timeout.set_deadline('o', '2997-01-01 00:00+00')$$), 'order.changed', 'set_deadline');
SELECT is(t.decides($$SELECT order_timeout.change_order('o', 90)$$), 'order.changed', 'change_order');
SELECT is(t.decides($$SELECT order_timeout.accept_short('o', 'a regular')$$), 'order.accepted_short, order.paid', 'accept_short');
SELECT is(t.decides($$SELECT order_timeout.request_refund('o', 'k', 10)$$), 'refund.created', 'request_refund');
SELECT is(t.decides($$SELECT order_timeout.stop_refund(t.ref('o-1'), 'wait')$$), 'refund.stopped', 'stop_refund');
SELECT is(t.decides($$SELECT order_timeout.retry_refund(t.ref('o-1'))$$), 'refund.retried', 'retry_refund');
SELECT is(t.decides($$SELECT order_timeout.withdraw_refund(t.ref('o-1'), 'kept')$$), 'refund.withdrawn', 'withdraw_refund');
SELECT is(t.decides($$SELECT order_timeout.forget_order('o')$$), 'order.forgotten', 'forget_order');

SELECT t.create_order('c', 100), t.pay('c', 'c-1', 60);
SELECT is(t.decides($$SELECT order_timeout.cancel_order('c', 'sold out')$$), 'order.cancelled, refund.created', 'cancel_order, with what it leads to');
SELECT order_timeout.stop_refund(t.ref('c-1'), 'wait');
SELECT is(t.decides($$SELECT order_timeout.reverse_refund(t.ref('c-1'), 'another way')$$), 'refund.created, refund.reversed', 'reverse_refund');
SELECT order_timeout.stop_refund((SELECT refund_ref FROM order_timeout.refunds WHERE order_id = 'c' AND settled_at IS NULL), 'wait');
SELECT is(t.decides(format('SELECT order_timeout.settle_refund(%L, %L)', refund_ref, 'in cash')), 'refund.settled', 'settle_refund')
  FROM order_timeout.refunds WHERE order_id = 'c' AND settled_at IS NULL;

SELECT t.create_order('e', 100), t.expire('e');
SELECT is(t.decides($$SELECT order_timeout.reopen_order('e', '1 hour')$$), 'order.reopened', 'reopen_order');

SELECT t.create_order('h', 100, 'hold'), t.expire('h'), t.pay('h', 'h-1', 60), t.pay('h', 'h-2', 60), t.pay('h', 'h-3', 100);
SELECT is(t.decides($$SELECT order_timeout.resolve_held('bank', 'h-1', 'refund')$$), 'payment.given_back, refund.created', 'resolve_held: refund');
SELECT is(t.decides($$SELECT order_timeout.resolve_held('bank', 'h-3', 'accept')$$),
          'order.reopened, payment.accepted, payment.accepted, refund.created', 'resolve_held: accept');
SELECT t.create_order('l', 100), t.expire('l'), t.pay('l', 'l-1', 100);
SELECT is(t.decides($$SELECT order_timeout.accept_payment('bank', 'l-1')$$), 'order.reopened, payment.accepted, refund.withdrawn', 'accept_payment');

SELECT t.pay('unknown', 'u-1', 10), t.pay('unknown', 'u-2', 10);
SELECT is(t.decides($$SELECT order_timeout.refund_orphan('bank', 'u-1')$$), 'refund.created', 'refund_orphan');
SELECT is(t.decides($$SELECT order_timeout.assign_orphan('bank', 'u-2', 'l')$$), 'payment.surplus, refund.created', 'assign_orphan');

SELECT is(t.decides($$SELECT order_timeout.record_refund('bank', 'l-1', 'g-1', 120)$$),
          'refund.conflict by nobody, refund.recorded by nobody', 'record_refund only reports');
SELECT is(t.decides(format('SELECT order_timeout.resolve_conflict(%s, %L)', conflict_id, 'a misprint')), 'conflict.resolved', 'resolve_conflict')
  FROM order_timeout.attention WHERE kind = 'conflict' AND order_id = 'l';
SELECT is(t.decides($$SELECT order_timeout.reverse_chargeback('bank', 'g-1')$$), 'refund.reversed', 'reverse_chargeback');

-- An attempt inside of it, here for a reopen_hook, is of the same call.
CREATE FUNCTION t.reopen(order_ids text[]) RETURNS void LANGUAGE sql AS '';
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('reopen', 'reopen');
SELECT order_timeout.set_hook('reopen', 'reopen_hook', 't.reopen');
SELECT t.create_order('r', 10, 'reopen'), t.expire('r'), t.pay('unknown', 'u-3', 10);
SELECT is(t.decides($$SELECT order_timeout.assign_orphan('bank', 'u-3', 'r')$$), 'order.reopened', 'with a hook');

SELECT is(t.decides($$SELECT order_timeout.create_order('n', 10, 'CNY'), order_timeout.record_payment('n', 'bank', 'n-1', 20, 'CNY')$$),
          'order.created by nobody, order.paid by nobody, refund.created by nobody', 'creating and paying decide nothing');
SELECT is(t.decides($$SELECT order_timeout.complete_refund(t.ref('n-1'), 'succeeded')$$), 'refund.succeeded by nobody', 'nor does a worker');
SELECT t.sound();
SELECT finish();
ROLLBACK;
