-- create_order: deadlines, repeats, other terms, orders that cost nothing, orphan payments that wait for it.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- Deadlines
SELECT is((SELECT concat_ws(' ', outcome, state, expires_at BETWEEN clock_timestamp() + interval '29 minutes'
                                                               AND clock_timestamp() + interval '30 minutes')
             FROM order_timeout.create_order('plain', 100, 'CNY')),
          'created pending t', 'no deadline given: the policy''s pay_within from now');
SELECT is((SELECT expires_at - created_at FROM order_timeout.orders WHERE order_id = 'plain'), interval '30 minutes',
          'created_at and expires_at come from the same reading of the clock');
SELECT ok((SELECT created_at > now() FROM order_timeout.orders WHERE order_id = 'plain'),
          'the clock is read when the call is made, not when the transaction began');

SELECT ok((SELECT expires_at BETWEEN clock_timestamp() + interval '59 minutes' AND clock_timestamp() + interval '1 hour'
             FROM order_timeout.create_order('in an hour', 100, 'CNY', expires_in => '1 hour')), 'expires_in');
SELECT is((SELECT expires_at FROM order_timeout.create_order('at', 100, 'CNY', expires_at => '2999-12-31 23:00+00')),
          '2999-12-31 23:00+00'::timestamptz, 'expires_at');
SELECT is((SELECT expires_at FROM order_timeout.orders WHERE order_id = 'at'), '2999-12-31 23:00+00'::timestamptz,
          'the answer is what is stored');

INSERT INTO order_timeout.policies (policy, pay_within) VALUES ('two days', '2 days');
SELECT ok((SELECT expires_at BETWEEN clock_timestamp() + interval '47 hours' AND clock_timestamp() + interval '48 hours'
             FROM order_timeout.create_order('slow', 100, 'CNY', policy => 'two days')), 'pay_within of the policy named');
SELECT is((SELECT policy FROM order_timeout.orders WHERE order_id = 'slow'), 'two days', 'the policy is stored');
SELECT is((SELECT outcome FROM order_timeout.create_order('nulls', 100, 'CNY', NULL, NULL, NULL, NULL)), 'created',
          'NULL for an argument that has a default means the default');
SELECT is((SELECT policy FROM order_timeout.orders WHERE order_id = 'nulls'), 'default', 'so the policy is default');

SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', '1 hour', clock_timestamp() + interval '1 hour')$$,
                 '22023', NULL, 'both deadlines');
SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', '0')$$, '22023', NULL, 'expires_in 0');
SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', '-1 second')$$, '22023', NULL, 'expires_in negative');
SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', expires_at => clock_timestamp())$$, '22023', NULL,
                 'expires_at has just passed');
-- Later than the transaction's start and yet in the past: only the clock can tell.
SELECT pg_sleep(0.01);
SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', expires_at => now() + interval '5 ms')$$, '22023', NULL,
                 'the deadline is compared with the clock, not with the transaction''s start');
SELECT throws_ok($$SELECT order_timeout.create_order('x', 100, 'CNY', policy => 'unheard of')$$, 'OT008', NULL,
                 'no such policy');
SELECT is_empty($$SELECT * FROM order_timeout.orders WHERE order_id = 'x'$$, 'and none of these left an order');

-- What is stored
SELECT is((SELECT outcome FROM order_timeout.create_order('whole', 12345, 'JPY', metadata => '{"cart": [1, 2]}')), 'created',
          'with metadata');
SELECT is((SELECT (state, amount, currency, paid, refunded, refund_pending, held, settled_at, close_reason, metadata)::text
             FROM order_timeout.orders WHERE order_id = 'whole'),
          '(pending,12345,JPY,0,0,0,0,,,"{""cart"": [1, 2]}")', 'a new order');

-- Order ids are compared bytewise and kept as they are
SELECT is(t.create_order('A', 1), 'created pending', 'A');
SELECT is(t.create_order('a', 2), 'created pending', 'a is another order');
SELECT is(t.create_order('a ', 3), 'created pending', 'so is a with a space');
SELECT is(t.create_order('订单-1', 4), 'created pending', 'letters of any script');
SELECT is(t.create_order(repeat('x', 255), 5), 'created pending', '255 bytes fit');
SELECT is((SELECT amount FROM order_timeout.orders WHERE order_id = 'a'), 2::bigint, 'each has its own amount');

-- Repeats
SELECT is((SELECT concat_ws(' ', outcome, state, expires_at) FROM order_timeout.create_order('at', 100, 'CNY', '1 hour',
                                                                                            metadata => '{"other": 1}')),
          'exists pending ' || '2999-12-31 23:00+00'::timestamptz, 'exists: the real deadline, whatever the repeat says');
