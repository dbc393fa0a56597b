-- record_payment: every row of its table, and the order in which they are looked at. Late payments: 03.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- partial, paid
SELECT t.create_order('o', 100);
SELECT is(t.pay('o', 'p1', 60), 'partial pending applied', 'short of the amount: partial');
SELECT is(t.sums('o'), 'pending 60 = 0 + 0 + 0 + 60', '60 kept');
SELECT is(t.pay('o', 'p2', 39), 'partial pending applied', 'one short: partial');
SELECT is(t.pay('o', 'p3', 1), 'paid paid applied', 'the sum reaches the amount: paid');
SELECT is(t.sums('o'), 'paid 100 = 0 + 0 + 0 + 100', '100 kept');
SELECT is(t.refunds('o'), NULL, 'nothing to give back');
SELECT ok((SELECT settled_at > created_at FROM order_timeout.orders WHERE order_id = 'o'), 'settled_at says when');

-- more than the amount
SELECT t.create_order('over', 100);
SELECT is(t.pay('over', 'over-1', 130), 'paid paid applied 30', 'one payment of too much: the surplus is a refund');
SELECT is(t.sums('over'), 'paid 130 = 0 + 30 + 0 + 100', 'of exactly what is too much');
SELECT is(t.refunds('over'), 'over-1 30 surplus pending', 'with reason surplus');
SELECT t.create_order('over2', 100);
SELECT is(t.pay('over2', 'over2-1', 60), 'partial pending applied', '60');
SELECT is(t.pay('over2', 'over2-2', 60), 'paid paid applied 20', 'and 60 more');
SELECT is(t.sums('over2'), 'paid 120 = 0 + 20 + 0 + 100', '20 too much');
SELECT is(t.refunds('over2'), 'over2-2 20 surplus pending', 'go back to the payment that was too much');

-- surplus
SELECT is(t.pay('o', 'p4', 100), 'surplus paid surplus 100', 'paid already: all of it is surplus');
SELECT is(t.pay('o', 'p5', 1), 'surplus paid surplus 1', 'however little');
SELECT is(t.sums('o'), 'paid 201 = 0 + 101 + 0 + 100', 'and owed');
SELECT is(t.refunds('o'), 'p4 100 surplus pending, p5 1 surplus pending', 'a refund each');

-- What is stored of a payment and of a refund
SELECT t.create_order('stored', 100);
SELECT is((SELECT concat_ws(' ', outcome, refund_amount)
             FROM order_timeout.record_payment('stored', 'alipay', 'st-1', 120, 'CNY', '2026-01-01 10:59+00', '{"buyer": "b"}')),
          'paid 20', 'all arguments given');
SELECT is((SELECT (order_id, amount, currency, paid_at = '2026-01-01 10:59+00', disposition, late_reason, refunded, refund_pending,
                   held, details)::text
             FROM order_timeout.payments WHERE gateway = 'alipay' AND payment_ref = 'st-1'),
          '(stored,120,CNY,t,applied,,0,20,0,"{""buyer"": ""b""}")', 'the payment''s row');
SELECT ok((SELECT received_at > now() FROM order_timeout.payments WHERE payment_ref = 'st-1'), 'received_at is the clock''s');
SELECT is((SELECT (order_id, gateway, payment_ref, amount, currency, reason, state, attempts, leased_until, worker,
                   gateway_refund_ref, last_error, request_key, settled_at)::text
             FROM order_timeout.refunds WHERE payment_ref = 'st-1'),
          '(stored,alipay,st-1,20,CNY,surplus,pending,0,,,,,,)', 'the refund''s row');
SELECT ok((SELECT next_attempt_at <= clock_timestamp() AND created_at > now()
             FROM order_timeout.refunds WHERE payment_ref = 'st-1'), 'it is due at once');
SELECT is((SELECT refund_ref FROM order_timeout.record_payment('stored', 'alipay', 'st-1', 120, 'CNY')),
          t.ref('st-1', 'alipay'), 'the answer names that refund');

-- refund_ref: the key that the gateway sees
SELECT ok((SELECT bool_and(refund_ref ~ '^[A-Za-z0-9_-]{16,64}$') FROM order_timeout.refunds),
          'refund_ref: at most 64 harmless characters, no fewer than 96 bits need');
SELECT is((SELECT count(DISTINCT refund_ref) FROM order_timeout.refunds), (SELECT count(*) FROM order_timeout.refunds),
          'no two alike');

-- wrong currency
SELECT t.create_order('cny', 100);
SELECT is(t.pay('cny', 'c1', 100, 'EUR'), 'wrong_currency pending wrong_currency 100', 'another currency');
SELECT is(t.sums('cny'), 'pending 0 = 0 + 0 + 0 + 0', 'stays out of the order''s sums');
SELECT is((SELECT (amount, currency, reason)::text FROM order_timeout.refunds WHERE payment_ref = 'c1'),
          '(100,EUR,wrong_currency)', 'all of it goes back, in its own currency');
