-- Late payments: when a payment is late, what each on_late makes of it, and why it was late.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, late_rule, on_late) VALUES
    ('reopen', 'until_closed', 'reopen'), ('hold', 'until_closed', 'hold'),
    ('strict', 'at_deadline', 'refund'), ('strict reopen', 'at_deadline', 'reopen'), ('strict hold', 'at_deadline', 'hold');

-- on_late = refund
SELECT t.create_order('r', 100), t.expire('r');
SELECT is(t.pay('r', 'r1', 100), 'late expired late 100', 'refund: a late payment is owed back');
SELECT is(t.pay('r', 'r2', 100), 'late expired late 100', 'a second one too');
SELECT is(t.pay('r', 'r3', 1), 'late expired late 1', 'and a small one');
SELECT is(t.sums('r'), 'expired 201 = 0 + 201 + 0 + 0', 'all of it');
SELECT is(t.refunds('r'), 'r1 100 late pending, r2 100 late pending, r3 1 late pending', 'a refund each');
SELECT is(t.pay('r', 'r1', 100), 'duplicate expired late 100', 'told again');
SELECT t.create_order('c', 100);
SELECT is(t.cancel('c'), 'cancelled cancelled', 'an order is cancelled');
SELECT is(t.pay('c', 'c1', 100), 'late cancelled late 100', 'a payment then is late as well');

SELECT t.create_order('part', 100), t.pay('part', 'part-1', 60), t.expire('part');
SELECT is((SELECT (r.outcome, r.state, r.refund_ref = t.ref('part-1'), r.refund_amount)::text
             FROM order_timeout.record_payment('part', 'bank', 'part-1', 60, 'CNY') AS r), '(duplicate,expired,t,60)',
          'a part payment told again after its order expired: the repeat carries its refund');

-- on_late = reopen
SELECT t.create_order('o', 100, 'reopen'), t.pay('o', 'o1', 60);
SELECT is(t.expire('o'), 'expired expired', 'an order with a part payment expires');
SELECT is(t.pay('o', 'o2', 99), 'late expired late 99', 'reopen: one that falls short alone is refunded');
SELECT is(t.pay('o', 'o3', 120), 'reopened paid applied 20', 'one that reaches the amount reopens, its surplus refunded');
SELECT is(t.sums('o'), 'paid 279 = 0 + 179 + 0 + 100', 'the earlier ones stay owed');
SELECT is(t.refunds('o'), 'o1 60 expired pending, o2 99 late pending, o3 20 surplus pending', 'each for its reason');
SELECT is(t.pay('o', 'o4', 100), 'surplus paid surplus 100', 'from then on it is a paid order');
SELECT is(t.cancel('o'), 'already_paid paid', 'that can''t be cancelled');
SELECT is(t.pay('o', 'o3', 120), 'duplicate paid applied 20', 'the reopening payment told again');
SELECT ok((SELECT late_reason IS NOT NULL FROM order_timeout.payments WHERE payment_ref = 'o3'), 'it was late all the same');
SELECT t.create_order('oc', 100, 'reopen');
SELECT is(t.cancel('oc'), 'cancelled cancelled', 'a cancelled order');
SELECT is(t.pay('oc', 'oc1', 100), 'late cancelled late 100', 'is not reopened');
SELECT t.create_order('oec', 100, 'reopen'), t.expire('oec');
SELECT is(t.cancel('oec'), 'cancelled cancelled', 'one that expired and was cancelled after all');
SELECT is(t.pay('oec', 'oec1', 100), 'late cancelled late 100', 'is not reopened either');
SELECT t.create_order('exact', 100, 'reopen'), t.expire('exact');
SELECT is(t.pay('exact', 'exact1', 100), 'reopened paid applied', 'exactly the amount');
SELECT is(t.sums('exact'), 'paid 100 = 0 + 0 + 0 + 100', 'is kept');

-- on_late = hold
SELECT t.create_order('h', 100, 'hold'), t.pay('h', 'h1', 30), t.expire('h');
SELECT is(t.pay('h', 'h2', 100), 'held expired held', 'hold: it waits for a decision');
SELECT is(t.sums('h'), 'expired 130 = 0 + 30 + 100 + 0', 'held, not owed; the part payment is owed');
SELECT is((SELECT held FROM order_timeout.payments WHERE payment_ref = 'h2'), 100::bigint, 'the payment says so too');
SELECT is(t.refunds('h'), 'h1 30 expired pending', 'no refund of what is held');
SELECT is(t.pay('h', 'h2', 100), 'duplicate expired held', 'told again');
SELECT is((SELECT kind || ' ' || payment_ref || ' ' || t.ways(resolved_by) FROM order_timeout.attention WHERE order_id = 'h'),
          'held h2 resolve_held resolve_held accept_payment', 'it is listed with the function that resolves it');
SELECT t.create_order('hc', 100, 'hold');
SELECT t.cancel('hc');
SELECT is(t.pay('hc', 'hc1', 100), 'held cancelled held', 'hold holds for a cancelled order too');

