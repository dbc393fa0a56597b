-- Which events each call leaves behind, and what they carry: the table in doc/reference.md.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, late_rule, on_late) VALUES
    ('hold', 'until_closed', 'hold'), ('reopen', 'until_closed', 'reopen'), ('strict', 'at_deadline', 'refund');

-- The types of the events that a query leaves behind, in order: what led to something comes before it.
CREATE FUNCTION t.happens(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen bigint := (SELECT coalesce(max(e.id), 0) FROM order_timeout.events AS e);
BEGIN
    EXECUTE query;
    RETURN (SELECT string_agg(e.type, ' ' ORDER BY e.id) FROM order_timeout.events AS e WHERE e.id > seen);
END
$$;
-- The newest event of a type
CREATE FUNCTION t.told(type text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT e.payload FROM order_timeout.events AS e WHERE e.type = $1 ORDER BY e.id DESC LIMIT 1
$$;
CREATE FUNCTION t.members(type text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(m, ' ' ORDER BY m) FROM jsonb_object_keys(t.told($1)) AS m
$$;

-- Orders
SELECT is(t.happens($$SELECT t.create_order('o', 100)$$), 'order.created', 'an order is created');
SELECT is(t.told('order.created') - 'expires_at', '{"state": "pending", "amount": 100, "currency": "CNY", "paid": 0, "refund_pending": 0}',
          'what it says');
SELECT is((t.told('order.created') ->> 'expires_at')::timestamptz, (SELECT expires_at FROM order_timeout.orders WHERE order_id = 'o'),
          'and until when');
SELECT is(t.happens($$SELECT t.create_order('free', 0)$$), 'order.created order.paid', 'one that costs nothing');
SELECT is(t.members('order.paid'), 'amount currency expires_at paid refund_pending state', 'paid without a payment');
SELECT is(t.happens($$SELECT order_timeout.extend_order('o', '2999-01-01 00:00+00')$$), 'order.extended', 'an order is extended');
SELECT is((t.told('order.extended') ->> 'expires_at')::timestamptz, '2999-01-01 00:00+00'::timestamptz, 'until when');
UPDATE order_timeout.policies SET remind_before = '10 minutes' WHERE policy = 'strict';
SELECT is(t.happens($$SELECT t.create_order('soon', 100, 'strict', '5 minutes'), t.pay('soon', 'soon-1', 60); SELECT order_timeout.sweep_once()$$),
          'order.created payment.partial order.due_soon', 'one falls due soon');
SELECT is(t.told('order.due_soon') - '{expires_at,closes_at}'::text[],
          '{"state": "pending", "amount": 100, "currency": "CNY", "paid": 60, "refund_pending": 0}', 'what it says');
SELECT is((t.told('order.due_soon') ->> 'closes_at')::timestamptz, (SELECT closes_at FROM order_timeout.orders WHERE order_id = 'soon'),
          'and when');
SELECT is(t.happens($$SELECT t.create_order('e', 100), t.pay('e', 'e-1', 60), t.expire('e')$$),
          'order.created payment.partial order.expired refund.created', 'an order expires');
SELECT is(t.told('order.expired') - 'expires_at',
          '{"state": "expired", "amount": 100, "currency": "CNY", "paid": 60, "refund_pending": 60, "reason": "deadline"}', 'and owes');
SELECT is(t.happens($$SELECT order_timeout.cancel_order('e', 'sold out')$$), 'order.cancelled', 'is cancelled after all');
SELECT is(t.told('order.cancelled') ->> 'reason', 'sold out', 'and why');

-- Payments
SELECT is(t.happens($$SELECT t.pay('o', 'o-1', 60)$$), 'payment.partial', 'a part payment');
SELECT is(t.told('payment.partial'),
          '{"gateway": "bank", "payment_ref": "o-1", "amount": 60, "currency": "CNY", "disposition": "applied"}', 'what it says');
SELECT is(t.happens($$SELECT t.pay('o', 'o-2', 60)$$), 'order.paid refund.created', 'the payment that pays the order');
SELECT is(t.told('order.paid') - 'expires_at',
          '{"state": "paid", "amount": 100, "currency": "CNY", "paid": 120, "refund_pending": 20, '
          '"gateway": "bank", "payment_ref": "o-2", "payment_amount": 60}',
          'tells both');
SELECT is(t.happens($$SELECT t.pay('o', 'o-3', 10)$$), 'payment.surplus refund.created', 'a surplus');
SELECT is(t.happens($$SELECT t.pay('o', 'o-4', 10, 'EUR')$$), 'payment.wrong_currency refund.created', 'another currency');
SELECT is(t.happens($$SELECT t.pay('e', 'e-2', 10)$$), 'payment.late refund.created', 'a late one');
SELECT is(t.told('payment.late') ->> 'late_reason', 'paid_late', 'and why');
SELECT is(t.happens($$SELECT t.create_order('s', 100, 'strict'), t.pass_deadline('s'), t.pay('s', 's-1', 100)$$),
          'order.created order.expired payment.late refund.created', 'a late one that closes the order');
SELECT is(t.happens($$SELECT t.create_order('r', 100, 'reopen'), t.expire('r'), t.pay('r', 'r-1', 130)$$),
          'order.created order.expired order.reopened refund.created', 'one that reopens the order');
SELECT is(t.told('order.reopened') - 'expires_at',
          '{"state": "paid", "amount": 100, "currency": "CNY", "paid": 130, "refund_pending": 30, '
          '"gateway": "bank", "payment_ref": "r-1", "payment_amount": 130, "late_reason": "paid_late"}',
          'tells both');
SELECT is(t.happens($$SELECT t.create_order('h', 100, 'hold'), t.expire('h')$$), 'order.created order.expired', 'an order');
SELECT is(t.happens($$SELECT t.pay('h', 'h-1', 60), t.pay('h', 'h-2', 60), t.pay('h', 'h-3', 60)$$), 'payment.held payment.held payment.held',
          'three are held');
SELECT is(t.happens($$SELECT order_timeout.resolve_held('bank', 'h-1', 'refund')$$), 'payment.given_back refund.created', 'one goes back');
SELECT is(t.told('payment.given_back') ->> 'disposition', 'late', 'as late');
SELECT is(t.happens($$SELECT order_timeout.resolve_held('bank', 'h-2', 'accept')$$),
          'payment.accepted payment.accepted refund.created order.reopened', 'the others are accepted');
SELECT is(t.told('order.reopened') - '{expires_at,late_reason,role,session_user}'::text[],
          '{"state": "paid", "amount": 100, "currency": "CNY", "paid": 180, "refund_pending": 80, '
          '"gateway": "bank", "payment_ref": "h-2", "payment_amount": 60}',
          'by the one that was chosen');
SELECT is(t.happens($$SELECT t.pay('later', 'l-1', 10), t.pay('later', 'l-2', 10), t.pay('later', 'l-3', 10)$$),
          'payment.orphan payment.orphan payment.orphan', 'orphans');
SELECT is(t.happens($$SELECT order_timeout.refund_orphan('bank', 'l-1')$$), 'refund.created', 'one is refunded');
SELECT is(t.happens($$SELECT order_timeout.assign_orphan('bank', 'l-2', 'free')$$), 'payment.surplus refund.created', 'one is assigned');
SELECT is((SELECT string_agg(aggregateid, ' ') FROM order_timeout.events WHERE payload ->> 'payment_ref' = 'l-2' AND type = 'payment.surplus'),
          'free', 'and is that order''s');
SELECT is(t.happens($$SELECT t.create_order('later', 100)$$), 'order.created payment.partial', 'one finds its order');

-- Refunds
SELECT is(t.happens($$SELECT t.owe('w', 100)$$), 'order.created order.expired payment.late refund.created', 'a refund');
SELECT is(t.told('refund.created') - 'refund_ref' - 'next_attempt_at',
          '{"gateway": "bank", "payment_ref": "w-1", "amount": 100, "currency": "CNY", "reason": "late", "state": "pending", "attempts": 0}',
          'what it says');
SELECT is((t.told('refund.created') ->> 'refund_ref', (t.told('refund.created') ->> 'next_attempt_at')::timestamptz <= clock_timestamp())::text,
          format('(%s,t)', t.ref('w-1')), 'which it is, and that it is due');
UPDATE order_timeout.refunds SET next_attempt_at = clock_timestamp() + interval '1 day' WHERE payment_ref <> 'w-1';
SELECT is(t.happens($$SELECT * FROM order_timeout.claim_refunds('worker')$$), 'refund.claimed', 'is handed out');
SELECT is(t.told('refund.claimed') ->> 'worker', 'worker', 'and to whom');
SELECT is(t.happens($$SELECT t.lapse_leases(), order_timeout.sweep_once()$$), 'refund.lease_lapsed', 'its lease lapses');
SELECT is(t.happens($$SELECT * FROM order_timeout.claim_refunds('worker')$$), 'refund.claimed', 'it is handed out again');
SELECT is(t.happens($$SELECT t.lapse_leases(); SELECT * FROM order_timeout.claim_refunds('worker')$$), 'refund.lease_lapsed refund.claimed',
          'lapses, and is handed out in one');
SELECT lease_token AS token, refund_ref AS ref FROM order_timeout.refunds WHERE payment_ref = 'w-1' \gset
SELECT is(t.happens(format('SELECT order_timeout.complete_refund(%L, %L, %L, NULL, %L)', :'ref', 'failed', :'token', 'no funds')),
          'refund.failed', 'it fails');
SELECT is(t.told('refund.failed') - 'refund_ref' - 'next_attempt_at',
          '{"gateway": "bank", "payment_ref": "w-1", "amount": 100, "currency": "CNY", "reason": "late", "state": "failed", '
          '"attempts": 3, "error": "no funds"}',
          'with the error');
SELECT is(t.happens(format('SELECT t.refund_in(%L, %L)', result, 'x ' || result)),
          'order.created order.expired payment.late refund.created refund.claimed refund.' || result, result)
  FROM unnest(ARRAY['unknown', 'submitted']) AS result;
SELECT is(t.happens(format('SELECT t.refund_in(%L, %L)', 'needs_attention', 'x rejected')),
          'order.created order.expired payment.late refund.created refund.claimed refund.rejected', 'rejected');
SELECT is(t.told('refund.rejected') ->> 'state', 'needs_attention', 'which needs attention');
SELECT t.ref('x rejected', 'x rejected') AS ref \gset
SELECT is(t.happens(format('SELECT order_timeout.retry_refund(%L)', :'ref')), 'refund.retried', 'is tried again');
SELECT is(t.happens($$SELECT t.attempt('deferred', 'x rejected')$$), 'refund.claimed refund.deferred', 'deferred');
SELECT is(t.happens(format('SELECT order_timeout.complete_refund(%L, %L, gateway_refund_ref => %L)', :'ref', 'succeeded', 'g-1')),
          'refund.succeeded', 'succeeds');
SELECT is(t.told('refund.succeeded') ->> 'gateway_refund_ref', 'g-1', 'under the gateway''s number');
SELECT is(t.happens(format('SELECT order_timeout.complete_refund(%L, %L, gateway_refund_ref => %L)', :'ref', 'succeeded', 'g-2')),
          'refund.conflict', 'succeeds again, differently');
SELECT is(t.told('refund.conflict') - 'refund_ref',
          '{"gateway": "x rejected", "payment_ref": "x rejected", "gateway_refund_ref": "g-2", "amount": 100, '
          '"currency": "CNY", "problem": "the gateway returned it under two numbers"}',
          'what it contradicts');
SELECT is(t.happens($$SELECT order_timeout.resolve_conflict(conflict_id, 'a misprint') FROM order_timeout.attention WHERE kind = 'conflict'$$),
          'conflict.resolved', 'somebody has looked');
SELECT is(t.members('conflict.resolved') || ': ' || (t.told('conflict.resolved') ->> 'note'), 'conflict_id note role session_user: a misprint', 'and said');
SELECT is(t.happens(format('SELECT order_timeout.reverse_refund(%L, %L)', :'ref', 'account closed')), 'refund.reversed refund.created',
          'it comes back');
SELECT is(t.told('refund.created') ->> 'note', 'account closed', 'why there is a new one');
SELECT is(t.happens(format('SELECT order_timeout.settle_refund(%L, %L)', t.ref('x rejected', 'x rejected'), 'in cash')), 'refund.settled',
          'and is settled by hand');
SELECT is(t.happens($$SELECT order_timeout.request_refund('r', 'k', 40)$$), 'refund.created', 'a refund is asked for');
SELECT is(t.happens($$SELECT order_timeout.record_refund('bank', 'r-1', 'ext', 50)$$),
          'refund.recorded refund.reversed refund.reversed refund.created',
          'one made elsewhere takes the place of two; what is left of them is a new one');
SELECT is(t.happens($$SELECT order_timeout.complete_refund(t.ref('x submitted', 'x submitted'), 'succeeded', refunded_amount => 30)$$),
          'refund.succeeded refund.created', 'less was returned');
SELECT is(t.happens($$SELECT order_timeout.complete_refund(t.ref('x unknown', 'x unknown'), 'succeeded', refunded_amount => 130)$$),
          'refund.succeeded refund.conflict', 'more was returned');
SELECT is((t.told('refund.conflict') ->> 'amount')::bigint, 30::bigint, 'by so much');

-- Attempts and their voids
SELECT is(t.happens($$SELECT t.create_order('v', 100), order_timeout.begin_attempt('v', 'bank', 'v'), t.cancel('v')$$),
          'order.created attempt.begun order.cancelled void.due', 'an attempt outlives its order');
SELECT is(t.happens($$SELECT order_timeout.claim_voids('w')$$), 'void.claimed', 'its void is claimed');
SELECT is(t.told('void.claimed') - 'next_attempt_at', '{"gateway": "bank", "attempt_ref": "v", "state": "open", "attempts": 0, "worker": "w"}', 'what it says');
CREATE FUNCTION t.void(result text) RETURNS text LANGUAGE sql AS $$
    SELECT t.happens($q$UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01' WHERE next_attempt_at IS NOT NULL$q$
                     || '; SELECT order_timeout.claim_voids(''w''); SELECT order_timeout.complete_void(''bank'', ''v'', '
                     || quote_literal(result) || ', lease_token) FROM order_timeout.attempts')
$$;
SELECT is(t.void('failed'), 'void.lease_lapsed void.claimed void.failed', 'a lease lapses, and a try fails');
SELECT is(t.void('unknown'), 'void.claimed void.unknown', 'another one is unknown');
SELECT is(t.void('deferred'), 'void.claimed void.deferred', 'deferred');
SELECT is(t.void('rejected'), 'void.claimed void.rejected', 'rejected');
SELECT is(t.happens($$SELECT order_timeout.retry_void('bank', 'v')$$), 'void.retried', 'retried');
SELECT is(t.members('void.retried'), 'attempt_ref attempts error gateway next_attempt_at role session_user state', 'by whom');
SELECT is(t.void('voided'), 'void.claimed void.voided', 'voided');
SELECT is(t.void('paid'), 'void.paid', 'or paid');

-- The sweeper
SELECT is(t.happens($$SELECT t.create_order('due 1', 1), t.pass_deadline('due 1'), t.create_order('due 2', 1), t.pass_deadline('due 2')$$),
          'order.created order.created', 'two orders fall due');
SELECT is(t.happens('SELECT order_timeout.sweep_once()'), 'order.expired order.expired', 'and are closed by the sweeper');
SELECT is((SELECT string_agg(aggregateid || ' ' || (payload ->> 'state'), ', ' ORDER BY aggregateid) FROM order_timeout.events
            WHERE type = 'order.expired' AND aggregateid LIKE 'due %'), 'due 1 expired, due 2 expired', 'each has its event');
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no' USING ERRCODE = 'P0042';
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.state = 'expired' AND NEW.order_id = 'bad')
    EXECUTE FUNCTION t.refuse();
SELECT is(t.happens($$SELECT t.create_order('bad', 1), t.pass_deadline('bad'), order_timeout.sweep_once()$$),
          'order.created order.set_aside', 'an order that can''t be closed');
SELECT ok((t.told('order.set_aside') ->> 'retry_at')::timestamptz > clock_timestamp(), 'is tried again later');
SELECT is(t.told('order.set_aside') - 'retry_at', '{"sqlstate": "P0042", "error": "no", "failures": 1}', 'and why');
DROP TRIGGER refuse ON order_timeout.orders;
SELECT t.sound();
SELECT finish();
ROLLBACK;
