-- Orphans: payments whose order is unknown. What create_order does with them: 01; what the sweeper does: 20.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE FUNCTION t.refund_orphan(payment_ref text) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome || ' ' || (r.refund_ref = t.ref($1)) FROM order_timeout.refund_orphan('bank', $1) AS r
$$;
CREATE FUNCTION t.assign(payment_ref text, order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state, r.disposition, nullif(r.refund_amount, 0))
      FROM order_timeout.assign_orphan('bank', $1, $2) AS r
$$;

-- refund_orphan
SELECT is(t.pay('none', 'r1', 100), 'orphan orphan', 'an orphan');
SELECT is((SELECT (kind, order_id, gateway, payment_ref)::text FROM order_timeout.attention), '(orphan,none,bank,r1)', 'is listed');
SELECT is(t.refund_orphan('r1'), 'refunded true', 'refund it');
SELECT is(t.refunds('none'), 'r1 100 orphan pending', 'it is owed');
SELECT is((SELECT (refunded, refund_pending, held)::text FROM order_timeout.payments WHERE payment_ref = 'r1'), '(0,100,0)', 'the payment says so');
SELECT is(t.refund_orphan('r1'), 'already_refunded true', 'again: the same refund');
SELECT is((SELECT count(*) FROM order_timeout.refunds), 1::bigint, 'there is one');
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'nothing waits for a person');
SELECT t.create_order('else', 100);
SELECT throws_ok($$SELECT t.assign('r1', 'else')$$, 'OT005', NULL, 'it can''t be assigned any more');
SELECT is(t.attempt('succeeded'), 'submit 1 recorded succeeded', 'the money goes back');
SELECT is(t.refund_orphan('r1'), 'already_refunded true', 'again');
SELECT is(t.create_order('none', 100), 'created pending', 'its order comes after all');
SELECT is(t.sums('none'), 'pending 0 = 0 + 0 + 0 + 0', 'too late');
SELECT is(split_part(t.pay('none', 'r1', 100), ' ', 1), 'duplicate', 'told again');
SELECT is(t.sums('none'), 'pending 0 = 0 + 0 + 0 + 0', 'it still isn''t applied');
SELECT t.sound('an orphan that went back, beside its order');

-- assign_orphan: as if it came now
SELECT t.create_order('a', 100), t.create_order('b', 100);
SELECT is(t.pay('A', 'a1', 60), 'orphan orphan', 'a payment with a mistyped order');
SELECT is(t.assign('a1', 'a'), 'partial pending applied', 'was meant for that one');
SELECT is(t.sums('a'), 'pending 60 = 0 + 0 + 0 + 60', 'and counts there');
SELECT is((SELECT (order_id, disposition)::text FROM order_timeout.payments WHERE payment_ref = 'a1'), '(a,applied)', 'it is that order''s');
SELECT is(t.assign('a1', 'a'), 'duplicate pending applied', 'again');
SELECT is(t.pay('A', 'a1', 60), 'duplicate pending applied', 'the gateway tells it again, mistyped as ever');
SELECT is(t.sums('a'), 'pending 60 = 0 + 0 + 0 + 60', 'and it counts once');
SELECT throws_ok($$SELECT t.pay('c', 'a1', 60)$$, 'OT003', NULL, 'told with yet another order');
SELECT throws_ok($$SELECT t.pay('A', 'a1', 61)$$, 'OT003', NULL, 'told with another amount');
SELECT throws_ok($$SELECT t.assign('a1', 'b')$$, NULL, NULL, 'assigned once, it stays there');
SELECT is(t.sums('b'), 'pending 0 = 0 + 0 + 0 + 0', 'and is nobody else''s');
SELECT is(t.create_order('A', 100), 'created pending', 'the mistyped order is made');
SELECT is(t.sums('A'), 'pending 0 = 0 + 0 + 0 + 0', 'and has no payment');
SELECT t.pay('x', 'a2', 70);
SELECT is(t.assign('a2', 'a'), 'paid paid applied 30', 'one that pays the order, with a surplus');
SELECT is(t.assign('a2', 'a'), 'duplicate paid applied 30', 'again');
SELECT t.pay('x', 'a3', 10);
SELECT is(t.assign('a3', 'a'), 'surplus paid surplus 10', 'to a paid order');
SELECT t.pay('x', 'b1', 10, 'EUR');
SELECT is(t.assign('b1', 'b'), 'wrong_currency pending wrong_currency 10', 'in another currency');
SELECT t.expire('b');
SELECT t.pay('x', 'b2', 100);
SELECT is(t.assign('b2', 'b'), 'late expired late 100', 'to a closed order');
SELECT is(t.sums('a') || '; ' || t.sums('b'), 'paid 140 = 0 + 40 + 0 + 100; expired 100 = 0 + 100 + 0 + 0', 'all adds up');

