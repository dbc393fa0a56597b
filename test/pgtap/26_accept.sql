-- accept_payment: a person takes late money after all, as long as it is surely here. accept_short: less than the amount.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold'), ('reopen', 'reopen');
CREATE FUNCTION t.accept(payment_ref text, gateway text DEFAULT 'bank') RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.accept_payment($2, $1) AS r
$$;
CREATE FUNCTION t.accept_short(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.accept_short($1) AS r
$$;

-- Owed and never handed out: the refund ends without a successor
SELECT t.create_order('a', 100), t.expire('a'), t.pay('a', 'a-1', 100);
SELECT is(t.accept('a-1'), 'accepted paid', 'a late payment whose refund nobody had');
SELECT is(t.sums('a'), 'paid 100 = 0 + 0 + 0 + 100', 'the order is paid with it');
SELECT is(t.refunds('a'), 'a-1 100 late reversed', 'nobody owes it any more');
SELECT is((SELECT (withdrawn, replaced_by, settled_at IS NOT NULL)::text FROM order_timeout.refunds WHERE order_id = 'a'), '(t,,t)',
          'which the row says');
SELECT is((SELECT (disposition, late_reason, accepted_at = o.settled_at)::text FROM order_timeout.payments JOIN order_timeout.orders o USING (order_id)
            WHERE payment_ref = 'a-1'), '(applied,paid_late,t)', 'the payment counts, was late, and was accepted then');
SELECT is((SELECT close_reason FROM order_timeout.orders WHERE order_id = 'a'), NULL, 'the order is no longer closed for a reason');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.accept_payment('bank', 'a-1')$$), '(already_accepted,paid)', 'again');
SELECT is(t.pay('a', 'a-1', 100), 'duplicate paid applied', 'the gateway tells it again, and no refund is named');
SELECT is((SELECT count(*) FROM order_timeout.claim_refunds('worker', 100)), 0::bigint, 'no worker gets the refund');

-- Of a cancelled order, and more than the amount
SELECT t.create_order('more', 100), t.cancel('more'), t.pay('more', 'more-1', 130);
SELECT is(t.accept('more-1'), 'accepted paid', 'a cancelled order, and more than the amount');
SELECT is(t.sums('more'), 'paid 130 = 0 + 30 + 0 + 100', 'the surplus is owed');
SELECT is(t.pay('more', 'more-1', 130), 'duplicate paid applied 30', 'a repeat names it');
SELECT is(t.refunds('more'), 'more-1 130 late reversed, more-1 30 surplus pending', 'in a refund of its own');

-- Held
SELECT t.create_order('h', 100, 'hold'), t.expire('h'), t.pay('h', 'h-1', 60), t.pay('h', 'h-2', 60), t.pay('h', 'h-3', 10);
SELECT is(t.accept('h-2'), 'accepted paid', 'held money, with what else is held');
SELECT is(t.sums('h'), 'paid 130 = 0 + 30 + 0 + 100', 'as resolve_held would');
SELECT is(t.refunds('h'), 'h-1 20 surplus pending, h-3 10 surplus pending', 'what is not needed goes back');
SELECT is(t.accept('h-1'), 'already_accepted paid', 'one that was taken with it');
SELECT is(t.accept('h-3'), 'surplus paid', 'one that was not needed');

-- Part payments that are owed because the order closed, and other late ones
SELECT t.create_order('p', 100), t.pay('p', 'p-1', 60), t.expire('p'), t.pay('p', 'p-2', 40);
SELECT is(t.accept('p-2'), 'accepted paid', 'a part payment and the late rest of it');
SELECT is(t.sums('p'), 'paid 100 = 0 + 0 + 0 + 100', 'pay the order');
SELECT is(t.refunds('p'), 'p-1 60 expired reversed, p-2 40 late reversed', 'neither goes back');
SELECT t.create_order('p2', 100), t.pay('p2', 'p2-1', 60), t.cancel('p2'), t.pay('p2', 'p2-2', 40);
SELECT is(t.accept('p2-1'), 'accepted paid', 'the part payment itself may be named');
SELECT t.create_order('rest', 100), t.pay('rest', 'rest-1', 60), t.expire('rest'), t.pay('rest', 'rest-2', 70), t.pay('rest', 'rest-3', 80);
SELECT is(t.accept('rest-2'), 'accepted paid', 'more than is needed');
SELECT is(t.sums('rest'), 'paid 210 = 0 + 110 + 0 + 100', '70 and 30 of the part payment');
SELECT is(t.refunds('rest'), 'rest-1 60 expired reversed, rest-1 30 surplus pending, rest-2 70 late reversed, rest-3 80 late pending',
          'what is not needed of it is owed, the other stays owed as it was');