-- at_deadline
SELECT t.create_order('s', 100, 'strict'), t.pay('s', 's1', 60);
SELECT t.pass_deadline('s');
SELECT is(t.pay('s', 's2', 40), 'late expired late 40', 'at_deadline: late though no sweep came by');
SELECT is(t.sums('s'), 'expired 100 = 0 + 100 + 0 + 0', 'that call closed the order');
SELECT is(t.refunds('s'), 's1 60 expired pending, s2 40 late pending', 'with all that belongs to it');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.expire_order('s')), '(already_closed,expired)', 'it is closed');
SELECT t.create_order('s in time', 100, 'strict');
SELECT is(t.pay('s in time', 'sit1', 100), 'paid paid applied', 'before the deadline: in time');
SELECT t.create_order('sr', 100, 'strict reopen'), t.pay('sr', 'sr1', 60);
SELECT t.pass_deadline('sr');
SELECT is(t.pay('sr', 'sr2', 100), 'reopened paid applied', 'at_deadline and reopen');
SELECT is(t.sums('sr'), 'paid 160 = 0 + 60 + 0 + 100', 'closed and reopened by one call');
SELECT t.create_order('sr short', 100, 'strict reopen'), t.pay('sr short', 'srs1', 60);
SELECT t.pass_deadline('sr short');
SELECT is(t.pay('sr short', 'srs2', 40), 'late expired late 40', 'the part payment does not help a late one');
SELECT t.create_order('sh', 100, 'strict hold');
SELECT t.pass_deadline('sh');
SELECT is(t.pay('sh', 'sh1', 100), 'held expired held', 'at_deadline and hold');
SELECT t.create_order('edge', 100, 'strict', '5 ms');
SELECT pg_sleep(0.01);
SELECT is(t.pay('edge', 'edge1', 100), 'late expired late 100', 'the clock decides, not the transaction''s start');

-- Policies are read at the time of use
SELECT t.create_order('changing', 100), t.expire('changing');
UPDATE order_timeout.policies SET on_late = 'hold' WHERE policy = 'default';
SELECT is(t.pay('changing', 'ch1', 100), 'held expired held', 'the policy as it is now');
UPDATE order_timeout.policies SET on_late = 'reopen' WHERE policy = 'default';
SELECT is(t.pay('changing', 'ch2', 100), 'reopened paid applied', 'and now');
SELECT is(t.sums('changing'), 'paid 200 = 0 + 0 + 100 + 100', 'what was held stays held');
UPDATE order_timeout.policies SET on_late = 'refund' WHERE policy = 'default';

-- notified_late: paid before both the deadline and the closing
CREATE FUNCTION t.why_late(payment_ref text) RETURNS text LANGUAGE sql AS $$
    SELECT p.late_reason FROM order_timeout.payments AS p WHERE p.payment_ref = $1
$$;
SELECT t.create_order('w', 100);
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE order_id = 'w';
SELECT order_timeout.expire_order('w');
SELECT expires_at AS deadline FROM order_timeout.orders WHERE order_id = 'w' \gset
SELECT t.pay('w', 'before', 1, paid_at => :'deadline'::timestamptz - interval '1 us');
SELECT t.pay('w', 'at', 1, paid_at => :'deadline');
SELECT t.pay('w', 'between', 1, paid_at => :'deadline'::timestamptz + interval '1 minute');
SELECT t.pay('w', 'after', 1, paid_at => clock_timestamp());
SELECT t.pay('w', 'unsaid', 1);
SELECT is(t.why_late('before'), 'notified_late', 'paid before the deadline, told too late');
SELECT is(t.why_late('at'), 'paid_late', 'paid at the deadline: half-open');
SELECT is(t.why_late('between'), 'paid_late', 'paid between the deadline and the closing');
SELECT is(t.why_late('after'), 'paid_late', 'paid after the closing');
SELECT is(t.why_late('unsaid'), 'paid_late', 'the gateway did not say');
SELECT t.create_order('wc', 100);
SELECT t.cancel('wc');
SELECT settled_at AS closed FROM order_timeout.orders WHERE order_id = 'wc' \gset
SELECT t.pay('wc', 'wc before', 1, paid_at => :'closed'::timestamptz - interval '1 s');
SELECT t.pay('wc', 'wc after', 1, paid_at => :'closed'::timestamptz + interval '1 s');
SELECT is(t.why_late('wc before'), 'notified_late', 'paid before it was cancelled');
SELECT is(t.why_late('wc after'), 'paid_late', 'before the deadline but after it was cancelled');
SELECT t.create_order('ws', 100, 'strict');
SELECT t.pass_deadline('ws');
SELECT t.pay('ws', 'ws before', 1, paid_at => clock_timestamp() - interval '1 hour');
SELECT is(t.why_late('ws before'), 'notified_late', 'under at_deadline paid_at decides nothing, it only tells why');
SELECT t.create_order('wh', 100, 'hold'), t.expire('wh');
SELECT t.pay('wh', 'wh before', 1, paid_at => clock_timestamp() - interval '1 hour');
SELECT is(t.why_late('wh before'), 'notified_late', 'a held one has its reason too');
SELECT t.create_order('in time', 100);
SELECT t.pay('in time', 'in time', 100, paid_at => clock_timestamp() + interval '1 day');
SELECT is(t.why_late('in time'), NULL, 'one in time is not late, whatever the gateway''s clock says');
-- What a late payment makes of the order's times
SELECT t.create_order('t', 100, 'reopen'), t.expire('t');
SELECT settled_at AS closed FROM order_timeout.orders WHERE order_id = 't' \gset
SELECT is((SELECT close_reason FROM order_timeout.orders WHERE order_id = 't'), 'deadline', 'expired by its deadline');
SELECT is(t.pay('t', 't-1', 1, paid_at => :'closed'), 'late expired late 1', 'a payment made at the very moment of closing');
SELECT is(t.why_late('t-1'), 'paid_late', 'is not before it');
SELECT t.pay('t', 't-2', 100);
SELECT ok((SELECT settled_at > :'closed'::timestamptz AND close_reason IS NULL FROM order_timeout.orders WHERE order_id = 't'),
          'reopened: settled then, and no longer closed for a reason');

SELECT t.sound();
SELECT finish();
ROLLBACK;
