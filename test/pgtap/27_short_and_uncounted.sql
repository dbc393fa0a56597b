-- Part payments that are enough by policy or held at closing, late payments by their reason, and amounts that no sum can hold.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
\set max 9223372036854775807
INSERT INTO order_timeout.policies (policy, short_tolerance) VALUES ('lenient', 5);
INSERT INTO order_timeout.policies (policy, on_short, on_late) VALUES
    ('keep', 'hold', 'refund'), ('keep all', 'hold', 'hold'), ('keep reopen', 'hold', 'reopen');
INSERT INTO order_timeout.policies (policy, on_short, on_late, late_rule) VALUES ('keep strict', 'hold', 'refund', 'at_deadline');
INSERT INTO order_timeout.policies (policy, on_late, on_notified_late) VALUES
    ('fair', 'refund', 'reopen'), ('fair hold', 'refund', 'hold'), ('strict', 'reopen', 'refund');

-- short_tolerance
SELECT t.create_order('st', 100, 'lenient');
SELECT is(t.pay('st', 'st-1', 94), 'partial pending applied', 'it lacks more than that');
SELECT is(t.pay('st', 'st-2', 1), 'paid paid applied', 'it lacks as much as that');
SELECT is(t.sums('st'), 'paid 95 = 0 + 0 + 0 + 95', 'paid with less');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.events WHERE aggregateid = 'st'),
          'order.created payment.partial order.paid order.accepted_short', 'the event says that it was short');
SELECT is(t.pay('st', 'st-3', 5), 'surplus paid surplus 5', 'the rest is not wanted any more');
SELECT is(t.pay('st', 'st-2', 1), 'duplicate paid applied', 'told again');
SELECT t.create_order('st full', 100, 'lenient');
SELECT is(t.pay('st full', 'stf-1', 101), 'paid paid applied 1', 'more than the amount is surplus all the same');
SELECT is_empty($$SELECT * FROM order_timeout.events WHERE aggregateid = 'st full' AND type = 'order.accepted_short'$$, 'and not short');
SELECT t.create_order('st small', 3, 'lenient'), t.pass_deadline('st small');
SELECT is((SELECT outcome FROM order_timeout.expire_order('st small')), 'expired', 'an order within the tolerance needs some money');
SELECT is(t.pay('st small', 'sts-1', 2), 'late expired late 2', 'and late money is late');
SELECT t.create_order('st late', 100, 'lenient'), t.expire('st late');
UPDATE order_timeout.policies SET on_late = 'reopen' WHERE policy = 'lenient';
SELECT is(t.pay('st late', 'stl-1', 95), 'late expired late 95', 'a late payment has to reach the amount');
SELECT t.pay('st orphan', 'sto-1', 96);
SELECT is(t.create_order('st orphan', 100, 'lenient'), 'created paid', 'an orphan that is enough');

-- on_short = hold
SELECT t.create_order('k', 100, 'keep'), t.pay('k', 'k-1', 60), t.pay('k', 'k-2', 10);
SELECT is(t.expire('k'), 'expired expired', 'closing');
SELECT is(t.sums('k'), 'expired 70 = 0 + 0 + 70 + 0', 'holds what was paid');
SELECT is((SELECT string_agg(disposition || ' ' || held || ' ' || (held_at IS NOT NULL), ', ' ORDER BY payment_ref) FROM order_timeout.payments
            WHERE order_id = 'k'), 'held 60 true, held 10 true', 'each payment');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.events WHERE aggregateid = 'k' AND type LIKE '%.held'),
          'payment.held payment.held', 'and says so');
SELECT is((SELECT DISTINCT kind || ': ' || why || ': ' || t.ways(resolved_by) FROM order_timeout.attention WHERE order_id = 'k'),
          'held: the order was closed before all of it was paid: resolve_held resolve_held accept_payment', 'a person is asked');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.resolve_held('bank', 'k-1', 'accept')), 'short expired', 'not enough');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.resolve_held('bank', 'k-1', 'refund')), 'refunded expired', 'give it back');
