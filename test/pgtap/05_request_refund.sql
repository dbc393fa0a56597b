-- request_refund: what is given back of a paid order, of which payment, and only once for a key.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- All that is kept
SELECT t.create_order('all', 100), t.pay('all', 'all-1', 60), t.pay('all', 'all-2', 70);
SELECT results_eq($$SELECT outcome, gateway, payment_ref, amount FROM order_timeout.request_refund('all', 'k')$$,
                  $$VALUES ('accepted', 'bank', 'all-2', 40::bigint), ('accepted', 'bank', 'all-1', 60::bigint)$$,
                  'no amount: all that is kept, newest payment first, a row a payment');
SELECT is(t.sums('all'), 'paid 130 = 0 + 130 + 0 + 0', 'the order stays paid and keeps nothing');
SELECT is(t.refunds('all'), 'all-1 60 requested pending, all-2 30 surplus pending, all-2 40 requested pending',
          'the surplus is a refund of its own');
SELECT throws_ok($$SELECT order_timeout.request_refund('all', 'another')$$, 'OT004', NULL, 'nothing kept any more');
SELECT throws_ok($$SELECT order_timeout.request_refund('all', 'another', 1)$$, 'OT004', NULL, 'not even 1');
SELECT is(t.pay('all', 'all-3', 5), 'surplus paid surplus 5', 'a payment then is surplus still');

-- A part
SELECT t.create_order('part', 100), t.pay('part', 'p-old', 60), t.pay('part', 'p-new', 40);
SELECT results_eq($$SELECT outcome, payment_ref, amount FROM order_timeout.request_refund('part', 'k1', 30, 'too small')$$,
                  $$VALUES ('accepted', 'p-new', 30::bigint)$$, 'less than the newest payment');
SELECT is((SELECT (reason, note, request_key, state)::text FROM order_timeout.refunds WHERE order_id = 'part'),
          '(requested,"too small",k1,pending)', 'what is stored');
SELECT results_eq($$SELECT outcome, payment_ref, amount FROM order_timeout.request_refund('part', 'k2', 30)$$,
                  $$VALUES ('accepted', 'p-new', 10::bigint), ('accepted', 'p-old', 20::bigint)$$,
                  'what is left of the newest, then the next');
SELECT is(t.sums('part'), 'paid 100 = 0 + 60 + 0 + 40', '40 kept');
SELECT throws_ok($$SELECT order_timeout.request_refund('part', 'k3', 41)$$, 'OT004', NULL, 'more than is kept');
SELECT is((SELECT count(*) FROM order_timeout.refunds WHERE order_id = 'part'), 3::bigint, 'writes nothing');
SELECT results_eq($$SELECT outcome, payment_ref, amount FROM order_timeout.request_refund('part', 'k3', 40)$$,
                  $$VALUES ('accepted', 'p-old', 40::bigint)$$, 'exactly what is kept; a key that failed was not used up');

-- received_at decides which is newest, nothing else
SELECT t.create_order('clock', 100), t.pay('clock', 'b', 50), t.pay('clock', 'a', 50);
UPDATE order_timeout.payments SET received_at = received_at - interval '1 hour', paid_at = '2999-01-01' WHERE payment_ref = 'a';
SELECT is((SELECT payment_ref FROM order_timeout.request_refund('clock', 'k', 1)), 'b', 'newest by received_at');

-- Of one payment
SELECT t.create_order('one', 100), t.pay('one', 'one-1', 60), t.pay('one', 'one-2', 40);
SELECT throws_ok($$SELECT order_timeout.request_refund('one', 'k', 61, payment_ref => 'one-1')$$, 'OT004', NULL,
                 'more than is kept of that payment');
SELECT results_eq($$SELECT outcome, payment_ref, amount FROM order_timeout.request_refund('one', 'k', payment_ref => 'one-1')$$,
                  $$VALUES ('accepted', 'one-1', 60::bigint)$$, 'all that is kept of that payment');
SELECT throws_ok($$SELECT order_timeout.request_refund('one', 'k2', 1, payment_ref => 'one-1')$$, 'OT004', NULL,
                 'nothing is kept of it now');
SELECT is(t.sums('one'), 'paid 100 = 0 + 60 + 0 + 40', 'the other is untouched');
SELECT throws_ok($$SELECT order_timeout.request_refund('one', 'k2', 1, payment_ref => 'no such')$$, 'OT009', NULL,
                 'no such payment');
SELECT throws_ok($$SELECT order_timeout.request_refund('one', 'k2', 1, payment_ref => 'p-old')$$, 'OT009', NULL,
                 'a payment of another order');

-- Two gateways, each with a payment of that number
SELECT t.create_order('both', 100), t.pay('both', '17', 60, gateway => 'cash'), t.pay('both', '17', 40, gateway => 'giftcard');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k', 10, payment_ref => '17')$$, '22023', NULL, 'which one is not said');
SELECT results_eq($$SELECT outcome, gateway, amount FROM order_timeout.request_refund('both', 'k', 10, payment_ref => '17', gateway => 'cash')$$,
                  $$VALUES ('accepted', 'cash', 10::bigint)$$, 'of the one that is named');
