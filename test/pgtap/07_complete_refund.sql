-- complete_refund: each result in each state, with and without a lease; partial and excessive returns; contradictions.
-- How long a refund waits for its next attempt: 08.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

CREATE FUNCTION t.complete(refund_ref text, result text, lease_token text DEFAULT NULL, gateway_refund_ref text DEFAULT NULL,
    refunded_amount bigint DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome || ' ' || r.state
      FROM order_timeout.complete_refund($1, $2, $3, $4, refunded_amount => $5) AS r
$$;
CREATE FUNCTION t.token(refund_ref text) RETURNS text LANGUAGE sql AS $$
    SELECT r.lease_token FROM order_timeout.refunds AS r WHERE r.refund_ref = $1
$$;
CREATE FUNCTION t.row_of(refund_ref text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.state, r.attempts, r.last_error, r.gateway_refund_ref)
      FROM order_timeout.refunds AS r WHERE r.refund_ref = $1
$$;

-- With the current lease
SELECT t.refund_in('processing', 'succeeded') AS ref \gset
SELECT is((SELECT (outcome, state, next_attempt_at)::text
             FROM order_timeout.complete_refund(:'ref', 'succeeded', t.token(:'ref'), 'gw-1')), '(recorded,succeeded,)', 'succeeded');
SELECT is((SELECT (state, gateway_refund_ref, settled_at > now())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'),
          '(succeeded,gw-1,t)', 'is the end of it');
SELECT is(t.sums('succeeded'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is back');
SELECT t.refund_in('processing', 'failed') AS ref \gset
SELECT outcome || ' ' || state AS answer, next_attempt_at AS next
  FROM order_timeout.complete_refund(:'ref', 'failed', t.token(:'ref'), error => 'no funds') \gset
SELECT is(:'answer'::text, 'recorded failed', 'failed');
SELECT is(t.row_of(:'ref'), 'failed 1 no funds', 'uses up an attempt and keeps the error');
SELECT is((SELECT next_attempt_at FROM order_timeout.refunds WHERE refund_ref = :'ref'), :'next', 'the answer tells the next attempt');
SELECT cmp_ok(:'next'::timestamptz, '>', clock_timestamp(), 'which is some time off');
SELECT is(t.sums('failed'), 'expired 100 = 0 + 100 + 0 + 0', 'the money is owed');
SELECT t.refund_in('processing', 'unknown') AS ref \gset
SELECT is((SELECT (outcome, state, next_attempt_at > clock_timestamp())::text
             FROM order_timeout.complete_refund(:'ref', 'unknown', t.token(:'ref'), error => 'timeout')), '(recorded,unknown,t)',
          'unknown');
SELECT is(t.row_of(:'ref'), 'unknown 1 timeout', 'uses up an attempt');
SELECT t.refund_in('processing', 'submitted') AS ref \gset
SELECT is((SELECT (outcome, state, next_attempt_at > clock_timestamp())::text
             FROM order_timeout.complete_refund(:'ref', 'submitted', t.token(:'ref'), 'gw-2')), '(recorded,submitted,t)', 'submitted');
SELECT is(t.row_of(:'ref'), 'submitted 0 gw-2', 'uses up no attempt');
SELECT t.refund_in('processing', 'deferred') AS ref \gset
SELECT is((SELECT (outcome, next_attempt_at IS NOT NULL)::text
             FROM order_timeout.complete_refund(:'ref', 'deferred', t.token(:'ref'))), '(recorded,t)', 'deferred');
SELECT is((SELECT attempts FROM order_timeout.refunds WHERE refund_ref = :'ref'), 0, 'uses up no attempt');
SELECT t.all_due();
SELECT is(t.attempt('failed', 'deferred'), 'query 1 recorded failed', 'and is handed out again');
SELECT t.refund_in('processing', 'rejected') AS ref \gset
SELECT is((SELECT (outcome, state, next_attempt_at)::text
             FROM order_timeout.complete_refund(:'ref', 'rejected', t.token(:'ref'), error => 'card closed')),
          '(recorded,needs_attention,)', 'rejected: a person must look');
SELECT is((SELECT last_error FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'card closed', 'with the error');
SELECT is(t.sums('rejected'), 'expired 100 = 0 + 100 + 0 + 0', 'the money is still owed');

-- Without the current lease
SELECT t.refund_in(state, 'no lease ' || state)
  FROM unnest(ARRAY['pending', 'processing', 'unknown', 'failed', 'needs_attention']) AS state;
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L)',
                                t.ref('no lease ' || state, 'no lease ' || state), result)),
          format('(stale,%s)', state), format('%s without a lease, the refund being %s', result, state))
  FROM unnest(ARRAY['pending', 'processing', 'unknown', 'failed', 'needs_attention']) AS state,
       unnest(ARRAY['failed', 'unknown', 'submitted', 'deferred', 'rejected']) AS result
 WHERE NOT (state IN ('unknown', 'needs_attention') AND result IN ('failed', 'rejected'));
SELECT is(t.complete(t.ref('no lease unknown', 'no lease unknown'), 'failed'), 'recorded failed',
          'a failure is the gateway''s word, the refund being unknown');
SELECT is((SELECT attempts FROM order_timeout.refunds WHERE gateway = 'no lease unknown'), 1, 'and ends no second attempt');
SELECT is(t.complete(t.ref('no lease needs_attention', 'no lease needs_attention'), 'failed'), 'recorded needs_attention',
          'and the refund being needs_attention, where it stays');
SELECT t.refund_in('processing', 'wrong lease') AS ref \gset
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L, %L)', :'ref', result, 'made up')),
          '(stale,processing)', result || ' with another lease')
  FROM unnest(ARRAY['failed', 'unknown', 'submitted', 'deferred', 'rejected']) AS result;