SELECT is(t.refunds('k'), 'k-1 60 expired pending', 'because the order expired');
SELECT is((SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'k-1'), 'applied', 'what it was for the order');
SELECT is((SELECT outcome FROM order_timeout.resolve_held('bank', 'k-1', 'refund')), 'already_resolved', 'again');
SELECT is(t.pay('k', 'k-3', 30), 'late expired late 30', 'a late payment goes back by on_late');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.accept_payment('bank', 'k-2')), 'accepted paid', 'all of it may be taken still');
SELECT is(t.sums('k'), 'paid 100 = 0 + 0 + 0 + 100', 'and pays the order');
SELECT t.create_order('kc', 100, 'keep'), t.pay('kc', 'kc-1', 60), t.cancel('kc');
SELECT is(t.sums('kc'), 'cancelled 60 = 0 + 0 + 60 + 0', 'cancelling holds it too');
SELECT order_timeout.resolve_held('bank', 'kc-1', 'refund');
SELECT is(t.refunds('kc'), 'kc-1 60 cancelled pending', 'and gives it back because of that');
SELECT t.create_order('ka', 100, 'keep all'), t.pay('ka', 'ka-1', 60), t.expire('ka'), t.pay('ka', 'ka-2', 60);
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.resolve_held('bank', 'ka-2', 'accept')), 'accepted paid',
          'a late payment and the held part payment');
SELECT is(t.sums('ka'), 'paid 120 = 0 + 20 + 0 + 100', 'together');
SELECT t.create_order('kr', 100, 'keep reopen'), t.pay('kr', 'kr-1', 60), t.expire('kr');
SELECT is(t.pay('kr', 'kr-2', 100), 'reopened paid applied', 'an order that was paid meanwhile');
SELECT is(t.sums('kr'), 'paid 160 = 0 + 0 + 60 + 100', 'the part payment is held still');
SELECT is((SELECT outcome FROM order_timeout.accept_payment('bank', 'kr-1')), 'surplus', 'accept_payment changes nothing then');
SELECT is((SELECT outcome FROM order_timeout.resolve_held('bank', 'kr-1', 'accept')), 'surplus', 'resolve_held gives it back');
SELECT t.create_order('ks', 100, 'keep strict'), t.pay('ks', 'ks-1', 60), t.pass_deadline('ks');
SELECT is(t.pay('ks', 'ks-2', 100), 'late expired late 100', 'a payment that closes its order');
SELECT is(t.sums('ks'), 'expired 160 = 0 + 100 + 60 + 0', 'holds the part payment, not itself');
SELECT t.create_order('kw', 100, 'keep'), t.pay('kw', 'kw-1', 60), t.pass_deadline('kw');
SELECT order_timeout.sweep_once();
SELECT is(t.sums('kw'), 'expired 60 = 0 + 0 + 60 + 0', 'the sweeper holds it too');
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', 'kw-1', 'dashboard-1', 60)), 'recorded', 'it went back without us');
SELECT is((SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'kw-1'), 'applied', 'then it is no late payment either');
SELECT is((SELECT outcome FROM order_timeout.accept_payment('bank', 'kw-1')), 'too_late', 'and cannot be taken any more');
SELECT t.create_order('kp', 100, 'keep'), t.pay('kp', 'kp-1', 60), order_timeout.record_refund('bank', 'kp-1', 'dashboard-2', 20);
SELECT t.expire('kp');
SELECT is(t.sums('kp'), 'expired 60 = 20 + 0 + 40 + 0', 'what is left of a part payment is held');
SELECT t.create_order('k none', 100, 'keep');
SELECT is(t.expire('k none'), 'expired expired', 'an order without money');

-- on_notified_late
SELECT t.create_order(o, 100, p), t.expire(o) FROM (VALUES ('f', 'fair'), ('fh', 'fair hold'), ('fs', 'strict')) AS x (o, p);
SELECT is(t.pay('f', 'f-1', 100), 'late expired late 100', 'paid late: by on_late');
SELECT is(t.pay('f', 'f-2', 100, paid_at => '2020-01-01'), 'reopened paid applied', 'notified late: by on_notified_late');
SELECT is(t.pay('fh', 'fh-1', 100, paid_at => '2020-01-01'), 'held expired held', 'held');
SELECT is(t.pay('fh', 'fh-2', 100), 'late expired late 100', 'or not');
SELECT is(t.pay('fs', 'fs-1', 100, paid_at => '2020-01-01'), 'late expired late 100', 'it may be the stricter one');

