-- Attempts to pay (contract, section 9): what keeps an order open, what authorises it, what is to be voided, and what
-- becomes of money that comes by them. Claiming voids is another file's.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

INSERT INTO order_timeout.policies (policy, late_rule, on_late, on_notified_late, attempt_hold, before_close, on_short, short_tolerance) VALUES
    ('hold', 'until_closed', 'refund', NULL, '2 hours', 'close', 'refund', 0),
    ('strict', 'at_deadline', 'refund', NULL, '2 hours', 'close', 'refund', 0),
    ('ask', 'until_closed', 'refund', NULL, '2 hours', 'void', 'refund', 0),
    ('ask, hold', 'until_closed', 'hold', NULL, NULL, 'void', 'hold', 0),
    ('ask, tolerate', 'until_closed', 'refund', NULL, NULL, 'void', 'refund', 5),
    ('in time', 'until_closed', 'refund', 'reopen', '2 hours', 'void', 'refund', 0);

-- The answers in words; of the times only whether they are what they should be.
CREATE FUNCTION t.begin(order_id text, attempt_ref text, holds_for interval DEFAULT NULL, can_void boolean DEFAULT NULL, gateway text DEFAULT 'bank')
RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', b.outcome, b.state) FROM order_timeout.begin_attempt($1, $5, $2, $3, can_void => $4) AS b
$$;
CREATE FUNCTION t.end(attempt_ref text, result text DEFAULT 'failed', gateway text DEFAULT 'bank') RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', e.outcome, e.state) FROM order_timeout.end_attempt($3, $1, $2) AS e
$$;
CREATE FUNCTION t.auth(attempt_ref text, amount bigint, good_for interval DEFAULT '7 days', currency text DEFAULT 'CNY', gateway text DEFAULT 'bank')
RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', a.outcome, a.state) FROM order_timeout.authorize_attempt($5, $1, $2, $4, date_trunc('day', now()) + $3) AS a
$$;
CREATE FUNCTION t.capture(order_id text, payment_ref text, amount bigint, attempt_ref text, currency text DEFAULT 'CNY', paid_at timestamptz DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state, r.disposition, r.refund_amount)
      FROM order_timeout.record_payment($1, 'bank', $2, $3, $5, $6, attempt_ref => $4) AS r
$$;
CREATE FUNCTION t.close(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', e.outcome, e.state) FROM order_timeout.expire_order($1) AS e
$$;
-- All that keeps it open is over.
CREATE FUNCTION t.pass(order_id text) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.orders AS o SET expires_at = now() - interval '1 second',
           open_until = CASE WHEN o.open_until IS NOT NULL THEN now() - interval '1 second' END WHERE o.order_id = $1
$$;
-- state of each attempt, and what is to be done about it: void, look, or nothing any more (over)
CREATE FUNCTION t.attempts(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', a.attempt_ref, a.state, CASE WHEN a.next_attempt_at IS NOT NULL THEN 'void' END,
                                CASE WHEN a.attention_at IS NOT NULL THEN 'look' END,
                                CASE WHEN a.settled_at IS NOT NULL THEN 'over' END), ', ' ORDER BY a.attempt_ref COLLATE "C")
      FROM order_timeout.attempts AS a WHERE a.order_id = $1
$$;
-- by what it is kept open: its deadline, its hold ('hold 1:00' is that long after now), or its promise
CREATE FUNCTION t.closes(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN o.closes_at = o.expires_at THEN 'deadline' ELSE 'open_until' END || ' in '
           || round(extract(epoch FROM o.closes_at - clock_timestamp()) / 60) || ' min'
      FROM order_timeout.orders AS o WHERE o.order_id = $1
$$;
CREATE FUNCTION t.events(order_id text, like_type text DEFAULT '%') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(h.type, ' ' ORDER BY h.id) FROM order_timeout.history($1) AS h WHERE h.type LIKE $2
$$;
-- An order of 100 with the attempt <order_id>-a
CREATE FUNCTION t.order(order_id text, policy text DEFAULT 'default', holds_for interval DEFAULT NULL, can_void boolean DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    SELECT t.create_order($1, 100, $2), t.begin($1, $1 || '-a', $3, $4)
$$;

-- ---------------------------------------------------------------- begin_attempt

SELECT t.create_order('a', 100, 'hold');
SELECT is((SELECT (outcome, state, expires_at > now(), open_until)::text FROM order_timeout.begin_attempt('a', 'bank', 'a-1')),
          '(begun,pending,t,)', 'no holds_for: it holds nothing open');
SELECT is(t.closes('a'), 'deadline in 60 min', 'so the deadline counts');
SELECT is((SELECT (outcome, state, date_trunc('minute', open_until - clock_timestamp() + interval '30 s'))::text
             FROM order_timeout.begin_attempt('a', 'bank', 'a-2', '90 minutes')), '(begun,pending,01:30:00)', 'with it: until now and holds_for');
SELECT is(t.closes('a'), 'open_until in 90 min', 'the order closes then');
SELECT is(t.begin('a', 'a-3', '10 minutes'), 'begun pending', 'a shorter one');
SELECT is(t.closes('a'), 'open_until in 90 min', 'leaves the latest');
SELECT is(t.begin('a', 'a-4', '10 hours'), 'begun pending', 'one that wants more than the policy allows');
SELECT is(t.closes('a'), 'open_until in 180 min', 'gets the deadline and attempt_hold');
SELECT is(t.unchanged_by($$SELECT outcome, state, open_until IS NOT NULL FROM order_timeout.begin_attempt('a', 'bank', 'a-4', '1 minute', '{}', false)$$),
          '(exists,pending,t)', 'a repeat, with whatever else');
SELECT is(t.begin('a', 'a-1', gateway => 'card'), 'begun pending', 'the same number at another gateway');
SELECT is(t.attempts('a'), 'a-1 open, a-1 open, a-2 open, a-3 open, a-4 open', 'all of them are open');
SELECT is(t.events('a'), 'order.created attempt.begun attempt.begun attempt.begun attempt.begun attempt.begun', 'and an event says so of each');
SELECT is((SELECT details FROM order_timeout.attempts WHERE attempt_ref = 'a-4'), NULL, 'a repeat''s details are not stored');
SELECT t.order('b', holds_for => '5 hours');
SELECT is(t.closes('b'), 'deadline in 60 min', 'attempt_hold null: it holds nothing open');
SELECT is((SELECT open_until FROM order_timeout.orders WHERE order_id = 'b'), NULL, 'nor does the answer say so');

SELECT t.create_order('c', 100, 'hold'), t.pay('c', 'c-p', 100);
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.begin_attempt('c', 'bank', 'c-1')$$), '(already_paid,paid)', 'paid: nothing is written');
SELECT t.create_order('d', 100, 'hold'), t.cancel('d');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.begin_attempt('d', 'bank', 'd-1')$$), '(already_closed,cancelled)', 'cancelled');
SELECT t.order('e', 'ask'), t.pass('e');
SELECT is(t.close('e'), 'closing closing', 'a due order with an attempt is asked for');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.begin_attempt('e', 'bank', 'e-2')$$), '(already_closed,closing)', 'closing');
SELECT is(t.begin('e', 'e-a'), 'exists closing', 'one that was begun before');
SELECT t.create_order('f', 100, 'hold'), t.pass('f');
SELECT is(t.begin('f', 'f-1', '1 hour'), 'begun pending', 'due, until_closed');
SELECT is(t.close('f'), 'not_due pending', 'and held open from now on');
SELECT t.create_order('g', 100, 'strict'), t.pass('g');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.begin_attempt('g', 'bank', 'g-1', '1 hour')$$), '(already_closed,pending)', 'due, at_deadline');
SELECT t.close('g');
SELECT t.order('h', 'strict', '1 hour'), t.pass_deadline('h');
SELECT is(t.begin('h', 'h-2'), 'begun pending', 'past its deadline and held open, at_deadline');
SELECT is(t.pay('h', 'h-p', 100), 'paid paid applied', 'a payment then is in time');
SELECT throws_ok($$SELECT t.begin('a', 'e-a')$$, 'OT003', NULL, 'begun for another order');
SELECT t.sound('begin_attempt');