-- A chargeback of a part of an orphan: the rest of it still waits, and is applied or refunded
SELECT t.pay('later', 'cb-1', 100), t.pay('x', 'cb-2', 100), t.pay('x', 'cb-3', 100);
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', ref, 'charged-' || ref, 30, 'chargeback')), 'recorded', ref || ': a chargeback')
  FROM unnest(ARRAY['cb-1', 'cb-2', 'cb-3']) AS ref;
SELECT is(t.create_order('later', 100), 'created pending', 'its order comes');
SELECT is(t.sums('later'), 'pending 100 = 30 + 0 + 0 + 70', '70 of 100 are kept');
SELECT t.create_order('cb', 100);
SELECT is(t.assign('cb-2', 'cb'), 'partial pending applied', 'another is assigned');
SELECT is(t.sums('cb'), 'pending 100 = 30 + 0 + 0 + 70', 'with what was charged back of it');
SELECT is(split_part(t.refund_orphan('cb-3'), ' ', 1), 'refunded', 'and one refunded');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'cb-3'), '(30,70)', 'the rest of it');

-- A refund of an orphan that the bank sent back is the orphan's again; what is owed goes where the payment goes
SELECT t.pay('x', 'back', 100), order_timeout.record_refund('bank', 'back', 'back-1', 70);
SELECT order_timeout.refund_orphan('bank', 'back');
SELECT order_timeout.reverse_refund(refund_ref, 'sent back by the bank') FROM order_timeout.refunds WHERE gateway_refund_ref = 'back-1';
SELECT t.create_order('b back', 100);
SELECT is(t.assign('back', 'b back'), 'partial pending applied', 'one with a refund that is owed is assigned');
SELECT is(t.sums('b back'), 'pending 100 = 0 + 30 + 0 + 70', 'what is owed of it is owed there');
SELECT is(t.refunds('b back'), 'back 70 external reversed, back 30 orphan pending', 'its refunds are that order''s');
SELECT t.sound('refunds moved with their payment');
SELECT is((SELECT c.outcome FROM order_timeout.refunds AS r, order_timeout.complete_refund(r.refund_ref, 'succeeded') AS c
            WHERE r.order_id = 'b back' AND r.reason = 'orphan'), 'recorded', 'the open one is completed');
SELECT is(t.sums('b back'), 'pending 100 = 30 + 0 + 0 + 70', 'in that order''s sums');

-- What can't be
SELECT t.pay('x', 'left', 10);
SELECT throws_ok($$SELECT t.assign('left', 'unheard of')$$, 'OT001', NULL, 'assign to an unknown order');
SELECT throws_ok($$SELECT t.assign('no such', 'a')$$, 'OT009', NULL, 'assign an unknown payment');
SELECT throws_ok($$SELECT order_timeout.refund_orphan('bank', 'no such')$$, 'OT009', NULL, 'refund an unknown payment');
SELECT throws_ok($$SELECT order_timeout.refund_orphan('alipay', 'left')$$, 'OT009', NULL, 'not at this gateway');
SELECT throws_ok($$SELECT order_timeout.refund_orphan('bank', 'a1')$$, 'OT005', NULL, 'refund a payment that has its order');
SELECT is((SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'left'), 'orphan', 'an orphan stays one until someone decides');
SELECT is((SELECT (order_id, told_order_id)::text FROM order_timeout.payments WHERE payment_ref = 'a1'), '(a,A)',
          'an assigned one keeps what the gateway told');
SELECT t.sound();
SELECT finish();
ROLLBACK;
