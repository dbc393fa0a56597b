-- claim_refunds: what is handed out, to whom, for how long, and what becomes of a lease that lapsed.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, refund_lease, refund_max_attempts) VALUES ('lease', '42 minutes', 10), ('once', '5 minutes', 1);

SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w')$$, 'nothing is owed: no rows');

-- What a claim says and stores
SELECT t.create_order('o', 100), t.pay('o', 'p1', 130);
SELECT is((SELECT (refund_ref = t.ref('p1'), order_id, gateway, payment_ref, amount, currency, payment_amount, action, attempt,
                   lease_token <> '', leased_until BETWEEN clock_timestamp() + interval '4 min' AND clock_timestamp() + interval '5 min'
                  )::text
             FROM order_timeout.claim_refunds('w1')), '(t,o,bank,p1,30,CNY,130,submit,1,t,t)', 'all that a worker needs');
SELECT is((SELECT (state, worker, attempts, leased_until > now())::text FROM order_timeout.refunds WHERE payment_ref = 'p1'),
          '(processing,w1,0,t)', 'the refund is leased; no attempt has ended');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w2')$$, 'nobody else gets it');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w1')$$, 'nor the same worker twice');
SELECT is(t.sums('o'), 'paid 130 = 0 + 30 + 0 + 100', 'the money is owed all the same');

-- How long
SELECT t.create_order('l', 100, 'lease'), t.pay('l', 'l1', 101);
SELECT ok((SELECT leased_until BETWEEN clock_timestamp() + interval '41 min' AND clock_timestamp() + interval '42 min'
             FROM order_timeout.claim_refunds('w')), 'the policy''s refund_lease');
SELECT t.create_order('l2', 100, 'lease'), t.pay('l2', 'l2', 101);
SELECT ok((SELECT leased_until BETWEEN clock_timestamp() + interval '5 s' AND clock_timestamp() + interval '10 s'
             FROM order_timeout.claim_refunds('w', lease => '10 s')), 'or the lease asked for');

-- How many, and the oldest first
SELECT t.owe('many', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
SELECT results_eq($$SELECT payment_ref FROM order_timeout.claim_refunds('w', 1)$$, $$VALUES ('many-1')$$, 'the oldest first');
SELECT set_eq($$SELECT payment_ref FROM order_timeout.claim_refunds('w', 2)$$, $$VALUES ('many-2'), ('many-3')$$, 'then the next');
SELECT is((SELECT count(*) FROM order_timeout.claim_refunds('w', NULL, NULL, NULL)), 10::bigint, 'ten unless told');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', 100)$$, 'that was all');
SELECT is((SELECT count(DISTINCT lease_token) FROM order_timeout.refunds WHERE order_id = 'many'), 13::bigint,
          'each lease has a token of its own');

-- Of one gateway
SELECT t.create_order('g', 1), t.expire('g');
SELECT t.pay('g', 'g1', 1, gateway => 'alipay'), t.pay('g', 'g2', 2, gateway => 'wechat'), t.pay('g', 'g3', 3, gateway => 'alipay');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', gateway => 'Alipay')$$, 'a gateway that has none');
SELECT set_eq($$SELECT payment_ref FROM order_timeout.claim_refunds('w', gateway => 'alipay')$$, $$VALUES ('g1'), ('g3')$$,
              'only this gateway''s');
SELECT set_eq($$SELECT payment_ref FROM order_timeout.claim_refunds('w')$$, $$VALUES ('g2')$$, 'the rest');

-- Only what is due
SELECT t.owe('due', 1);
UPDATE order_timeout.refunds SET next_attempt_at = clock_timestamp() + interval '1 minute' WHERE order_id = 'due';
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w')$$, 'one that waits is not handed out');
UPDATE order_timeout.refunds SET next_attempt_at = clock_timestamp() - interval '1 us' WHERE order_id = 'due';
SELECT is(t.attempt('rejected'), 'submit 1 recorded needs_attention', 'now it is');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w')$$, 'one that needs attention is not');
SELECT t.refund_in('pending', 'done');
SELECT is(t.attempt('succeeded'), 'submit 1 recorded succeeded', 'one is done');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w')$$, 'and never handed out again');

-- submit once, query ever after, under the same key
SELECT t.refund_in('pending', 'again');
SELECT is(t.attempt('failed', 'again'), 'submit 1 recorded failed', 'submit the first time');
SELECT t.all_due();
SELECT is(t.attempt('unknown', 'again'), 'query 2 recorded unknown', 'query ever after');
SELECT t.all_due();
SELECT matches(t.attempt('deferred', 'again'), '^query 3 recorded ', 'and a third time');
SELECT t.all_due();
SELECT is(t.attempt('failed', 'again'), 'query 3 recorded failed', 'deferred used up no attempt');
SELECT is((SELECT count(*) FROM order_timeout.refunds WHERE order_id = 'again'), 1::bigint, 'it is one refund all along');
SELECT t.refund_in('pending', 'deferred first');
SELECT t.attempt('deferred', 'deferred first');
SELECT t.all_due();
SELECT is((SELECT action || ' ' || attempt FROM order_timeout.claim_refunds('w', gateway => 'deferred first')), 'query 1',
          'one that was handed out once is queried, whatever the worker said');

-- A lease that lapsed
SELECT t.refund_in('pending', 'lapse');
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('slow', gateway => 'lapse') \gset
SELECT t.lapse_leases();
SELECT refund_ref AS ref2, lease_token AS token2, action || ' ' || attempt AS how
  FROM order_timeout.claim_refunds('quick', gateway => 'lapse') \gset
SELECT is(:'how'::text, 'query 2', 'a lapsed lease goes to another worker, as a query');
SELECT is(:'ref2'::text, :'ref', 'under the same key');
SELECT isnt(:'token2'::text, :'token', 'with another token');
SELECT is((SELECT state || ' ' || worker || ' ' || attempts FROM order_timeout.refunds WHERE refund_ref = :'ref'),
          'processing quick 1', 'it counts as an attempt that ended');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.complete_refund(:'ref', 'failed', :'token')), 'stale processing',
          'what the slow worker says is stale');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'failed', :'token2')), 'recorded', 'the quick one counts');