SELECT is((SELECT metadata FROM order_timeout.orders WHERE order_id = 'at'), NULL, 'metadata is not overwritten');
SELECT is((SELECT outcome FROM order_timeout.create_order('at', 100, 'CNY', expires_at => '2020-01-01 00:00+00')), 'exists',
          'a repeat that comes after its deadline is still a repeat');
SELECT is((SELECT concat_ws(' ', outcome, expires_at)
             FROM order_timeout.create_order('whole', 12345, 'JPY', policy => NULL)),
          'exists ' || (SELECT expires_at FROM order_timeout.orders WHERE order_id = 'whole'), 'no policy named: default again');
SELECT is(t.create_order('paid', 100), 'created pending', 'an order');
SELECT is(t.pay('paid', 'p-paid', 100), 'paid paid applied', 'is paid');
SELECT is(t.create_order('paid', 100), 'exists paid', 'and a repeat tells the present state');
SELECT is(t.create_order('gone', 100), 'created pending', 'an order');
SELECT is(t.expire('gone'), 'expired expired', 'expires');
SELECT is(t.create_order('gone', 100), 'exists expired', 'and is not made again by a repeat');
SELECT throws_ok($$SELECT order_timeout.create_order('at', 101, 'CNY')$$, 'OT002', NULL, 'another amount');
SELECT throws_ok($$SELECT order_timeout.create_order('at', 100, 'EUR')$$, 'OT002', NULL, 'another currency');
SELECT throws_ok($$SELECT order_timeout.create_order('at', 100, 'CNY', policy => 'two days')$$, 'OT002', NULL, 'another policy');

-- An order that costs nothing
SELECT is(t.create_order('free', 0), 'created paid', 'amount 0 is paid at once');
SELECT ok((SELECT settled_at IS NOT NULL FROM order_timeout.orders WHERE order_id = 'free'), 'and settled');
SELECT is(t.create_order('free', 0), 'exists paid', 'a repeat');
SELECT is(t.expire('free'), 'already_paid paid', 'it does not expire');
SELECT is(t.pay('free', 'p-free', 5), 'surplus paid surplus 5', 'what is paid for it goes back');
SELECT is(t.sums('free'), 'paid 5 = 0 + 5 + 0 + 0', 'and is owed');

-- Orphan payments that came first
SELECT is(t.pay('early', 'e1', 60), 'orphan orphan', 'a payment before its order');
SELECT is(t.pay('early', 'e2', 60), 'orphan orphan', 'and another');
SELECT is(t.create_order('early', 100), 'created paid', 'the order is born paid');
SELECT is(t.sums('early'), 'paid 120 = 0 + 20 + 0 + 100', 'both count');
SELECT is(t.refunds('early'), 'e2 20 surplus pending', 'the older one first, so the surplus is the newer one''s');
SELECT is((SELECT string_agg(payment_ref || ' ' || disposition, ', ' ORDER BY payment_ref) FROM order_timeout.payments
            WHERE order_id = 'early'), 'e1 applied, e2 applied', 'neither is an orphan any more');

SELECT is(t.pay('short', 's1', 40), 'orphan orphan', 'too little, too early');
SELECT is(t.create_order('short', 100), 'created pending', 'the order waits for the rest');
SELECT is(t.sums('short'), 'pending 40 = 0 + 0 + 0 + 40', 'with what it has');

SELECT is(t.pay('mixed', 'm1', 100, 'EUR'), 'orphan orphan', 'an orphan in another currency');
SELECT is(t.create_order('mixed', 100), 'created pending', 'pays for nothing');
SELECT is(t.refunds('mixed'), 'm1 100 wrong_currency pending', 'and goes back');

SELECT is(t.pay('nothing due', 'n1', 10), 'orphan orphan', 'an orphan');
SELECT is(t.create_order('nothing due', 0), 'created paid', 'of an order that costs nothing');
SELECT is(t.refunds('nothing due'), 'n1 10 surplus pending', 'is surplus');

SELECT is(t.pay('returned', 'r1', 100), 'orphan orphan', 'an orphan');
SELECT is((SELECT outcome FROM order_timeout.refund_orphan('bank', 'r1')), 'refunded', 'that is being refunded');
SELECT is(t.create_order('returned', 100), 'created pending', 'is not applied to the order');
SELECT is(t.sums('returned'), 'pending 0 = 0 + 0 + 0 + 0', 'not at all');

SELECT is(t.create_order('early', 100), 'exists paid', 'a repeat applies nothing twice');
SELECT is(t.sums('early'), 'paid 120 = 0 + 20 + 0 + 100', 'not at all');
SELECT t.sound();
SELECT finish();
ROLLBACK;
