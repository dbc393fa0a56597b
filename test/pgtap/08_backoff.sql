-- How long a refund waits after an attempt: doubling, cap, jitter; when it stops; how long a submitted one may take.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, refund_backoff, refund_backoff_max, refund_jitter, refund_max_attempts, refund_settle_within)
VALUES ('exact', '1 minute', '30 minutes', 0, 1000, '14 days'),
       ('three', '1 minute', '1 day', 0.1, 3, '14 days'),
       ('spread', '100 s', '1 day', 0.5, 10, '14 days'),
       ('capped', '60 s', '60 s', 0.25, 10, '14 days'),
       ('huge', '365 days', '365 days', 1, 1000, '14 days'),
       ('hasty', '1 ms', '1 ms', 0, 10, '1 ms');

-- A refund of a late payment at a gateway of its own, under a policy
CREATE FUNCTION t.owe_by(policy text, name text) RETURNS text LANGUAGE sql AS $$
    SELECT t.create_order($2, 1000, $1);
    SELECT t.expire($2);
    SELECT t.pay($2, $2, 100, gateway => $2);
    SELECT t.ref($2, $2)
$$;
CREATE FUNCTION t.next_attempt(result text, name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.all_due();
    RETURN t.attempt(result, name);
END
$$;
-- seconds until the next attempt; less those that have passed since
CREATE FUNCTION t.wait(name text) RETURNS numeric LANGUAGE sql AS $$
    SELECT extract(epoch FROM r.next_attempt_at - clock_timestamp()) FROM order_timeout.refunds AS r WHERE r.gateway = $1
$$;
CREATE FUNCTION t.minutes_after(result text, name text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.next_attempt(result, name);
    RETURN round(t.wait(name) / 60);
END
$$;

-- Doubling and the cap, without jitter
SELECT t.owe_by('exact', 'e');
SELECT is(ARRAY(SELECT t.minutes_after('failed', 'e') FROM generate_series(1, 8)),
          ARRAY[1, 2, 4, 8, 16, 30, 30, 30], 'failed: doubles from refund_backoff to refund_backoff_max');
SELECT t.owe_by('exact', 'u');
SELECT is(ARRAY(SELECT t.minutes_after('unknown', 'u') FROM generate_series(1, 4)), ARRAY[1, 2, 4, 8],
          'unknown: the same');
SELECT is(t.minutes_after('failed', 'u'), 16, 'both count together');
UPDATE order_timeout.refunds SET attempts = 997 WHERE gateway = 'u';
SELECT is(t.minutes_after('failed', 'u'), 30, 'the cap holds after many attempts');
UPDATE order_timeout.policies SET refund_backoff_max = '40 minutes' WHERE policy = 'exact';
SELECT is(t.minutes_after('failed', 'u'), 40, 'the policy as it is now');
SELECT t.owe_by('huge', 'h');
SELECT ok((SELECT bool_and(t.minutes_after('failed', 'h') BETWEEN 0 AND 2 * 365 * 24 * 60) FROM generate_series(1, 60)),
          'the longest waits overflow nothing');

-- Jitter
SELECT count(t.owe_by('spread', 's' || i)), count(t.owe_by('capped', 'c' || i)) FROM generate_series(1, 40) AS i;
SELECT t.attempt('failed', 's' || i), t.attempt('failed', 'c' || i) FROM generate_series(1, 40) AS i;
-- A few seconds are given to a slow machine.
SELECT ok((SELECT bool_and(t.wait('s' || i) BETWEEN 45 AND 150) FROM generate_series(1, 40) AS i), 'within the spread of the first wait');
SELECT cmp_ok((SELECT count(DISTINCT round(t.wait('s' || i))) FROM generate_series(1, 40) AS i), '>', 5::bigint, 'and really spread');
SELECT ok((SELECT bool_and(t.wait('c' || i) BETWEEN 40 AND 60) FROM generate_series(1, 40) AS i), 'never longer than the longest wait');
SELECT t.all_due();
SELECT t.attempt('failed', 's' || i) FROM generate_series(1, 40) AS i;
SELECT ok((SELECT bool_and(t.wait('s' || i) BETWEEN 95 AND 300) FROM generate_series(1, 40) AS i), 'the spread doubles with the wait');
SELECT t.refund_in('failed', 'default');
SELECT ok(t.wait('default') BETWEEN 50 AND 66, 'by default a minute, a tenth more or less');

-- After refund_max_attempts
SELECT t.owe_by('three', 't');
SELECT is(ARRAY(SELECT t.next_attempt(r, 't') FROM unnest('{failed,unknown,failed}'::text[]) AS r),
          ARRAY['submit 1 recorded failed', 'query 2 recorded unknown', 'query 3 recorded needs_attention'],
          'the last attempt without an end: needs_attention');
SELECT is(t.attempt('failed', 't'), 'nothing', 'it is not handed out any more');
SELECT is(t.sums('t'), 'expired 100 = 0 + 100 + 0 + 0', 'the money is still owed');
SELECT is((SELECT kind FROM order_timeout.attention WHERE refund_ref = t.ref('t', 't')), 'needs_attention', 'and a person is told');
SELECT is((SELECT (attempts, next_attempt_at)::text FROM order_timeout.refunds WHERE gateway = 't'), '(3,)', 'three attempts, no next');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('t', 't'), 'succeeded')), 'recorded', 'the truth still counts');
SELECT t.owe_by('three', 'd');
SELECT is((SELECT string_agg(split_part(t.next_attempt('deferred', 'd'), ' ', 2), ' ')
             FROM generate_series(1, 5)), '1 1 1 1 1', 'deferred never uses up an attempt');
