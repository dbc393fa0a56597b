-- Every SQLSTATE that the functions document, with what a person gets to read.
\set SHOW_CONTEXT never
CREATE EXTENSION order_timeout;
DO $$ BEGIN
    PERFORM order_timeout.create_order('order-1', 100, 'EUR');
    PERFORM order_timeout.create_order('order-2', 100, 'EUR');
    PERFORM order_timeout.record_payment('order-2', 'bank', 'pay-2', 100, 'EUR');
    PERFORM order_timeout.record_payment('order-2', 'wallet', 'pay-2', 5, 'USD');
    PERFORM order_timeout.request_refund('order-2', 'return-1', 40);
END $$;
SELECT refund_ref FROM order_timeout.refunds WHERE reason = 'requested' \gset
CREATE VIEW written AS
SELECT (SELECT md5(string_agg(o::text, ',' ORDER BY o::text)) FROM order_timeout.orders o) AS orders,
       (SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM order_timeout.payments p) AS payments,
       (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM order_timeout.refunds r) AS refunds,
       (SELECT count(*) FROM order_timeout.events) AS events;
CREATE TABLE written_before AS SELECT * FROM written;

-- No such order.
SELECT order_timeout.cancel_order('order-9');
\echo :LAST_ERROR_SQLSTATE
-- An order with this id and other terms.
SELECT order_timeout.create_order('order-1', 200, 'EUR');
\echo :LAST_ERROR_SQLSTATE
-- This payment with other terms.
SELECT order_timeout.record_payment('order-2', 'bank', 'pay-2', 200, 'EUR');
\echo :LAST_ERROR_SQLSTATE
-- More than there is to refund.
SELECT order_timeout.request_refund('order-2', 'return-2', 61);
\echo :LAST_ERROR_SQLSTATE
-- The order's state, and a refund's.
SELECT order_timeout.request_refund('order-1', 'return-1');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
SELECT order_timeout.settle_refund(:'refund_ref', 'paid in cash') \g /dev/null
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
-- No such refund.
SELECT order_timeout.retry_refund('no-such-refund');
\echo :LAST_ERROR_SQLSTATE
-- A request key that was used for something else.
SELECT order_timeout.request_refund('order-2', 'return-1', 50);
\echo :LAST_ERROR_SQLSTATE
-- No such policy.
SELECT order_timeout.create_order('order-3', 100, 'EUR', policy => 'seasonal');
\echo :LAST_ERROR_SQLSTATE
-- No such payment.
SELECT order_timeout.record_refund('bank', 'pay-9', 'gateway-9', 100);
\echo :LAST_ERROR_SQLSTATE

-- NULL where none is allowed.
SELECT order_timeout.create_order(NULL, 100, 'EUR');
\echo :LAST_ERROR_SQLSTATE
-- Two gateways have a payment of that number, and which one is meant is not said.
SELECT order_timeout.request_refund('order-2', 'return-2', payment_ref => 'pay-2');
\echo :LAST_ERROR_SQLSTATE
-- Nothing to accept.
SELECT order_timeout.accept_payment('bank', 'pay-2');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.accept_short('order-1');
\echo :LAST_ERROR_SQLSTATE

-- Bad values.
SELECT order_timeout.create_order('order-3', -1, 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.record_payment('order-1', 'bank', 'pay-3', 0, 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order('order-3', 100, 'eur');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order('', 100, 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order(repeat('x', 256), 100, 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order(E'order\t3', 100, 'EUR');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order('order-3', 100, 'EUR', expires_at => 'infinity');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order('order-3', 100, 'EUR', expires_in => '1 hour', expires_at => '2100-01-01');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.create_order('order-3', 100, 'EUR', expires_in => '0');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.extend_order('order-1', '2020-01-01 00:00+00');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.complete_refund(:'refund_ref', 'done');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.resolve_held('bank', 'pay-2', 'maybe');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.grant_access('regress_nobody', 'everything');
\echo :LAST_ERROR_SQLSTATE

-- A role that does not exist; a policy in use; a policy that makes no sense.
SELECT order_timeout.grant_access('regress_nobody', 'reader');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO order_timeout.policies (policy) VALUES ('seasonal');
SELECT outcome FROM order_timeout.create_order('order-4', 0, 'EUR', policy => 'seasonal');
DELETE FROM order_timeout.policies WHERE policy = 'seasonal';
\echo :LAST_ERROR_SQLSTATE
UPDATE order_timeout.policies SET policy = 'other' WHERE policy = 'default';
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('nonsense', 'keep');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default

-- Nothing of all this was written; only the order that was created in between is new.
SELECT w.payments = b.payments AS payments, w.refunds = b.refunds AS refunds,
       (SELECT count(*) FROM order_timeout.orders) AS orders, w.events - b.events > 0 AS one_order_more
  FROM written w, written_before b;
SELECT count(*) AS violations FROM order_timeout.funds_violations();
DROP TABLE written_before;
DROP VIEW written;
DROP EXTENSION order_timeout;
