-- replay_orders: what would have become of orders, outcome by outcome, and what it refuses.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

CREATE TABLE t.shop (n serial, order_id text, created_at timestamptz DEFAULT '2026-03-01 10:00', amount bigint DEFAULT 100,
                     currency text DEFAULT 'EUR', paid_at timestamptz, paid_amount bigint);
INSERT INTO order_timeout.policies (policy, late_rule, on_late, on_notified_late, on_short, short_tolerance, pay_within) VALUES
    ('at deadline', 'at_deadline', 'refund', NULL, 'refund', 0, '30 minutes'),
    ('reopen', 'until_closed', 'reopen', NULL, 'refund', 0, '30 minutes'),
    ('hold', 'until_closed', 'hold', NULL, 'hold', 0, '30 minutes'),
    ('notified', 'until_closed', 'refund', 'reopen', 'refund', 0, '30 minutes'),
    ('tolerant', 'until_closed', 'refund', NULL, 'refund', 10, '1 hour');

-- Of one order with these payments, given as minutes and amounts: what happened at which minute.
CREATE FUNCTION t.replay(payments text, policy text DEFAULT 'default', pay_within interval DEFAULT '30 minutes',
    sweep_lag interval DEFAULT '0', report_lag interval DEFAULT NULL, amount bigint DEFAULT 100) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    DELETE FROM t.shop;
    INSERT INTO t.shop (order_id, amount, paid_at, paid_amount)
    SELECT 'o', $6, '2026-03-01 10:00'::timestamptz + (p[1] || ' minutes')::interval, p[2]::bigint
      FROM unnest(coalesce(nullif(string_to_array($1, ' '), '{}'), ARRAY[NULL])) AS w, LATERAL (SELECT string_to_array(w, ':') AS p) AS s;
    SELECT string_agg(concat_ws(' ', round(extract(epoch FROM r.happened_at - '2026-03-01 10:00') / 60)::text || ':', r.outcome,
                                nullif(r.paid, 0), 'owed ' || nullif(r.owed, 0), 'held ' || nullif(r.held, 0), '(' || r.state || ')'), ', ' ORDER BY r.n)
      INTO answer
      FROM order_timeout.replay_orders('SELECT order_id, created_at, amount, currency, paid_at, paid_amount FROM t.shop', $2, $3, $4, $5)
           WITH ORDINALITY AS r (order_id, happened_at, outcome, state, currency, paid, owed, held, n);
    RETURN answer;
END
$$;

SELECT is(t.replay(''), '30: expired (expired)', 'never paid');
SELECT is(t.replay('29:100'), '29: paid 100 (paid)', 'paid in time');
SELECT is(t.replay('30:100'), '30: expired (expired), 30: late 100 owed 100 (expired)', 'at the deadline it is late');
SELECT is(t.replay('10:60'), '10: partial 60 (pending), 30: expired owed 60 (expired)', 'a part');
SELECT is(t.replay('10:60 11:60'), '10: partial 60 (pending), 11: paid 60 owed 20 (paid)', 'two parts, and a surplus');
SELECT is(t.replay('11:60 10:40'), '10: partial 40 (pending), 11: paid 60 (paid)', 'in the order of their times');
SELECT is(t.replay('10:100 11:100'), '10: paid 100 (paid), 11: surplus 100 owed 100 (paid)', 'twice');
SELECT is(t.replay('10:60 40:100'), '10: partial 60 (pending), 30: expired owed 60 (expired), 40: late 100 owed 100 (expired)', 'a part, and late');
SELECT is(t.replay('', amount => 0), '0: paid (paid)', 'an order of 0');
SELECT is(t.replay('50:100', pay_within => '1 hour'), '50: paid 100 (paid)', 'another deadline');
SELECT is(t.replay('50:100', 'tolerant', NULL), '50: paid 100 (paid)', 'the policy''s own');
SELECT is(t.replay('32:100', sweep_lag => '5 minutes'), '32: paid 100 (paid)', 'until_closed: a late sweeper lets it through');
SELECT is(t.replay('35:100', sweep_lag => '5 minutes'), '35: expired (expired), 35: late 100 owed 100 (expired)', 'until it has swept');
SELECT is(t.replay('32:100', 'at deadline', sweep_lag => '5 minutes'), '32: expired (expired), 32: late 100 owed 100 (expired)',
          'at_deadline: the payment closes the order');
SELECT is(t.replay('10:60 32:100', 'at deadline', sweep_lag => '5 minutes'),
          '10: partial 60 (pending), 32: expired owed 60 (expired), 32: late 100 owed 100 (expired)', 'and its parts go back');
SELECT is(t.replay('40:120', 'reopen'), '30: expired (expired), 40: reopened 120 owed 20 (paid)', 'reopen');
SELECT is(t.replay('10:60 40:90', 'reopen'), '10: partial 60 (pending), 30: expired owed 60 (expired), 40: late 90 owed 90 (expired)',
          'not for less than the amount');
