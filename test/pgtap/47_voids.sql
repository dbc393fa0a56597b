-- Voids (contract, section 9): claim_voids, complete_void, retry_void, and what they mean for the order.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
UPDATE order_timeout.policies SET refund_jitter = 0, refund_max_attempts = 3, refund_backoff = '1 minute';
INSERT INTO order_timeout.policies (policy, before_close, refund_max_attempts, refund_jitter) VALUES ('ask', 'void', 2, 0);

-- An order with one attempt of the same name; its void is due where the order is cancelled.
CREATE FUNCTION t.begin(id text, policy text DEFAULT 'default', can_void boolean DEFAULT true) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', t.create_order(id, 100, policy),
                     (SELECT r.outcome FROM order_timeout.begin_attempt(id, 'bank', id, can_void => $3) r))
$$;
CREATE FUNCTION t.due(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', t.begin(id), t.cancel(id))
$$;
CREATE FUNCTION t.authorize(id text, amount bigint DEFAULT 100) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.authorize_attempt('bank', id, amount, 'CNY', '2999-01-01') r
$$;
CREATE TABLE t.leases (id text, token text, at integer GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION t.claim(max_voids integer DEFAULT 10, lease interval DEFAULT NULL, gateway text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    WITH c AS MATERIALIZED (SELECT * FROM order_timeout.claim_voids('w', $1, $2, $3)),
         kept AS (INSERT INTO t.leases (id, token) SELECT attempt_ref, lease_token FROM c)
    SELECT string_agg(concat_ws(' ', order_id, attempt_ref, coalesce(amount::text, 'none'), currency, action, attempt), ', ') FROM c
$$;
CREATE FUNCTION t.token(id text) RETURNS text LANGUAGE sql AS $$SELECT token FROM t.leases l WHERE l.id = $1 ORDER BY at DESC LIMIT 1$$;
CREATE FUNCTION t.report(id text, result text, token text DEFAULT NULL, error text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state,
                     CASE WHEN r.next_attempt_at <= clock_timestamp() THEN 'now' ELSE round(extract(epoch FROM r.next_attempt_at - clock_timestamp()) / 60)::text END)
      FROM order_timeout.complete_void('bank', id, result, token, error) r
$$;
-- A worker's round.
CREATE FUNCTION t.try(id text, result text) RETURNS text LANGUAGE sql AS $$
    UPDATE order_timeout.attempts a SET next_attempt_at = '2000-01-01' WHERE a.attempt_ref = $1;
    SELECT t.claim(1);
    SELECT t.report($1, $2, t.token($1))
$$;
CREATE FUNCTION t.retry(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.retry_void('bank', id) r
$$;
CREATE FUNCTION t.row(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', state, attempts, CASE WHEN next_attempt_at IS NOT NULL THEN 'due' END, CASE WHEN lease_token IS NOT NULL THEN 'leased' END,
                     CASE WHEN maybe_sent THEN 'maybe' END, CASE WHEN attention_at IS NOT NULL THEN 'attention' END,
                     CASE WHEN settled_at IS NOT NULL THEN 'settled' END)
      FROM order_timeout.attempts WHERE attempt_ref = id
$$;
CREATE FUNCTION t.state(id text) RETURNS text LANGUAGE sql AS $$SELECT state FROM order_timeout.orders WHERE order_id = id$$;
CREATE FUNCTION t.events(id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history($1) WHERE type ~ '^(void|order|attempt)'
$$;
-- An attempt whose void needs attention.
CREATE FUNCTION t.stuck(id text) RETURNS text LANGUAGE sql AS $$SELECT t.due(id); SELECT t.try(id, 'rejected')$$;

-- claim_voids
SELECT is(t.claim(), NULL, 'nothing is due');
SELECT is(t.begin('a'), 'created pending begun', 'an attempt');
SELECT is(t.claim(), NULL, 'of an open order');
SELECT is(t.cancel('a'), 'cancelled cancelled', 'its order is cancelled');
SELECT is(t.claim(gateway => 'other'), NULL, 'another gateway''s worker');
SELECT is(t.claim(gateway => 'bank'), 'a a none submit 1', 'never authorised');
SELECT is(t.row('a'), 'open 0 due leased', 'it is leased');
SELECT is((SELECT next_attempt_at = leased_until AND leased_until - handed_out_at = '5 minutes' AND worker = 'w'
             FROM order_timeout.attempts WHERE attempt_ref = 'a'), true, 'for the policy''s refund_lease');
SELECT is(t.claim(), NULL, 'no other worker gets it');
SELECT is((SELECT payload ->> 'worker' FROM order_timeout.history('a') WHERE type = 'void.claimed'), 'w', 'an event says so');
SELECT is(t.report('a', 'voided', t.token('a')), 'recorded voided', 'voided');
SELECT is(t.row('a'), 'voided 0 settled', 'and at its end');
SELECT is(t.events('a'), 'order.created attempt.begun order.cancelled void.due void.claimed void.voided', 'its history');
SELECT is(t.begin('b') || t.authorize('b', 60) || t.cancel('b'), 'created pending begunpartial pendingcancelled cancelled', 'authorised');
SELECT is(t.begin('c') || t.cancel('c'), 'created pending beguncancelled cancelled', 'another');
UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01' WHERE attempt_ref = 'c';
SELECT is(t.claim(1), 'c c none submit 1', 'oldest first');
SELECT is(t.claim(1, '1 hour'), 'b b 60 CNY submit 1', 'with the amount that is authorised');
SELECT is((SELECT leased_until - handed_out_at FROM order_timeout.attempts WHERE attempt_ref = 'b'), '1 hour', 'a lease of its own');
SELECT throws_ok($$SELECT order_timeout.claim_voids(NULL)$$, '22004', NULL, 'no worker');
SELECT throws_ok($$SELECT order_timeout.claim_voids('w', 0)$$, '22023', NULL, 'none');
SELECT throws_ok($$SELECT order_timeout.claim_voids('w', 1, '-1 s')$$, '22023', NULL, 'a lease of less than nothing');

-- Leases that lapse
UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01', leased_until = '2000-01-01' WHERE attempt_ref = 'b';
SELECT is(t.claim(), 'b b 60 CNY query 2', 'a lapsed lease: one try is used up, and the gateway is asked');
SELECT is(t.row('b'), 'authorized 1 due leased maybe', 'it may have it');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('b') WHERE type ~ 'void'),
          'void.due void.claimed void.lease_lapsed void.claimed', 'its history');
SELECT is((SELECT t.report('b', 'failed', token) FROM t.leases WHERE id = 'b' ORDER BY at LIMIT 1), 'stale authorized 5', 'the old worker is late');
UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01', leased_until = '2000-01-01' WHERE attempt_ref IN ('b', 'c');
SELECT is((SELECT order_timeout.sweep_once()::text), '(0,0,2)', 'the sweeper takes leases back');
SELECT is(t.row('b') || ', ' || t.row('c'), 'authorized 2 due maybe, open 1 due maybe', 'these');
SELECT is(t.report('c', 'unknown', t.token('c')), 'stale open now', 'then that lease is over');
SELECT is(t.report('c', 'failed', t.token('c')), 'recorded open 1', 'what the gateway did in it counts, and no try more');
SELECT is(t.row('c'), 'open 1 due', 'once');
SELECT is(t.claim(), 'b b 60 CNY query 3', 'the other one is handed out');
UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01', leased_until = '2000-01-01' WHERE attempt_ref = 'b';
SELECT is(t.claim(), NULL, 'a lease that lapses too often');
SELECT is(t.row('b'), 'needs_attention 3 maybe attention', 'needs attention');
SELECT is(t.report('c', 'voided'), 'recorded voided', 'voided, reported by anyone');

-- Results of a try, waits
SELECT t.due('d');
SELECT is(t.report('d', 'failed'), 'stale open now', 'of one that no worker ever had');
SELECT is(t.report('d', 'rejected', 'none'), 'stale open now', 'or with a token that was never given');
SELECT is(t.claim(), 'd d none submit 1', 'claimed');
SELECT is(t.report('d', 'failed'), 'stale open 5', 'while a worker has it only that one may report');
SELECT is(t.report('d', 'unknown', 'none'), 'stale open 5', 'with its token');
SELECT is(t.report('d', 'deferred', t.token('d')), 'recorded open 1', 'not tried');
SELECT is(t.row('d'), 'open 0 due', 'no try is used up');
SELECT is(t.report('d', 'deferred', t.token('d')), 'duplicate open 1', 'again');
SELECT is(t.try('d', 'failed'), 'recorded open 1', 'a failure waits');
SELECT is(t.row('d'), 'open 1 due', 'one try is used up');
SELECT is(t.unchanged_by($$SELECT t.report('d', 'failed', t.token('d'))$$), '("duplicate open 1")', 'again');
SELECT is(t.report('d', 'failed'), 'stale open 1', 'from anyone: that is over');
SELECT is(t.try('d', 'unknown'), 'recorded open 2', 'the next one waits twice as long');
SELECT is(t.row('d'), 'open 2 due maybe', 'the gateway may have it');
SELECT is(t.report('d', 'failed', error => 'gone'), 'recorded open 2', 'so its failure is taken from anyone');
SELECT is(t.row('d') || (SELECT last_error FROM order_timeout.attempts WHERE attempt_ref = 'd'), 'open 2 duegone', 'and uses up no try');
SELECT is(t.report('d', 'failed'), 'duplicate open 2', 'redelivered');
SELECT is(t.try('d', 'failed'), 'recorded needs_attention', 'tried too often');
SELECT is(t.row('d'), 'needs_attention 3 attention', 'needs attention');
SELECT is((SELECT concat_ws('|', kind, order_id, gateway, payment_ref, attempt_ref, amount, why, t.ways(resolved_by)) FROM order_timeout.attention WHERE order_id = 'd'),
          'void|d|bank|d|void of an attempt, 3 of 3 attempts used, last: gone|retry_void complete_void end_attempt', 'which is shown');
SELECT is((SELECT (voids_due, voids_needing_attention)::text FROM order_timeout.health),
          (SELECT (count(next_attempt_at), count(*) FILTER (WHERE state = 'needs_attention'))::text FROM order_timeout.attempts), 'and counted');
SELECT is(t.claim(), NULL, 'and is handed out no more');
SELECT is(t.report('d', 'failed', t.token('d')), 'duplicate needs_attention', 'a repeat');
SELECT is(t.report('d', 'unknown', 'none'), 'stale needs_attention', 'no lease');
SELECT is(t.report('d', 'rejected'), 'recorded needs_attention', 'the gateway''s own failure');
SELECT is(t.report('d', 'rejected'), 'duplicate needs_attention', 'redelivered');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('d') WHERE type ~ 'void'),
          'void.due void.claimed void.deferred void.claimed void.failed void.claimed void.unknown void.failed void.claimed void.failed void.rejected', 'its history');

-- retry_void
SELECT is(t.retry('d'), 'retried open', 'tried again');
SELECT is(t.row('d'), 'open 0 due', 'from the start');
SELECT is(t.unchanged_by($$SELECT t.retry('d')$$), '("already_due open")', 'again');
SELECT is(t.claim(), 'd d none query 1', 'handed out');
SELECT is(t.retry('d'), 'already_due open', 'while a worker has it');
SELECT is(t.report('d', 'rejected', t.token('d')), 'recorded needs_attention', 'the gateway will not');
SELECT is(t.report('d', 'voided'), 'recorded voided', 'or it did');
SELECT is(t.retry('d'), 'already_due voided', 'a repeat that comes late');
SELECT is(t.begin('e') || t.authorize('e') || t.cancel('e') || t.try('e', 'rejected'),
          'created pending begunauthorized authorizedcancelled cancelledrecorded needs_attention', 'an authorised one');
SELECT is(t.retry('e'), 'retried authorized', 'is authorised again');
SELECT is(t.report('e', 'voided'), 'recorded voided', 'voided');
SELECT t.begin('f');
SELECT throws_ok($$SELECT t.retry('f')$$, 'OT005', NULL, 'none is due');
SELECT throws_ok($$SELECT t.retry('a')$$, 'OT005', NULL, 'voided');
SELECT throws_ok($$SELECT t.retry('none')$$, 'OT010', NULL, 'no such attempt');

-- voided, from every state
SELECT is(t.report('f', 'voided'), 'recorded voided', 'of an open order');
SELECT is(t.report('f', 'voided'), 'duplicate voided', 'again');
SELECT is(t.state('f'), 'pending', 'which stays open');
SELECT is(t.begin('g') || ', ' || t.authorize('g') || ', ' || t.report('g', 'voided') || ', ' || t.state('g'),
          'created pending begun, authorized authorized, recorded voided, pending', 'what authorised its order: that is pending again');
SELECT is(t.events('g'), 'order.created attempt.begun order.authorized void.voided order.changed', 'its history');
SELECT is(t.stuck('h') || ', ' || t.report('h', 'voided'), 'recorded needs_attention, recorded voided', 'what needed attention');
SELECT is(t.row('h'), 'voided 1 settled', 'needs none');
SELECT t.due('i'), t.claim();
SELECT is(t.report('i', 'voided'), 'recorded voided', 'while a worker has it');
SELECT is(t.report('i', 'voided', t.token('i')), 'duplicate voided', 'whose report comes late');
SELECT is(t.report('i', 'failed', t.token('i')), 'ignored voided', 'or says something else');
SELECT is(t.report('i', 'deferred'), 'ignored voided', 'anyone');
SELECT t.begin('j'), order_timeout.end_attempt('bank', 'j', 'failed');
SELECT is(t.report('j', 'voided'), 'ignored failed', 'after another end');
SELECT is(t.report('j', 'failed'), 'ignored failed', 'a failure after that');
SELECT t.begin('k'), t.pay('k', 'k', 100);
SELECT is(t.row('k'), 'captured 0 settled', 'captured');
SELECT is(t.report('k', 'voided'), 'ignored captured', 'voided comes too late');
SELECT throws_ok($$SELECT t.report('none', 'voided')$$, 'OT010', NULL, 'no such attempt');
SELECT throws_ok($$SELECT t.report('k', 'succeeded')$$, '22023', NULL, 'no such result');
SELECT throws_ok($$SELECT t.report('k', NULL)$$, '22004', NULL, 'no result');

-- paid, from every state
SELECT is(t.report('k', 'paid'), 'duplicate captured', 'its payment is recorded');
SELECT t.due('l'), t.claim();
SELECT is(t.report('l', 'paid', t.token('l')), 'recorded captured', 'of a void');
SELECT is(t.row('l'), 'captured 0 attention', 'the operator looks until the payment comes');
SELECT is(t.report('l', 'paid', t.token('l')), 'duplicate captured', 'again');
SELECT is(t.report('l', 'paid'), 'duplicate captured', 'from anyone');
SELECT is(t.report('l', 'voided'), 'ignored captured', 'not any more');
SELECT is((SELECT concat_ws('|', kind, order_id, gateway, payment_ref, attempt_ref, amount, why, t.ways(resolved_by), since <= clock_timestamp())
             FROM order_timeout.attention WHERE order_id = 'l'),
          'void|l|bank|l|the gateway reported paid, and no payment is recorded|record_payment end_attempt|t', 'so it is shown');
SELECT is(t.pay('l', 'l', 100), 'late cancelled late 100', 'the payment comes');
SELECT is_empty($$SELECT FROM order_timeout.attention WHERE order_id = 'l'$$, 'and is shown no more');
SELECT is(t.row('l'), 'captured 0 settled', 'then it is done');
SELECT is(t.report('l', 'paid', t.token('l')), 'duplicate captured', 'the worker repeats itself');
SELECT is(t.due('m') || t.report('m', 'voided') || ', ' || t.report('m', 'paid'),
          'created pending begun cancelled cancelledrecorded voided, recorded captured', 'after voided');
SELECT is(t.row('m'), 'captured 0 attention', 'too');
SELECT is(t.pay('m', 'm', 100) || ', ' || t.row('m'), 'late cancelled late 100, captured 0 settled', 'until its payment comes');
SELECT is(t.report('j', 'paid'), 'recorded captured', 'after failed');
SELECT is(t.stuck('n') || ', ' || t.report('n', 'paid'), 'recorded needs_attention, recorded captured', 'what needed attention');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('n') WHERE type ~ 'void'),
          'void.due void.claimed void.rejected void.paid', 'its history');
