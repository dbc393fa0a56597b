-- The procedure that closes what is due, and where it may not be called.
\set SHOW_CONTEXT never
CREATE EXTENSION order_timeout;

-- Seven orders that are due, each with a part paid, and one that is not; batches of two, each its own commit.
DO $$ BEGIN
    FOR n IN 1..7 LOOP
        PERFORM order_timeout.create_order('due-' || n, 100, 'EUR', expires_in => '1 millisecond');
        PERFORM order_timeout.record_payment('due-' || n, 'bank', 'pay-' || n, 10, 'EUR');
    END LOOP;
    PERFORM order_timeout.create_order('later', 100, 'EUR', expires_in => '1 day');
END $$;
CALL order_timeout.sweep(run_for => '500 milliseconds', batch_size => 2);
SELECT state, count(*), sum(paid) AS paid, sum(refund_pending) AS refund_pending
  FROM order_timeout.orders GROUP BY state ORDER BY state;
SELECT count(*) AS refunds, sum(amount) AS owed FROM order_timeout.refunds WHERE reason = 'expired' AND state = 'pending';
-- Seven orders, at most two a transaction: at least four of them.
SELECT count(DISTINCT xmin::text) >= 4 AS batches FROM order_timeout.orders WHERE state = 'expired';
-- It leaves a row that says what it did, and that it came to its end.
SELECT expired, failed, leases_returned, ended_at - started_at >= interval '500 milliseconds' AS used_its_time
  FROM order_timeout.sweeps;
-- It also says which events came before it.
SELECT bool_and((id > last_event) = (created_at >= started_at)) AS events_after_it FROM order_timeout.events, order_timeout.sweeps;
SELECT overdue, last_sweep IS NOT NULL AS swept FROM order_timeout.health;

-- A deadline inside the run waits neither for the next run nor for the next poll.
SELECT outcome FROM order_timeout.create_order('soon', 100, 'EUR', expires_in => '100 milliseconds');
CALL order_timeout.sweep('1 second', poll_interval => '1 hour');
SELECT state, settled_at - expires_at < interval '600 milliseconds' AS at_once FROM order_timeout.orders WHERE order_id = 'soon';

-- An order whose closing fails is set aside with the reason; the others are closed all the same.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', OLD.order_id; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders
    FOR EACH ROW WHEN (OLD.order_id = 'bad') EXECUTE FUNCTION refuse();
SELECT outcome FROM order_timeout.create_order('bad', 100, 'EUR', expires_in => '1 millisecond');
SELECT outcome FROM order_timeout.create_order('good', 100, 'EUR', expires_in => '2 milliseconds');
CALL order_timeout.sweep('500 milliseconds');
SELECT order_id, state FROM order_timeout.orders WHERE order_id IN ('bad', 'good') ORDER BY order_id;
SELECT expired, failed > 0 AS failed FROM order_timeout.sweeps ORDER BY sweep_id DESC LIMIT 1;
SELECT kind, order_id, why FROM order_timeout.attention WHERE kind = 'set_aside';
DROP TRIGGER refuse ON order_timeout.orders;
DROP FUNCTION refuse();
SELECT * FROM order_timeout.expire_order('bad');
SELECT count(*) AS set_aside FROM order_timeout.attention WHERE kind = 'set_aside';

-- Reminders: one for each order, although a run looks several times, in batches that each commit.
INSERT INTO order_timeout.policies (policy, remind_before) VALUES ('remind', '59 minutes 59.5 seconds');
DO $$ BEGIN
    FOR n IN 1..50 LOOP
        PERFORM order_timeout.create_order('remind-' || n, 100, 'EUR', expires_in => '10 minutes', policy => 'remind');
    END LOOP;
END $$;
CALL order_timeout.sweep('1500 milliseconds', batch_size => 20);
SELECT sum(n) AS reminders, sum(orders) AS orders, max(n) <= 20 AS in_batches
  FROM (SELECT count(*) AS n, count(DISTINCT aggregateid) AS orders FROM order_timeout.events WHERE type = 'order.due_soon'
         GROUP BY created_at) AS batch;
-- A reminder whose time comes inside the run waits neither for the next run nor for the next poll. Those that
-- fail keep no other from it, although they fill a batch. An order that comes up below what was looked at is found too.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON order_timeout.orders DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.order_id LIKE 'remind-bad-_') EXECUTE FUNCTION refuse();
CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM order_timeout.create_order('remind-below', 100, 'EUR', expires_in => '5 minutes', policy => 'remind');
    RETURN NULL;
END $$;
CREATE TRIGGER another AFTER INSERT ON order_timeout.events
    FOR EACH ROW WHEN (NEW.type = 'order.due_soon' AND NEW.aggregateid = 'remind-within') EXECUTE FUNCTION another();
SELECT o, outcome FROM unnest('{remind-bad-1,remind-bad-2}'::text[]) AS o,
    LATERAL order_timeout.create_order(o, 100, 'EUR', expires_at => now() + interval '59 minutes', policy => 'remind');
SELECT outcome FROM order_timeout.create_order('remind-within', 100, 'EUR', expires_in => '1 hour', policy => 'remind');
CALL order_timeout.sweep('3500 milliseconds', batch_size => 2, poll_interval => '1 hour');
SELECT aggregateid FROM order_timeout.events WHERE type = 'order.due_soon' AND aggregateid !~ '^remind-[0-9]' ORDER BY id;
SELECT failed, last_error FROM order_timeout.sweeps ORDER BY sweep_id DESC LIMIT 1;
DROP TRIGGER another ON order_timeout.events;
DROP TRIGGER refuse ON order_timeout.orders;
DROP FUNCTION another(), refuse();

-- It commits, so not in a transaction block and not in a function.
BEGIN;
CALL order_timeout.sweep('1 millisecond');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
CREATE FUNCTION sweep_in_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL order_timeout.sweep('1 millisecond'); END $$;
SELECT sweep_in_function();
\echo :LAST_ERROR_SQLSTATE
DROP FUNCTION sweep_in_function();
-- sweep_once is for those.
BEGIN;
SELECT * FROM order_timeout.sweep_once();
ROLLBACK;

-- Bad arguments; NULL means the default.
CALL order_timeout.sweep(run_for => '-1 second');
\echo :LAST_ERROR_SQLSTATE
CALL order_timeout.sweep(batch_size => 0);
\echo :LAST_ERROR_SQLSTATE
CALL order_timeout.sweep(poll_interval => '-1 second');
\echo :LAST_ERROR_SQLSTATE
SELECT order_timeout.sweep_once(0);
\echo :LAST_ERROR_SQLSTATE
CALL order_timeout.sweep('1 millisecond', NULL, NULL);
SELECT * FROM order_timeout.sweep_once(NULL);

SELECT count(*) AS violations FROM order_timeout.funds_violations();
DROP EXTENSION order_timeout;