-- Short
SELECT t.create_order('s', 100), t.expire('s'), t.pay('s', 's-1', 40);
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.accept_payment('bank', 's-1')$$), '(short,expired)',
          'too little: nothing changes');
SELECT t.pay('s', 's-2', 60);
SELECT is(t.accept('s-1'), 'accepted paid', 'together they are enough');

-- What a gateway may have is not available: leased, or maybe sent. What surely failed is.
CREATE FUNCTION t.late_in(wanted text, name text) RETURNS text LANGUAGE sql AS $$
    SELECT t.refund_in(wanted, name);
    UPDATE order_timeout.orders SET amount = 100 WHERE order_id = name;
    SELECT name
$$;
SELECT is(t.accept(t.late_in('processing', 'o leased'), 'o leased'), 'too_late expired', 'a leased refund');
SELECT is(t.refunds('o leased'), 'o leased 100 late processing', 'stays with its worker');
SELECT t.lapse_leases();
SELECT is(t.accept('o leased', 'o leased'), 'too_late expired', 'a lapsed lease');
SELECT t.late_in('unknown', 'o unknown'), t.late_in('failed', 'o failed'), t.late_in('needs_attention', 'o rejected');
UPDATE order_timeout.refunds SET maybe_sent = true WHERE order_id = 'o unknown';
SELECT is(t.accept('o unknown', 'o unknown'), 'too_late expired', 'nobody knows what became of it');
SELECT is(t.accept('o failed', 'o failed'), 'accepted paid', 'it failed');
SELECT is(t.accept('o rejected', 'o rejected'), 'accepted paid', 'it was rejected');
SELECT is(t.refunds('o rejected'), 'o rejected 100 late reversed', 'nobody is asked about it any more');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'o rejected'$$, 'nor shown it');
SELECT t.create_order('back', 100), t.expire('back'), t.pay('back', 'back-1', 100);
SELECT order_timeout.complete_refund(t.ref('back-1'), 'succeeded');
SELECT is(t.accept('back-1'), 'too_late expired', 'money that is back with the buyer');
SELECT t.create_order('in part', 100), t.expire('in part'), t.pay('in part', 'in part-1', 100), t.pay('in part', 'in part-2', 30);
SELECT order_timeout.complete_refund(t.ref('in part-1'), 'succeeded', refunded_amount => 20);
SELECT is(t.accept('in part-1'), 'accepted paid', '80 of it are here, and 20 of another');
SELECT is(t.sums('in part'), 'paid 130 = 20 + 10 + 0 + 100', 'what went back stays back');

-- Paid meanwhile
SELECT t.create_order('m', 100, 'reopen'), t.expire('m'), t.pay('m', 'm-1', 40), t.pay('m', 'm-2', 100);
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.accept_payment('bank', 'm-1')$$), '(surplus,paid)',
          'the order was paid meanwhile: nothing changes');
SELECT is(t.accept('m-2'), 'already_accepted paid', 'the payment that reopened it was taken then');
SELECT t.create_order('r', 100, 'hold'), t.expire('r'), t.pay('r', 'r-1', 100), order_timeout.resolve_held('bank', 'r-1', 'accept');
SELECT is(t.accept('r-1'), 'already_accepted paid', 'so was one that resolve_held accepted');
SELECT t.create_order('r2', 100, 'hold'), t.expire('r2'), t.pay('r2', 'r2-1', 100), order_timeout.resolve_held('bank', 'r2-1', 'refund');
SELECT is(t.accept('r2-1'), 'accepted paid', 'one that resolve_held gave back may be taken while it is here');

-- What was never late
SELECT t.create_order('n', 100), t.pay('n', 'n-1', 60), t.pay('n', 'n-eur', 60, 'EUR'), t.pay('nobody', 'nobody-1', 10);
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'n-1')$$, 'OT005', NULL, 'a part payment of a pending order');
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'n-eur')$$, 'OT005', NULL, 'another currency');
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'nobody-1')$$, 'OT005', NULL, 'an orphan');
SELECT t.pay('n', 'n-2', 60), t.pay('n', 'n-3', 60);
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'n-3')$$, 'OT005', NULL, 'a surplus');
SELECT throws_ok($$SELECT order_timeout.accept_payment('bank', 'no such')$$, 'OT009', NULL, 'no such payment');
SELECT throws_ok($$SELECT order_timeout.accept_payment(NULL, 'n-1')$$, '22004', NULL, 'no gateway');