-- ---------------------------------------------------------------- end_attempt

SELECT t.order('ea', 'hold', '2 hours'), t.begin('ea', 'ea-b', '100 minutes');
SELECT is(t.closes('ea'), 'open_until in 120 min', 'held by the first');
SELECT is(t.end('ea-a'), 'ended pending', 'the first failed');
SELECT is(t.closes('ea'), 'open_until in 100 min', 'held by the second');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.end_attempt('bank', 'ea-a', 'failed')$$), '(already_ended,pending)', 'again');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.end_attempt('bank', 'ea-a', 'cancelled')$$), '(already_ended,pending)', 'with another word');
SELECT t.pass_deadline('ea');
SELECT is(t.close('ea'), 'not_due pending', 'past its deadline, held open');
SELECT is((SELECT order_timeout.sweep_once()::text), '(0,0,0)', 'the sweeper leaves it alone');
SELECT is(t.end('ea-b', 'expired'), 'ended pending', 'the second one expired');
SELECT is((SELECT order_timeout.sweep_once()::text), '(1,0,0)', 'it is due at once');
SELECT is(t.end('ea-b', 'expired'), 'already_ended expired', 'and once more');
SELECT is(t.attempts('ea'), 'ea-a failed over, ea-b expired over', 'what the gateway said of each');
SELECT is(t.events('ea'), 'order.created attempt.begun attempt.begun attempt.ended attempt.ended order.expired', 'the history');
SELECT t.order('eb', 'hold', '2 hours', false);
SELECT is(t.end('eb-a', 'cancelled'), 'ended pending', 'one that cannot be voided ends too');

-- ---------------------------------------------------------------- two attempts, the first paid while the second holds

SELECT t.order('ta', 'hold', '2 hours'), t.begin('ta', 'ta-b', '2 hours'), t.begin('ta', 'ta-c', can_void => false), t.pass_deadline('ta');
SELECT is(t.capture('ta', 'ta-p', 100, 'ta-a'), 'paid paid applied', 'the first is paid');
SELECT is(t.attempts('ta'), 'ta-a captured over, ta-b open void, ta-c expired over', 'the second is to be voided, what cannot be is over');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.end_attempt('bank', 'ta-a', 'expired')$$), '(already_ended,paid)', 'the first one''s gateway says expired');
SELECT is(t.end('ta-b', 'expired'), 'ended paid', 'so does the second one''s');
SELECT is(t.attempts('ta'), 'ta-a captured over, ta-b expired over, ta-c expired over', 'then nothing is to be voided');
SELECT is(t.capture('ta', 'ta-q', 100, 'ta-b'), 'surplus paid surplus 100', 'money that comes all the same goes back');
SELECT is(t.attempts('ta'), 'ta-a captured over, ta-b captured over, ta-c expired over', 'and its attempt was captured');
SELECT is(t.events('ta', 'void%'), 'void.due', 'one void fell due');
SELECT t.sound('two attempts');

-- ---------------------------------------------------------------- authorize_attempt

SELECT t.order('aa', 'hold');
SELECT is(t.auth('aa-a', 100), 'authorized authorized', 'all of it');
SELECT is((SELECT closes_at = date_trunc('day', now()) + interval '7 days' FROM order_timeout.orders WHERE order_id = 'aa'), true, 'it closes at valid_until');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.authorize_attempt('bank', 'aa-a', 100, 'CNY', date_trunc('day', now()) + interval '7 days')$$),
          '(duplicate,authorized)', 'again');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.authorize_attempt('bank', 'aa-a', 100, 'CNY', now() + interval '1 day')$$),
          '(duplicate,authorized)', 'an earlier valid_until is an old message');