SELECT t.token(:'ref') AS token \gset
SELECT is(t.complete(:'ref', 'failed', :'token'), 'recorded failed', 'with the right one it counts');
SELECT ok(t.unchanged_by(format('SELECT order_timeout.complete_refund(%L, %L, %L)', :'ref', 'failed', :'token'))
          !~ 'rows changed', 'once: told again, nothing changes');

-- A submitted refund is ended by a webhook
SELECT t.refund_in('submitted', 'webhook') AS ref \gset
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L)', :'ref', result)),
          '(stale,submitted)', result || ' without a lease, the refund being submitted')
  FROM unnest(ARRAY['unknown', 'submitted', 'deferred']) AS result;
SELECT is(t.complete(:'ref', 'failed'), 'recorded failed', 'failed is taken from anyone');
SELECT t.refund_in('submitted', 'webhook2') AS ref \gset
SELECT is(t.complete(:'ref', 'rejected'), 'recorded needs_attention', 'so is rejected');

-- succeeded is the truth, from anyone, in any open state; what comes after it is ignored
SELECT is(t.complete(ref, 'succeeded', gateway_refund_ref => 'truth-' || state), 'recorded succeeded',
          'succeeded without a lease, the refund being ' || state)
  FROM unnest(ARRAY['pending', 'processing', 'submitted', 'unknown', 'failed', 'needs_attention']) AS state,
       LATERAL t.refund_in(state, 'truth ' || state) AS ref;
SELECT is(t.sums('truth ' || state), 'expired 100 = 100 + 0 + 0 + 0', 'the money is back')
  FROM unnest(ARRAY['pending', 'processing', 'submitted', 'unknown', 'failed', 'needs_attention']) AS state;
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', gateway => 'truth pending')$$, 'it is not handed out');
SELECT t.ref('truth failed', 'truth failed') AS ref \gset
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L, gateway_refund_ref => %L)',
                                :'ref', 'succeeded', 'truth-failed')), '(duplicate,succeeded)', 'succeeded again');
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L)', :'ref', 'succeeded')),
          '(duplicate,succeeded)', 'succeeded again, less talkative');
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L)', :'ref', result)),
          '(ignored,succeeded)', result || ' after succeeded')
  FROM unnest(ARRAY['unknown', 'submitted', 'deferred']) AS result;
-- A failure after that is the gateway's word, without a token: the buyer may have nothing
SELECT is(t.complete(:'ref', 'failed', gateway_refund_ref => 'truth-failed'), 'conflict succeeded', 'failed after succeeded');
SELECT is((SELECT (kind, amount, t.ways(resolved_by))::text FROM order_timeout.attention WHERE refund_ref = :'ref'),
          '(conflict,0,"reverse_refund resolve_conflict")', 'is shown');
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, %L, gateway_refund_ref => %L)',
                                :'ref', result, 'truth-failed')), '(conflict,succeeded)', result || ' again: once')
  FROM unnest(ARRAY['failed', 'rejected']) AS result;