SELECT t.refund_in('pending', 'late answer');
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('slow', gateway => 'late answer') \gset
SELECT t.lapse_leases();
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.complete_refund(:'ref', 'failed', :'token')), 'recorded failed',
          'a lapsed lease is current until somebody takes it');

-- The sweeper takes lapsed leases back; first those that lapsed above
SELECT order_timeout.sweep_once();
SELECT t.refund_in('pending', 'swept');
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('gone', gateway => 'swept') \gset
SELECT is((SELECT leases_returned FROM order_timeout.sweep_once()), 0::bigint, 'a lease that runs is left alone');
SELECT is((SELECT state FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'processing', 'indeed');
UPDATE order_timeout.refunds SET leased_until = clock_timestamp() - interval '1 s', next_attempt_at = clock_timestamp() - interval '1 s'
 WHERE refund_ref = :'ref';
SELECT is((SELECT leases_returned FROM order_timeout.sweep_once()), 1::bigint, 'one that lapsed is taken back');
SELECT is((SELECT (state, attempts, next_attempt_at <= clock_timestamp())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'),
          '(unknown,1,t)', 'as an attempt that ended unknown, due at once');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'submitted', :'token')), 'stale', 'its token is no good any more');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', :'token')), 'recorded', 'except for the truth');

-- The last attempt that lapses
SELECT t.create_order('once', 1, 'once'), t.expire('once'), t.pay('once', 'once', 1, gateway => 'once');
SELECT is((SELECT attempt FROM order_timeout.claim_refunds('w', gateway => 'once')), 1, 'the only attempt');
SELECT t.lapse_leases();
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', gateway => 'once')$$, 'lapsed: is not handed out again');
SELECT is((SELECT state || ' ' || attempts FROM order_timeout.refunds WHERE order_id = 'once'), 'needs_attention 1',
          'a person must look');
SELECT is(t.sums('once'), 'expired 1 = 0 + 1 + 0 + 0', 'it is still owed');