SELECT is(t.auth('aa-a', 100, '9 days'), 'duplicate authorized', 'a later one');
SELECT is((SELECT closes_at = date_trunc('day', now()) + interval '9 days' FROM order_timeout.orders WHERE order_id = 'aa'), true, 'moves it');
SELECT throws_ok($$SELECT t.auth('aa-a', 101)$$, 'OT003', NULL, 'another amount');
SELECT throws_ok($$SELECT t.auth('aa-a', 100, currency => 'EUR')$$, 'OT003', NULL, 'another currency');
SELECT t.begin('aa', 'aa-b', '1 hour');
SELECT is(t.auth('aa-b', 100), 'surplus authorized', 'another one');
SELECT is(t.attempts('aa'), 'aa-a authorized, aa-b authorized', 'neither is to be voided yet');
SELECT is(t.end('aa-b'), 'ended authorized', 'the other one ends');
SELECT is(t.end('aa-a'), 'ended pending', 'and the one that authorised it');
SELECT is(t.closes('aa'), 'deadline in 60 min', 'its deadline counts again');
SELECT is(t.auth('aa-a', 100, '30 days'), 'duplicate pending', 'a later valid_until of what has ended');
SELECT is(t.closes('aa'), 'deadline in 60 min', 'opens nothing');
SELECT is(t.attempts('aa'), 'aa-a failed over, aa-b failed over', 'they stay what they are');
SELECT is(t.sums('aa'), 'pending 0 = 0 + 0 + 0 + 0', 'a promise is no money');
SELECT is(t.events('aa', 'order%'), 'order.created order.authorized order.changed', 'the order''s events');
SELECT t.order('ab', 'hold');
SELECT is(t.auth('ab-a', 99), 'partial pending', 'less');
SELECT is((SELECT state || closes_at::text FROM order_timeout.orders WHERE order_id = 'ab'), (SELECT 'pending' || expires_at::text FROM order_timeout.orders WHERE order_id = 'ab'), 'nothing else changes');
SELECT t.begin('ab', 'ab-b');
SELECT is(t.auth('ab-b', 150), 'authorized authorized', 'more');
SELECT t.order('am', 'hold', '90 minutes'), t.pass_deadline('am');
SELECT is(t.auth('am-a', 99), 'partial pending', 'less, of one that holds it open');
SELECT is(t.closes('am'), 'open_until in 90 min', 'it still does');
SELECT t.begin('am', 'am-b', '70 minutes'), t.auth('am-b', 100, currency => 'EUR');
SELECT is(t.end('am-a') || ', ' || t.closes('am'), 'ended pending, open_until in 70 min', 'so does one in another currency');
SELECT is(t.end('am-b') || ', ' || t.close('am'), 'ended pending, expired expired', 'until they end');
SELECT t.order('an', 'hold', '100 minutes');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.authorize_attempt('bank', 'an-a', 100, 'CNY', now() + interval '80 minutes')), 'authorized authorized', 'all of it, for less than its hold');
SELECT is(t.closes('an'), 'open_until in 80 min', 'valid_until counts');
SELECT t.order('ac'), t.pay('ac', 'ac-p', 40);
SELECT is(t.auth('ac-a', 59), 'partial pending', 'less than it lacks');
SELECT t.begin('ac', 'ac-b');
SELECT is(t.auth('ac-b', 60), 'authorized authorized', 'what it lacks');
SELECT t.order('ad');
SELECT is(t.auth('ad-a', 100, currency => 'EUR'), 'wrong_currency pending', 'in another currency');
SELECT is(t.attempts('ad'), 'ad-a authorized', 'is noted');
SELECT t.begin('ad', 'ad-b'), t.pay('ad', 'ad-p', 100);
SELECT is(t.attempts('ad'), 'ad-a authorized void, ad-b open void', 'paid by another: both are to be voided');
SELECT is(t.auth('ad-b', 100), 'surplus paid', 'paid');
SELECT is(t.auth('ad-a', 100, currency => 'EUR'), 'duplicate paid', 'again');
SELECT t.order('ae'), t.end('ae-a');
SELECT is(t.auth('ae-a', 100), 'late pending', 'the attempt has ended');
SELECT is(t.attempts('ae'), 'ae-a authorized void', 'its void is due');
SELECT is(t.events('ae', 'void%'), 'void.due', 'and an event says so');
SELECT is(t.auth('ae-a', 100), 'duplicate pending', 'again');
SELECT t.order('af'), t.expire('af');
SELECT is(t.attempts('af'), 'af-a open void', 'closed: its void is due');
SELECT is(t.auth('af-a', 100), 'late expired', 'and it is late');
SELECT is(t.attempts('af'), 'af-a authorized void', 'still due');
SELECT is(t.events('af'), 'order.created attempt.begun order.expired void.due attempt.authorized', 'the history');
-- after the deadline
SELECT t.order('ag'), t.pass('ag');
SELECT is(t.auth('ag-a', 100), 'authorized authorized', 'due, until_closed');
SELECT is(t.close('ag'), 'not_due authorized', 'and open until valid_until');
SELECT t.order('ah', 'strict'), t.pay('ah', 'ah-p', 30), t.pass('ah');
SELECT is(t.auth('ah-a', 70), 'late expired', 'due, at_deadline: closed by this');
SELECT is(t.sums('ah'), 'expired 30 = 0 + 30 + 0 + 0', 'what was paid goes back');
SELECT is(t.attempts('ah'), 'ah-a authorized void', 'and it is to be voided');
SELECT is(t.events('ah', '%.%e%') ~ 'order.expired', true, 'with the events');
SELECT is(t.events('ah', 'void%'), 'void.due', 'one of them for the void');
SELECT t.order('ai', 'ask'), t.pass('ai'), t.close('ai');
SELECT is(t.auth('ai-a', 100), 'late closing', 'closing is late');
SELECT is(t.attempts('ai'), 'ai-a authorized void', 'its void stays due');
SELECT t.order('aj', can_void => false), t.expire('aj');
SELECT is(t.auth('aj-a', 100), 'late expired', 'one that cannot be voided');
SELECT is(t.attempts('aj'), 'aj-a expired over', 'is over');
-- an order that is authorised closes at its end
SELECT t.order('ak', 'hold'), t.auth('ak-a', 100), t.pass('ak');
SELECT is(t.close('ak'), 'expired expired', 'authorised, and valid_until has passed');
SELECT is(t.attempts('ak'), 'ak-a authorized void', 'what is authorised still is to be voided');
SELECT t.order('al', 'hold'), t.auth('al-a', 100), t.pass('al');
SELECT is((SELECT order_timeout.sweep_once()::text), '(1,0,0)', 'by the sweeper');
SELECT is(t.attempts('al'), 'al-a authorized void', 'as well');
SELECT t.sound('authorize_attempt');