SELECT is((SELECT outcome FROM order_timeout.reverse_refund(:'ref', 'the account was closed')), 'reversed', 'the operator acts on it');
SELECT is(t.conflicts(), 0::bigint, 'which ends it');
SELECT is((SELECT count(*) FROM order_timeout.history('truth failed') WHERE type = 'conflict.resolved'), 1::bigint, 'with an event');
SELECT t.refund_in('processing', 'old worker') AS ref \gset
SELECT t.token(:'ref') AS token \gset
SELECT is(t.complete(:'ref', 'succeeded'), 'recorded succeeded', 'the webhook is quicker than the worker');
SELECT is(t.complete(:'ref', 'failed', :'token'), 'ignored succeeded', 'whose failure is ignored');
SELECT is(t.complete(:'ref', 'succeeded', :'token'), 'duplicate succeeded', 'whose success is no news');
SELECT is(t.conflicts(), 0::bigint, 'none of this is a contradiction');

SELECT t.refund_in('processing', 'number later') AS ref \gset
SELECT t.complete(:'ref', 'succeeded');
SELECT is(t.complete(:'ref', 'succeeded', gateway_refund_ref => 'nl'), 'duplicate succeeded', 'the gateway''s number comes later');
SELECT is(t.conflicts(), 0::bigint, 'which is no contradiction either');

-- What was returned is less than was owed
SELECT t.refund_in('processing', 'less') AS ref \gset
SELECT is(t.complete(:'ref', 'succeeded', t.token(:'ref'), 'less-1', 60), 'recorded succeeded', '60 of 100 came back');
SELECT is(t.refunds('less'), 'less 60 late succeeded, less 40 late pending', 'the rest is a refund of its own');
SELECT is(t.sums('less'), 'expired 100 = 60 + 40 + 0 + 0', 'and owed');
SELECT ok((SELECT note LIKE '%' || :'ref' || '%' FROM order_timeout.refunds WHERE order_id = 'less' AND state = 'pending'),
          'and names what it is the rest of');
SELECT is(t.unchanged_by(format('SELECT outcome FROM order_timeout.complete_refund(%L, %L, NULL, %L, NULL, 60)',
                                :'ref', 'succeeded', 'less-1')), '(duplicate)', 'told again');
SELECT is(t.attempt('succeeded', 'less'), 'submit 1 recorded succeeded', 'the rest is submitted under a key of its own');
SELECT is(t.sums('less'), 'expired 100 = 100 + 0 + 0 + 0', 'all is back');
SELECT t.refund_in('processing', 'same') AS ref \gset
SELECT is(t.complete(:'ref', 'succeeded', refunded_amount => 100), 'recorded succeeded', 'exactly what was owed');
SELECT is(t.refunds('same'), 'same 100 late succeeded', 'leaves no rest');

-- More than was owed
SELECT is(t.conflicts(), 0::bigint, 'no contradiction so far');
SELECT t.refund_in('processing', 'more') AS ref \gset
SELECT is(t.complete(:'ref', 'succeeded', t.token(:'ref'), 'more-1', 150), 'conflict succeeded', '150 instead of 100 came back');
SELECT is(t.sums('more'), 'expired 100 = 100 + 0 + 0 + 0', 'what was asked for is recorded in full');
SELECT is(t.refunds('more'), 'more 100 late succeeded', 'and not more');
SELECT is((SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND refund_ref = :'ref' AND order_id = 'more'), 1::bigint,
          'a person is told');
SELECT is(t.unchanged_by(format('SELECT outcome FROM order_timeout.complete_refund(%L, %L, NULL, %L, NULL, 150)',
                                :'ref', 'succeeded', 'more-1')), '(conflict)', 'once, however often the gateway says it');

