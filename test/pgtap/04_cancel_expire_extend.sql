-- cancel_order, expire_order, extend_order: every outcome.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, late_rule) VALUES ('strict', 'at_deadline');

-- cancel_order
SELECT t.create_order('c', 100), t.pay('c', 'c1', 30), t.pay('c', 'c2', 30);
SELECT is((SELECT (outcome, state)::text FROM order_timeout.cancel_order('c', 'changed my mind')), '(cancelled,cancelled)',
          'cancel a pending order');
SELECT is(t.sums('c'), 'cancelled 60 = 0 + 60 + 0 + 0', 'part payments are owed');
SELECT is(t.refunds('c'), 'c1 30 cancelled pending, c2 30 cancelled pending', 'a refund a payment');
SELECT is((SELECT close_reason FROM order_timeout.orders WHERE order_id = 'c'), 'changed my mind', 'the reason is kept');
SELECT ok((SELECT settled_at > created_at FROM order_timeout.orders WHERE order_id = 'c'), 'settled_at says when');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.cancel_order('c', 'again')), '(already_closed,cancelled)', 'again');
SELECT is((SELECT close_reason FROM order_timeout.orders WHERE order_id = 'c'), 'changed my mind', 'nothing is overwritten');
SELECT t.create_order('ce', 100), t.pay('ce', 'ce1', 30), t.expire('ce');
SELECT is(t.cancel('ce'), 'cancelled cancelled', 'cancel an expired order');
SELECT is(t.sums('ce'), 'cancelled 30 = 0 + 30 + 0 + 0', 'owes what it owed');
SELECT is(t.refunds('ce'), 'ce1 30 expired pending', 'once');
SELECT is(t.cancel('ce'), 'already_closed cancelled', 'again');
SELECT t.create_order('cp', 100), t.pay('cp', 'cp1', 100);
SELECT is(t.cancel('cp'), 'already_paid paid', 'cancel a paid order');
SELECT is(t.sums('cp'), 'paid 100 = 0 + 0 + 0 + 100', 'leaves it paid');
SELECT t.create_order('cd', 100);
SELECT t.pass_deadline('cd');
SELECT is(t.cancel('cd'), 'cancelled cancelled', 'cancel one that is past due and not closed');
SELECT throws_ok($$SELECT order_timeout.cancel_order('unheard of')$$, 'OT001', NULL, 'cancel an unknown order');

-- expire_order
SELECT t.create_order('e', 100), t.pay('e', 'e1', 60);
SELECT is((SELECT (outcome, state)::text FROM order_timeout.expire_order('e')), '(not_due,pending)', 'before its deadline');
SELECT is(t.sums('e'), 'pending 60 = 0 + 0 + 0 + 60', 'nothing happens');
SELECT is(t.expire('e'), 'expired expired', 'after its deadline');
SELECT is(t.sums('e'), 'expired 60 = 0 + 60 + 0 + 0', 'part payments are owed');
SELECT is(t.refunds('e'), 'e1 60 expired pending', 'with reason expired');
SELECT is(t.expire('e'), 'already_closed expired', 'a redelivered timer');
SELECT is(t.expire('c'), 'already_closed cancelled', 'a timer of a cancelled order');
SELECT is(t.expire('cp'), 'already_paid paid', 'a timer of a paid order');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.expire_order('unheard of')), '(not_found,)',
          'a timer of an order that does not exist');
SELECT t.create_order('ms', 100, expires_in => '5 ms');
SELECT pg_sleep(0.01);
SELECT is((SELECT outcome FROM order_timeout.expire_order('ms')), 'expired', 'the clock decides, not the transaction''s start');
SELECT ok((SELECT settled_at >= expires_at FROM order_timeout.orders WHERE order_id = 'ms'), 'never closed before its deadline');

-- extend_order
SELECT t.create_order('x', 100), t.create_order('xs', 100, 'strict');
SELECT is((SELECT (outcome, state, expires_at = '2999-01-01 00:00+00')::text
             FROM order_timeout.extend_order('x', '2999-01-01 00:00+00')), '(extended,pending,t)', 'extend');