-- ---------------------------------------------------------------- capture

SELECT t.order('ca'), t.auth('ca-a', 100);
SELECT is(t.capture('ca', 'ca-p', 40, 'ca-a'), 'partial authorized applied', 'a part: it stays authorised');
SELECT is((SELECT closes_at = date_trunc('day', now()) + interval '7 days' FROM order_timeout.orders WHERE order_id = 'ca'), true, 'until valid_until');
SELECT is(t.attempts('ca'), 'ca-a captured', 'and waits for the rest');
SELECT is(t.capture('ca', 'ca-q', 60, 'ca-a'), 'paid paid applied', 'the rest');
SELECT is(t.attempts('ca'), 'ca-a captured over', 'then it is over');
SELECT is(t.events('ca'), 'order.created attempt.begun order.authorized payment.partial attempt.ended order.paid', 'the history');
SELECT t.order('cb'), t.auth('cb-a', 100), t.capture('cb', 'cb-p', 40, 'cb-a'), t.pass('cb');
SELECT is(t.close('cb'), 'expired expired', 'captured short, and closed');
SELECT is(t.attempts('cb'), 'cb-a captured void', 'the rest is to be voided');
SELECT is(t.sums('cb'), 'expired 40 = 0 + 40 + 0 + 0', 'what was captured goes back');
SELECT is(t.capture('cb', 'cb-q', 60, 'cb-a'), 'late expired late 60', 'the rest is captured all the same');
SELECT is(t.attempts('cb'), 'cb-a captured over', 'nothing is left to be voided');
SELECT t.order('cc'), t.auth('cc-a', 100), t.capture('cc', 'cc-p', 40, 'cc-a');
SELECT is(t.end('cc-a', 'expired'), 'ended pending', 'the promise of the rest has ended');
SELECT is(t.closes('cc'), 'deadline in 60 min', 'so its deadline counts');
SELECT is(t.attempts('cc'), 'cc-a captured over', 'what was captured stays so');
SELECT is(t.end('cc-a', 'expired'), 'already_ended pending', 'again');
SELECT is(t.capture('cc', 'cc-q', 60, 'cc-a'), 'paid paid applied', 'money is money');
SELECT t.order('cd'), t.expire('cd');
SELECT is(t.capture('cd', 'cd-p', 100, 'cd-a'), 'late expired late 100', 'captured after it closed');
SELECT is(t.attempts('cd'), 'cd-a captured over', 'nothing is to be voided');
SELECT t.order('ce'), t.auth('ce-a', 100), t.pay('ce', 'ce-p', 100);
SELECT is(t.attempts('ce'), 'ce-a authorized void', 'authorised, and paid by another');
SELECT is(t.capture('ce', 'ce-q', 100, 'ce-a'), 'surplus paid surplus 100', 'and captured after that');
SELECT t.order('cf'), t.auth('cf-a', 150);
SELECT is(t.capture('cf', 'cf-p', 150, 'cf-a'), 'paid paid applied 50', 'more than the order: the surplus goes back');
SELECT t.order('cg'), t.auth('cg-a', 100);
SELECT is(t.capture('cg', 'cg-p', 100, 'cg-a', 'EUR'), 'wrong_currency authorized wrong_currency 100', 'captured in another currency');
-- captured short while it is closing
SELECT t.order('ch', 'ask'), t.auth('ch-a', 100), t.pass('ch'), t.close('ch');
SELECT is(t.capture('ch', 'ch-p', 40, 'ch-a'), 'partial closing applied', 'closing, and captured short');
SELECT is(t.attempts('ch'), 'ch-a captured void', 'the rest is to be voided still');
SELECT t.pass('ch');
SELECT is(t.close('ch'), 'expired expired', 'it closes');
SELECT is(t.attempts('ch'), 'ch-a captured void', 'also after that');
SELECT is(t.sums('ch'), 'expired 40 = 0 + 40 + 0 + 0', 'and the money goes back');
-- which attempt brought it
SELECT t.order('ci'), t.begin('ci', 'ci-p');
SELECT is(t.pay('ci', 'ci-p', 100), 'paid paid applied', 'the payment has the number of an attempt');
SELECT is(t.attempts('ci'), 'ci-a open void, ci-p captured over', 'which it captured');
SELECT t.order('cj'), t.pay('cj', 'cj-p', 40);
SELECT is(t.attempts('cj'), 'cj-a open', 'not told');
SELECT is(t.capture('cj', 'cj-p', 40, 'cj-a'), 'duplicate pending applied', 'told in a repeat');
SELECT is(t.attempts('cj'), 'cj-a captured over', 'ends it');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_payment('cj', 'bank', 'cj-p', 40, 'CNY', attempt_ref => 'cj-a')$$), '(duplicate)', 'again');
SELECT t.begin('cj', 'cj-b');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_payment('cj', 'bank', 'cj-p', 40, 'CNY', attempt_ref => 'cj-b')$$), '(duplicate)', 'another one in a repeat');
SELECT is(t.capture('cj', 'cj-q', 10, 'never begun'), 'partial pending applied', 'an unknown one');
SELECT is((SELECT attempt_ref FROM order_timeout.payments WHERE payment_ref = 'cj-q'), 'never begun', 'is noted');
SELECT is(t.capture('cj', 'cj-r', 10, 'ci-a'), 'partial pending applied', 'another order''s: the money counts');
SELECT is((SELECT format('%s %s %s', kind, payment_ref, why) FROM order_timeout.attention WHERE order_id = 'cj'), 'conflict cj-r the payment names an attempt to pay another order', 'and it is shown');
SELECT is(t.attempts('ci'), 'ci-a open void, ci-p captured over', 'that attempt stays what it is');
SELECT is(t.capture('cj', 'cj-r', 10, 'ci-a'), 'duplicate pending applied', 'again');
SELECT is((SELECT count(*) FROM order_timeout.attention WHERE order_id = 'cj'), 1::bigint, 'it is shown once');
SELECT is(t.capture('cj', 'cj-s', 40, 'cj-b'), 'paid paid applied', 'the rest');
-- a repeat that does not name it changes nothing, though an attempt got the payment's number meanwhile
SELECT t.create_order('ck', 100), t.pay('ck', 'ck-p', 40), t.begin('ck', 'ck-p');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_payment('ck', 'bank', 'ck-p', 40, 'CNY')$$), '(duplicate)', 'a repeat that names none');
-- what an attempt brought is no sum that may not fit
SELECT t.order('cl');
CREATE FUNCTION t.capture_all(payment_ref text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN t.capture('cl', payment_ref, 9223372036854775807, 'cl-a');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
SELECT is(t.capture_all('cl-p'), 'paid paid applied 9223372036854775707', 'more money than any order');
SELECT is(t.capture_all('cl-q'), 'surplus paid uncounted 9223372036854775807', 'and the same again by that attempt');
-- an orphan that names its attempt
SELECT is(t.capture('cm', 'cm-p', 40, 'cn-a'), 'orphan orphan', 'an orphan');
SELECT t.order('cn');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.assign_orphan('bank', 'cm-p', 'cn')), 'partial pending', 'is given the order');
SELECT is(t.attempts('cn'), 'cn-a captured over', 'and its attempt is captured');
SELECT is(t.pay('co', 'co-p', 40), 'orphan orphan', 'one that does not name it');
SELECT is(t.capture('co', 'co-p', 40, 'cp-a'), 'duplicate orphan', 'is named in a repeat');
SELECT t.order('cp');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.assign_orphan('bank', 'co-p', 'cp')), 'partial pending', 'and given the order');
SELECT is(t.attempts('cp'), 'cp-a captured over', 'its attempt is captured as well');
SELECT t.sound('captures');

