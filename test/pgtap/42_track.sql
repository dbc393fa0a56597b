-- Orders follow the rows of a tracked table (contract, section 10: track).
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, status text NOT NULL DEFAULT 'new', total numeric(12,3), currency char(5) DEFAULT 'EUR',
                          pay_until timestamptz, terms text, note text);
INSERT INTO order_timeout.policies (policy, pay_within) VALUES ('slow', '7 days');
CREATE FUNCTION t.order(id int) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', o.state, o.amount, o.currency, nullif(o.policy, 'default')) FROM order_timeout.orders o WHERE o.order_id = 's-' || $1
$$;
CREATE FUNCTION t.shown(id int) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.kind || ': ' || a.why, ', ') FROM order_timeout.attention a WHERE a.order_id = 's-' || $1
$$;
CREATE FUNCTION t.look_again() RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.follow_ups SET retry_at = clock_timestamp() - interval '1 s';
    SELECT order_timeout.sweep_once();
$$;
CREATE FUNCTION t.link(on_contradiction text DEFAULT 'refuse') RETURNS text LANGUAGE sql AS $$
    SELECT order_timeout.link_table('shop.orders', 'id', 'status',
        '{"pending": ["new", "waiting"], "paid": ["paid", "shipped"], "expired": "timed out", "cancelled": "cancelled"}', 's-',
        amount_column => 'total', currency_column => 'currency', deadline_column => 'pay_until', policy_column => 'terms',
        track => true, on_contradiction => on_contradiction)
$$;
SELECT throws_ok($$SELECT order_timeout.link_table('shop.orders', 'id', 'status', '{"pending": "new"}', track => true)$$, '22023', NULL,
                 'track needs an amount');
SELECT throws_ok($$SELECT order_timeout.link_table('shop.orders', 'id', 'status', '{"pending": "new"}', amount_column => 'total', track => true)$$,
                 '22023', NULL, 'and a currency');
SELECT is(t.link(), 'linked', 'tracked');

-- Rows create orders
INSERT INTO shop.orders (id, total) VALUES (1, 12.34);
SELECT is(t.order(1), 'pending 1234 EUR', 'a payable row creates the order');
INSERT INTO shop.orders (id, total, currency, pay_until, terms) VALUES (2, 500, 'JPY', '2999-01-01 00:00+00', 'slow'), (3, 1.234, 'KWD', NULL, 'slow');
SELECT is(t.order(2) || ', ' || t.order(3), 'pending 500 JPY slow, pending 1234 KWD slow', 'each currency in its minor units');
SELECT is((SELECT expires_at FROM order_timeout.orders WHERE order_id = 's-2'), '2999-01-01 00:00+00'::timestamptz, 'with the row''s deadline');
INSERT INTO shop.orders (id, status, total) VALUES (4, 'draft', 10), (5, 'paid', 10), (6, 'cancelled', NULL);
SELECT is(concat(t.order(4), t.order(5), t.order(6)), '', 'other words create none');
UPDATE shop.orders SET status = 'waiting' WHERE id = 4;
SELECT is(t.order(4), 'pending 1000 EUR', 'an update to a payable word does');
INSERT INTO shop.orders (id, total) VALUES (7, 0);
SELECT is((SELECT status FROM shop.orders WHERE id = 7), 'paid', 'an amount of 0 is paid at once');
SELECT t.pay('s-8', 'early', 500, 'EUR');
INSERT INTO shop.orders (id, total) VALUES (8, 5);
SELECT is((SELECT status FROM shop.orders WHERE id = 8), 'paid', 'an orphan joins, and the row says so');

