-- A tour in the order of a shop's day.
CREATE EXTENSION order_timeout;

-- The story in five statements. An order of 49.99 that is to be paid at once, or nearly:
SELECT outcome, state FROM order_timeout.create_order('order-1', 4999, 'EUR', expires_in => '1 millisecond');
-- The deadline passes; the sweeper closes the order. (A test has no time to lose, a shop has pg_cron.)
DO $$ BEGIN PERFORM pg_sleep_until(expires_at) FROM order_timeout.orders; END $$;
SELECT * FROM order_timeout.sweep_once();
-- Then the payment succeeds: it is recorded, and all of it is owed back in the same transaction.
SELECT outcome, state, disposition, refund_amount
  FROM order_timeout.record_payment('order-1', 'bank', 'pay-1', 4999, 'EUR', paid_at => clock_timestamp());
-- A worker takes the refund, asks the gateway to send the money, and reports that it did.
SELECT refund_ref, lease_token, order_id, payment_ref, amount, currency, payment_amount, action, attempt
  FROM order_timeout.claim_refunds('worker-1') \gset refund_
\echo :refund_order_id :refund_payment_ref :refund_amount :refund_currency :refund_payment_amount :refund_action :refund_attempt
SELECT * FROM order_timeout.complete_refund(:'refund_refund_ref', 'succeeded', :'refund_lease_token', 'gateway-1');
-- The proof: no row and no sum disagrees with another.
SELECT * FROM order_timeout.funds_violations();
SELECT * FROM order_timeout.funds('order-1');
SELECT disposition, late_reason FROM order_timeout.payments WHERE order_id = 'order-1';

-- An order that is paid in time, and everything said twice.
SELECT outcome, state FROM order_timeout.create_order('order-2', 100, 'EUR', metadata => '{"customer": 7}');
SELECT outcome, state FROM order_timeout.create_order('order-2', 100, 'EUR', expires_in => '5 minutes');
SELECT outcome, state FROM order_timeout.expire_order('order-2');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-2', 'bank', 'pay-2', 100, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-2', 'bank', 'pay-2', 100, 'EUR');
SELECT outcome, state FROM order_timeout.expire_order('order-2');
SELECT outcome, state FROM order_timeout.cancel_order('order-2');
SELECT outcome, state FROM order_timeout.extend_order('order-2', now() + interval '1 day');
SELECT * FROM order_timeout.funds('order-2');

-- Paid in parts, with a surplus; a payment that nobody asked for; one in another currency.
SELECT outcome, state FROM order_timeout.create_order('order-3', 100, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-3', 'bank', 'pay-3a', 60, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-3', 'bank', 'pay-3b', 60, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-3', 'bank', 'pay-3c', 5, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-3', 'bank', 'pay-3d', 7, 'USD');
SELECT * FROM order_timeout.funds('order-3');

-- Part of it is given back on request; the same key again is the same request.
SELECT outcome, gateway, payment_ref, amount FROM order_timeout.request_refund('order-3', 'return-1', 70, 'wrong colour');
SELECT outcome, gateway, payment_ref, amount FROM order_timeout.request_refund('order-3', 'return-1', 70);
SELECT payment_ref, amount, currency, reason, state FROM order_timeout.refunds
 WHERE order_id = 'order-3' ORDER BY payment_ref, reason;
SELECT * FROM order_timeout.funds('order-3');

-- Cancelled with a part paid; a free order; a deadline moved.
SELECT outcome, state FROM order_timeout.create_order('order-4', 100, 'EUR');
SELECT outcome, state, disposition FROM order_timeout.record_payment('order-4', 'wallet', 'pay-4', 30, 'EUR');
SELECT outcome, state FROM order_timeout.cancel_order('order-4', 'changed my mind');
SELECT outcome, state FROM order_timeout.cancel_order('order-4');
SELECT payment_ref, amount, reason, state FROM order_timeout.refunds WHERE order_id = 'order-4';
SELECT outcome, state FROM order_timeout.create_order('order-5', 0, 'EUR');
SELECT outcome, state, expires_at FROM order_timeout.create_order('order-6', 100, 'EUR', expires_at => '2100-01-01 00:00+00');
SELECT outcome, state, expires_at FROM order_timeout.extend_order('order-6', '2100-01-02 00:00+00');
SELECT outcome, state, expires_at FROM order_timeout.extend_order('order-6', '2100-01-01 00:00+00');

-- The payment that is faster than its order waits for it.
SELECT outcome, state, disposition FROM order_timeout.record_payment('order-7', 'bank', 'pay-7', 100, 'EUR');
SELECT kind, order_id, payment_ref, amount, currency FROM order_timeout.attention;
SELECT outcome, state FROM order_timeout.create_order('order-7', 100, 'EUR');
SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'pay-7';

-- What a late payment does is the policy's choice: it may open the order again, or wait for a person.
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('reopen', 'reopen'), ('hold', 'hold');
SELECT outcome, state FROM order_timeout.create_order('order-8', 100, 'EUR', '1 millisecond', policy => 'reopen');
SELECT outcome, state FROM order_timeout.create_order('order-9', 100, 'EUR', '1 millisecond', policy => 'hold');
DO $$ BEGIN PERFORM pg_sleep_until(expires_at) FROM order_timeout.orders WHERE policy <> 'default'; END $$;
SELECT * FROM order_timeout.sweep_once();
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-8', 'bank', 'pay-8', 101, 'EUR');
SELECT outcome, state, disposition, refund_amount FROM order_timeout.record_payment('order-9', 'bank', 'pay-9', 100, 'EUR');
SELECT kind, order_id, payment_ref, amount, resolved_by FROM order_timeout.attention;
SELECT * FROM order_timeout.funds('order-9');
SELECT * FROM order_timeout.resolve_held('bank', 'pay-9', 'accept');
SELECT * FROM order_timeout.resolve_held('bank', 'pay-9', 'accept');

-- A refund that fails is tried again, until a person is called; the money stays owed.
SELECT refund_ref, lease_token, order_id, amount FROM order_timeout.claim_refunds('worker-2', gateway => 'wallet') \gset refund_
\echo :refund_order_id :refund_amount
SELECT outcome, state, next_attempt_at > now() AS waits
  FROM order_timeout.complete_refund(:'refund_refund_ref', 'failed', :'refund_lease_token', error => 'bank closed');
SELECT refunded, refund_pending, balanced FROM order_timeout.funds('order-4');
-- The gateway's word that it did go through is taken from anybody, once.
SELECT * FROM order_timeout.complete_refund(:'refund_refund_ref', 'succeeded', gateway_refund_ref => 'gateway-4');
SELECT * FROM order_timeout.complete_refund(:'refund_refund_ref', 'succeeded', gateway_refund_ref => 'gateway-4');
SELECT * FROM order_timeout.complete_refund(:'refund_refund_ref', 'succeeded', gateway_refund_ref => 'gateway-5');
SELECT kind, order_id, payment_ref, amount, resolved_by FROM order_timeout.attention;
SELECT refunded, refund_pending, balanced FROM order_timeout.funds('order-4');

-- What happened to an order, in order; how all of it stands; and the proof.
SELECT aggregatetype, aggregateid, count(*) > 2 AS told, bool_and(id > previous) AS in_order
  FROM (SELECT *, lag(id, 1, 0) OVER () AS previous FROM order_timeout.history('order-4')) h GROUP BY 1, 2;
SELECT pending, overdue, refunds_by_state, owed_by_currency, conflicts_open FROM order_timeout.health;
SELECT * FROM order_timeout.funds_violations();
DROP EXTENSION order_timeout;