-- ---------------------------------------------------------------- asking before closing

SELECT t.order('ba', 'ask', '2 hours'), t.begin('ba', 'ba-b'), t.begin('ba', 'ba-c', can_void => false), t.pass('ba');
SELECT is((SELECT order_timeout.sweep_once()::text), '(0,0,0)', 'the sweeper asks: nothing is expired');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'ba'), 'closing', 'it is closing');
SELECT is(t.attempts('ba'), 'ba-a open void, ba-b open void, ba-c open', 'the voids are due at once');
SELECT is(t.unchanged_by($$SELECT * FROM order_timeout.expire_order('ba')$$), '(closing,closing)', 'expire_order says so');
SELECT is(t.closes('ba'), 'open_until in 5 min', 'it has void_within');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.set_deadline('ba', now() + interval '1 day')$$), '(already_closed,closing)', 'set_deadline');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.extend_order('ba', now() + interval '1 day')$$), '(already_closed,closing)', 'extend_order');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.change_order('ba', 10)$$), '(already_closed,closing)', 'change_order');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.reopen_order('ba')$$), '(not_closed,closing)', 'reopen_order');
SELECT is(t.end('ba-a'), 'ended closing', 'one ends, the other is waited for');
SELECT is(t.end('ba-b'), 'ended expired', 'the last one ends: expired in the same call');
SELECT is(t.attempts('ba'), 'ba-a failed over, ba-b failed over, ba-c expired over', 'what cannot be voided was not waited for');
SELECT is(t.events('ba', 'order%'), 'order.created order.closing order.expired', 'the history');
SELECT t.order('bb', 'ask'), t.pass('bb'), t.close('bb');
SELECT is(t.pay('bb', 'bb-p', 100), 'paid paid applied', 'paid while it is closing');
SELECT is(t.attempts('bb'), 'bb-a open void', 'the void goes on');
SELECT is((SELECT closes_at = expires_at FROM order_timeout.orders WHERE order_id = 'bb'), true, 'and it closed at its deadline');
SELECT t.order('bc', 'ask'), t.pass('bc'), t.close('bc'), t.pay('bc', 'bc-p', 40);
SELECT is(t.sums('bc'), 'closing 40 = 0 + 0 + 0 + 40', 'a part is kept while it is closing');
SELECT is(t.end('bc-a'), 'ended expired', 'its attempt ends');
SELECT is(t.sums('bc'), 'expired 40 = 0 + 40 + 0 + 0', 'the part goes back');
SELECT t.order('bd', 'ask'), t.pass('bd'), t.close('bd');
UPDATE order_timeout.orders SET open_until = clock_timestamp() - interval '1 second' WHERE order_id = 'bd';
SELECT is((SELECT order_timeout.sweep_once()::text), '(1,0,0)', 'void_within is over: closed anyway');
SELECT is(t.attempts('bd'), 'bd-a open void', 'the void goes on');
SELECT is(t.end('bd-a'), 'ended expired', 'until it ends');
SELECT t.order('be', 'ask'), t.auth('be-a', 100), t.pass('be');
SELECT is(t.close('be'), 'closing closing', 'an authorised one');
SELECT is(t.capture('be', 'be-p', 100, 'be-a'), 'paid paid applied', 'that was captured in that moment is paid');
SELECT t.order('bf', 'ask', can_void => false), t.pass('bf');
SELECT is(t.close('bf'), 'expired expired', 'nothing that can be voided');
SELECT t.order('bg', 'ask'), t.end('bg-a'), t.pass('bg');
SELECT is(t.close('bg'), 'expired expired', 'nothing that is open');
SELECT t.order('bh', 'ask'), t.pass('bh'), t.close('bh');
SELECT is(t.cancel('bh'), 'cancelled cancelled', 'a closing order is cancelled');
SELECT is(t.attempts('bh'), 'bh-a open void', 'its void goes on');
SELECT t.order('bi', 'ask'), t.auth('bi-a', 100), t.pay('bi', 'bi-p', 30);
SELECT is(t.cancel('bi'), 'cancelled cancelled', 'an authorised order is cancelled');
SELECT is(t.attempts('bi') || ', ' || t.sums('bi'), 'bi-a authorized void, cancelled 30 = 0 + 30 + 0 + 0', 'its void is due');
SELECT is(t.cancel('bi'), 'already_closed cancelled', 'again');
-- what is decided by hand
SELECT t.order('bj', 'ask'), t.pass('bj'), t.close('bj');
SELECT throws_ok($$SELECT order_timeout.accept_short('bj')$$, 'OT005', NULL, 'accept_short of a closing order without money');
SELECT t.pay('bj', 'bj-p', 40);
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.accept_short('bj')), 'accepted paid', 'with money');
SELECT t.order('bk'), t.auth('bk-a', 100), t.pay('bk', 'bk-p', 40);
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.accept_short('bk')), 'accepted paid', 'of an authorised order');
SELECT is(t.attempts('bj') || ', ' || t.attempts('bk'), 'bj-a open void, bk-a authorized void', 'their attempts are to be voided');
SELECT t.order('bl', 'ask, tolerate'), t.pass('bl'), t.close('bl');
SELECT is(t.pay('bl', 'bl-p', 96), 'paid paid applied', 'short_tolerance, closing');
SELECT t.order('bm', 'ask, tolerate'), t.auth('bm-a', 100);
SELECT is(t.pay('bm', 'bm-p', 96), 'paid paid applied', 'authorised');
SELECT t.order('bn', 'ask, hold'), t.pay('bn', 'bn-p', 40), t.pass('bn'), t.close('bn');
SELECT is(t.sums('bn'), 'closing 40 = 0 + 0 + 0 + 40', 'on_short hold: kept while it is closing');
SELECT is(t.end('bn-a') || ', ' || t.sums('bn'), 'ended expired, expired 40 = 0 + 0 + 40 + 0', 'and held after that');
SELECT is(t.pay('bn', 'bn-q', 60), 'held expired held', 'a late one is held too');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.resolve_held('bank', 'bn-q', 'accept')), 'accepted paid', 'both are accepted');
SELECT t.order('bo', 'ask, hold'), t.pay('bo', 'bo-p', 40), t.auth('bo-a', 60);
SELECT is(t.cancel('bo') || ', ' || t.sums('bo'), 'cancelled cancelled, cancelled 40 = 0 + 0 + 40 + 0', 'cancelled: held');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.reopen_order('bn')), 'already_paid paid', 'paid');
-- late money of an order that is open again
SELECT t.order('bp', 'ask, hold'), t.expire('bp'), t.end('bp-a'), t.pay('bp', 'bp-p', 100), t.begin('bp', 'bp-b');
SELECT t.create_order('bq', 100, 'ask, hold'), t.expire('bq'), t.pay('bq', 'bq-p', 100);
SELECT (order_timeout.reopen_order('bq')).outcome, t.begin('bq', 'bq-a'), t.auth('bq-a', 100), t.pass('bq'), t.close('bq');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.accept_payment('bank', 'bq-p')), 'accepted paid', 'accept_payment of a closing order');
SELECT is(t.sums('bq') || ', ' || t.attempts('bq'), 'paid 100 = 0 + 0 + 0 + 100, bq-a authorized void', 'it is paid, the attempt to be voided');
SELECT t.sound('asking before closing');