SELECT t.owe_by('three', 'lapse');
DO $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        PERFORM FROM order_timeout.claim_refunds('w', gateway => 'lapse');
        PERFORM t.lapse_leases();
    END LOOP;
END
$$;
SELECT is(t.attempt('failed', 'lapse'), 'nothing', 'three lapsed leases are three attempts');
SELECT is((SELECT state || ' ' || attempts FROM order_timeout.refunds WHERE gateway = 'lapse'), 'needs_attention 3', 'and enough');

-- submitted: uses up no attempts, is asked about again, has refund_settle_within
SELECT t.owe_by('three', 'sub');
SELECT is(ARRAY(SELECT DISTINCT t.next_attempt('submitted', 'sub') FROM generate_series(1, 8) ORDER BY 1),
          ARRAY['query 1 recorded submitted', 'submit 1 recorded submitted'], 'submitted again and again uses up no attempts');
SELECT t.next_attempt('submitted', 'sub');
SELECT ok(t.wait('sub') BETWEEN 1 AND 86400 * 1.1, 'it waits in between, no longer than refund_backoff_max');
SELECT t.owe_by('hasty', 'overdue');
SELECT is(t.attempt('submitted', 'overdue'), 'submit 1 recorded submitted', 'one that the gateway took');
SELECT pg_sleep(0.01);
-- Whether it is asked about once more is not laid down; that it does not stay submitted is.
SELECT t.attempt('submitted', 'overdue');
SELECT is((SELECT state FROM order_timeout.refunds WHERE gateway = 'overdue'), 'needs_attention',
          'and did not end within refund_settle_within needs attention');
SELECT is(t.sums('overdue'), 'expired 100 = 0 + 100 + 0 + 0', 'still owed');
SELECT is(t.attempt('submitted', 'overdue'), 'nothing', 'and is left to a person');
-- A submitted refund that nobody asks about is found by the sweeper, and has its whole time again when it is retried
SELECT t.refund_in('submitted', 'old') AS ref \gset
UPDATE order_timeout.refunds SET submitted_at = submitted_at - interval '15 days' WHERE refund_ref = :'ref';
SELECT order_timeout.sweep_once();
SELECT is((SELECT state FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'needs_attention', 'submitted for too long, no worker about');
SELECT order_timeout.retry_refund(:'ref');
SELECT is(t.attempt('submitted', 'old'), 'query 1 recorded submitted', 'retried, and submitted anew');
SELECT order_timeout.sweep_once();
SELECT is((SELECT state FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'submitted', 'its time runs from there');

-- A month is 30 days wherever it is compared: for the sweeper as for claim_refunds
INSERT INTO order_timeout.policies (policy, refund_settle_within) VALUES ('a month', '1 month');
SELECT t.owe_by('a month', 'month');
SELECT t.attempt('submitted', 'month');
UPDATE order_timeout.refunds SET submitted_at = clock_timestamp() - interval '29 days 12 hours' WHERE gateway = 'month';
SELECT order_timeout.sweep_once();
SELECT is((SELECT state FROM order_timeout.refunds WHERE gateway = 'month'), 'submitted', 'refund_settle_within of a month: not after 29.5 days');
UPDATE order_timeout.refunds SET submitted_at = clock_timestamp() - interval '30 days 12 hours' WHERE gateway = 'month';
SELECT order_timeout.sweep_once();
SELECT is((SELECT state FROM order_timeout.refunds WHERE gateway = 'month'), 'needs_attention', 'but after 30.5 days, whatever month it is');

-- deferred waits as long as the attempt before
SELECT t.owe_by('exact', 'def');
SELECT is(ARRAY(SELECT t.minutes_after(r, 'def') FROM unnest('{failed,failed,failed,deferred,deferred}'::text[]) AS r), ARRAY[1, 2, 4, 4, 4],
          'deferred waits like the attempt before');

-- Too long submitted: found by a claim, and by a report that comes too late
SELECT t.refund_in('submitted', 'old claim') AS ref \gset
UPDATE order_timeout.refunds SET submitted_at = submitted_at - interval '15 days' WHERE refund_ref = :'ref';
SELECT t.all_due();
SELECT is(t.attempt('submitted', 'old claim'), 'nothing', 'it is not handed out');
SELECT is((SELECT kind || ': ' || (why LIKE '%refund_settle_within%') FROM order_timeout.attention WHERE refund_ref = :'ref'),
          'needs_attention: true', 'and says why');
SELECT t.refund_in('submitted', 'old report') AS ref \gset
SELECT t.all_due();
SELECT lease_token AS token FROM order_timeout.claim_refunds('w', gateway => 'old report') \gset
UPDATE order_timeout.refunds SET submitted_at = submitted_at - interval '15 days' WHERE refund_ref = :'ref';
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.complete_refund(:'ref', 'submitted', :'token')), 'recorded needs_attention',
          'still submitted, and too long');

SELECT t.sound();
SELECT finish();
ROLLBACK;
