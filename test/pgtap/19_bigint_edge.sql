-- Amounts at the edge of bigint: what fits works, a sum that does not is 22003, and nothing is written.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
\set max 9223372036854775807

CREATE FUNCTION t.overflows(call text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before text := t.everything();
BEGIN
    RETURN NEXT throws_ok('SELECT * FROM ' || call, '22003', NULL, what);
    RETURN NEXT is(t.everything(), before, what || ': nothing written');
END
$$;

-- What fits
SELECT is(t.create_order('max', :max), 'created pending', 'the largest order');
SELECT is(t.pay('max', 'max-1', :max - 1), 'partial pending applied', 'all but one');
SELECT is(t.pay('max', 'max-2', 1), 'paid paid applied', 'and one: paid');
SELECT is(t.sums('max'), 'paid 9223372036854775807 = 0 + 0 + 0 + 9223372036854775807', 'exactly');
SELECT is(t.create_order('once', :max), 'created pending', 'another');
SELECT is(t.pay('once', 'once-1', :max), 'paid paid applied', 'paid at once');
SELECT is(t.create_order('late', 1), 'created pending', 'a small one');
SELECT is(t.expire('late'), 'expired expired', 'expires');
SELECT is(t.pay('late', 'late-1', :max), 'late expired late 9223372036854775807', 'and is paid a fortune');
SELECT is(t.create_order('held', 1, 'hold'), 'created pending', 'another small one');
SELECT is(t.expire('held'), 'expired expired', 'expires');
SELECT is(t.pay('held', 'held-1', :max), 'held expired held', 'the fortune is held');
SELECT is(t.create_order('some', :max), 'created pending', 'a large one');
SELECT is(t.pay('some', 'some-1', :max - 1), 'partial pending applied', 'not quite paid');

-- What does not
SELECT * FROM t.overflows($$t.pay('max', 'more', 1)$$, 'a surplus');
SELECT * FROM t.overflows($$t.pay('late', 'more', 1)$$, 'a late payment');
SELECT * FROM t.overflows($$t.pay('held', 'more', 1)$$, 'a held payment');
SELECT * FROM t.overflows($$t.pay('some', 'more', 5)$$, 'a payment with a surplus');
SELECT is(t.pay('more', 'orph-1', :max), 'orphan orphan', 'a large orphan');
SELECT is(t.pay('more', 'orph-2', :max), 'orphan orphan', 'and another: orphans are in no sum');
SELECT * FROM t.overflows($$t.create_order('more', 9223372036854775807)$$, 'an order that both belong to');
SELECT is((SELECT count(*) FROM order_timeout.payments WHERE disposition = 'orphan'), 2::bigint, 'they stay orphans');
SELECT * FROM t.overflows($$order_timeout.assign_orphan('bank', 'orph-1', 'max')$$, 'an assignment');

-- Other currencies are in no sum either
SELECT is(t.pay('max', 'eur-1', :max, 'EUR'), 'wrong_currency paid wrong_currency 9223372036854775807', 'a fortune in another currency');
SELECT is(t.pay('max', 'eur-2', :max, 'EUR'), 'wrong_currency paid wrong_currency 9223372036854775807', 'and another');
SELECT is(t.sums('max'), 'paid 9223372036854775807 = 0 + 0 + 0 + 9223372036854775807', 'change no sum');
SELECT lives_ok($$SELECT * FROM order_timeout.health$$, 'health can add them up');
SELECT t.sound('the proof can, too');

-- Giving it back
SELECT is((SELECT amount FROM order_timeout.request_refund('once', 'k')), :max::bigint, 'all of it is asked back');
SELECT is(t.sums('once'), 'paid 9223372036854775807 = 0 + 9223372036854775807 + 0 + 0', 'owed');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('once-1'), 'succeeded')), 'recorded', 'returned');
SELECT is(t.sums('once'), 'paid 9223372036854775807 = 9223372036854775807 + 0 + 0 + 0', 'back');
SELECT is((SELECT outcome FROM order_timeout.reverse_refund(t.ref('once-1'), 'x')), 'reversed', 'and owed again');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('late-1'), 'succeeded', refunded_amount => :max - 1)), 'recorded',
          'all but one is back');
SELECT is(t.sums('late'), 'expired 9223372036854775807 = 9223372036854775806 + 1 + 0 + 0', 'one is owed');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('late-1'), 'succeeded', refunded_amount => :max)), 'conflict',
          'a fortune returned for one');
SELECT is((SELECT outcome FROM order_timeout.resolve_held('bank', 'held-1', 'accept')), 'accepted', 'a fortune accepted for an order of one');
SELECT is(t.sums('held'), 'paid 9223372036854775807 = 0 + 9223372036854775806 + 0 + 1', 'the rest goes back');
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', 'some-1', 'x-2', :max)), 'conflict', 'more came back than was paid');
SELECT is(t.sums('some'), 'pending 9223372036854775806 = 9223372036854775806 + 0 + 0 + 0', 'what was paid counts');
SELECT throws_ok($$SELECT order_timeout.request_refund('held', 'k', 9223372036854775807)$$, 'OT004', NULL, 'a fortune asked of one');
SELECT is((SELECT outcome FROM order_timeout.cancel_order('some')), 'cancelled', 'closing adds nothing that overflows');
SELECT t.sound();

-- One stray orphan that fits into no sum must not stop the sweeper for all the others.
INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
VALUES ('bank', 'stray', 'max', 1, 'CNY', now() - interval '1 day', 'orphan');
SELECT t.create_order('next', 100), t.pass_deadline('next');
SELECT lives_ok($$SELECT order_timeout.sweep_once()$$, 'a sweep that can''t apply a stray orphan');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'next'), 'expired', 'goes on with the others');
SELECT finish();
ROLLBACK;