SELECT is((SELECT outcome FROM order_timeout.end_attempt('bank', 'n', 'failed')) || ', ' || t.row('n'), 'ended, failed 1 settled',
          'the gateway was wrong: it brought nothing');
SELECT is((SELECT outcome FROM order_timeout.end_attempt('bank', 'n', 'failed')), 'already_ended', 'again');
-- What was reported as paid keeps its order open as long as it did before.
INSERT INTO order_timeout.policies (policy, attempt_hold) VALUES ('hold', '1 day');
SELECT t.create_order('held', 100, 'hold'), order_timeout.begin_attempt('held', 'bank', 'held', holds_for => '2 hours'), t.report('held', 'paid'),
       order_timeout.begin_attempt('held', 'bank', 'held 2'), order_timeout.end_attempt('bank', 'held 2', 'failed');
SELECT is((SELECT open_until = holds_until FROM order_timeout.orders JOIN order_timeout.attempts USING (order_id) WHERE attempt_ref = 'held'), true,
          'reported paid: another attempt that fails does not close the order on it');
SELECT order_timeout.end_attempt('bank', 'held', 'failed');
SELECT is((SELECT open_until FROM order_timeout.orders WHERE order_id = 'held'), NULL, 'until it brought nothing');

-- What ends while a worker has its void
SELECT t.due('o'), t.claim();
SELECT is((SELECT outcome FROM order_timeout.end_attempt('bank', 'o', 'expired')) || ', ' || t.row('o'), 'ended, expired 0 settled', 'end_attempt');
SELECT is(t.report('o', 'voided', t.token('o')), 'ignored expired', 'the worker''s report is no error');
SELECT is(t.report('o', 'unknown', t.token('o')), 'ignored expired', 'whatever it says');
SELECT t.due('p'), t.claim(), t.pay('p', 'p', 100);
SELECT is(t.row('p'), 'captured 0 settled', 'a payment');
SELECT is(t.report('p', 'paid', t.token('p')) || ', ' || t.report('p', 'failed', t.token('p')), 'duplicate captured, ignored captured', 'the worker''s report');

