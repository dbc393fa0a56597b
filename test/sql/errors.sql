-- The catalogue of errors: each kind once, as a person gets to read it, with its SQLSTATE.
\set SHOW_CONTEXT never
CREATE EXTENSION order_timeout;

-- What psql shows under VERBOSITY verbose, without the place in the source; times, versions and keys are masked.
CREATE FUNCTION masked(text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace($1,
           '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+[-+]\d\d', '(now)', 'g'),
           'rf_[0-9a-f]{32}', 'rf_...', 'g'),
           '\d+\.\d+\.\d+', '(version)', 'g')
$$;
CREATE FUNCTION says(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN NEXT 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT format('ERROR:  %s: %s', state, masked(message));
    IF detail <> '' THEN
        RETURN NEXT 'DETAIL:  ' || masked(detail);
    END IF;
    IF hint <> '' THEN
        RETURN NEXT 'HINT:  ' || masked(hint);
    END IF;
END
$$;

-- order-1 waits for payment, order-2 is paid and 40 of it are owed back, order-3 is paid and all of it went back.
DO $$ BEGIN
    PERFORM order_timeout.create_order('order-1', 100, 'EUR');
    PERFORM order_timeout.create_order('order-2', 100, 'EUR');
    PERFORM order_timeout.record_payment('order-2', 'bank', 'pay-2', 100, 'EUR');
    PERFORM order_timeout.request_refund('order-2', 'return-1', 40);
    PERFORM order_timeout.create_order('order-3', 100, 'EUR');
    PERFORM order_timeout.record_payment('order-3', 'bank', 'pay-3', 100, 'EUR');
    PERFORM order_timeout.complete_refund(r.refund_ref, 'succeeded')
       FROM order_timeout.request_refund('order-3', 'return-1') r;
    PERFORM order_timeout.record_payment('order-4', 'bank', 'pay-4', 100, 'EUR');
    PERFORM order_timeout.refund_orphan('bank', 'pay-4');
END $$;
CREATE VIEW written AS
SELECT (SELECT md5(string_agg(o::text, ',' ORDER BY o::text)) FROM order_timeout.orders o) AS orders,
       (SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM order_timeout.payments p) AS payments,
       (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM order_timeout.refunds r) AS refunds,
       (SELECT count(*) FROM order_timeout.events) AS events;
CREATE TABLE written_before AS SELECT * FROM written;
\pset format unaligned
\pset tuples_only on

-- OT001
SELECT says($$SELECT order_timeout.cancel_order('order-9')$$);
-- OT002
SELECT says($$SELECT order_timeout.create_order('order-1', 200, 'EUR')$$);
-- OT003
SELECT says($$SELECT order_timeout.record_payment('order-2', 'bank', 'pay-2', 200, 'EUR')$$);
-- OT004
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-2', 61)$$);
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-2', 61, payment_ref => 'pay-2')$$);
SELECT says($$SELECT order_timeout.request_refund('order-3', 'return-2')$$);
SELECT says($$SELECT order_timeout.request_refund('order-3', 'return-2', payment_ref => 'pay-3')$$);
-- OT005: an order
SELECT says($$SELECT order_timeout.request_refund('order-1', 'return-1')$$);
-- OT005: a refund that is owed, that succeeded, that was reversed
SELECT says(format('SELECT order_timeout.settle_refund(%L, %L)', refund_ref, 'paid in cash'))
  FROM order_timeout.refunds WHERE order_id = 'order-2';
SELECT says(format('SELECT order_timeout.reverse_refund(%L, %L)', refund_ref, 'sent back'))
  FROM order_timeout.refunds WHERE order_id = 'order-2';
SELECT says(format('SELECT order_timeout.retry_refund(%L)', refund_ref))
  FROM order_timeout.refunds WHERE order_id = 'order-3';
BEGIN;
SELECT r.outcome FROM order_timeout.refunds, order_timeout.reverse_refund(refund_ref, 'sent back') r
 WHERE order_id = 'order-3';
SELECT says(format('SELECT order_timeout.retry_refund(%L)', refund_ref))
  FROM order_timeout.refunds WHERE order_id = 'order-3' AND state = 'reversed';
ROLLBACK;
-- OT005: a refund that was withdrawn
BEGIN;
SELECT r.outcome FROM order_timeout.refunds, order_timeout.withdraw_refund(refund_ref, 'kept') r
 WHERE order_id = 'order-2';
SELECT says(format('SELECT order_timeout.retry_refund(%L)', refund_ref))
  FROM order_timeout.refunds WHERE order_id = 'order-2';
ROLLBACK;
-- OT005: a payment
SELECT says($$SELECT order_timeout.resolve_held('bank', 'pay-2', 'accept')$$);
SELECT says($$SELECT order_timeout.refund_orphan('bank', 'pay-2')$$);
SELECT says($$SELECT order_timeout.assign_orphan('bank', 'pay-2', 'order-1')$$);
SELECT says($$SELECT order_timeout.assign_orphan('bank', 'pay-4', 'order-1')$$);
-- OT006
SELECT says($$SELECT order_timeout.retry_refund('refund-9')$$);
SELECT says($$SELECT order_timeout.resolve_conflict(9)$$);
-- OT007
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-1', 50)$$);
-- OT008
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', policy => 'seasonal')$$);
-- OT009
SELECT says($$SELECT order_timeout.record_refund('bank', 'pay-9', 'gateway-9', 100)$$);
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-2', payment_ref => 'pay-9')$$);

-- 22004: NULL where none is allowed
SELECT says($$SELECT order_timeout.create_order(NULL, 100, 'EUR')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', NULL, 'EUR')$$);
SELECT says($$SELECT order_timeout.extend_order('order-1', NULL)$$);
SELECT says($$SELECT order_timeout.resolve_held('bank', 'pay-2', NULL)$$);
SELECT says($$SELECT order_timeout.grant_access(NULL, 'reader')$$);
SELECT says($$SELECT order_timeout.grant_access('regress_nobody', NULL)$$);
-- 22023: two gateways have a payment of that number, and which one is meant is not said
BEGIN;
SELECT outcome FROM order_timeout.record_payment('order-2', 'wallet', 'pay-2', 5, 'USD');
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-2', payment_ref => 'pay-2')$$);
ROLLBACK;
-- OT005: nothing to accept
SELECT says($$SELECT order_timeout.accept_payment('bank', 'pay-2')$$);
SELECT says($$SELECT order_timeout.accept_short('order-1')$$);

-- 22023: amounts
SELECT says($$SELECT order_timeout.create_order('order-9', -1, 'EUR')$$);
SELECT says($$SELECT order_timeout.record_payment('order-1', 'bank', 'pay-9', 0, 'EUR')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'eur')$$);
-- 22023: identifiers
SELECT says($$SELECT order_timeout.create_order('', 100, 'EUR')$$);
SELECT says($$SELECT order_timeout.create_order(repeat('x', 256), 100, 'EUR')$$);
SELECT says($$SELECT order_timeout.create_order(E'order\t9', 100, 'EUR')$$);
-- 22023: times
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', expires_at => 'infinity')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', expires_in => '1 hour', expires_at => '2100-01-01')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', expires_at => '2020-01-01 00:00+00')$$);
SELECT says($$SELECT order_timeout.extend_order('order-1', '2020-01-01 00:00+00')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', expires_in => '-1 hour')$$);
SELECT says($$SELECT order_timeout.create_order('order-9', 100, 'EUR', expires_in => '1001 years')$$);
SELECT says($$SELECT order_timeout.claim_refunds('worker', lease => '400 days')$$);
-- 22023: counts
SELECT says($$SELECT order_timeout.sweep_once(0)$$);
-- 22023: words
SELECT says($$SELECT order_timeout.complete_refund('refund-9', 'done')$$);
SELECT says($$SELECT order_timeout.resolve_held('bank', 'pay-2', 'maybe')$$);
SELECT says($$SELECT order_timeout.record_refund('bank', 'pay-2', 'gateway-9', 10, 'theft')$$);
SELECT says($$SELECT order_timeout.grant_access('regress_nobody', 'everything')$$);

-- 2D000
SELECT says($$CALL order_timeout.sweep()$$);

-- 23503: policies that cannot go
BEGIN;
INSERT INTO order_timeout.policies (policy) VALUES ('seasonal');
SELECT outcome FROM order_timeout.create_order('order-9', 0, 'EUR', policy => 'seasonal');
SELECT says($$DELETE FROM order_timeout.policies WHERE policy = 'seasonal'$$);
SELECT says($$UPDATE order_timeout.policies SET policy = 'other' WHERE policy = 'default'$$);
ROLLBACK;
-- 23514: a policy that makes no sense
SELECT says($$UPDATE order_timeout.policies SET refund_jitter = 2$$);

-- 27000: a trigger that suppresses a write
BEGIN;
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER suppress BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION suppress();
SELECT says($$SELECT order_timeout.cancel_order('order-1')$$);
-- 55000: and with it the fast store cannot serve
SET LOCAL order_timeout.store = 'fast';
SELECT says($$SELECT order_timeout.cancel_order('order-1')$$);
ROLLBACK;
-- 55000: a column of another type
BEGIN;
ALTER TABLE order_timeout.refunds ALTER asked TYPE numeric;
SELECT says($$SELECT order_timeout.request_refund('order-2', 'return-1')$$);
ROLLBACK;
-- 55000: objects of another version, in a new session
SELECT extversion FROM pg_extension WHERE extname = 'order_timeout' \gset
UPDATE pg_extension SET extversion = '0.0.0' WHERE extname = 'order_timeout';
\connect -
SELECT says($$SELECT order_timeout.cancel_order('order-1')$$);
UPDATE pg_extension SET extversion = :'extversion' WHERE extname = 'order_timeout';
-- 55000: pg_cron is in another database
SELECT says($$SELECT order_timeout.schedule_sweeper()$$);
SELECT says($$SELECT order_timeout.unschedule_sweeper()$$);

-- 42704
SELECT says($$SELECT order_timeout.grant_access('regress_nobody', 'reader')$$);

-- 42P01: a function of the extension's, without the extension
BEGIN;
CREATE FUNCTION without_tables(order_id text, OUT outcome text, OUT state text)
AS '$libdir/order_timeout', 'ot_expire_order' LANGUAGE C;
DROP EXTENSION order_timeout CASCADE;
SELECT says($$SELECT without_tables('order-1')$$);
ROLLBACK;

-- XX001: rows that were changed by hand
BEGIN;
UPDATE order_timeout.orders SET refund_pending = 0 WHERE order_id = 'order-2';
SELECT says(format('SELECT order_timeout.complete_refund(%L, %L)', refund_ref, 'succeeded'))
  FROM order_timeout.refunds WHERE order_id = 'order-2';
ROLLBACK;

-- Nothing of all this was written.
\pset format aligned
\pset tuples_only off
SELECT w.orders = b.orders AS orders, w.payments = b.payments AS payments, w.refunds = b.refunds AS refunds,
       w.events = b.events AS events
  FROM written w, written_before b;
SELECT count(*) AS violations FROM order_timeout.funds_violations();
DROP TABLE written_before;
DROP VIEW written;
DROP FUNCTION says(text), masked(text);
DROP EXTENSION order_timeout;