-- ---------------------------------------------------------------- wrong currency

SELECT t.order('wa', 'ask', '2 hours'), t.pass_deadline('wa');
SELECT is(t.capture('wa', 'wa-p', 100, 'wa-a', 'EUR'), 'wrong_currency pending wrong_currency 100', 'a payment in another currency');
SELECT is(t.attempts('wa'), 'wa-a captured over', 'is what its attempt brought');
SELECT is(t.close('wa'), 'expired expired', 'which holds the order open no longer');
SELECT t.order('wb', 'ask'), t.pass('wb'), t.close('wb');
SELECT is(t.capture('wb', 'wb-p', 100, 'wb-a', 'EUR'), 'wrong_currency closing wrong_currency 100', 'while it is closing');
SELECT t.sound('wrong currency');

-- ---------------------------------------------------------------- deadlines that move

SELECT t.order('da', 'hold', '150 minutes');
SELECT is(t.closes('da'), 'open_until in 150 min', 'held');
SELECT is((SELECT outcome FROM order_timeout.set_deadline('da', now() + interval '10 minutes')), 'set', 'earlier than the hold');
SELECT is(t.closes('da'), 'open_until in 130 min', 'the hold ends at the deadline and attempt_hold');
SELECT is((SELECT outcome FROM order_timeout.set_deadline('da', now() + interval '1 day')), 'set', 'later');
SELECT is(t.closes('da'), 'deadline in 1440 min', 'the deadline counts');
SELECT is((SELECT outcome FROM order_timeout.set_deadline('da', now() + interval '1 hour')), 'set', 'back');
SELECT is(t.closes('da'), 'open_until in 150 min', 'the hold is whole again');
SELECT is((SELECT outcome FROM order_timeout.extend_order('da', now() + interval '2 hours')), 'extended', 'extended');
SELECT is(t.closes('da'), 'open_until in 150 min', 'below the hold');
SELECT t.order('db'), t.auth('db-a', 100);
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.set_deadline('db', now() + interval '30 days')), 'set authorized', 'of an authorised order');
SELECT is(t.closes('db'), 'deadline in 43200 min', 'beyond the promise');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.set_deadline('db', now() + interval '1 hour')), 'set authorized', 'and before it');
SELECT is((SELECT closes_at = date_trunc('day', now()) + interval '7 days' FROM order_timeout.orders WHERE order_id = 'db'), true, 'valid_until counts');
-- notified_late
SELECT t.order('na', 'in time', '2 hours'), t.pass_deadline('na'), t.begin('na', 'na-b', can_void => false);
SELECT is(t.cancel('na'), 'cancelled cancelled', 'closed while it is held open');
SELECT is((SELECT late_reason FROM order_timeout.record_payment('na', 'bank', 'na-p', 100, 'CNY',
           paid_at => (SELECT expires_at + interval '1 microsecond' FROM order_timeout.orders WHERE order_id = 'na'))), 'notified_late', 'after expires_at and before closes_at');