SELECT results_eq($$SELECT outcome, gateway, amount FROM order_timeout.request_refund('both', 'k', 10, payment_ref => '17')$$,
                  $$VALUES ('duplicate', 'cash', 10::bigint)$$, 'a repeat is recognised before it is asked which');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k2', 51, payment_ref => '17', gateway => 'cash')$$, 'OT004', NULL,
                 'more than is kept of that one');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k2', 1, payment_ref => '17', gateway => 'card')$$, 'OT009', NULL,
                 'a gateway that has none of that number');
SELECT results_eq($$SELECT gateway, amount FROM order_timeout.request_refund('both', 'k2', gateway => 'giftcard')$$,
                  $$VALUES ('giftcard', 40::bigint)$$, 'all of one gateway');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k3', gateway => 'card')$$, 'OT009', NULL, 'a gateway that has no payment of it');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k3', gateway => '')$$, '22023', NULL, 'no name of a gateway');
SELECT is(t.sums('both'), 'paid 100 = 0 + 50 + 0 + 50', 'the other is untouched');
SELECT is((SELECT gateway FROM order_timeout.request_refund('both', 'k4', 50, payment_ref => '17', gateway => 'cash')), 'cash', 'nothing is kept of both');
SELECT throws_ok($$SELECT order_timeout.request_refund('both', 'k5', 1, payment_ref => '17')$$, '22023', NULL, 'it has to be said all the same');

-- Repeats
SELECT is((SELECT string_agg(outcome || ' ' || payment_ref || ' ' || amount, ', ' ORDER BY amount)
             FROM order_timeout.request_refund('part', 'k2', 30)), 'duplicate p-new 10, duplicate p-old 20',
          'the same key and amount: the same rows');
SELECT set_eq($$SELECT refund_ref FROM order_timeout.request_refund('part', 'k2', 30)$$,
              $$SELECT refund_ref FROM order_timeout.refunds WHERE order_id = 'part' AND request_key = 'k2'$$,
              'with the same refund_refs');
SELECT is((SELECT outcome FROM order_timeout.request_refund('part', 'k1')), 'duplicate', 'the same key, now without an amount');
SELECT is((SELECT string_agg(DISTINCT outcome, ' ') FROM order_timeout.request_refund('all', 'k')), 'duplicate',
          'all that was kept, asked again when nothing is');
SELECT throws_ok($$SELECT order_timeout.request_refund('part', 'k1', 31)$$, 'OT007', NULL, 'the same key for another amount');
SELECT throws_ok($$SELECT order_timeout.request_refund('part', 'k1', 3000)$$, 'OT007', NULL, 'before what is kept is looked at');
SELECT is((SELECT outcome FROM order_timeout.request_refund('one', 'k1', 5)), 'accepted', 'a key belongs to its order');
SELECT t.attempt('succeeded') FROM generate_series(1, 20);
SELECT is((SELECT outcome FROM order_timeout.request_refund('part', 'k1', 30)), 'duplicate', 'when the money is back, too');
SELECT is(t.sums('part'), 'paid 100 = 100 + 0 + 0 + 0', 'once');

-- Orders that have nothing to ask for
SELECT t.create_order('pending', 100), t.pay('pending', 'pend-1', 60);
SELECT throws_ok($$SELECT order_timeout.request_refund('pending', 'k', 10)$$, 'OT005', NULL, 'a pending order');
SELECT t.create_order('expired', 100), t.pay('expired', 'exp-1', 60), t.expire('expired');
SELECT throws_ok($$SELECT order_timeout.request_refund('expired', 'k', 10)$$, 'OT005', NULL, 'an expired order');
SELECT t.create_order('cancelled', 100), t.cancel('cancelled');
SELECT throws_ok($$SELECT order_timeout.request_refund('cancelled', 'k')$$, 'OT005', NULL, 'a cancelled order');
SELECT throws_ok($$SELECT order_timeout.request_refund('unheard of', 'k', 10)$$, 'OT001', NULL, 'an unknown order');
SELECT t.create_order('free', 0);
SELECT throws_ok($$SELECT order_timeout.request_refund('free', 'k')$$, 'OT004', NULL, 'an order that cost nothing');

-- What does not belong to the order's money is not given back twice
SELECT t.create_order('foreign', 100), t.pay('foreign', 'f-eur', 500, 'EUR'), t.pay('foreign', 'f-cny', 100);
SELECT throws_ok($$SELECT order_timeout.request_refund('foreign', 'k', 101)$$, 'OT004', NULL, 'wrong currency is not kept');
SELECT throws_ok($$SELECT order_timeout.request_refund('foreign', 'k', 1, payment_ref => 'f-eur')$$, 'OT004', NULL,
                 'asked for by its payment_ref neither');
SELECT results_eq($$SELECT payment_ref, amount FROM order_timeout.request_refund('foreign', 'k')$$,
                  $$VALUES ('f-cny', 100::bigint)$$, 'only what is kept goes back');
SELECT t.sound();
SELECT finish();
ROLLBACK;
