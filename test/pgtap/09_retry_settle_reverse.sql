-- What a person does with a refund: retry_refund, settle_refund, reverse_refund.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- retry_refund
SELECT t.refund_in('needs_attention', 'retry') AS ref \gset
UPDATE order_timeout.refunds SET attempts = 10 WHERE refund_ref = :'ref';
SELECT is((SELECT (outcome, state)::text FROM order_timeout.retry_refund(:'ref')), '(retried,pending)', 'retry');
SELECT is((SELECT (attempts, next_attempt_at <= clock_timestamp())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'), '(0,t)',
          'attempts from zero, due now');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'retry'$$, 'nobody needs to look any more');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.retry_refund(:'ref')), '(already_due,pending)', 'again');
SELECT is((SELECT (refund_ref = :'ref', action, attempt)::text FROM order_timeout.claim_refunds('w', gateway => 'retry')), '(t,query,1)',
          'the same key, so the gateway is asked first');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.retry_refund(ref)), format('(already_due,%s)', state), 'retry a refund that is ' || state)
  FROM unnest(ARRAY['pending', 'processing', 'submitted', 'unknown', 'failed']) AS state, LATERAL t.refund_in(state, 'retry ' || state) AS ref;

-- settle_refund
SELECT t.refund_in('needs_attention', 'settle') AS ref \gset
SELECT is((SELECT (outcome, state)::text FROM order_timeout.settle_refund(:'ref', 'in cash')), '(settled,succeeded)', 'settle');
SELECT is((SELECT (state, note, settled_at > now())::text FROM order_timeout.refunds WHERE refund_ref = :'ref'), '(succeeded,"in cash",t)',
          'the note says how');
