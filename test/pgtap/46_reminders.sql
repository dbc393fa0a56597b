-- remind_before: one order.due_soon for each deadline, by sweep_once. What a run of sweep does is in test/sql/sweep.sql, orders
-- that others have locked in test/specs/race_remind.spec.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, remind_before) VALUES ('remind', '10 minutes'), ('earlier', '1 day');

CREATE FUNCTION t.sweep(max_orders integer DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT order_timeout.sweep_once($1)
$$;
-- Brings the deadline so near that no policy's remind_before is ahead of it
CREATE FUNCTION t.closes_in(order_id text, soon interval) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.orders AS o SET expires_at = clock_timestamp() + $2 WHERE o.order_id = $1
$$;
CREATE FUNCTION t.reminders(orders text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(e.aggregateid, ' ' ORDER BY e.id) FROM order_timeout.events AS e
     WHERE e.type = 'order.due_soon' AND e.aggregateid ~ $1
$$;
CREATE FUNCTION t.look_after(orders text) RETURNS text LANGUAGE sql AS $$
    SELECT t.sweep();
    SELECT t.reminders($1)
$$;

-- When
SELECT t.create_order('a', 100, 'remind', '30 minutes'), t.create_order('b', 100, 'earlier', '30 minutes'),
       t.create_order('c', 100, 'default', '5 minutes');
SELECT is(t.look_after('.'), 'b', 'only what is nearer than remind_before, and that at once');
SELECT is(t.look_after('.'), 'b', 'once');
SELECT t.closes_in('a', '11 minutes');
SELECT is(t.look_after('.'), 'b', 'not earlier than remind_before says');
SELECT t.closes_in('a', '9 minutes 59 seconds');
SELECT is(t.look_after('.'), 'b a', 'that long before it');
SELECT is(t.look_after('.'), 'b a', 'once');
SELECT is((SELECT reminded_of = expires_at FROM order_timeout.orders WHERE order_id = 'a'), true, 'the row says of which deadline');

-- What it carries
SELECT is((SELECT payload - '{expires_at,closes_at}'::text[] FROM order_timeout.history('a') WHERE type = 'order.due_soon'),
          '{"state": "pending", "amount": 100, "currency": "CNY", "paid": 0, "refund_pending": 0}', 'the order as it is');
SELECT is((SELECT ((e.payload ->> 'expires_at')::timestamptz = o.expires_at, (e.payload ->> 'closes_at')::timestamptz = o.closes_at)::text
             FROM order_timeout.events AS e JOIN order_timeout.orders AS o ON o.order_id = e.aggregateid
            WHERE e.type = 'order.due_soon' AND o.order_id = 'a'), '(t,t)', 'its deadline, and when it falls due');

-- Another deadline
SELECT order_timeout.extend_order('a', clock_timestamp() + interval '1 hour');
SELECT is(t.look_after('a'), 'a', 'extended: not yet');
SELECT t.closes_in('a', '3 minutes');
SELECT is(t.look_after('a'), 'a a', 'again for the new deadline');
SELECT set_config('t.first', (clock_timestamp() + interval '4 minutes')::text, true);
SELECT order_timeout.set_deadline('a', current_setting('t.first')::timestamptz);
SELECT is(t.look_after('a'), 'a a a', 'set nearer: at once');
SELECT order_timeout.set_deadline('a', '2999-01-01 00:00+00');
SELECT is(t.look_after('a'), 'a a a', 'set far away');
SELECT order_timeout.set_deadline('a', current_setting('t.first')::timestamptz);
SELECT is(t.look_after('a'), 'a a a', 'back to the deadline that was reminded of last: no second one');
SELECT order_timeout.set_deadline('a', clock_timestamp() + interval '5 minutes');
SELECT is(t.look_after('a'), 'a a a a', 'and of another one again');
SELECT order_timeout.set_deadline('a', current_setting('t.first')::timestamptz);
SELECT is(t.look_after('a'), 'a a a a a', 'back to one before the last: a second one');
SELECT t.expire('a'), order_timeout.reopen_order('a', '5 minutes');
SELECT is(t.look_after('a'), 'a a a a a a', 'reopened');

-- An attempt that holds it open: by when it falls due
SELECT t.create_order('held', 100, 'remind', '5 minutes');
UPDATE order_timeout.orders SET open_until = clock_timestamp() + interval '11 minutes' WHERE order_id = 'held';
SELECT is(t.look_after('held'), NULL, 'held open for longer: not yet');
UPDATE order_timeout.orders SET open_until = clock_timestamp() + interval '9 minutes' WHERE order_id = 'held';
SELECT is(t.look_after('held'), 'held', 'then');
UPDATE order_timeout.orders SET open_until = clock_timestamp() + interval '8 minutes' WHERE order_id = 'held';
SELECT is(t.look_after('held'), 'held', 'an attempt is no new deadline');

-- Which orders
SELECT t.create_order('not ' || s, 100, 'remind', '5 minutes')
  FROM unnest('{paid,expired,cancelled,authorized,closing,due}'::text[]) AS s;
SELECT t.pay('not paid', 'np', 100), t.expire('not expired'), t.cancel('not cancelled'), t.pass_deadline('not due');
UPDATE order_timeout.orders SET state = split_part(order_id, ' ', 2) WHERE order_id IN ('not authorized', 'not closing');
SELECT is(t.look_after('not'), NULL, 'none that is settled, authorized, closing or due');
SELECT is((SELECT count(*) FROM order_timeout.orders WHERE order_id ~ 'not' AND reminded_of IS NOT NULL), 0::bigint, 'nor is a row of theirs written');
UPDATE order_timeout.orders SET state = 'pending' WHERE order_id = 'not authorized';
SELECT is(t.look_after('not'), 'not authorized', 'pending again');
SELECT t.create_order('partly', 100, 'remind', '5 minutes'), t.pay('partly', 'p-1', 40);
SELECT is(t.look_after('partly'), 'partly', 'one that is paid in part');
SELECT t.sound();

-- Settings, read at the time of use
SELECT t.create_order('late', 100, 'default', '5 minutes');
SELECT is(t.look_after('late|c'), NULL, 'a policy without remind_before');
UPDATE order_timeout.policies SET remind_before = '1 hour' WHERE policy = 'default';
SELECT is(t.look_after('late|^c$'), 'c late', 'with it, the orders that are there, oldest deadline first');
UPDATE order_timeout.policies SET remind_before = NULL WHERE policy = 'default';
SELECT t.create_order('later', 100, 'default', '5 minutes');
SELECT is(t.look_after('later'), NULL, 'without it again');
UPDATE order_timeout.policies SET remind_before = '1000 years' WHERE policy = 'default';
SELECT t.create_order('much later', 100, 'default', '900 years');
SELECT is(t.look_after('much later'), 'much later', 'the longest');
UPDATE order_timeout.policies SET remind_before = NULL WHERE policy = 'default';

-- At most so many, the nearest first, of all policies together
SELECT t.create_order('many ' || i, 100, CASE i % 2 WHEN 0 THEN 'remind' ELSE 'earlier' END, make_interval(secs => 300 - i))
  FROM generate_series(1, 6) AS i;
SELECT t.sweep(2);
SELECT is(t.reminders('many'), 'many 6 many 4', 'two');
SELECT t.sweep(2);
SELECT is(t.reminders('many'), 'many 6 many 4 many 2 many 5', 'the next two');
SELECT is(t.look_after('many'), 'many 6 many 4 many 2 many 5 many 3 many 1', 'and the rest');

-- Nothing follows it
CREATE TABLE t.shop (id text PRIMARY KEY, status text);
CREATE TABLE t.called (hook text);
CREATE FUNCTION t.on_it(order_ids text[]) RETURNS void LANGUAGE sql AS $$INSERT INTO t.called VALUES (order_ids[1])$$;
SELECT order_timeout.link_table('t.shop', 'id', 'status', '{"pending": "new", "paid": "paid"}', 'l-');
SELECT order_timeout.set_hook('remind', h || '_hook', 't.on_it') FROM unnest('{close,paid,reopen}'::text[]) AS h;
INSERT INTO t.shop VALUES ('1', 'moved on');
SELECT t.create_order('l-1', 100, 'remind', '5 minutes');
SELECT is(t.look_after('l-'), 'l-1', 'a linked order, whose row says something else');
SELECT is((SELECT (count(*), (SELECT status FROM t.shop), (SELECT count(*) FROM order_timeout.follow_ups WHERE order_id = 'l-1'))::text FROM t.called),
          '(0,"moved on",0)', 'no hook, no linked row');

-- One that fails keeps no other from it
SET LOCAL test.bad = '';
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) ->> TG_ARGV[0] = ANY (string_to_array(current_setting('test.bad'), ',')) THEN
        RAISE EXCEPTION 'no, not this one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION t.refuse('order_id');
SELECT t.create_order('bad ' || i, 100, 'remind', make_interval(secs => 60 + i)) FROM generate_series(1, 5) AS i;
SET LOCAL test.bad = 'bad 1,bad 3';
SELECT is(t.look_after('bad'), 'bad 2 bad 4 bad 5', 'two whose rows cannot be written; the others are reminded');
SELECT is((SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM order_timeout.orders WHERE order_id ~ 'bad' AND reminded_of IS NULL),
          'bad 1 bad 3', 'those two are not');
SELECT is_empty($$SELECT * FROM order_timeout.set_aside$$, 'and are not set aside: they can be closed');
SET LOCAL test.bad = '';
SELECT is(t.look_after('bad'), 'bad 2 bad 4 bad 5 bad 1 bad 3', 'at the next look');
DROP TRIGGER refuse ON order_timeout.orders;
CREATE TRIGGER refuse BEFORE INSERT ON order_timeout.events FOR EACH ROW EXECUTE FUNCTION t.refuse('aggregateid');
SELECT t.create_order('worse ' || i, 100, 'remind', make_interval(secs => 60 + i)) FROM generate_series(1, 3) AS i;
SET LOCAL test.bad = 'worse 2';
SELECT is(t.look_after('worse'), 'worse 1 worse 3', 'one whose event cannot be written');
SELECT is((SELECT reminded_of FROM order_timeout.orders WHERE order_id = 'worse 2'), NULL, 'nothing half done');
SET LOCAL test.bad = '';
SELECT is(t.look_after('worse'), 'worse 1 worse 3 worse 2', 'at the next look');
DROP TRIGGER refuse ON order_timeout.events;

-- A write that a trigger suppresses
CREATE FUNCTION t.suppress() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER suppress BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = 'silent 1') EXECUTE FUNCTION t.suppress();
SELECT t.create_order('silent ' || i, 100, 'remind', '1 minute') FROM generate_series(1, 2) AS i;
SELECT is(t.look_after('silent'), 'silent 2', 'no event without its row');
DROP TRIGGER suppress ON order_timeout.orders;
SELECT is(t.look_after('silent'), 'silent 2 silent 1', 'at the next look');
SELECT t.sound();
SELECT finish();
ROLLBACK;