-- The rest of what was captured in part
SELECT t.begin('q'), t.authorize('q');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.record_payment('q', 'bank', 'q-1', 40, 'CNY', attempt_ref => 'q')), 'partial authorized', 'a part is captured');
SELECT is(t.report('q', 'failed') || ', ' || t.report('q', 'unknown', 'none'), 'stale captured, stale captured', 'none is due');
SELECT is(t.cancel('q') || ', ' || t.row('q'), 'cancelled cancelled, captured 0 due', 'the rest is to be voided');
SELECT is(t.claim(), 'q q 60 CNY submit 1', 'which is less');
SELECT is(t.report('q', 'rejected', t.token('q')) || ', ' || t.retry('q'), 'recorded needs_attention, retried captured', 'retried');
SELECT is(t.claim(), 'q q 60 CNY query 1', 'with the same amount');
SELECT is(t.report('q', 'paid', t.token('q')) || ', ' || t.row('q'), 'recorded captured, captured 0 attention', 'the rest was paid');
SELECT is((SELECT outcome FROM order_timeout.record_payment('q', 'bank', 'q-2', 60, 'CNY', attempt_ref => 'q')) || ', ' || t.row('q'),
          'late, captured 0 settled', 'and comes');
SELECT t.begin('r'), t.authorize('r'), order_timeout.record_payment('r', 'bank', 'r-1', 40, 'CNY', attempt_ref => 'r'), t.cancel('r');
SELECT is(t.report('r', 'voided') || ', ' || t.row('r'), 'recorded voided, voided 0 settled', 'the rest was voided');
SELECT is(t.report('r', 'paid') || ', ' || t.row('r'), 'recorded captured, captured 0 attention', 'or was not');
SELECT t.begin('w'), t.authorize('w'), order_timeout.record_payment('w', 'bank', 'w-1', 40, 'CNY', attempt_ref => 'w');
SELECT is(t.report('w', 'voided') || ', ' || t.row('w') || ', ' || t.state('w'), 'recorded voided, voided 0 settled, pending',
          'the rest of a promise, which its order was authorised by');