SELECT is(t.sums('settle'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is back');
SELECT is((SELECT (outcome, state)::text FROM order_timeout.settle_refund(:'ref', 'by cheque')), '(already_settled,succeeded)', 'again');
SELECT is((SELECT note FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'in cash', 'the first note stays');
SELECT throws_ok(format('SELECT order_timeout.settle_refund(%L, %L)', ref, 'in cash'), 'OT005', NULL, 'settle a refund that is ' || state)
  FROM unnest(ARRAY['pending', 'processing', 'submitted', 'unknown', 'failed']) AS state, LATERAL t.refund_in(state, 'settle ' || state) AS ref;

-- reverse_refund, from succeeded: the bank sent it back
SELECT t.refund_in('processing', 'bank') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'bank-1');
SELECT is(t.sums('bank'), 'expired 100 = 100 + 0 + 0 + 0', 'the money went back');
SELECT outcome AS outcome, new_refund_ref AS new FROM order_timeout.reverse_refund(:'ref', 'account closed') \gset
SELECT is(:'outcome'::text, 'reversed', 'reverse a refund that succeeded');
SELECT isnt(:'new'::text, :'ref', 'a new key');
SELECT is(t.sums('bank'), 'expired 100 = 0 + 100 + 0 + 0', 'it came back to us: owed again');
SELECT is((SELECT state FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'reversed', 'the old row is reversed');
SELECT is((SELECT (state, reason, amount, payment_ref, attempts)::text FROM order_timeout.refunds WHERE refund_ref = :'new'),
          '(needs_attention,reversed,100,bank,0)', 'the new one waits for a person');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', gateway => 'bank')$$, 'and is not handed out');
SELECT is((SELECT (outcome, new_refund_ref = :'new')::text FROM order_timeout.reverse_refund(:'ref', 'account closed')),
          '(already_reversed,t)', 'again');
SELECT is((SELECT outcome FROM order_timeout.retry_refund(:'new')), 'retried', 'the person has a new account number');
SELECT is(t.attempt('succeeded', 'bank'), 'submit 1 recorded succeeded', 'the new key was never sent: submit');
SELECT is(t.sums('bank'), 'expired 100 = 100 + 0 + 0 + 0', 'and the money is back');
SELECT is((SELECT (outcome, new_refund_ref = :'new')::text FROM order_timeout.reverse_refund(:'ref', 'again')),
          '(already_reversed,t)', 'a late repeat changes nothing');

-- reverse_refund, from needs_attention: the gateway declared the key dead
SELECT t.refund_in('needs_attention', 'dead') AS ref \gset
SELECT outcome AS outcome, new_refund_ref AS new FROM order_timeout.reverse_refund(:'ref', 'key expired') \gset
SELECT is(:'outcome'::text, 'reversed', 'reverse a refund that needs attention');
SELECT is(t.sums('dead'), 'expired 100 = 0 + 100 + 0 + 0', 'owed as before, once');
SELECT is((SELECT (state, amount, attempts)::text FROM order_timeout.refunds WHERE refund_ref = :'new'), '(pending,100,0)',
          'the new one is due');
SELECT is(t.attempt('failed', 'dead'), 'submit 1 recorded failed', 'and submitted under the new key');
SELECT is((SELECT (outcome, new_refund_ref = :'new')::text FROM order_timeout.reverse_refund(:'ref', 'key expired')),
          '(already_reversed,t)', 'again');
SELECT is((SELECT count(*) FROM order_timeout.refunds WHERE order_id = 'dead'), 2::bigint, 'there is one new refund only');

-- Settled by hand and sent back, too
SELECT t.refund_in('needs_attention', 'cheque') AS ref \gset
SELECT order_timeout.settle_refund(:'ref', 'by cheque');
SELECT is((SELECT outcome FROM order_timeout.reverse_refund(:'ref', 'the cheque came back')), 'reversed', 'a settled refund can be reversed');
SELECT is(t.sums('cheque'), 'expired 100 = 0 + 100 + 0 + 0', 'and is owed again');

SELECT throws_ok(format('SELECT order_timeout.reverse_refund(%L, %L)', ref, 'why'), 'OT005', NULL, 'reverse a refund that is ' || state)
  FROM unnest(ARRAY['pending', 'processing', 'submitted', 'unknown', 'failed']) AS state, LATERAL t.refund_in(state, 'reverse ' || state) AS ref;

-- What is at its end
SELECT t.refund_in('processing', 'end') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded');
SELECT throws_ok(format('SELECT order_timeout.retry_refund(%L)', :'ref'), 'OT005', NULL, 'retry what succeeded');
SELECT throws_ok(format('SELECT order_timeout.settle_refund(%L, %L)', :'ref', 'x'), 'OT005', NULL, 'settle what succeeded at the gateway');
SELECT order_timeout.reverse_refund(:'ref', 'sent back');
SELECT throws_ok(format('SELECT order_timeout.retry_refund(%L)', :'ref'), 'OT005', NULL, 'retry what is reversed');
SELECT throws_ok(format('SELECT order_timeout.settle_refund(%L, %L)', :'ref', 'x'), 'OT005', NULL, 'settle what is reversed');

-- Refunds that are in no order's sums
SELECT t.pay('nowhere', 'orph', 70, gateway => 'orph');
SELECT refund_ref AS ref FROM order_timeout.refund_orphan('orph', 'orph') \gset
SELECT t.attempt('rejected', 'orph');
SELECT is((SELECT outcome FROM order_timeout.reverse_refund(:'ref', 'dead key')), 'reversed', 'of an orphan: reversed');
SELECT is(t.attempt('rejected', 'orph'), 'submit 1 recorded needs_attention', 'rejected again');
SELECT is((SELECT outcome FROM order_timeout.settle_refund(t.ref('orph', 'orph'), 'in cash')), 'settled', 'and settled');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'orph'), '(70,0)', 'the payment knows');

SELECT throws_ok($$SELECT order_timeout.retry_refund('no-such')$$, 'OT006', NULL, 'retry: no such refund');
SELECT throws_ok($$SELECT order_timeout.settle_refund('no-such', 'x')$$, 'OT006', NULL, 'settle: no such refund');
SELECT throws_ok($$SELECT order_timeout.reverse_refund('no-such', 'x')$$, 'OT006', NULL, 'reverse: no such refund');
-- What a reversal says
SELECT t.refund_in('needs_attention', 'says') AS ref \gset
SELECT new_refund_ref AS new, state AS state FROM order_timeout.reverse_refund(:'ref', 'key expired') \gset
SELECT is(:'state'::text, 'reversed', 'the answer''s state is the old one''s');
SELECT is((SELECT note FROM order_timeout.refunds WHERE refund_ref = :'new'), 'key expired', 'the reason is the new one''s note');
SELECT is((SELECT replaced_by FROM order_timeout.refunds WHERE refund_ref = :'ref'), :'new'::text, 'the old one names it');

SELECT t.sound();
SELECT finish();
ROLLBACK;