SELECT is((SELECT (refunded, refund_pending, held)::text FROM order_timeout.payments WHERE payment_ref = 'c1'), '(0,100,0)',
          'and is tracked on the payment');
SELECT is(t.pay('cny', 'c2', 100), 'paid paid applied', 'the right currency still pays');

-- unknown order
SELECT is((SELECT (outcome, state, disposition, refund_ref, refund_amount)::text
             FROM order_timeout.record_payment('unheard of', 'bank', 'u1', 100, 'CNY')), '(orphan,,orphan,,)', 'order unknown');
SELECT is((SELECT (order_id, amount, disposition, refunded, refund_pending, held)::text
             FROM order_timeout.payments WHERE payment_ref = 'u1'), '("unheard of",100,orphan,0,0,0)', 'is kept');
SELECT is((SELECT kind || ' ' || payment_ref FROM order_timeout.attention WHERE order_id = 'unheard of'), 'orphan u1',
          'and listed');

-- duplicate comes before everything else
SELECT is(t.pay('o', 'p1', 60), 'duplicate paid applied', 'a part payment told again, the order being paid');
SELECT is(t.pay('over', 'over-1', 130), 'duplicate paid applied 30', 'the answer carries the refund');
SELECT is(t.pay('o', 'p4', 100), 'duplicate paid surplus 100', 'a surplus told again');
SELECT is(t.pay('cny', 'c1', 100, 'EUR'), 'duplicate paid wrong_currency 100', 'before the currency is looked at');
SELECT is(t.pay('unheard of', 'u1', 100), 'duplicate orphan', 'before the order is looked for');
SELECT is(t.pay('o', 'p1', 60, paid_at => '2020-01-01'), 'duplicate paid applied', 'paid_at is not compared');
SELECT is((SELECT paid_at FROM order_timeout.payments WHERE payment_ref = 'p1'), NULL, 'and not overwritten');
SELECT t.create_order('closes', 100), t.pay('closes', 'cl-1', 60);
SELECT is(t.expire('closes'), 'expired expired', 'an order closes');
SELECT is(split_part(t.pay('closes', 'cl-1', 60), ' ', 1), 'duplicate', 'its part payment told again is no late one');
SELECT is(t.sums('closes'), 'expired 60 = 0 + 60 + 0 + 0', 'and counts once');
SELECT is(t.sums('o'), 'paid 201 = 0 + 101 + 0 + 100', 'no repeat changed a sum');

SELECT throws_ok($$SELECT t.pay('o', 'p1', 61)$$, 'OT003', NULL, 'recorded with another amount');
SELECT throws_ok($$SELECT t.pay('o', 'p1', 60, 'EUR')$$, 'OT003', NULL, 'recorded with another currency');
SELECT throws_ok($$SELECT t.pay('cny', 'p1', 60)$$, 'OT003', NULL, 'recorded for another order');
SELECT throws_ok($$SELECT t.pay('nowhere', 'p1', 60)$$, 'OT003', NULL, 'for an order that does not even exist');
SELECT throws_ok($$SELECT t.pay('o', 'u1', 100)$$, 'OT003', NULL, 'an orphan told with another order');

-- A payment is (gateway, payment_ref)
SELECT t.create_order('two', 100);
SELECT is(t.pay('two', 'p1', 50, gateway => 'alipay'), 'partial pending applied', 'the same payment_ref at another gateway');
SELECT is(t.pay('two', 'P1', 50), 'paid paid applied', 'payment_ref is compared bytewise');

-- wrong currency comes before surplus and late
SELECT is(t.pay('two', 'two-3', 10, 'EUR'), 'wrong_currency paid wrong_currency 10', 'other currency for a paid order');
SELECT is(t.pay('closes', 'cl-2', 10, 'EUR'), 'wrong_currency expired wrong_currency 10', 'other currency for a closed order');
SELECT is(t.sums('closes'), 'expired 60 = 0 + 60 + 0 + 0', 'stays out of its sums');

-- until_closed: whoever comes first wins
SELECT t.create_order('slow sweep', 100), t.pass_deadline('slow sweep');
SELECT is(t.pay('slow sweep', 'ss-1', 100), 'paid paid applied', 'past the deadline, not closed yet: in time');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.expire_order('slow sweep')), '(already_paid,paid)', 'closing then fails');
SELECT t.create_order('slow part', 100), t.pass_deadline('slow part');
SELECT is(t.pay('slow part', 'sp-1', 40), 'partial pending applied', 'a part payment past the deadline');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.expire_order('slow part')), '(expired,expired)', 'keeps nothing open');
SELECT is(t.refunds('slow part'), 'sp-1 40 expired pending', 'and becomes a refund when the order closes');
SELECT t.sound();
SELECT finish();
ROLLBACK;