SELECT order_timeout.begin_attempt('w', 'bank', 'w2'), order_timeout.authorize_attempt('bank', 'w2', 60, 'CNY', '2999-01-01');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.record_payment('w', 'bank', 'w-2', 30, 'CNY', attempt_ref => 'w')) || ', ' || t.row('w'),
          'partial authorized, captured 0 due', 'a part of what was voided is captured: its rest is to be voided again');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.end_attempt('bank', 'w2', 'failed')), 'ended pending', 'and is no promise');
SELECT is(t.report('w', 'voided') || ', ' || t.row('w'), 'recorded voided, voided 0 settled', 'voided');

-- Asking before closing
CREATE FUNCTION t.closing(id text) RETURNS text LANGUAGE sql AS $$SELECT concat_ws(' ', t.begin(id, 'ask'), t.expire(id))$$;
SELECT is(t.closing('s'), 'created pending begun closing closing', 'it asks first');
SELECT is(t.claim(), 's s none submit 1', 'at once');
SELECT is(t.report('s', 'voided', t.token('s')) || ', ' || t.state('s'), 'recorded voided, expired', 'the last attempt ended: closed in the same call');
SELECT is(t.events('s'), 'order.created attempt.begun order.closing void.due void.claimed void.voided order.expired', 'its history');
SELECT is(t.report('s', 'voided', t.token('s')), 'duplicate voided', 'again');
SELECT t.begin('u', 'ask'), order_timeout.begin_attempt('u', 'bank', 'u2'), t.expire('u');
SELECT is(t.report('u', 'voided') || ', ' || t.state('u'), 'recorded voided, closing', 'one of two');
SELECT is(t.report('u2', 'paid') || ', ' || t.state('u'), 'recorded captured, closing', 'paid keeps it closing');
SELECT is(t.pay('u', 'u2', 100) || ', ' || t.row('u2'), 'paid paid applied, captured 0 settled', 'until the payment comes, in time');
SELECT t.closing('v');
SELECT is(t.try('v', 'rejected') || ', ' || t.state('v'), 'recorded needs_attention, closing', 'one that needs attention keeps it closing');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.expire_order('v')), 'closing closing', 'as long as void_within');
UPDATE order_timeout.orders SET open_until = clock_timestamp() - interval '1 second' WHERE order_id = 'v';
SELECT is((SELECT order_timeout.sweep_once()::text) || ', ' || t.state('v'), '(1,0,0), expired', 'after that the sweeper closes it');
SELECT is(t.row('v'), 'needs_attention 1 attention', 'the void still needs attention');
SELECT is(t.retry('v') || ', ' || t.try('v', 'voided'), 'retried open, recorded voided', 'and goes on');
SELECT t.closing('x');
SELECT is(t.try('x', 'rejected') || ', ' || t.report('x', 'voided') || ', ' || t.state('x'), 'recorded needs_attention, recorded voided, expired',
          'voided by whoever ended it');
