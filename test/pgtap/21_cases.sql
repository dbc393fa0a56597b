-- The cases that must come out right, each told as a story.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- At 11:00 the order is closed, at 11:00 the payment succeeds.
SELECT t.create_order('11:00', 100), t.pass_deadline('11:00');
SELECT is(t.pay('11:00', '11:00', 100), 'paid paid applied', 'the payment wins,');
SELECT is(t.expire('11:00'), 'already_paid paid', 'closing fails: the order is paid');
SELECT t.create_order('11:01', 100);
SELECT is(t.expire('11:01'), 'expired expired', 'closing wins,');
SELECT is(t.pay('11:01', '11:01', 100), 'late expired late 100', 'the payment can''t be undone: it becomes a refund');
SELECT is(t.sums('11:01'), 'expired 100 = 0 + 100 + 0 + 0', 'owed in the same transaction');
SELECT is(t.attempt('succeeded'), 'submit 1 recorded succeeded', 'and returned');
SELECT is(t.sums('11:01'), 'expired 100 = 100 + 0 + 0 + 0', 'in full');
SELECT t.sound('the problem itself');

-- 60 of 100 is paid, then it expires.
SELECT t.create_order('60 of 100', 100), t.pay('60 of 100', '60', 60), t.expire('60 of 100');
SELECT is(t.sums('60 of 100'), 'expired 60 = 0 + 60 + 0 + 0', '60 are owed');
SELECT is(t.pay('60 of 100', '40', 40), 'late expired late 40', 'the other 40 come too late');
SELECT is(t.sums('60 of 100'), 'expired 100 = 0 + 100 + 0 + 0', '100 are owed, though 100 were paid');
SELECT is(t.attempt('succeeded') || ', ' || t.attempt('succeeded'), 'submit 1 recorded succeeded, submit 1 recorded succeeded', 'both go back');
SELECT t.sound('60 of 100');

-- 120 of 100 is paid.
SELECT t.create_order('120 of 100', 100), t.pay('120 of 100', '120', 120);
SELECT is(t.sums('120 of 100'), 'paid 120 = 0 + 20 + 0 + 100', 'paid, 20 owed');
SELECT is((SELECT amount || ' of ' || payment_amount FROM order_timeout.claim_refunds('w')), '20 of 120', 'a partial refund of that payment');
SELECT t.sound('120 of 100');

-- The customer pays twice, at two gateways.
SELECT t.create_order('two gateways', 100);
SELECT is(t.pay('two gateways', 'tg', 100, gateway => 'alipay'), 'paid paid applied', 'paid at one');
SELECT is(t.pay('two gateways', 'tg', 100, gateway => 'wechat'), 'surplus paid surplus 100', 'paid at the other');
SELECT is((SELECT gateway || ' ' || amount FROM order_timeout.claim_refunds('w')), 'wechat 100', 'which gives it back');
SELECT t.sound('two gateways');

-- A closed order is paid twice.
SELECT t.create_order('late twice', 100), t.expire('late twice');
SELECT is(t.pay('late twice', 'lt1', 100) || ', ' || t.pay('late twice', 'lt2', 100), 'late expired late 100, late expired late 100', 'late, late');
SELECT is(t.pay('late twice', 'lt1', 100), 'duplicate expired late 100', 'and the first notification comes again');
SELECT is(t.sums('late twice'), 'expired 200 = 0 + 200 + 0 + 0', 'two refunds, not three, not one');
SELECT is(t.attempt('succeeded') || ', ' || t.attempt('succeeded') || ', ' || t.attempt('succeeded'),
          'submit 1 recorded succeeded, submit 1 recorded succeeded, nothing', 'two go back');
SELECT is(t.sums('late twice'), 'expired 200 = 200 + 0 + 0 + 0', '200 in all');
SELECT t.sound('late twice');

-- 100 JPY for an order of 100 CNY.
SELECT t.create_order('jpy', 100);
SELECT is(t.pay('jpy', 'jpy', 100, 'JPY'), 'wrong_currency pending wrong_currency 100', '100 are not 100');
SELECT is((SELECT amount || currency FROM order_timeout.claim_refunds('w')), '100JPY', 'they go back as what they came');
SELECT is(t.expire('jpy'), 'expired expired', 'the order is not paid by them');
SELECT is(t.sums('jpy'), 'expired 0 = 0 + 0 + 0 + 0', 'and owes nothing in its own currency');
SELECT t.sound('jpy');

-- The gateway is quicker than our own database.
SELECT is(t.pay('early bird', 'eb', 100), 'orphan orphan', 'the notification comes before the order');
SELECT is(t.create_order('early bird', 100), 'created paid', 'the order is paid when it comes');
SELECT is(t.pay('early bird', 'eb', 100), 'duplicate paid applied', 'and the notification is an old story');
SELECT is(t.sums('early bird'), 'paid 100 = 0 + 0 + 0 + 100', 'told once');
SELECT t.sound('early bird');