SELECT t.order('nb', 'in time', '2 hours');
UPDATE order_timeout.orders SET expires_at = now() - interval '2 hours', open_until = now() - interval '1 hour' WHERE order_id = 'nb';
SELECT is(t.close('nb') , 'closing closing', 'its hold has ended');
SELECT is(t.end('nb-a'), 'ended expired', 'closed');
SELECT is((SELECT closes_at FROM order_timeout.orders WHERE order_id = 'nb'), now() - interval '1 hour', 'closes_at is when its hold ended');
SELECT is((SELECT format('%s %s %s', outcome, state, coalesce(late_reason, '-')) FROM order_timeout.record_payment('nb', 'bank', 'nb-p', 40, 'CNY', paid_at => now() - interval '1 hour')),
          'late expired paid_late', 'paid at closes_at');
SELECT is((SELECT format('%s %s %s', outcome, state, late_reason) FROM order_timeout.record_payment('nb', 'bank', 'nb-q', 100, 'CNY', paid_at => now() - interval '61 minutes')),
          'reopened paid notified_late', 'paid in time and told late: accepted by itself');
SELECT t.sound('deadlines');

-- ---------------------------------------------------------------- change_order, reopen_order

SELECT t.order('xa', 'hold', '2 hours'), t.pay('xa', 'xa-p', 60);
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.change_order('xa', 50)), 'paid paid', 'below what is paid');
SELECT is(t.sums('xa') || ', ' || t.attempts('xa'), 'paid 60 = 0 + 10 + 0 + 50, xa-a open void', 'the surplus goes back, the attempt is to be voided');
SELECT t.order('xb'), t.pay('xb', 'xb-p', 60), t.auth('xb-a', 40);
SELECT throws_ok($$SELECT order_timeout.change_order('xb', 50)$$, 'OT005', NULL, 'of an authorised order');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.change_order('xb', 100)$$), '(unchanged,authorized)', 'the same amount');
SELECT is(t.sums('xb'), 'authorized 60 = 0 + 0 + 0 + 60', 'nothing changed');
SELECT t.create_order('xc', 100, 'ask, tolerate');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.change_order('xc', 3)), 'changed pending', 'short_tolerance is for some money');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.change_order('xc', 0)), 'paid paid', 'nothing is nothing');
-- with a refund and a void on their way
SELECT t.order('ra', 'hold'), t.auth('ra-a', 100), t.capture('ra', 'ra-p', 40, NULL), t.pass('ra'), t.close('ra');
SELECT is(t.attempts('ra') || ', ' || t.sums('ra'), 'ra-a authorized void, expired 40 = 0 + 40 + 0 + 0', 'closed');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.reopen_order('ra', '1 hour')), 'reopened pending', 'and reopened');
SELECT is(t.attempts('ra') || ', ' || t.sums('ra'), 'ra-a authorized void, pending 40 = 0 + 40 + 0 + 0', 'refund and void stay on their way');
SELECT is(t.begin('ra', 'ra-b', '30 minutes'), 'begun pending', 'the buyer tries again');
SELECT is(t.closes('ra'), 'deadline in 60 min', 'what is being voided holds nothing open');
SELECT is(t.auth('ra-b', 100), 'authorized authorized', 'it is authorised');
SELECT is(t.end('ra-b'), 'ended pending', 'and that ends: nothing authorises it');
SELECT is(t.closes('ra'), 'deadline in 60 min', 'its deadline counts');
SELECT is(t.end('ra-a'), 'ended pending', 'the void ends');
SELECT is(t.pay('ra', 'ra-q', 100), 'paid paid applied', 'the whole amount is paid');
SELECT is(t.sums('ra'), 'paid 140 = 0 + 40 + 0 + 100', 'next to the refund');
SELECT t.order('rb', 'hold'), t.pass('rb'), t.close('rb');
SELECT (order_timeout.reopen_order('rb')).outcome;
SELECT is(t.auth('rb-a', 100), 'late pending', 'what is being voided authorises nothing');
SELECT is(t.attempts('rb'), 'rb-a authorized void', 'it goes on being voided');
SELECT is(t.capture('rb', 'rb-p', 100, 'rb-a'), 'paid paid applied', 'if it brings money all the same, it is paid');
SELECT t.sound('changed and reopened orders');

-- ---------------------------------------------------------------- an order with each open state, swept

SELECT t.create_order('sa', 100, 'ask'), t.order('sb', 'hold', '2 hours'), t.order('sc', 'hold'), t.auth('sc-a', 100), t.order('sd', 'ask'), t.pass('sd'), t.close('sd');
SELECT is(t.close(o), s, o || ': not due') FROM (VALUES ('sa', 'not_due pending'), ('sb', 'not_due pending'), ('sc', 'not_due authorized'), ('sd', 'closing closing')) AS x (o, s);
SELECT is(t.unchanged_by('SELECT * FROM order_timeout.sweep_once()'), '(0,0,0)', 'so says the sweeper');
SELECT t.pass(o) FROM unnest('{sa,sb,sc,sd}'::text[]) AS o;
SELECT is((SELECT order_timeout.sweep_once()::text), '(4,0,0)', 'and closes all of them when they are due');
SELECT is(t.unchanged_by('SELECT * FROM order_timeout.sweep_once()'), '(0,0,0)', 'once');
SELECT t.sound('swept');

-- ---------------------------------------------------------------- bad input, which changes nothing