-- Events
CREATE FUNCTION t.newest(order_id text, type text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT e.payload FROM order_timeout.events AS e WHERE e.aggregateid = $1 AND e.type = $2 ORDER BY e.id DESC LIMIT 1
$$;
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.events WHERE aggregateid = 'a'),
          'order.created order.expired payment.late refund.created payment.accepted refund.withdrawn order.reopened', 'what happened');
SELECT t.create_order('e', 100), t.expire('e'), t.pay('e', 'e-1', 100), order_timeout.accept_payment('bank', 'e-1', note => 'still in stock');
SELECT is(t.newest('e', 'payment.accepted') - 'role' - 'session_user',
          '{"gateway": "bank", "payment_ref": "e-1", "amount": 100, "currency": "CNY", "disposition": "applied", '
          '"late_reason": "paid_late", "note": "still in stock"}', 'with the note');
CREATE ROLE clerk;
SELECT order_timeout.grant_access('clerk', 'operator');
SELECT t.create_order('by', 100), t.expire('by'), t.pay('by', 'by-1', 100);
SELECT t.create_order('by too', 100, 'hold'), t.expire('by too'), t.pay('by too', 'by too-1', 100), t.pay('by too', 'by too-2', 100);
SELECT t.create_order('by three', 100), t.pay('by three', 'by three-1', 60);
SELECT session_user AS me \gset
SET LOCAL ROLE clerk;
SELECT order_timeout.accept_payment('bank', 'by-1');
SELECT order_timeout.resolve_held('bank', 'by too-1', 'refund');
SELECT order_timeout.resolve_held('bank', 'by too-2', 'accept');
SELECT order_timeout.accept_short('by three', 'a regular');
RESET ROLE;
SELECT is((SELECT string_agg(DISTINCT concat_ws(' ', payload ->> 'role', (payload ->> 'session_user') = :'me'), ', ')
             FROM order_timeout.events WHERE aggregateid LIKE 'by%' AND type IN ('payment.accepted', 'payment.given_back', 'order.accepted_short')),
          'clerk t', 'who decided');
SELECT is((SELECT count(*) FROM order_timeout.events WHERE payload ? 'role' AND aggregateid LIKE 'by%'), 9::bigint, 'is in each event of these calls');

-- accept_short
SELECT t.create_order('as', 100), t.pay('as', 'as-1', 60);
SELECT is(t.accept_short('as'), 'accepted paid', 'a part payment is enough');
SELECT is(t.sums('as'), 'paid 60 = 0 + 0 + 0 + 60', 'kept');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.accept_short('as')$$), '(already_paid,paid)', 'again');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.events WHERE aggregateid = 'as'),
          'order.created payment.partial order.paid order.accepted_short', 'both events');
SELECT is(t.newest('by three', 'order.accepted_short') - 'expires_at' - 'session_user',
          '{"state": "paid", "amount": 100, "currency": "CNY", "paid": 60, "refund_pending": 0, "note": "a regular", "role": "clerk"}',
          'what it says');
SELECT is(t.pay('as', 'as-2', 40), 'surplus paid surplus 40', 'the rest comes too late');
SELECT is((SELECT amount FROM order_timeout.request_refund('as', 'k')), 60::bigint, 'what is kept can be refunded');
SELECT t.create_order('as closed', 100), t.pay('as closed', 'asc-1', 60), t.cancel('as closed');
SELECT is(t.accept_short('as closed'), 'already_closed cancelled', 'a closed order');
SELECT t.create_order('as none', 100), t.create_order('as due', 100), t.pay('as due', 'asd-1', 1), t.pass_deadline('as due');
SELECT throws_ok($$SELECT order_timeout.accept_short('as none')$$, 'OT005', NULL, 'nothing paid');
SELECT order_timeout.record_refund('bank', 'asd-1', 'all of it', 1);
SELECT throws_ok($$SELECT order_timeout.accept_short('as due')$$, 'OT005', NULL, 'nor when it is back');
SELECT t.pay('as due', 'asd-2', 1);
SELECT is(t.accept_short('as due'), 'accepted paid', 'past due and not yet closed');
SELECT throws_ok($$SELECT order_timeout.accept_short('unheard of')$$, 'OT001', NULL, 'no such order');
SELECT throws_ok($$SELECT order_timeout.accept_short(NULL)$$, '22004', NULL, 'NULL');

SELECT t.sound();
SELECT finish();
ROLLBACK;