-- succeeded that contradicts what is recorded: nothing is overwritten, an event and a row in attention
CREATE FUNCTION t.contradicts(refund_ref text, gateway_refund_ref text, refunded_amount bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    row_before text := (SELECT r::text FROM order_timeout.refunds AS r WHERE r.refund_ref = $1);
    order_id text := (SELECT r.order_id FROM order_timeout.refunds AS r WHERE r.refund_ref = $1);
    events_before bigint := (SELECT count(*) FROM order_timeout.history(order_id));
    sums_before text := t.sums(order_id);
    answer text;
    again text;
BEGIN
    answer := split_part(t.complete($1, 'succeeded', NULL, $2, $3), ' ', 1);
    again := t.unchanged_by(format('SELECT outcome FROM order_timeout.complete_refund(%L, ''succeeded'', NULL, %L, NULL, %L)', $1, $2, $3));
    RETURN concat_ws(', ', answer, again,
        (SELECT count(*) FROM order_timeout.attention AS a WHERE a.kind = 'conflict' AND a.refund_ref = $1) || ' in attention',
        (SELECT count(*) FROM order_timeout.history(order_id)) - events_before || ' event',
        CASE WHEN row_before IS DISTINCT FROM (SELECT r::text FROM order_timeout.refunds AS r WHERE r.refund_ref = $1) THEN 'overwritten' END,
        CASE WHEN sums_before <> t.sums(order_id) THEN 'sums changed' END);
END
$$;
SELECT t.refund_in('processing', 'other ref') AS ref \gset
SELECT t.complete(:'ref', 'succeeded', gateway_refund_ref => 'first');
SELECT is(t.contradicts(:'ref', 'second', NULL), 'conflict, (conflict), 1 in attention, 1 event', 'another gateway_refund_ref');
SELECT t.refund_in('processing', 'other amount') AS ref \gset
SELECT t.complete(:'ref', 'succeeded', gateway_refund_ref => 'oa', refunded_amount => 60);
SELECT is(t.contradicts(:'ref', 'oa', 70), 'conflict, (conflict), 1 in attention, 2 event', 'another refunded_amount; the rest is stopped');
SELECT t.refund_in('processing', 'smaller amount') AS ref \gset
SELECT t.complete(:'ref', 'succeeded', gateway_refund_ref => 'sa');
SELECT is(t.contradicts(:'ref', 'sa', 60), 'conflict, (conflict), 1 in attention, 1 event', 'a smaller one, all being recorded');
SELECT t.refund_in('needs_attention', 'by hand') AS ref \gset
SELECT order_timeout.settle_refund(:'ref', 'in cash');
SELECT is(t.contradicts(:'ref', 'bh', NULL), 'conflict, (conflict), 1 in attention, 1 event', 'settled by hand');
SELECT t.refund_in('needs_attention', 'reversed') AS ref \gset
SELECT order_timeout.reverse_refund(:'ref', 'the gateway lost it');
SELECT is(t.contradicts(:'ref', 'rv', NULL), 'conflict, (conflict), 1 in attention, 2 event', 'reversed: the key was not dead after all');
SELECT is(t.complete(:'ref', result), 'ignored reversed', result || ' after reversed')
  FROM unnest(ARRAY['failed', 'unknown', 'submitted', 'deferred', 'rejected']) AS result;

-- The gateway took it under one number and returned it under another
SELECT t.refund_in('processing', 'two numbers') AS ref \gset
SELECT is(t.complete(:'ref', 'submitted', t.token(:'ref'), 'DX'), 'recorded submitted', 'taken under DX');
SELECT is(t.complete(:'ref', 'succeeded', NULL, 'DY'), 'conflict succeeded', 'returned under DY: perhaps twice');
SELECT is((SELECT (state, gateway_refund_ref)::text FROM order_timeout.refunds WHERE refund_ref = :'ref'), '(succeeded,DX)',
          'it has succeeded, and nothing is overwritten');
SELECT is((SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND refund_ref = :'ref'), 1::bigint, 'a person is told');
SELECT is(t.sums('two numbers'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is counted once');
SELECT is(t.unchanged_by(format('SELECT outcome FROM order_timeout.complete_refund(%L, ''succeeded'', NULL, ''DY'')', :'ref')),
          '(conflict)', 'told again');

-- A key that was declared dead, whose number the gateway then confirms; and one that succeeded before the bank sent it back
SELECT t.refund_in('processing', 'not dead') AS ref \gset
SELECT t.complete(:'ref', 'submitted', t.token(:'ref'), 'GX'), t.complete(:'ref', 'rejected');
SELECT order_timeout.reverse_refund(:'ref', 'the key is dead');
SELECT is(t.contradicts(:'ref', 'GX', NULL), 'conflict, (conflict), 1 in attention, 2 event',
          'reversed, and returned under its own number after all: no repeat');
SELECT is((SELECT outcome FROM order_timeout.record_refund('not dead', 'not dead', 'GX', 100)), 'conflict',
          'nor does record_refund take it for one');
SELECT is(t.sums('not dead'), 'expired 100 = 0 + 100 + 0 + 0', 'it is owed anew, and nothing is counted');
SELECT t.refund_in('processing', 'came back') AS ref \gset
SELECT t.complete(:'ref', 'succeeded', NULL, 'GB');
SELECT order_timeout.reverse_refund(:'ref', 'sent back by the bank');
SELECT is(t.unchanged_by(format('SELECT outcome, state FROM order_timeout.complete_refund(%L, ''succeeded'', NULL, ''GB'')', :'ref')),
          '(duplicate,reversed)', 'what succeeded before the bank sent it back is a repeat');

-- Two refunds, one number of the gateway's
SELECT t.create_order('one number', 1), t.expire('one number'), t.pay('one number', 'on1', 10), t.pay('one number', 'on2', 10);
SELECT t.complete(t.ref('on1'), 'succeeded', gateway_refund_ref => 'shared');
SELECT matches(t.complete(t.ref('on2'), 'succeeded', gateway_refund_ref => 'shared'), '^(recorded|conflict) ', 'is an outcome, not an error');

-- A conflict is cleared by the one who looked at it
SELECT conflict_id AS conflict FROM order_timeout.attention WHERE kind = 'conflict' AND order_id = 'more' \gset
SELECT is((SELECT outcome FROM order_timeout.resolve_conflict(:conflict, 'asked for it back')), 'resolved', 'resolve_conflict');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'more'$$, 'it leaves attention');
SELECT is((SELECT outcome FROM order_timeout.resolve_conflict(:conflict)), 'already_resolved', 'again');

-- Money that is not in the order's sums
SELECT t.create_order('foreign', 100), t.pay('foreign', 'eur', 70, 'EUR', 'eur bank');
SELECT is(t.attempt('succeeded', 'eur bank'), 'submit 1 recorded succeeded', 'a refund in another currency');
SELECT is(t.sums('foreign'), 'pending 0 = 0 + 0 + 0 + 0', 'stays out of the sums');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'eur'), '(70,0)', 'and is tracked');
SELECT t.pay('nowhere', 'orph', 70, gateway => 'orphan bank');
SELECT order_timeout.refund_orphan('orphan bank', 'orph');
SELECT is(t.attempt('succeeded', 'orphan bank'), 'submit 1 recorded succeeded', 'a refund of an orphan');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'orph'), '(70,0)', 'is tracked too');