-- Captured in part, after the void of its promise was given up, or after it was reported as paid.
CREATE FUNCTION t.promised(id text, result text) RETURNS text LANGUAGE sql AS $$
    SELECT t.begin(id, 'ask'), t.authorize(id);
    UPDATE order_timeout.orders SET open_until = NULL, expires_at = '2000-01-01' WHERE order_id = id;
    SELECT order_timeout.expire_order(id);
    SELECT t.try(id, result)
$$;
CREATE FUNCTION t.part(id text) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome || ' ' || r.state FROM order_timeout.record_payment(id, 'bank', id || ' part', 40, 'CNY', attempt_ref => id) r
$$;
SELECT is(t.promised('part 1', 'rejected') || ', ' || t.part('part 1') || ', ' || t.row('part 1'),
          'recorded needs_attention, partial closing, captured 1 due', 'needs_attention: the rest is to be voided');
SELECT is(t.report('part 1', 'voided') || ', ' || t.state('part 1'), 'recorded voided, expired', 'and closes it');
SELECT is(t.promised('part 2', 'paid') || ', ' || t.part('part 2') || ', ' || t.row('part 2'),
          'recorded captured, partial closing, captured 0 due', 'reported paid: the same');
SELECT is(t.promised('part 3', 'rejected'), 'recorded needs_attention', 'of an order that is reopened');
UPDATE order_timeout.orders SET open_until = '2000-01-01' WHERE order_id = 'part 3';
SELECT is((SELECT outcome FROM order_timeout.expire_order('part 3')) || ', ' || (SELECT outcome FROM order_timeout.reopen_order('part 3')) || ', '
          || t.part('part 3') || ', ' || t.row('part 3'), 'expired, reopened, partial pending, captured 1 due', 'too');