-- Bad rows
SELECT throws_ok($$INSERT INTO shop.orders (id, total) VALUES (9, 12.345)$$, '22023', '"12.345" is not an amount of EUR', 'never rounded');
SELECT throws_ok($$INSERT INTO shop.orders (id, total) VALUES (9, NULL)$$, '22004', NULL, 'no amount');
SELECT throws_ok($$INSERT INTO shop.orders (id, total) VALUES (9, -1)$$, '22023', NULL, 'a negative amount');
SELECT throws_ok($$INSERT INTO shop.orders (id, total, currency) VALUES (9, 1, 'eur')$$, '22023', NULL, 'a lower-case currency');
SELECT throws_ok($$INSERT INTO shop.orders (id, total, currency) VALUES (9, 1, 'XAU')$$, '22023', NULL, 'a currency without minor units');
SELECT throws_ok($$INSERT INTO shop.orders (id, total, pay_until) VALUES (9, 1, '2020-01-01')$$, '22023', NULL, 'a deadline in the past');
SELECT throws_ok($$INSERT INTO shop.orders (id, total, terms) VALUES (9, 1, 'none')$$, 'OT008', NULL, 'no such policy');
SELECT is_empty($$SELECT * FROM shop.orders WHERE id = 9$$, 'and nothing is inserted');

-- Rows cancel orders; our own writes do nothing
UPDATE shop.orders SET status = 'cancelled' WHERE id = 1;
SELECT is(t.order(1), 'cancelled 1234 EUR', 'a cancelled word cancels');
SELECT is((SELECT close_reason FROM order_timeout.orders WHERE order_id = 's-1'), 'the row in table shop.orders says "cancelled"', 'and says why');
INSERT INTO shop.orders (id, total) VALUES (10, 1), (11, 1), (12, 1), (13, 1);
SELECT is(t.pay('s-10', '10', 100, 'EUR'), 'paid paid applied', 'a payment');
SELECT is((SELECT status FROM shop.orders WHERE id = 10), 'paid', 'is written into the row');
UPDATE shop.orders SET status = 'shipped' WHERE id = 10;
UPDATE shop.orders SET status = 'on its way' WHERE id = 10;
UPDATE shop.orders SET note = 'x', pay_until = NULL WHERE id = 11;
SELECT is(t.order(10) || ', ' || t.order(11), 'paid 100 EUR, pending 100 EUR', 'the shop goes on with its own words');
SELECT is(coalesce(t.shown(10), '') || coalesce(t.shown(11), ''), '', 'nobody needs to look');
SELECT t.pass_deadline('s-12');
UPDATE shop.orders SET status = 'timed out' WHERE id = 12;
SELECT is(t.order(12), 'expired 100 EUR', 'the shop''s own timer closes what is due');
UPDATE shop.orders SET status = 'cancelled' WHERE id = 12;
SELECT is(t.order(12), 'cancelled 100 EUR', 'and cancels what expired');

-- Contradictions are refused
SELECT throws_ok($$UPDATE shop.orders SET status = 'paid' WHERE id = 13$$, 'OT005', NULL, 'paid without a payment');
SELECT throws_ok($$UPDATE shop.orders SET status = 'timed out' WHERE id = 13$$, 'OT005', NULL, 'expired before its time');
SELECT throws_ok($$UPDATE shop.orders SET status = 'cancelled' WHERE id = 8$$, 'OT005', NULL, 'cancelled after it was paid');
SELECT throws_ok($$UPDATE shop.orders SET status = 'new' WHERE id = 12$$, 'OT005', NULL, 'opened again');
SELECT throws_ok($$UPDATE shop.orders SET total = 2 WHERE id = 13$$, 'OT005', NULL, 'another amount');
SELECT throws_ok($$UPDATE shop.orders SET currency = 'USD' WHERE id = 13$$, 'OT005', NULL, 'another currency');
SELECT throws_ok($$UPDATE shop.orders SET id = 99 WHERE id = 13$$, 'OT005', NULL, 'another key');
SELECT throws_ok($$DELETE FROM shop.orders WHERE id = 13$$, 'OT005', NULL, 'deleted');
SELECT is((SELECT concat_ws(' ', status, total) FROM shop.orders WHERE id = 13) || ' ' || t.order(13), 'new 1.000 pending 100 EUR', 'nothing is changed');
UPDATE shop.orders SET total = 1.0 WHERE id = 13;
DELETE FROM shop.orders WHERE id IN (6, 12);
UPDATE shop.orders SET total = 77 WHERE id = 8;
SELECT is(coalesce(t.shown(8), ''), '', 'what is settled may change and go');