-- A refund fails ten times, and then it worked after all.
SELECT t.owe('ten', 100);
SELECT is(t.attempt('failed') || ', ' || t.attempt('failed'), 'submit 1 recorded failed, nothing', 'it fails, and waits');
CREATE FUNCTION t.fail_until_nothing() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    told text;
    all_told text[] := '{}';
BEGIN
    LOOP
        PERFORM t.all_due();
        told := t.attempt('failed');
        EXIT WHEN told = 'nothing' OR cardinality(all_told) > 100;
        all_told := all_told || told;
    END LOOP;
    RETURN all_told;
END
$$;
SELECT is(t.fail_until_nothing(), ARRAY(SELECT format('query %s recorded failed', i) FROM generate_series(2, 19) AS i)
                                  || 'query 20 recorded needs_attention'::text, 'twenty attempts, then the operator must decide');
SELECT is(t.sums('ten'), 'expired 100 = 0 + 100 + 0 + 0', 'the money is owed, whatever became of the last attempt');
SELECT is((SELECT kind FROM order_timeout.attention WHERE order_id = 'ten'), 'needs_attention', 'somebody is told');
SELECT is((SELECT outcome FROM order_timeout.retry_refund(t.ref('ten-1'))), 'retried', 'who has it tried again');
SELECT is(t.attempt('failed'), 'query 1 recorded failed', 'under the same key, so it is asked about first');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('ten-1'), 'succeeded')), 'recorded', 'succeeded after failed counts');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('ten-1'), 'failed')), 'conflict', 'failed after succeeded is shown');
SELECT is(t.sums('ten'), 'expired 100 = 100 + 0 + 0 + 0', 'returned once');
SELECT t.sound('ten');

-- A worker dies with the lease in its hand; it comes back when another has done the work.
SELECT t.owe('dies', 100);
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('dies') \gset
SELECT is(t.attempt('succeeded'), 'nothing', 'while it has the lease, nobody else has');
SELECT t.lapse_leases();
SELECT refund_ref AS ref2, action AS action, lease_token AS token2 FROM order_timeout.claim_refunds('lives') WHERE order_id = 'dies' \gset
SELECT is(:'ref2'::text, :'ref', 'the same key goes to the next worker');
SELECT is(:'action'::text, 'query', 'which asks what became of it before it sends anything');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'failed', :'token')), 'stale', 'the old worker''s word is stale');
SELECT is((SELECT state FROM order_timeout.refunds WHERE refund_ref = :'ref'), 'processing', 'and changes nothing');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', :'token2')), 'recorded', 'the new one''s counts');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', :'token')), 'duplicate', 'that it succeeded, both may say');
SELECT is(t.sums('dies'), 'expired 100 = 100 + 0 + 0 + 0', 'returned once');
SELECT t.sound('dies');

-- The bank returns a refund: the account is closed.
SELECT t.refund_in('processing', 'closed account') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded');
SELECT is((SELECT outcome FROM order_timeout.reverse_refund(:'ref', 'account closed')), 'reversed', 'the money is with us again');
SELECT is(t.sums('closed account'), 'expired 100 = 0 + 100 + 0 + 0', 'and owed again');
SELECT is((SELECT outcome FROM order_timeout.settle_refund(t.ref('closed account', 'closed account'), 'in cash')), 'settled', 'paid out in cash');
SELECT is(t.sums('closed account'), 'expired 100 = 100 + 0 + 0 + 0', 'done');
SELECT t.sound('closed account');

-- Two clerks ask for 60 of 100 each.
SELECT t.create_order('two clerks', 100), t.pay('two clerks', 'tc', 100);
SELECT is((SELECT outcome FROM order_timeout.request_refund('two clerks', 'clerk 1', 60)), 'accepted', 'the first gets it');
SELECT throws_ok($$SELECT order_timeout.request_refund('two clerks', 'clerk 2', 60)$$, 'OT004', NULL, 'the second does not');
SELECT is((SELECT outcome FROM order_timeout.request_refund('two clerks', 'clerk 1', 60)), 'duplicate', 'the first asks again');
SELECT is(t.sums('two clerks'), 'paid 100 = 0 + 60 + 0 + 40', '60 are owed');
SELECT t.sound('two clerks');

-- A chargeback comes while our refund waits.
SELECT t.owe('chargeback', 100);
SELECT is((SELECT outcome FROM order_timeout.record_refund('bank', 'chargeback-1', 'cb', 100, 'chargeback')), 'recorded', 'the bank took it back');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', 1000) WHERE order_id = 'chargeback'$$, 'so we do not send it again');
SELECT is(t.sums('chargeback'), 'expired 100 = 100 + 0 + 0 + 0', 'it went back once');
SELECT t.sound('chargeback');
SELECT finish();
ROLLBACK;
