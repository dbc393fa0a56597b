-- A table of the user's whose rows are orders (contract, section 10): linked, written, left alone, unlinked.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
-- Names before pg_catalog's capture nothing of a superuser's. First of all: a session compiles link_table once.
CREATE SCHEMA evil;
CREATE TABLE evil.orders (id int PRIMARY KEY, status text);
CREATE TABLE evil.caught (what text);
CREATE FUNCTION evil.catch(what text) RETURNS boolean LANGUAGE sql AS $$INSERT INTO evil.caught VALUES ($1); SELECT true$$;
CREATE DOMAIN evil.regclass AS pg_catalog.regclass CHECK (evil.catch('regclass'));
CREATE FUNCTION evil.to_regclass(text) RETURNS pg_catalog.regclass LANGUAGE sql AS $$SELECT evil.catch('to_regclass'); SELECT NULL::pg_catalog.regclass$$;
CREATE FUNCTION evil.join(a text, b text) RETURNS text LANGUAGE sql AS $$SELECT evil.catch('||'); SELECT NULL::text$$;
CREATE OPERATOR evil.|| (FUNCTION = evil.join, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION evil.on_close(order_ids text[]) RETURNS void LANGUAGE sql AS 'SELECT';
SET LOCAL search_path = evil, pg_catalog, public;
SELECT order_timeout.link_table('evil.orders', 'id', 'status', '{"pending": "new"}'), order_timeout.unlink_table('evil.orders'),
       order_timeout.set_hook('default', 'close_hook', 'evil.on_close'), order_timeout.set_hook('default', 'close_hook', NULL);
RESET search_path;
SELECT is_empty('SELECT * FROM evil.caught', 'a search_path with names before pg_catalog''s captures nothing');

CREATE SCHEMA shop;
CREATE TABLE shop.orders (id bigserial PRIMARY KEY, status text NOT NULL DEFAULT 'new', paid_at timestamp, closed_at timestamptz, why text,
                          note text);
-- Those of its time columns that have the order's settled_at, and those that have another time.
CREATE FUNCTION t.times(id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', CASE WHEN s.paid_at = o.settled_at THEN 'paid_at' WHEN s.paid_at IS NOT NULL THEN 'another paid_at' END,
                     CASE WHEN s.closed_at = o.settled_at THEN 'closed_at' WHEN s.closed_at IS NOT NULL THEN 'another closed_at' END)
      FROM shop.orders s JOIN order_timeout.orders o ON o.order_id = s.id::text WHERE s.id = $1
$$;
CREATE FUNCTION t.status(id bigint) RETURNS text LANGUAGE sql AS $$SELECT o.status FROM shop.orders o WHERE o.id = $1$$;
-- kind, why of what attention shows for an order
CREATE FUNCTION t.shown(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.kind || ': ' || a.why, ', ') FROM order_timeout.attention a WHERE a.order_id = $1
$$;
CREATE FUNCTION t.sweep_follow_ups() RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.follow_ups SET retry_at = clock_timestamp() - interval '1 s';
    SELECT order_timeout.sweep_once();
$$;
CREATE FUNCTION t.row(id bigint, status text DEFAULT 'new') RETURNS void LANGUAGE sql AS $$
    INSERT INTO shop.orders (id, status) VALUES ($1, $2);
$$;

-- What link_table refuses
PREPARE link AS SELECT order_timeout.link_table($1, $2, $3, $4, order_prefix => $5);
CREATE FUNCTION t.link(table_name text, key text DEFAULT 'id', status text DEFAULT 'status',
    statuses jsonb DEFAULT '{"pending": "new", "paid": ["paid", "shipped"], "expired": "closed", "cancelled": "closed"}',
    prefix text DEFAULT '') RETURNS text LANGUAGE sql AS $$
    SELECT order_timeout.link_table($1, $2, $3, $4, $5)
$$;
SELECT throws_ok($$SELECT t.link('shop.none')$$, '42P01', NULL, 'no such table');
SELECT throws_ok($$SELECT t.link(NULL)$$, '22004', NULL, 'no table given');
SELECT throws_ok($$SELECT t.link('order_timeout.orders', 'order_id', 'state')$$, '42809', NULL, 'a table of the extension');
CREATE VIEW shop.a_view AS SELECT * FROM shop.orders;
SELECT throws_ok($$SELECT t.link('shop.a_view')$$, '42809', NULL, 'a view');
SELECT throws_ok($$SELECT t.link('shop.orders', 'none')$$, '42703', NULL, 'no such column');
SELECT throws_ok($$SELECT t.link('shop.orders', 'closed_at')$$, '42804', NULL, 'a key of a type that cannot serve');
SELECT throws_ok($$SELECT t.link('shop.orders', 'note')$$, '22023', NULL, 'a key that is not unique');
SELECT throws_ok($$SELECT t.link('shop.orders', 'id', 'closed_at')$$, '42804', NULL, 'a status of a type that cannot serve');
SELECT throws_ok($$SELECT t.link('shop.orders', statuses => '{"paid": "paid"}')$$, '22023', NULL, 'pending has no word');
SELECT throws_ok($$SELECT t.link('shop.orders', statuses => '{"pending": "new", "done": "paid"}')$$, '22023', NULL, 'an unknown state');
SELECT throws_ok($$SELECT t.link('shop.orders', statuses => '{"pending": "new", "paid": ["x", "new"]}')$$, '22023', NULL,
                 'a word for an open and a settled state');
PREPARE link_times AS SELECT order_timeout.link_table('shop.orders', 'id', 'status', '{"pending": "new"}', time_columns => $1);
SELECT throws_ok(format('EXECUTE link_times(%L)', x), state, NULL, 'time columns ' || x)
  FROM (VALUES ('{"pending": "closed_at"}', '22023'), ('{"gone": "closed_at"}', '22023'), ('[]', '22023'), ('"closed_at"', '22023'),
               ('null', '22023'), ('{"paid": 1}', '42703'), ('{"paid": "note"}', '42804'), ('{"paid": {}}', '42703')) v (x, state);
SELECT throws_ok($$SELECT t.link('shop.orders', statuses => '{"pending": []}')$$, '22023', NULL, 'no word');
CREATE TABLE shop.short (id int PRIMARY KEY, status varchar(4));
SELECT throws_ok($$SELECT t.link('shop.short')$$, '22023', NULL, 'a word that does not fit');
CREATE TABLE shop.partial (id int NOT NULL, status text);
CREATE UNIQUE INDEX ON shop.partial (id) WHERE status = 'new';
SELECT throws_ok($$SELECT t.link('shop.partial')$$, '22023', NULL, 'a partial unique index');
CREATE TABLE shop.deferrable (id int PRIMARY KEY DEFERRABLE, status text);
SELECT throws_ok($$SELECT t.link('shop.deferrable')$$, '22023', NULL, 'a deferrable key');
CREATE TABLE shop.nullable (id int UNIQUE, status text);
SELECT throws_ok($$SELECT t.link('shop.nullable')$$, '22023', NULL, 'a key that may be null');
CREATE TABLE shop.generated (id int PRIMARY KEY, word text, status text GENERATED ALWAYS AS (word) STORED);
SELECT throws_ok($$SELECT t.link('shop.generated')$$, '428C9', NULL, 'a generated status');
CREATE TABLE shop.numeric (id numeric PRIMARY KEY, status text);
SELECT throws_ok($$SELECT t.link('shop.numeric')$$, '42804', NULL, 'a numeric key that may have decimals');
CREATE COLLATION t.same (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE shop.collated (id text COLLATE t.same PRIMARY KEY, status text);
SELECT throws_ok($$SELECT t.link('shop.collated')$$, '22023', NULL, 'a key with a nondeterministic collation');
CREATE TABLE shop.deferred (id int PRIMARY KEY, status text, other int);
CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE OF status ON shop.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t.nothing();
SELECT throws_ok($$SELECT t.link('shop.deferred')$$, '22023', NULL, 'a deferred trigger on the status');
CREATE TABLE shop.deferred_elsewhere (id int PRIMARY KEY, status text, other int);
CREATE CONSTRAINT TRIGGER later AFTER UPDATE OF other ON shop.deferred_elsewhere DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t.nothing();
SELECT is(t.link('shop.deferred_elsewhere', prefix => 'elsewhere-'), 'linked', 'one on another column is none of ours');
SELECT is(order_timeout.unlink_table('shop.deferred_elsewhere'), 'unlinked', 'unlinked');
SELECT is_empty($$SELECT * FROM order_timeout.links$$, 'nothing is linked');
CREATE ROLE t_operator;
SELECT order_timeout.grant_access('t_operator', 'operator');
SET LOCAL ROLE t_operator;
SELECT throws_ok($$SELECT order_timeout.link_table('x', 'y', 'z', '{}')$$, '42501', NULL, 'an operator may not');
RESET ROLE;

-- Linked
SELECT is(order_timeout.link_table('shop.orders', 'id', 'status',
    '{"pending": "new", "paid": ["paid", "shipped"], "expired": "timed out", "cancelled": ["cancelled", "refused"]}',
    time_columns => '{"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}', reason_column => 'why'), 'linked', 'linked');
SELECT is(order_timeout.link_table('shop.orders', 'id', 'status',
    '{"pending": "new", "paid": ["paid", "shipped"], "expired": "timed out", "cancelled": ["cancelled", "refused"]}',
    time_columns => '{"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}', reason_column => 'why'), 'already_linked', 'again');
SELECT throws_ok($$SELECT t.link('shop.orders')$$, '55000', NULL, 'in another way');
SELECT throws_ok($$SELECT t.link('shop.deferred_elsewhere', prefix => 'b-')$$, '22023', NULL, 'a prefix that begins like another');
SELECT throws_ok($$DROP EXTENSION order_timeout$$, '2BP01', NULL, 'DROP EXTENSION asks to unlink first');

SELECT t.row(1), t.create_order('1', 100), t.pay('1', '1-1', 100);
SELECT is(t.status(1), 'paid', 'paid is written');
SELECT is(t.times(1), 'paid_at', 'and when');
SELECT t.row(2), t.create_order('2', 100), t.expire('2');
SELECT is((SELECT concat_ws(' ', status, why) FROM shop.orders WHERE id = 2), 'timed out deadline', 'expired, and the reason');
SELECT is(t.times(2), 'closed_at', 'and when');
SELECT is((SELECT outcome FROM order_timeout.cancel_order('2', 'sold out')), 'cancelled', 'cancelled after that');
SELECT is((SELECT concat_ws(' ', status, why) FROM shop.orders WHERE id = 2), 'cancelled sold out', 'is written, too');
SELECT is(t.times(2), 'closed_at', 'a column of both states');
SELECT t.row(3), t.row(4), t.row(5), t.create_order('3', 1), t.create_order('4', 1), t.create_order('5', 1);
SELECT t.pass_deadline('3'), t.pass_deadline('4'), t.pass_deadline('5');
UPDATE shop.orders SET status = 'shipped' WHERE id = 4;
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(3,0,0)', 'the sweeper closes a batch');
SELECT is((SELECT string_agg(status, ', ' ORDER BY id) FROM shop.orders WHERE id BETWEEN 3 AND 5), 'timed out, shipped, timed out',
          'a row that the shop moved on is left alone');
SELECT is(t.shown('4'), 'link: 27000: the row in table shop.orders says "shipped", and the order went from pending to expired', 'and shown');
SELECT t.sweep_follow_ups();
SELECT is((SELECT failures FROM order_timeout.follow_ups WHERE order_id = '4'), 2, 'the sweeper looks again');
UPDATE shop.orders SET status = 'timed out' WHERE id = 4;
SELECT t.sweep_follow_ups();
SELECT is(t.shown('4'), NULL, 'it ends by itself when the row agrees');
SELECT is(t.status(1), 'paid', 'others are as they were');
UPDATE shop.orders SET status = 'shipped' WHERE id = 1;
SELECT t.pay('1', '1-2', 5), t.refunds('1');
SELECT is(t.status(1), 'shipped', 'no change of state, no write');
-- a word of the new state is right
SELECT t.row(6, 'refused'), t.create_order('6', 100), t.cancel('6');
SELECT is(t.status(6) || coalesce(t.shown('6'), ''), 'refused', 'a row that has a word of the new state');
-- a missing row
SELECT t.create_order('7', 100), t.cancel('7');
SELECT is(t.shown('7'), 'link: 02000: table shop.orders has no such row, or the caller may not see it', 'a missing row is shown');
SELECT is(order_timeout.resolve_link('7', 'link', 'was deleted'), 'resolved', 'and given up by a person');
SELECT is(t.shown('7'), NULL, 'then it is shown no more');
-- ids that name no row
SELECT t.row(8);
SELECT is(t.create_order(x, 1) || ' ' || t.cancel(x) || coalesce(t.shown(x), ''), 'created pending cancelled cancelled', 'not linked: ' || x)
  FROM unnest(ARRAY['08', '+8', ' 8', '8.0', '8a', '99999999999999999999', 'x']) x;
SELECT is(t.status(8), 'new', 'the row is as it was');

-- Late money: reopened, accepted
INSERT INTO order_timeout.policies (policy, on_late, late_rule) VALUES ('reopen', 'reopen', 'at_deadline');
SELECT t.row(10), t.create_order('10', 100, 'reopen'), t.expire('10'), t.pay('10', '10-1', 100);
SELECT is(t.status(10), 'paid', 'reopened');
SELECT is(t.times(10), 'paid_at', 'it is closed no more, and paid since then');
SELECT t.row(13), t.create_order('13', 100), t.expire('13');
SELECT is((SELECT outcome FROM order_timeout.reopen_order('13')), 'reopened', 'reopened by a person');
SELECT is(t.times(13), '', 'it has no time');
SELECT t.row(11), t.create_order('11', 100, 'reopen'), t.pass_deadline('11'), t.pay('11', '11-1', 100);
SELECT is(t.status(11), 'paid', 'closed and reopened in one call');
SELECT t.row(12), t.pay('12', '12-1', 100), t.create_order('12', 100);
SELECT is(t.status(12), 'paid', 'an orphan that joined');

-- Money is never refused
CREATE FUNCTION t.broken() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'the shop is closed' USING ERRCODE = 'SH001'; END$$;
CREATE TRIGGER broken BEFORE UPDATE ON shop.orders FOR EACH ROW WHEN (OLD.note = 'broken') EXECUTE FUNCTION t.broken();
SELECT t.row(20), t.create_order('20', 100);
UPDATE shop.orders SET note = 'broken' WHERE id = 20;
SELECT is(t.pay('20', '20-1', 100), 'paid paid applied', 'money is recorded when the row cannot be written');
SELECT is(t.shown('20') || t.status(20), 'link: SH001: the shop is closednew', 'the write is kept and shown');
ALTER TABLE shop.orders DISABLE TRIGGER broken;
SELECT t.sweep_follow_ups();
SELECT is(t.status(20) || coalesce(t.shown('20'), ''), 'paid', 'the sweeper writes it');
ALTER TABLE shop.orders ENABLE TRIGGER broken;
-- kept, and the order moves on meanwhile: the row still has the word of the state before
SELECT t.row(21), t.create_order('21', 100, 'reopen'), t.pass_deadline('21');
UPDATE shop.orders SET note = 'broken' WHERE id = 21;
SELECT is(t.pay('21', '21-1', 50), 'late expired late 50', 'closed by a payment');
SELECT is((SELECT left_state FROM order_timeout.follow_ups WHERE order_id = '21'), 'pending', 'the row says new');
SELECT is(t.pay('21', '21-2', 100), 'reopened paid applied', 'reopened by the next');
SELECT is((SELECT count(*) || max(left_state) FROM order_timeout.follow_ups WHERE order_id = '21'), '1pending', 'one row is kept for both');
ALTER TABLE shop.orders DISABLE TRIGGER broken;
SELECT t.sweep_follow_ups();
SELECT is(t.status(21) || coalesce(t.shown('21'), ''), 'paid', 'from new to paid');
-- a person's call
ALTER TABLE shop.orders ENABLE TRIGGER broken;
SELECT t.row(22), t.row(23), t.create_order('22', 100), t.create_order('23', 100), t.pass_deadline('22'), t.pass_deadline('23');
UPDATE shop.orders SET note = 'broken' WHERE id = 22;
SELECT throws_ok($$SELECT order_timeout.cancel_order('22')$$, 'SH001', NULL, 'cancel_order raises the error');
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(1,1,0)', 'the sweeper closes the others');
SELECT is(t.status(22) || t.status(23) || (SELECT state FROM order_timeout.orders WHERE order_id = '22'), 'newtimed outpending',
          'what fails for one order keeps that order open');
ALTER TABLE shop.orders DISABLE TRIGGER broken;
-- a trigger that suppresses the write
CREATE TRIGGER suppress BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION t.nothing();
SELECT t.row(24), t.create_order('24', 100);
SELECT is(t.pay('24', '24-1', 100), 'paid paid applied', 'a trigger suppresses the write');
SELECT is(t.shown('24'), 'link: 27000: the row in table shop.orders says "new", and the order went from pending to paid', 'it is not silent');
DROP TRIGGER suppress ON shop.orders;

-- Rights: the caller's own
CREATE ROLE t_webhook;
SELECT order_timeout.grant_access('t_webhook', 'application');
GRANT USAGE ON SCHEMA t TO t_webhook;
SELECT t.row(30), t.create_order('30', 100), t.row(31), t.create_order('31', 100);
SET LOCAL ROLE t_webhook;
SELECT is(t.pay('30', '30-1', 100), 'paid paid applied', 'a caller who may not write the table reports money');
SELECT is((SELECT outcome FROM order_timeout.extend_order('31', '2999-01-01 00:00+00')), 'extended', 'and may move a deadline');
SELECT throws_ok($$SELECT order_timeout.cancel_order('31')$$, '42501', NULL, 'and not cancel');
RESET ROLE;
SELECT is(t.status(30), 'new', 'the row waits');
SELECT t.sweep_follow_ups();
SELECT is(t.status(30), 'paid', 'for the sweeper');
-- row security: what it hides is missing
GRANT USAGE ON SCHEMA shop TO t_webhook;
GRANT SELECT, UPDATE ON shop.orders TO t_webhook;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.orders TO t_webhook USING (note = 'mine');
SELECT t.row(32), t.create_order('32', 100), t.row(33), t.create_order('33', 100);
UPDATE shop.orders SET note = 'mine' WHERE id = 33;
SET LOCAL ROLE t_webhook;
SELECT t.pay('32', '32-1', 100), t.pay('33', '33-1', 100);
RESET ROLE;
SELECT is(t.status(32) || t.status(33), 'newpaid', 'a hidden row is not written');
SELECT is(t.shown('32'), 'link: 02000: table shop.orders has no such row, or the caller may not see it', 'it is a missing one');
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
SELECT t.sweep_follow_ups();
SELECT is(t.status(32), 'paid', 'the sweeper sees it');

-- The table changes under the link
SELECT t.row(40), t.create_order('40', 100), t.row(41), t.create_order('41', 100), t.pass_deadline('41');
ALTER TABLE shop.orders RENAME COLUMN status TO state;
SELECT is(t.pay('40', '40-1', 100), 'paid paid applied', 'a renamed column: money is recorded');
SELECT ok(t.shown('40') LIKE 'link: 42703: %', 'and shown');
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(0,1,0)', 'closing is set aside');
ALTER TABLE shop.orders RENAME COLUMN state TO status;
SELECT order_timeout.link_table('shop.orders', 'id', 'status',
    '{"pending": "new", "paid": ["paid", "shipped"], "expired": "timed out", "cancelled": ["cancelled", "refused"]}',
    time_columns => '{"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}', reason_column => 'why');
SELECT order_timeout.sweep_once();
SELECT is(t.status(40) || t.status(41), 'paidtimed out', 'link_table, called again, makes it due');
ALTER TABLE shop.orders RENAME TO old_orders;
SELECT t.create_order('42', 100);
SELECT is(t.pay('42', '42-1', 100), 'paid paid applied', 'a renamed table: money is recorded');
SELECT ok(t.shown('42') LIKE 'link: 42P01: %', 'and shown');
SELECT is(order_timeout.unlink_table('shop.none'), 'not_linked', 'unlink_table of another');
SELECT is(order_timeout.unlink_table('shop.orders'), 'unlinked', 'unlink_table by the name that links shows');
SELECT is_empty($$SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.old_orders'::regclass AND tgname LIKE 'order_timeout%'$$, 'the table is as it was');
SELECT is_empty($$SELECT * FROM order_timeout.follow_ups WHERE kind = 'link'$$, 'nothing is kept for it');

-- Other types
CREATE TYPE shop.state AS ENUM ('open', 'done', 'gone');
CREATE TABLE shop."Odd ""Table" ("the key" uuid PRIMARY KEY, "the state" shop.state NOT NULL);
INSERT INTO shop."Odd ""Table" VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'open');
SELECT is(order_timeout.link_table('shop."Odd ""Table"', 'the key', 'the state', '{"pending": "open", "paid": "done", "expired": "gone"}', 'u:'),
          'linked', 'odd names, uuid, enum');
SELECT t.create_order('u:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 5), t.pay('u:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'u-1', 5);
SELECT is((SELECT "the state"::text FROM shop."Odd ""Table"), 'done', 'written');
SELECT is(t.create_order('u:A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 5) || coalesce(t.cancel('u:A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), ''),
          'created pendingcancelled cancelled', 'another form of the same key is not linked');
CREATE DOMAIN shop.word AS text CHECK (VALUE IN ('1', '2', '3'));
CREATE TABLE shop.n (id numeric(20) PRIMARY KEY, status shop.word);
SELECT is(t.link('shop.n', statuses => '{"pending": 1, "paid": 2, "cancelled": "3"}', prefix => 'n:'), 'linked', 'numeric, a domain');
INSERT INTO shop.n VALUES (123456789012345678, '1');
SELECT t.create_order('n:123456789012345678', 5), t.cancel('n:123456789012345678');
SELECT is((SELECT status::text FROM shop.n), '3', 'written');
CREATE TABLE shop.i (id varchar(10) PRIMARY KEY, status smallint, region int);
SELECT is(t.link('shop.i', statuses => '{"pending": 10, "paid": [20, 30], "expired": 40}', prefix => 'i:'), 'linked', 'varchar, smallint');
INSERT INTO shop.i VALUES ('a b', 10), ('c', 10);
SELECT t.create_order('i:a b', 5), t.pay('i:a b', 'i-1', 5), t.create_order('i:c', 5), t.cancel('i:c');
SELECT is((SELECT string_agg(status::text, ' ' ORDER BY id) FROM shop.i), '20 10', 'written; a state without a word is not');
SELECT t.pay('i:c', 'i-2', 5), order_timeout.accept_payment('bank', 'i-2');
SELECT is((SELECT status FROM shop.i WHERE id = 'c'), 20::smallint, 'then from the last state that had one');
CREATE TABLE shop.p (id bigint NOT NULL, status text, region int NOT NULL, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE shop.p1 PARTITION OF shop.p FOR VALUES IN (1);
CREATE TABLE shop.p2 PARTITION OF shop.p FOR VALUES IN (2);
SELECT is(t.link('shop.p', prefix => 'p:'), 'linked', 'a partitioned table');
SELECT throws_ok($$SELECT t.link('shop.p1', prefix => 'q:')$$, '42809', NULL, 'not one of its partitions');
INSERT INTO shop.p VALUES (7, 'new', 2);
SELECT t.create_order('p:7', 5), t.cancel('p:7');
SELECT is((SELECT status FROM shop.p2), 'closed', 'written in a partition');
-- A trigger of the table that changes the word, or keeps the old one
CREATE TABLE shop.stubborn (id int PRIMARY KEY, status text DEFAULT 'new', does text);
CREATE FUNCTION shop.stubborn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := CASE OLD.does WHEN 'keeps' THEN OLD.status ELSE OLD.does END;
    RETURN CASE WHEN OLD.does <> 'nothing' THEN NEW END;
END
$$;
CREATE TRIGGER stubborn BEFORE UPDATE ON shop.stubborn FOR EACH ROW EXECUTE FUNCTION shop.stubborn();
SELECT t.link('shop.stubborn', statuses => '{"pending": "new", "paid": ["paid", "shipped"]}', prefix => 'st:');
INSERT INTO shop.stubborn (id, does) VALUES (1, 'keeps'), (2, 'odd'), (3, 'nothing'), (4, 'shipped');
SELECT t.create_order('st:' || i, 5), t.pay('st:' || i, 'st-' || i, 5) FROM generate_series(1, 4) i;
SELECT is((SELECT string_agg(order_id || ' ' || error, ', ' ORDER BY order_id) FROM order_timeout.follow_ups WHERE order_id LIKE 'st:%'),
          'st:1 the row in table shop.stubborn says "new", and the order went from pending to paid, '
          'st:2 the row in table shop.stubborn says "odd", and the order went from pending to paid, '
          'st:3 the row in table shop.stubborn says "new", and the order went from pending to paid',
          'a row that does not have the word after it was written is shown');
SELECT throws_ok($$SELECT order_timeout.link_table('shop.stubborn', 'id', 'id', '{"pending": "1"}', 'x:')$$, '22023', NULL, 'the key is not written');

-- One link ends, and another's table has another name at that moment
CREATE TABLE shop.stays (id int PRIMARY KEY, status text);
CREATE TABLE shop.goes (id int PRIMARY KEY, status text);
SELECT t.link('shop.stays', prefix => 'stays:'), t.link('shop.goes', prefix => 'goes:');
ALTER TABLE shop.stays RENAME TO renamed;
SELECT is(order_timeout.unlink_table('shop.goes'), 'unlinked', 'one is unlinked');
SELECT isnt_empty($$SELECT FROM pg_trigger WHERE tgrelid = 'shop.renamed'::regclass AND tgname = 'order_timeout_linked'$$, 'the other keeps its triggers');
SELECT is(order_timeout.unlink_table('shop.stays'), 'unlinked', 'by the name that links shows');
SELECT is_empty($$SELECT FROM pg_trigger WHERE tgrelid = 'shop.renamed'::regclass$$, 'it loses them');

SELECT is_empty('SELECT * FROM order_timeout.funds_violations()', 'the proof');
SELECT * FROM finish();
ROLLBACK;
