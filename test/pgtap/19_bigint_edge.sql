-- Amounts at the edge of bigint: what fits works, and a payment that its order's sums cannot hold is recorded outside them.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
\set max 9223372036854775807

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
SELECT is(t.pay('max', 'more-1', 1), 'surplus paid uncounted 1', 'a surplus');
SELECT is(t.pay('late', 'more-2', 1), 'surplus expired uncounted 1', 'a late payment');
SELECT is(t.pay('held', 'more-3', 1), 'surplus expired uncounted 1', 'a held payment');
SELECT is(t.pay('some', 'more-4', 5), 'surplus pending uncounted 5', 'a payment with a surplus');
SELECT is(t.pay('more', 'orph-1', :max), 'orphan orphan', 'a large orphan');
SELECT is(t.pay('more', 'orph-2', :max), 'orphan orphan', 'and another: orphans are in no sum');
SELECT is(t.create_order('more', :max), 'created paid', 'an order that both belong to');
SELECT is((SELECT string_agg(disposition, ', ' ORDER BY payment_ref) FROM order_timeout.payments WHERE order_id = 'more'),
          'applied, uncounted', 'is paid with one of them');
SELECT t.pay('other', 'orph-3', 1);
SELECT is((SELECT outcome || ' ' || disposition FROM order_timeout.assign_orphan('bank', 'orph-3', 'max')), 'surplus uncounted', 'an assignment');
SELECT is((SELECT outcome FROM order_timeout.record_payment('max', 'bank', 'more-1', 1, 'CNY')), 'duplicate', 'told again');

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

-- One stray orphan that fits into no sum does not stop the sweeper for all the others.
INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
VALUES ('bank', 'stray', 'max', 1, 'CNY', now() - interval '1 day', 'orphan');
SELECT t.create_order('next', 100), t.pass_deadline('next');
SELECT lives_ok($$SELECT order_timeout.sweep_once()$$, 'a sweep that meets a stray orphan');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'next'), 'expired', 'goes on with the others');
SELECT is((SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'stray'), 'uncounted', 'and gives it back');
SELECT t.sound('to the end');
SELECT finish();
ROLLBACK;