-- A deadline of the row moves the order's
CREATE FUNCTION t.deadline(id int) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT o.expires_at FROM order_timeout.orders o WHERE o.order_id = 's-' || $1
$$;
CREATE FUNCTION t.moves(id int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM order_timeout.events e WHERE e.aggregateid = 's-' || $1 AND e.type = 'order.changed'
$$;
UPDATE shop.orders SET pay_until = '2998-01-01 00:00+00' WHERE id = 13;
SELECT is(t.deadline(13), '2998-01-01 00:00+00'::timestamptz, 'a later deadline');
UPDATE shop.orders SET pay_until = '2997-01-01 00:00+00', status = 'on its way' WHERE id = 13;
SELECT is(t.deadline(13), '2997-01-01 00:00+00'::timestamptz, 'an earlier one, next to a word of no state');
UPDATE shop.orders SET pay_until = NULL, status = 'new' WHERE id = 13;
UPDATE shop.orders SET note = 'x' WHERE id = 13;
SELECT is(t.deadline(13), '2997-01-01 00:00+00'::timestamptz, 'none moves nothing');
SELECT is(t.moves(13), 2::bigint, 'each move is an event');
SELECT throws_ok($$UPDATE shop.orders SET pay_until = now() WHERE id = 13$$, '22023', NULL, 'one in the past');
SELECT throws_ok($$UPDATE shop.orders SET pay_until = 'infinity' WHERE id = 13$$, '22023', NULL, 'one without an end');
SELECT is((SELECT pay_until FROM shop.orders WHERE id = 13), NULL, 'are refused');
SELECT order_timeout.extend_order('s-13', '2999-01-01 00:00+00');
UPDATE shop.orders SET pay_until = '2998-01-01 00:00+00' WHERE id = 13;
SELECT is(t.deadline(13), '2998-01-01 00:00+00'::timestamptz, 'the row says what it is');
SELECT lives_ok($$UPDATE shop.orders SET pay_until = 'infinity' WHERE id IN (8, 10)$$, 'of a settled order it does nothing');
SELECT is(t.moves(8) + t.moves(10), 0::bigint, 'nothing at all');
INSERT INTO shop.orders (id, total) VALUES (15, 1), (16, 1);
UPDATE shop.orders SET status = 'cancelled', pay_until = now() WHERE id = 15;
SELECT is(t.order(15), 'cancelled 100 EUR', 'nor of one that the row closes');
-- one that the order had already: to a call that is repeated later it is no error, and a row that goes back to it would differ
UPDATE shop.orders SET pay_until = clock_timestamp() + interval '1 hour' WHERE id = 16;
UPDATE order_timeout.events SET payload = jsonb_set(payload, '{expires_at}', to_jsonb(now()))
 WHERE aggregateid = 's-16' AND payload ->> 'expires_at' IS NOT NULL AND type = 'order.changed';
SELECT throws_ok($$UPDATE shop.orders SET pay_until = now() WHERE id = 16$$, '22023', NULL, 'one that it had, and that is past');

-- or noted
SELECT is(order_timeout.unlink_table('shop.orders'), 'unlinked', 'unlinked');
INSERT INTO shop.orders (id, total) VALUES (14, 1);
SELECT is(t.order(14), NULL, 'then rows create nothing');
SELECT is_empty($$SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass AND NOT tgisinternal$$, 'the table is as it was');
DELETE FROM shop.orders WHERE id = 14;
SELECT is(t.link('note'), 'linked', 'linked again');
INSERT INTO shop.orders (id, total) VALUES (20, 1), (21, 1), (22, 1), (23, 1);
UPDATE shop.orders SET status = 'paid' WHERE id = 20;
SELECT is(t.shown(20), 'link: 27000: the row in table shop.orders says "paid"', 'a contradicting word is shown');
SELECT t.look_again();
SELECT is(t.shown(20), 'link: 27000: the row in table shop.orders says "paid", and the order is pending', 'as long as it contradicts');
SELECT is((SELECT status FROM shop.orders WHERE id = 20), 'paid', 'and not overwritten');
SELECT is(t.pay('s-20', '20', 100, 'EUR'), 'paid paid applied', 'the payment comes');
SELECT is(t.shown(20), NULL, 'and they agree');
UPDATE shop.orders SET total = 2 WHERE id = 21;
SELECT is(t.shown(21), 'link: 27000: the row in table shop.orders asks for 200 EUR, and the order for 100 EUR', 'another amount');
SELECT t.look_again();
SELECT is(t.shown(21), 'link: 27000: the row in table shop.orders asks for 200 EUR, and the order for 100 EUR', 'is shown as long as it differs');
UPDATE shop.orders SET total = 1 WHERE id = 21;
SELECT t.look_again();
SELECT is(t.shown(21), NULL, 'and no longer');
UPDATE shop.orders SET total = NULL WHERE id = 21;
SELECT is(t.shown(21), 'link: 27000: row "21" of table shop.orders has no amount', 'no amount');
UPDATE shop.orders SET total = 1, currency = 'eur' WHERE id = 21;
SELECT ok(t.shown(21) LIKE '%"eur" is not three capital letters', 'no currency');
UPDATE shop.orders SET currency = 'EUR' WHERE id = 21;
SELECT t.look_again();
SELECT is(t.shown(21), NULL, 'and no longer');
SET LOCAL client_min_messages = error;
UPDATE shop.orders SET pay_until = '2020-01-01 00:00+00' WHERE id = 21;
RESET client_min_messages;
SELECT is(t.shown(21), 'link: 27000: deadline of order "s-21" does not lie in the future', 'a deadline in the past');
SELECT t.look_again();
SELECT ok(t.shown(21) LIKE '%the row in table shop.orders has the deadline 2020-01-01 %, and the order 20%', 'is shown as long as it differs');
UPDATE shop.orders SET pay_until = '2999-01-01 00:00+00' WHERE id = 21;
SELECT t.look_again();
SELECT is(t.shown(21), NULL, 'and no longer');
SELECT is(t.deadline(21), '2999-01-01 00:00+00'::timestamptz, 'when the order has it, too');
DELETE FROM shop.orders WHERE id = 22;
SELECT ok(t.shown(22) LIKE '%is deleted', 'deleted');
SELECT is(order_timeout.resolve_link('s-22', 'link', 'was a test'), 'resolved', 'given up by a person');
UPDATE shop.orders SET id = 24 WHERE id = 23;
SELECT is(concat_ws(' | ', t.shown(23), t.order(24)), 'link: 27000: its row in table shop.orders gets another key | pending 100 EUR', 'another key');

-- and where they are noted, no statement fails for what its row says
SET LOCAL client_min_messages = error;
INSERT INTO shop.orders (id, total) VALUES (25, 12.345), (26, NULL), (27, -1), (28, 1);
INSERT INTO shop.orders (id, total, currency) VALUES (29, 1, 'eur'), (30, 1, NULL);
INSERT INTO shop.orders (id, total, pay_until) VALUES (31, 1, '2020-01-01');
INSERT INTO shop.orders (id, total, terms) VALUES (32, 1, 'none');
SELECT results_eq($$SELECT id FROM shop.orders WHERE id BETWEEN 25 AND 32 AND t.order(id) IS NOT NULL$$, 'VALUES (28)',
                  'rows that cannot become an order go through, next to one that can');
UPDATE shop.orders SET total = 12.34 WHERE id = 25;
SELECT is(t.order(25), 'pending 1234 EUR', 'once corrected they can');
UPDATE shop.orders SET currency = 'eur' WHERE id = 28;
SELECT ok(t.shown(28) LIKE 'link: 27000: row "28" of table shop.orders has an invalid currency: "eur" is not three capital letters', 'a row of an order that says nonsense is shown');
DELETE FROM shop.orders WHERE id BETWEEN 25 AND 32;
RESET client_min_messages;

-- Whoever writes the table needs no right to ours
CREATE ROLE t_shop;
GRANT USAGE ON SCHEMA shop TO t_shop;
GRANT SELECT, INSERT, UPDATE ON shop.orders TO t_shop;
SET LOCAL ROLE t_shop;
INSERT INTO shop.orders (id, total) VALUES (30, 1), (31, 1);
UPDATE shop.orders SET status = 'cancelled' WHERE id = 31;
SELECT throws_ok($$SELECT order_timeout.cancel_order('s-30')$$, '42501', NULL, 'the shop''s role has no right to ours');
RESET ROLE;
SELECT is(t.order(30) || ', ' || t.order(31), 'pending 100 EUR, cancelled 100 EUR', 'and its rows create and cancel orders');

-- Many rows: few locks
INSERT INTO shop.orders (id, total) SELECT i, 1 FROM generate_series(1000, 2999) i;
SELECT is((SELECT count(*) FROM order_timeout.orders WHERE order_id ~ '^s-[12]...$'), 2000::bigint, 'an INSERT of many rows');
SELECT cmp_ok((SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), '<', 150::bigint, 'takes few locks');
-- Rows put straight into a partition
CREATE TABLE shop.parts (id int, status text, total bigint, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE shop.part1 (total bigint, status text, id int NOT NULL);
ALTER TABLE shop.parts ATTACH PARTITION shop.part1 FOR VALUES FROM (0) TO (100);
SELECT order_timeout.link_table('shop.parts', 'id', 'status', '{"pending": "new", "cancelled": "gone"}', 'p-',
                                amount_column => 'total', currency => 'USD', track => true);
INSERT INTO shop.part1 (id, status, total) VALUES (1, 'new', 42);
SELECT is((SELECT concat_ws(' ', state, amount, currency) FROM order_timeout.orders WHERE order_id = 'p-1'), 'pending 42 USD', 'minor units, a partition');
-- A row that goes to another partition is deleted and inserted by PostgreSQL, and is the same row
CREATE TABLE shop.moving (id int, status text, total bigint, region int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE shop.moving1 PARTITION OF shop.moving FOR VALUES IN (1);
CREATE TABLE shop.moving2 PARTITION OF shop.moving FOR VALUES IN (2);
SELECT order_timeout.link_table('shop.moving', 'id', 'status', '{"pending": "new", "paid": "paid", "cancelled": "gone"}', 'm-',
                                amount_column => 'total', currency => 'CNY', track => true);
INSERT INTO shop.moving VALUES (1, 'new', 5, 1), (2, 'new', 5, 1), (3, 'new', 5, 1), (4, 'new', 5, 1);
CREATE FUNCTION t.state(order_id text) RETURNS text LANGUAGE sql AS $$SELECT state FROM order_timeout.orders o WHERE o.order_id = $1$$;
SELECT lives_ok('UPDATE shop.moving SET region = 2 WHERE id = 1', 'a row of a pending order goes to another partition');
SELECT is(t.state('m-1'), 'pending', 'which is nothing to its order');
SELECT lives_ok($$UPDATE shop.moving SET region = 2, status = 'gone' WHERE id = 2$$, 'with a word of cancelled');
SELECT is(t.state('m-2'), 'cancelled', 'it cancels');
SELECT throws_ok('UPDATE shop.moving SET region = 2, total = 6 WHERE id = 3', 'OT005', NULL, 'with another amount it contradicts');
SELECT throws_ok('DELETE FROM shop.moving WHERE id = 4', 'OT005', NULL, 'deleted is deleted');
SELECT is(t.pay('m-1', 'm-1', 5), 'paid paid applied', 'paid');
SELECT is((SELECT status FROM shop.moving2 WHERE id = 1), 'paid', 'and written where it is now');
-- The status is the partition key: our own writes move the row, too
CREATE TABLE shop.open_closed (id int, status text, total bigint, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE shop.open PARTITION OF shop.open_closed FOR VALUES IN ('new');
CREATE TABLE shop.closed PARTITION OF shop.open_closed DEFAULT;
SELECT order_timeout.link_table('shop.open_closed', 'id', 'status', '{"pending": "new", "paid": "paid", "cancelled": "gone"}', 'oc-',
                                amount_column => 'total', currency => 'CNY', track => true);
INSERT INTO shop.open_closed VALUES (1, 'new', 5), (2, 'new', 5);
SELECT is(t.pay('oc-1', 'oc-1', 5), 'paid paid applied', 'our write moves the row');
UPDATE shop.open_closed SET status = 'gone' WHERE id = 2;
SELECT is(t.state('oc-2'), 'cancelled', 'the shop''s does, and cancels');
SELECT is((SELECT string_agg(status, ' ' ORDER BY id) FROM shop.closed), 'paid gone', 'both are there');

-- reopen_order and change_order, in a table whose rows go to and fro
SELECT t.create_order('oc-3', 5), t.create_order('oc-4', 5);
INSERT INTO shop.open_closed VALUES (3, 'new', 5), (4, 'new', 5);
SELECT order_timeout.unlink_table('shop.open_closed'), order_timeout.link_table('shop.open_closed', 'id', 'status',
    '{"pending": "new", "paid": "paid", "expired": "late", "cancelled": "gone"}', 'oc-', amount_column => 'total', currency => 'CNY', track => true);
SELECT t.expire('oc-3');
SELECT is((SELECT status FROM shop.closed WHERE id = 3), 'late', 'expired');
SELECT throws_ok($$UPDATE shop.open_closed SET status = 'new' WHERE id = 3$$, 'OT005', NULL, 'the row alone does not reopen it');
SELECT is((SELECT concat_ws(' ', outcome, state) FROM order_timeout.reopen_order('oc-3')), 'reopened pending', 'reopen_order does');
SELECT is((SELECT status FROM shop.open WHERE id = 3), 'new', 'and writes the row');
SELECT throws_ok($$UPDATE shop.open_closed SET total = 6 WHERE id = 4$$, 'OT005', NULL, 'the row alone does not change the amount');
SELECT is((SELECT concat_ws(' ', outcome, state, amount) FROM order_timeout.change_order('oc-4', 6)), 'changed pending 6', 'change_order does');
SELECT lives_ok($$UPDATE shop.open_closed SET total = 6 WHERE id = 4$$, 'then the row can follow');

-- A row whose order is there already
SELECT t.create_order('m-10', 5), t.create_order('m-11', 5), t.create_order('m-12', 5);
SELECT lives_ok($$INSERT INTO shop.moving VALUES (10, 'new', 5, 1), (11, 'draft', 6, 1)$$, 'a row with the terms of its order, a row that is not to be paid');
SELECT throws_ok($$INSERT INTO shop.moving VALUES (12, 'new', 6, 1)$$, 'OT005', NULL, 'a row with other terms contradicts');

-- Keys and deadlines that no order can have
CREATE TABLE shop.odd (id text PRIMARY KEY, status text, total bigint, pay_until timestamptz);
SELECT order_timeout.link_table('shop.odd', 'id', 'status', '{"pending": "new", "cancelled": "gone"}', 'odd-',
                                amount_column => 'total', currency => 'CNY', deadline_column => 'pay_until', track => true);
SELECT lives_ok($$INSERT INTO shop.odd VALUES (repeat('x', 300), 'draft', 1), (E'a\nb', 'gone', 1)$$, 'a key that is no order_id is no error');
SELECT lives_ok($$UPDATE shop.odd SET status = 'other'$$, 'nor when the row changes');
SELECT throws_ok($$UPDATE shop.odd SET status = 'new' WHERE id LIKE 'xx%'$$, '22023', NULL, 'until it is to be paid');
SELECT lives_ok('DELETE FROM shop.odd', 'nor when it is deleted');
SELECT throws_ok($$INSERT INTO shop.odd VALUES ('1', 'new', 1, 'infinity')$$, '22023', NULL, 'an order must have an end');
SELECT throws_ok($$INSERT INTO shop.odd VALUES ('1', 'new', 1, '20000-01-01')$$, '22023', NULL, 'in the years that create_order takes');
INSERT INTO shop.odd VALUES ('it''s \"x', 'new', 1);
SELECT is(t.cancel('odd-it''s \"x'), 'cancelled cancelled', 'quotes and backslashes');
SELECT is((SELECT status FROM shop.odd), 'gone', 'are in the key');
SELECT is_empty('SELECT * FROM order_timeout.funds_violations()', 'the proof');
SELECT * FROM finish();
ROLLBACK;