SELECT is((SELECT expires_at FROM order_timeout.orders WHERE order_id = 'x'), '2999-01-01 00:00+00'::timestamptz, 'is stored');
SELECT is((SELECT (outcome, state, expires_at = '2999-01-01 00:00+00')::text
             FROM order_timeout.extend_order('x', '2999-01-01 00:00+00')), '(unchanged,pending,t)', 'again');
SELECT is((SELECT (outcome, state, expires_at = '2999-01-01 00:00+00')::text
             FROM order_timeout.extend_order('x', clock_timestamp() + interval '1 day')), '(unchanged,pending,t)',
          'never to an earlier deadline');
-- Told again after that time, when it was extended further meanwhile (the test of a repeat in 18_idempotency.sql cannot wait)
SELECT t.create_order('again', 100, 'default', '1 ms'), clock_timestamp() + interval '30 ms' AS first_time \gset
SELECT is((SELECT outcome FROM order_timeout.extend_order('again', :'first_time')), 'extended', 'a short while');
SELECT is((SELECT outcome FROM order_timeout.extend_order('again', '2999-01-01 00:00+00')), 'extended', 'a long while');
SELECT pg_sleep(0.04);
SELECT is((SELECT (outcome, state, expires_at = '2999-01-01 00:00+00')::text FROM order_timeout.extend_order('again', :'first_time')),
          '(unchanged,pending,t)', 'the first call again, after its time: a repeat');
SET LOCAL timezone = 'Asia/Kathmandu';
SELECT is((SELECT outcome FROM order_timeout.extend_order('again', :'first_time')), 'unchanged', 'in whatever time zone');
RESET timezone;
SELECT throws_ok(format('SELECT order_timeout.extend_order(%L, %L)', 'again', :'first_time'::timestamptz - interval '1 us'), '22023', NULL,
                 'a time that nobody asked for is no repeat');
SELECT t.create_order('another', 100);
SELECT throws_ok(format('SELECT order_timeout.extend_order(%L, %L)', 'another', :'first_time'), '22023', NULL, 'nor is that of another order');
SELECT throws_ok($$SELECT order_timeout.extend_order('x', clock_timestamp() - interval '1 s')$$, '22023', NULL,
                 'not in the future');
SELECT t.pass_deadline('x'), t.pass_deadline('xs');
SELECT expires_at AS deadline FROM order_timeout.orders WHERE order_id = 'x' \gset
SELECT is((SELECT outcome FROM order_timeout.extend_order('x', :'deadline')), 'unchanged',
          'an extension told again after it ran out is still a repeat');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.extend_order('x', clock_timestamp() + interval '1 hour')),
          '(extended,pending)', 'past due and not closed: can still be extended');
SELECT is((SELECT outcome FROM order_timeout.expire_order('x')), 'not_due', 'and is not due then');
SELECT is((SELECT outcome FROM order_timeout.extend_order('xs', clock_timestamp() + interval '1 hour')), 'extended',
          'under at_deadline too');
SELECT is(t.pay('xs', 'xs1', 100), 'paid paid applied', 'and paid in time');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.extend_order('xs', clock_timestamp() + interval '1 year')),
          '(already_paid,paid)', 'a paid order');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.extend_order('e', clock_timestamp() + interval '1 year')),
          '(already_closed,expired)', 'an expired order');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.extend_order('c', clock_timestamp() + interval '1 year')),
          '(already_closed,cancelled)', 'a cancelled order');
SELECT throws_ok($$SELECT order_timeout.extend_order('unheard of', clock_timestamp() + interval '1 year')$$, 'OT001', NULL,
                 'extend an unknown order');
-- An expired order that is cancelled was closed when it expired
SELECT t.create_order('times', 100), t.expire('times');
SELECT settled_at AS closed FROM order_timeout.orders WHERE order_id = 'times' \gset
SELECT order_timeout.cancel_order('times', 'sold out');
SELECT is((SELECT (settled_at = :'closed', close_reason)::text FROM order_timeout.orders WHERE order_id = 'times'), '(t,"sold out")',
          'settled_at stays, the reason is the new one');

SELECT t.sound();
SELECT finish();
ROLLBACK;