-- late_reason in the answer
SELECT is((SELECT r.late_reason FROM order_timeout.record_payment('fh', 'bank', 'fh-1', 100, 'CNY') r), 'notified_late', 'told again: why it was late');
SELECT is((SELECT r.late_reason FROM order_timeout.record_payment('fh', 'bank', 'fh-3', 100, 'CNY') r), 'paid_late', 'paid late');
SELECT t.create_order('in time', 100);
SELECT is((SELECT r.late_reason FROM order_timeout.record_payment('in time', 'bank', 'in time-1', 100, 'CNY') r), NULL, 'in time');
SELECT t.pay('lost', 'lost-1', 100);
SELECT is((SELECT r.outcome || ' ' || r.late_reason FROM order_timeout.assign_orphan('bank', 'lost-1', 'fh') r), 'late paid_late', 'an orphan that is assigned');
SELECT is((SELECT r.outcome || ' ' || r.late_reason FROM order_timeout.assign_orphan('bank', 'lost-1', 'fh') r), 'duplicate paid_late', 'again');

-- uncounted: more than the sums can hold
SELECT t.create_order('u', 100), t.pay('u', 'u-1', 100);
SELECT is(t.pay('u', 'u-2', :max), 'surplus paid uncounted 9223372036854775807', 'a payment that the sums cannot hold');
SELECT is(t.sums('u'), 'paid 100 = 0 + 0 + 0 + 100', 'stays out of them');
SELECT is(t.refunds('u'), 'u-2 9223372036854775807 surplus pending', 'all of it is owed');
SELECT is(t.pay('u', 'u-2', :max), 'duplicate paid uncounted 9223372036854775807', 'told again');
SELECT is(t.pay('u', 'u-3', 1), 'surplus paid surplus 1', 'a later payment is recorded like any other');
SELECT is((SELECT payload ->> 'disposition' FROM order_timeout.events WHERE aggregateid = 'u' AND type = 'payment.surplus' ORDER BY id LIMIT 1),
          'uncounted', 'the event says so');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('u-2'), 'succeeded')), 'recorded', 'it goes back');
SELECT is((SELECT refunded FROM order_timeout.payments WHERE payment_ref = 'u-2'), :max::bigint, 'and is back');
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'u-2')$$, 'OT005', NULL, 'it was never late');
SELECT throws_ok($$SELECT order_timeout.request_refund('u', 'k', 1, payment_ref => 'u-2')$$, 'OT004', NULL, 'it is not kept');
SELECT t.pay('u2', 'u2-1', :max), t.pay('u2', 'u2-2', :max);
SELECT is(t.create_order('u2', 100), 'created paid', 'two orphans that no sum can hold join their order');
SELECT is(t.sums('u2'), 'paid 9223372036854775807 = 0 + 9223372036854775707 + 0 + 100', 'the first one in the sums');
SELECT is((SELECT string_agg(disposition || ' ' || refund_pending, ', ' ORDER BY payment_ref) FROM order_timeout.payments WHERE order_id = 'u2'),
          'applied 9223372036854775707, uncounted 9223372036854775807', 'the other beside them');
SELECT t.pay('u3', 'u3-1', :max);
SELECT is((SELECT outcome || ' ' || disposition FROM order_timeout.assign_orphan('bank', 'u3-1', 'u')), 'surplus uncounted', 'an assigned one');
SELECT t.create_order('u4', 100), t.expire('u4'), t.pay('u4', 'u4-1', :max);
SELECT is(t.pay('u4', 'u4-2', :max), 'surplus expired uncounted 9223372036854775807', 'a late one');
SELECT is((SELECT balanced FROM order_timeout.funds('u2')), true, 'the proof knows it');

SELECT t.sound();
SELECT finish();
ROLLBACK;