SELECT is(t.report('part 2', 'voided') || ', ' || t.report('part 3', 'voided') || ', ' || t.state('part 2') || ', ' || t.state('part 3'),
          'recorded voided, recorded voided, expired, pending', 'voided');
-- The worker dies again and again: the tries are counted, and the order does not wait for longer than void_within.
CREATE FUNCTION t.lapse(id text) RETURNS text LANGUAGE sql AS $$
    UPDATE order_timeout.attempts SET next_attempt_at = '2000-01-01', leased_until = '2000-01-01' WHERE attempt_ref = id;
    SELECT concat_ws(' ', r.expired, r.leases_returned) FROM order_timeout.sweep_once() r
$$;
CREATE FUNCTION t.void_within_is_over(id text) RETURNS text LANGUAGE sql AS $$
    UPDATE order_timeout.orders SET open_until = '2000-01-01' WHERE order_id = id;
    SELECT outcome FROM order_timeout.expire_order(id)
$$;
SELECT t.closing('dead'), t.claim();
SELECT is(t.lapse('dead') || ', ' || t.row('dead') || ', ' || t.claim(), '0 1, open 1 due maybe, dead dead none query 2', 'a worker that dies');
SELECT is(t.lapse('dead') || ', ' || t.row('dead') || ', ' || t.state('dead'), '0 1, needs_attention 2 maybe attention, closing', 'and another one');
SELECT is(t.void_within_is_over('dead') || ', ' || t.row('dead'), 'expired, needs_attention 2 maybe attention', 'it closes anyway');
SELECT is(t.pay('dead', 'dead', 100) || ', ' || t.row('dead'), 'late expired late 100, captured 2 maybe settled', 'and it was paid');