-- Refunds of orphans are handed out like others
SELECT t.pay('no order', 'orph', 7, gateway => 'orph');
SELECT order_timeout.refund_orphan('orph', 'orph');
SELECT is((SELECT (order_id, payment_ref, amount, payment_amount, action)::text FROM order_timeout.claim_refunds('w', gateway => 'orph')),
          '("no order",orph,7,7,submit)', 'a refund of an orphan');
SELECT t.sound();

-- A refund whose payment somebody deleted
SELECT t.create_order('torn', 1), t.expire('torn'), t.pay('torn', 'torn-1', 1, gateway => 'torn'), t.pay('torn', 'torn-2', 2, gateway => 'torn'),
       t.pay('torn', 'torn-3', 3, gateway => 'torn');
DELETE FROM order_timeout.payments WHERE payment_ref = 'torn-1';
SELECT is((SELECT string_agg(payment_ref, ' ' ORDER BY payment_ref) FROM order_timeout.claim_refunds('w', 2, gateway => 'torn')), 'torn-2 torn-3',
          'a refund without its payment keeps nobody from the others');
SELECT is((SELECT kind FROM order_timeout.attention WHERE payment_ref = 'torn-1'), 'needs_attention', 'a person must look at it');
-- What is over is over: no lease is left on a refund that is not leased
SELECT t.refund_in('failed', 'over');
SELECT is((SELECT (lease_token, leased_until, worker)::text FROM order_timeout.refunds WHERE gateway = 'over'), '(,,)', 'no lease is left');
SELECT t.refund_in('processing', 'lapsed');
SELECT t.lapse_leases(), order_timeout.sweep_once();
SELECT is((SELECT (lease_token, leased_until, worker, last_error IS NOT NULL)::text FROM order_timeout.refunds WHERE gateway = 'lapsed'),
          '(,,,t)', 'nor when it lapsed, which is the last error');

-- A lapsed lease that was the last attempt takes nobody's place
SELECT t.create_order('places', 1, 'once'), t.expire('places'), t.pay('places', 'places-1', 1, gateway => 'places');
SELECT is((SELECT payment_ref FROM order_timeout.claim_refunds('w', 1, gateway => 'places')), 'places-1', 'one is handed out');
SELECT t.lapse_leases();
SELECT t.pay('places', 'places-2', 2, gateway => 'places'), t.pay('places', 'places-3', 3, gateway => 'places');
SELECT is((SELECT string_agg(payment_ref, ' ' ORDER BY payment_ref) FROM order_timeout.claim_refunds('w', 2, gateway => 'places')),
          'places-2 places-3', 'it lapses; who asks for two gets two others');

-- Refunds of one closing are due in the same microsecond: both stores hand them out in one order
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds JOIN order_timeout.payments USING (gateway, payment_ref)
 WHERE settled_at IS NULL;
SELECT t.create_order('same', 100);
SELECT t.pay('same', 'same-' || i, 1, gateway => (ARRAY['x', 'a', 'm'])[1 + i % 3]) FROM generate_series(1, 30) AS i;
SELECT t.cancel('same');
SELECT is((SELECT count(DISTINCT next_attempt_at) FROM order_timeout.refunds WHERE order_id = 'same'), 1::bigint, 'all due at once');
CREATE FUNCTION t.claimed_in(store text, max_refunds integer, gateway text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM set_config('order_timeout.store', store, true);
    SELECT string_agg(c.payment_ref, ' ' ORDER BY c.n) INTO answer
      FROM order_timeout.claim_refunds('worker', max_refunds, gateway => gateway)
           WITH ORDINALITY AS c (refund_ref, order_id, gw, payment_ref, amount, currency, pa, action, attempt, token, until, n);
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN answer;
END
$$;
-- whatever plan PostgreSQL has for it
DISCARD PLANS;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT is(t.claimed_in('sql', n, g), t.claimed_in('auto', n, g), format('%s of gateway %s', n, g))
  FROM unnest(ARRAY[1, 3, 11, 30]) AS n, unnest(ARRAY[NULL, 'a', 'x']) AS g;
SELECT is(array_length(string_to_array(t.claimed_in('sql', 30, NULL), ' '), 1), 30, 'all of them');
SELECT finish();
ROLLBACK;