SELECT is(t.replay('10:60 40:90', 'hold'), '10: partial 60 (pending), 30: expired held 60 (expired), 40: held 90 held 90 (expired)', 'hold');
SELECT is(t.replay('10:90', 'tolerant'), '10: paid 90 (paid)', 'short_tolerance');
SELECT is(t.replay('10:89', 'tolerant'), '10: partial 89 (pending), 30: expired owed 89 (expired)', 'and no more than that');
SELECT is(t.replay('29:100', 'notified', report_lag => '2 minutes'), '30: expired (expired), 31: reopened 100 (paid)',
          'on_notified_late: paid in time and reported late');
SELECT is(t.replay('30:100', 'notified', report_lag => '2 minutes'), '30: expired (expired), 32: late 100 owed 100 (expired)', 'or paid late');
SELECT is(t.replay('10:9223372036854775807 11:100 12:9223372036854775807'),
          '10: paid 9223372036854775807 owed 9223372036854775707 (paid), 11: surplus 100 owed 100 (paid), '
          || '12: surplus 9223372036854775807 owed 9223372036854775807 (paid)', 'what the sums cannot hold');

-- What lies in the future has not happened
SELECT is((SELECT string_agg(concat_ws(' ', r.outcome, r.state, r.paid), ', ') FROM order_timeout.replay_orders(
    'SELECT 1 AS order_id, now() AS created_at, 5 AS amount, ''EUR'' AS currency, now() AS paid_at, 3 AS paid_amount') AS r),
    'partial pending 3, pending pending 0', 'an order that is still open');

-- Straight from a shop's tables, whatever their types
CREATE TABLE t.sales (id bigint PRIMARY KEY, placed timestamp, total numeric(12,2), cur char(3));
CREATE TABLE t.captures (sale bigint, at timestamptz, got numeric(12,2));
INSERT INTO t.sales VALUES (7, '2026-03-01 10:00', 12.34, 'EUR'), (8, '2026-03-01 10:00', 5, 'JPY'), (9, '2026-03-01 10:00', 20, 'EUR');
INSERT INTO t.captures VALUES (7, '2026-03-01 10:05+00', 2.34), (7, '2026-03-01 10:06+00', 10), (9, '2026-03-01 11:00+00', 20);
SELECT results_eq($q$SELECT order_id, outcome, currency, paid, owed FROM order_timeout.replay_orders($$
    SELECT s.id AS order_id, s.placed AS created_at, s.total * 100 AS amount, s.cur AS currency, c.at AS paid_at, c.got * 100 AS paid_amount
      FROM t.sales s LEFT JOIN t.captures c ON c.sale = s.id    -- the last line may be a comment$$)$q$,
    $$VALUES ('7', 'partial', 'EUR', 234::bigint, 0::bigint), ('7', 'paid', 'EUR', 1000, 0), ('8', 'expired', 'JPY', 0, 0),
             ('9', 'expired', 'EUR', 0, 0), ('9', 'late', 'EUR', 2000, 2000)$$, 'a join');