-- Reported as paid: the payment came before it, comes, or never comes.
SELECT t.closing('before'), t.claim(), t.pay('before', 'charge of before', 100);
SELECT is(t.report('before', 'paid', t.token('before')) || ', ' || t.state('before'), 'recorded captured, paid', 'its payment came before, without its attempt');
SELECT is((SELECT outcome FROM order_timeout.record_payment('before', 'bank', 'charge of before', 100, 'CNY', attempt_ref => 'before'))
          || ', ' || t.row('before'), 'duplicate, captured 0 settled', 'which a repeat names');
SELECT t.closing('never'), t.report('never', 'paid');
SELECT is(t.void_within_is_over('never') || ', ' || t.row('never'), 'expired, captured 0 attention', 'its payment never comes');
SELECT t.closing('never 2'), t.report('never 2', 'paid'), order_timeout.end_attempt('bank', 'never 2', 'failed');
SELECT is(t.state('never 2'), 'expired', 'and the operator knows it');

-- Reopened while a worker has the void, and due again.
CREATE FUNCTION t.reopened(id text) RETURNS text LANGUAGE sql AS $$
    SELECT t.closing(id), t.claim(), t.void_within_is_over(id);
    SELECT outcome FROM order_timeout.reopen_order(id)
$$;
SELECT is(t.reopened('again') || ', ' || t.row('again'), 'reopened, open 0 due leased', 'reopened: the void goes on');
SELECT is(t.expire('again'), 'closing closing', 'due again: it is asked for');
SELECT is(t.row('again'), 'open 0 due leased', 'by the worker that has it');
SELECT is(t.report('again', 'voided', t.token('again')) || ', ' || t.state('again'), 'recorded voided, expired', 'which closes it');
SELECT t.reopened('again 2');
SELECT is(t.pay('again 2', 'again 2', 40) || ', ' || t.row('again 2'), 'partial pending applied, captured 0 settled', 'paid in part by what was to be voided');
SELECT is(t.report('again 2', 'voided', t.token('again 2')) || ', ' || t.expire('again 2'), 'ignored captured, expired expired', 'due again: nothing to ask for');
SELECT t.reopened('again 3'), order_timeout.begin_attempt('again 3', 'bank', 'again 3b'), t.pay('again 3', 'again 3', 40);
SELECT is(t.expire('again 3') || ', ' || t.report('again 3b', 'voided') || ', ' || t.state('again 3'), 'closing closing, recorded voided, expired',
          'due again: the new attempt is asked for');