SELECT throws_ok($$SELECT order_timeout.complete_refund('no-such-refund', 'succeeded')$$, 'OT006', NULL, 'no such refund');
SELECT throws_ok($$SELECT order_timeout.complete_refund('no-such-refund', 'failed')$$, 'OT006', NULL, 'no such refund');
-- What a refund's row says
SELECT t.refund_in('processing', 'row') AS ref \gset
SELECT is((SELECT (returned_at, by_hand, submitted_at, handed_out_at > now())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'),
          '(,f,,t)', 'handed out');
SELECT t.complete(:'ref', 'submitted', t.token(:'ref'));
SELECT ok((SELECT submitted_at > handed_out_at FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'submitted_at');
SELECT t.all_due();
SELECT is(t.attempt('deferred', 'row'), 'query 1 recorded submitted', 'deferred: the gateway has it still');
SELECT t.all_due();
SELECT is(t.attempt('failed', 'row'), 'query 1 recorded failed', 'failed');
SELECT is((SELECT submitted_at FROM order_timeout.refunds WHERE refund_ref = :'ref'), NULL, 'the gateway has it no more');
UPDATE order_timeout.refunds SET last_error = 'no funds' WHERE refund_ref = :'ref';
SELECT t.all_due();
SELECT is(t.attempt('rejected', 'row'), 'query 2 recorded needs_attention', 'rejected');
SELECT is((SELECT (attempts, attention_at > now())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'), '(2,t)', 'is an attempt that ended');
SELECT order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'row-1');
SELECT is((SELECT (last_error, attention_at, returned_at = settled_at)::text FROM order_timeout.refunds WHERE refund_ref = :'ref'), '(,,t)',
          'succeeded: nothing is wrong any more');
SELECT t.refund_in('processing', 'error') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'failed', t.token(:'ref'), error => repeat('é', 1500));
SELECT is((SELECT last_error FROM order_timeout.refunds WHERE refund_ref = :'ref'), repeat('é', 1000),
          'an error is cut after 2000 bytes, between letters');
SELECT t.refund_in('processing', 'more amount') AS ref \gset
SELECT t.complete(:'ref', 'succeeded', refunded_amount => 150);
SELECT is((SELECT (amount, since > now())::text FROM order_timeout.attention WHERE refund_ref = :'ref'), '(50,t)',
          'a conflict tells the part that nothing is recorded for');

-- A number that comes later keeps the same money from being recorded again
SELECT t.refund_in('processing', 'later') AS ref \gset
SELECT t.complete(:'ref', 'succeeded'), t.complete(:'ref', 'succeeded', gateway_refund_ref => 'later-1');
SELECT is((SELECT outcome FROM order_timeout.record_refund('later', 'later', 'later-1', 100)), 'duplicate', 'told by a webhook as well');

SELECT t.sound();
SELECT finish();
ROLLBACK;