CREATE FUNCTION t.bad(call text, code text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := t.everything();
    answer text := 'no error';
BEGIN
    BEGIN
        EXECUTE 'SELECT order_timeout.' || call;
    EXCEPTION WHEN OTHERS THEN
        answer := SQLSTATE;
    END;
    RETURN is(answer || CASE t.everything() WHEN before THEN '' ELSE ' and rows changed' END, code, call);
END
$$;
SELECT t.order('z', 'hold');
SELECT t.bad(call, code) FROM (VALUES
    ($$begin_attempt(NULL, 'bank', 'n')$$, '22004'), ($$begin_attempt('z', NULL, 'n')$$, '22004'), ($$begin_attempt('z', 'bank', NULL)$$, '22004'),
    ($$begin_attempt('', 'bank', 'n')$$, '22023'), ($$begin_attempt('z', '', 'n')$$, '22023'), ($$begin_attempt('z', 'bank', '')$$, '22023'),
    ($$begin_attempt('z', 'bank', repeat('n', 256))$$, '22023'), ($$begin_attempt('z', repeat('n', 256), 'n')$$, '22023'),
    ($$begin_attempt('z', 'bank', E'n\n')$$, '22023'), ($$begin_attempt('z', 'bank', 'n', '0')$$, '22023'), ($$begin_attempt('z', 'bank', 'n', '-1 second')$$, '22023'),
    ($$begin_attempt('z', 'bank', 'n', '10000 years')$$, '22023'), ($$begin_attempt('none', 'bank', 'n')$$, 'OT001'),
    ($$begin_attempt('c', 'bank', 'z-a')$$, 'OT003'),
    ($$end_attempt(NULL, 'z-a', 'failed')$$, '22004'), ($$end_attempt('bank', NULL, 'failed')$$, '22004'), ($$end_attempt('bank', 'z-a', NULL)$$, '22004'),
    ($$end_attempt('bank', 'z-a', 'voided')$$, '22023'), ($$end_attempt('bank', 'z-a', 'captured')$$, '22023'), ($$end_attempt('bank', 'z-a', '')$$, '22023'),
    ($$end_attempt('', 'z-a', 'failed')$$, '22023'), ($$end_attempt('bank', 'none', 'failed')$$, 'OT010'), ($$end_attempt('card', 'z-a', 'failed')$$, 'OT010'),
    ($$authorize_attempt(NULL, 'z-a', 1, 'CNY', now())$$, '22004'), ($$authorize_attempt('bank', NULL, 1, 'CNY', now())$$, '22004'),
    ($$authorize_attempt('bank', 'z-a', NULL, 'CNY', now())$$, '22004'), ($$authorize_attempt('bank', 'z-a', 1, NULL, now())$$, '22004'),
    ($$authorize_attempt('bank', 'z-a', 1, 'CNY', NULL)$$, '22004'), ($$authorize_attempt('bank', 'z-a', 0, 'CNY', now())$$, '22023'),
    ($$authorize_attempt('bank', 'z-a', -1, 'CNY', now())$$, '22023'), ($$authorize_attempt('bank', 'z-a', 1, 'cny', now())$$, '22023'),
    ($$authorize_attempt('bank', 'z-a', 1, 'CN', now())$$, '22023'), ($$authorize_attempt('bank', 'z-a', 1, 'CNY', 'infinity')$$, '22023'),
    ($$authorize_attempt('bank', 'z-a', 1, 'CNY', '-infinity')$$, '22023'), ($$authorize_attempt('bank', 'z-a', 1, 'CNY', '280000-01-01')$$, '22023'),
    ($$authorize_attempt('bank', 'none', 1, 'CNY', now())$$, 'OT010'), ($$authorize_attempt('bank', '', 1, 'CNY', now())$$, '22023'),
    ($$record_payment('z', 'bank', 'n', 1, 'CNY', attempt_ref => '')$$, '22023'), ($$record_payment('z', 'bank', 'n', 1, 'CNY', attempt_ref => repeat('n', 256))$$, '22023'),
    ($$record_payment('z', 'bank', 'n', 0, 'CNY', attempt_ref => 'z-a')$$, '22023'),
    ($$set_deadline(NULL, now() + interval '1 hour')$$, '22004'), ($$set_deadline('z', 'infinity')$$, '22023'), ($$set_deadline('z', now())$$, '22023'),
    ($$reopen_order(NULL)$$, '22004'), ($$reopen_order('', '1 hour')$$, '22023'), ($$reopen_order('e', '-1 hour')$$, '22023'),
    ($$reopen_order('ak', expires_at => 'infinity')$$, '22023'), ($$reopen_order('ak', '0')$$, '22023'),
    ($$change_order(NULL, 1)$$, '22004'), ($$change_order('z', NULL)$$, '22004'), ($$change_order('z', -1)$$, '22023')) AS x (call, code);

-- A promise is good for what it was made for: what the order had next to it may go back.
SELECT t.order('lost');
SELECT t.pay('lost', 'lost-1', 40);
SELECT is((SELECT concat_ws(' ', outcome, state) FROM order_timeout.authorize_attempt('bank', 'lost-a', 60, 'CNY', now() + interval '7 days')),
          'authorized authorized', 'a promise of what the order lacks');
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', 'lost-1', 'back-1', 40, 'chargeback')), 'recorded', 'what it had goes back');
SELECT is((SELECT concat_ws(' ', state, closes_at = expires_at) FROM order_timeout.orders WHERE order_id = 'lost'), 'pending t',
          'nobody ships on a part');
SELECT t.capture('lost', 'lost-2', 60, 'lost-a');
SELECT is((SELECT concat_ws(' ', state, paid) FROM order_timeout.orders WHERE order_id = 'lost'), 'pending 100', 'its capture is a part payment');
SELECT t.order('little');
SELECT t.pay('little', 'little-1', 40);
SELECT order_timeout.authorize_attempt('bank', 'little-a', 100, 'CNY', now() + interval '7 days');
SELECT order_timeout.record_refund('bank', 'little-1', 'back-2', 40, 'chargeback');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'little'), 'authorized', 'a promise of all of it is still good');

-- An amount of 0
SELECT t.create_order('za', 0, 'ask');
SELECT is(t.begin('za', 'za-a'), 'already_paid paid', 'what costs nothing is paid');
-- What identifies an attempt
SELECT is(t.begin('z', repeat('n', 255), gateway => repeat('g', 255)), 'begun pending', '255 bytes');
SELECT t.sound('all of it');

SELECT finish();
ROLLBACK;