SELECT is_empty($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop WHERE false')$$, 'no orders');
SELECT results_eq($$SELECT a.outcome, b.outcome FROM order_timeout.replay_orders('SELECT * FROM t.shop') a,
                  order_timeout.replay_orders('SELECT * FROM t.shop', 'reopen') b LIMIT 1$$, $$VALUES ('partial', 'partial')$$, 'two at a time')
  FROM t.replay('10:60');

-- Bad rows: the row is named, and nothing comes back
CREATE FUNCTION t.refused(VARIADIC rows text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    context text;
BEGIN
    PERFORM count(*) FROM order_timeout.replay_orders('SELECT * FROM (VALUES ' || array_to_string($1, ', ')
        || ') AS v (order_id, created_at, amount, currency, paid_at, paid_amount)');
    RETURN 'it was accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(' ', SQLSTATE, SQLERRM, '-', substring(context FROM 'row \d+ of orders_query'));
END
$$;
SELECT is(t.refused(row), answer, answer)
  FROM (VALUES ($$(NULL, now(), 1, 'EUR', NULL::timestamptz, NULL::int)$$, '22004 order_id must not be null - row 1 of orders_query'),
               ($$('', now(), 1, 'EUR', NULL, NULL::int)$$, '22023 invalid order_id: it is empty - row 1 of orders_query'),
               ($$('a', NULL::timestamptz, 1, 'EUR', NULL, NULL::int)$$, '22004 created_at must not be null - row 1 of orders_query'),
               ($$('a', 'infinity'::timestamptz, 1, 'EUR', NULL, NULL::int)$$, '22023 invalid created_at: infinity is not between the years 1970 and 9999 - row 1 of orders_query'),
               ($$('a', now(), NULL::int, 'EUR', NULL, NULL::int)$$, '22004 amount must not be null - row 1 of orders_query'),
               ($$('a', now(), -1, 'EUR', NULL, NULL::int)$$, '22023 invalid amount: -1 is negative - row 1 of orders_query'),
               ($$('a', now(), 12.34, 'EUR', NULL, NULL::int)$$, '22023 "12.34" is not an amount of EUR - row 1 of orders_query'),
               ($$('a', now(), 1e30, 'EUR', NULL, NULL::int)$$, '22003 value "1000000000000000000000000000000" is out of range for type bigint - row 1 of orders_query'),
               ($$('a', now(), 1, 'euro', NULL, NULL::int)$$, '22023 invalid currency: "euro" is not three capital letters - row 1 of orders_query'),
               ($$('a', now(), 1, NULL, NULL, NULL::int)$$, '22004 currency must not be null - row 1 of orders_query'),
               ($$('a', now(), 1, 'EUR', now(), NULL::int)$$, '22004 paid_amount of a row with paid_at must not be null - row 1 of orders_query'),
               ($$('a', now(), 1, 'EUR', NULL, 5)$$, '22004 paid_at of a row with paid_amount must not be null - row 1 of orders_query'),
               ($$('a', now(), 1, 'EUR', now(), 0)$$, '22023 invalid paid_amount: 0 is not greater than zero - row 1 of orders_query'),
               ($$('a', now(), 1, 'EUR', now() - interval '1 second', 1)$$, '22023 invalid paid_at: it lies before created_at - row 1 of orders_query'),
               ($$('a', now(), 1, 'EUR', 'infinity'::timestamptz, 1)$$, '22023 invalid paid_at: infinity is not between the years 1970 and 9999 - row 1 of orders_query'))
       AS v (row, answer);
SELECT is(t.refused($$('b', now(), 1, 'EUR', NULL::timestamptz, NULL::int)$$, $$('c', now(), 1, 'EUR', NULL, NULL)$$, $$('a', now(), -1, 'EUR', NULL, NULL)$$),
          '22023 invalid amount: -1 is negative - row 3 of orders_query', 'rows are counted in the order of the query');
SELECT is(t.refused($$('b', now(), 1, 'EUR', now(), 1)$$, $$('c', now(), 1, 'EUR', NULL, NULL)$$, $$('b', now(), 2, 'EUR', now(), 1)$$),
          '22023 order "b" has other terms in row 1 - row 3 of orders_query', 'a further payment has the same terms');
SELECT is(t.refused($$('b', now(), 1, 'EUR', now(), 1)$$, $$('b', now(), 1, 'USD', now(), 1)$$),
          '22023 order "b" has other terms in row 1 - row 2 of orders_query', 'the currency too');

SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders(NULL)$$, '22004', NULL, 'no query');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('')$$, '42601', NULL, 'an empty one');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT 1')$$, '42703', 'column q.order_id does not exist', 'a column that is missing');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop', 'none')$$, 'OT008', NULL, 'no such policy');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop', pay_within => '0')$$, '22023', NULL, 'no time to pay');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop', sweep_lag => '-1 second')$$, '22023', NULL, 'a negative lag');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop', report_lag => '2 years')$$, '22023', NULL, 'a lag of years');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('WITH d AS (DELETE FROM t.shop RETURNING *) SELECT * FROM d')$$, '0A000', NULL,
                 'a query that writes');
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop) AS q; DELETE FROM t.shop; --')$$, NULL, NULL, 'nor two statements');
SELECT isnt_empty('SELECT * FROM t.shop', 'nothing is deleted');
CREATE FUNCTION t.writes() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM order_timeout.create_order('inner', 5, 'EUR');
    RETURN 'x';
END
$$;
SELECT lives_ok($$SELECT * FROM order_timeout.replay_orders('SELECT t.writes() AS order_id, now() AS created_at, 1 AS amount, ''EUR'' AS currency, NULL AS paid_at, NULL AS paid_amount')$$,
                'a call of ours inside the query');
DELETE FROM t.shop;

-- With the caller's rights, not the owner's
CREATE ROLE order_timeout_test_looker;
SELECT order_timeout.grant_access('order_timeout_test_looker', 'reader');
GRANT USAGE ON SCHEMA t TO order_timeout_test_looker;
SET ROLE order_timeout_test_looker;
SELECT throws_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop')$$, '42501', NULL, 'a table that the caller may not read');
RESET ROLE;
GRANT SELECT ON t.shop TO order_timeout_test_looker;
SET ROLE order_timeout_test_looker;
SELECT lives_ok($$SELECT * FROM order_timeout.replay_orders('SELECT * FROM t.shop')$$, 'one that he may');
SELECT is((SELECT r.order_id FROM order_timeout.replay_orders('SELECT current_user::text AS order_id, now() AS created_at, 1 AS amount, ''EUR'' AS currency, NULL AS paid_at, NULL AS paid_amount') AS r),
          'order_timeout_test_looker', 'the query runs as the caller');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