SELECT is((SELECT refund_pending FROM order_timeout.orders WHERE order_id = 'again 3'), 40::bigint, 'and what was paid goes back');

-- The closing fails: the report stands.
CREATE FUNCTION t.refuse(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'not now'; END$$;
SELECT order_timeout.set_hook('ask', 'close_hook', 't.refuse');
SELECT t.closing('y');
SELECT is(t.report('y', 'voided') || ', ' || t.row('y'), 'recorded voided, voided 0 settled', 'what follows does not refuse it');
SELECT is((SELECT kind || ' ' || why FROM order_timeout.attention WHERE order_id = 'y'), 'set_aside P0001: not now', 'and the closing is set aside');
SELECT order_timeout.set_hook('ask', 'close_hook', NULL);

-- A void that fails keeps no other one waiting.
CREATE FUNCTION t.not_this_one() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$;
CREATE TRIGGER not_this_one BEFORE UPDATE ON order_timeout.attempts FOR EACH ROW
    WHEN (OLD.attempt_ref = 'bad-1' AND NEW.lease_token IS DISTINCT FROM OLD.lease_token) EXECUTE FUNCTION t.not_this_one();
SELECT t.due('bad-1'), t.due('good-1'), t.due('good-2');
SELECT is(t.claim(1), 'good-1 good-1 none submit 1', 'the first one fails');
SELECT is(t.claim(2), 'good-2 good-2 none submit 1', 'and again');
SELECT is(t.row('bad-1'), 'open 0 due', 'it stays due');
DROP TRIGGER not_this_one ON order_timeout.attempts;
SELECT is(t.claim(), 'bad-1 bad-1 none submit 1', 'mended');
SELECT is_empty('SELECT * FROM order_timeout.funds_violations()', 'the proof');
-- A promise holds only the order that it authorises: reopened, reported paid, and promised for longer.
SELECT order_timeout.create_order('longer', 100, 'CNY');
SELECT order_timeout.begin_attempt('longer', 'bank', 'longer-a');
SELECT order_timeout.authorize_attempt('bank', 'longer-a', 100, 'CNY', clock_timestamp() + interval '1 microsecond');
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id = 'longer';
SELECT is((SELECT outcome FROM order_timeout.expire_order('longer')), 'expired', 'a promise ends');
SELECT is((SELECT outcome FROM order_timeout.reopen_order('longer', '1 hour')), 'reopened', 'its order is reopened');
SELECT is((SELECT outcome FROM order_timeout.complete_void('bank', 'longer-a', 'paid')), 'recorded', 'the gateway says that it was paid');
SELECT is((SELECT outcome FROM order_timeout.authorize_attempt('bank', 'longer-a', 100, 'CNY', '2999-01-01')), 'duplicate', 'and promises it for longer');
SELECT is((SELECT concat_ws(' ', state, closes_at = expires_at) FROM order_timeout.orders WHERE order_id = 'longer'), 'pending t',
          'the order has its own deadline');

SELECT * FROM finish();
ROLLBACK;
