-- record_refund: money that went back without us; what it takes the place of, and when it contradicts what is recorded.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

-- outcome, and the refund that is named: amount, reason, state
CREATE FUNCTION t.record(payment_ref text, gateway_refund_ref text, amount bigint, reason text DEFAULT 'external') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer record;
BEGIN
    SELECT * INTO answer FROM order_timeout.record_refund('bank', $1, $2, $3, $4);
    RETURN concat_ws(' ', answer.outcome, (SELECT concat_ws(' ', r.amount, r.reason, r.state)
                                             FROM order_timeout.refunds AS r WHERE r.refund_ref = answer.refund_ref));
END
$$;

-- Out of what is kept
SELECT t.create_order('kept', 100), t.pay('kept', 'kept', 100);
SELECT is(t.record('kept', 'k-1', 40), 'recorded 40 external succeeded', 'a refund made at the gateway''s dashboard');
SELECT is(t.sums('kept'), 'paid 100 = 40 + 0 + 0 + 60', 'comes out of what is kept');
SELECT is(t.refunds('kept'), 'kept 40 external succeeded', 'a refund that is done');
SELECT is((SELECT (gateway_refund_ref, settled_at > now())::text FROM order_timeout.refunds WHERE order_id = 'kept'), '(k-1,t)',
          'with the gateway''s number');
SELECT is(t.unchanged_by($$SELECT outcome, refund_ref = t.ref('kept') FROM order_timeout.record_refund('bank', 'kept', 'k-1', 40)$$),
          '(duplicate,t)', 'told again');
SELECT is(t.record('kept', 'k-2', 60, 'chargeback'), 'recorded 60 chargeback succeeded', 'a chargeback');
SELECT is(t.refunds('kept'), 'kept 40 external succeeded, kept 60 chargeback succeeded', 'says so');
SELECT is(t.sums('kept'), 'paid 100 = 100 + 0 + 0 + 0', 'nothing is kept now');
SELECT is(t.pay('kept', 'kept-2', 5), 'surplus paid surplus 5', 'the order is still a paid one');
SELECT t.create_order('pend', 100), t.pay('pend', 'pend', 60);
SELECT matches(t.record('pend', 'pend-1', 60), '^recorded', 'of a pending order');
SELECT is(t.sums('pend'), 'pending 60 = 60 + 0 + 0 + 0', 'too');
SELECT is(t.pay('pend', 'pend-2', 100), 'paid paid applied', 'which can still be paid');

-- In the place of refunds that were never handed out
SELECT t.owe('whole', 100);
SELECT matches(t.record('whole-1', 'w-1', 100), '^recorded', 'what we owe went back without us');
SELECT is(t.refunds('whole'), 'whole-1 100 late reversed, whole-1 100 external succeeded', 'what is replaced is reversed, no row vanishes');
SELECT is(t.sums('whole'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is counted once');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', 1000) WHERE order_id = 'whole'$$, 'and not handed out');
SELECT t.owe('some', 100);
SELECT matches(t.record('some-1', 's-1', 30), '^recorded', 'a part of what we owe went back');
SELECT is((SELECT string_agg(amount || ' ' || reason || ' ' || state, ', ' ORDER BY amount) FROM order_timeout.refunds WHERE order_id = 'some'),
          '30 external succeeded, 70 late pending, 100 late reversed', 'the rest is a refund of its own');
SELECT is(t.sums('some'), 'expired 100 = 30 + 70 + 0 + 0', 'and owed');
SELECT is(t.attempt('succeeded'), 'submit 1 recorded succeeded', 'the rest is handed out');
SELECT is(t.sums('some'), 'expired 100 = 100 + 0 + 0 + 0', 'and all is back');
SELECT t.create_order('both', 100), t.pay('both', 'both', 120);
SELECT is(t.record('both', 'b-1', 50), 'recorded 50 external succeeded', 'more than is owed of a payment');
SELECT is(t.sums('both'), 'paid 120 = 50 + 0 + 0 + 70', 'first what is owed, then what is kept');
SELECT t.create_order('several', 100), t.pay('several', 'several', 120);
SELECT order_timeout.request_refund('several', 'k', 30);
SELECT matches(t.record('several', 'sv-1', 40), '^recorded', 'several refunds of one payment');
SELECT is(t.sums('several'), 'paid 120 = 40 + 10 + 0 + 70', 'are replaced before anything is taken from what is kept');
SELECT t.create_order('foreign', 100), t.pay('foreign', 'eur', 70, 'EUR');
SELECT matches(t.record('eur', 'f-1', 70), '^recorded', 'of a payment in another currency');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'eur'), '(70,0)', 'is tracked there');
SELECT is(t.sums('foreign'), 'pending 0 = 0 + 0 + 0 + 0', 'and stays out of the sums');
SELECT t.pay('nowhere', 'orph', 70);
SELECT order_timeout.refund_orphan('bank', 'orph');
SELECT matches(t.record('orph', 'o-1', 70), '^recorded', 'of an orphan that is owed back');
SELECT is((SELECT (refunded, refund_pending)::text FROM order_timeout.payments WHERE payment_ref = 'orph'), '(70,0)', 'is tracked there');

-- Out of what is held
SELECT t.create_order('held', 100, 'hold'), t.expire('held'), t.pay('held', 'held', 100);
SELECT matches(t.record('held', 'h-1', 40), '^recorded', 'of held money');
SELECT is(t.sums('held'), 'expired 100 = 40 + 0 + 60 + 0', 'the rest stays held');
SELECT matches(t.record('held', 'h-2', 60), '^recorded', 'and the rest');
SELECT is(t.sums('held'), 'expired 100 = 100 + 0 + 0 + 0', 'nothing is held now');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'held'$$, 'nothing to decide any more');

-- More than there is, or handed out already: conflict
SELECT t.refund_in('processing', 'out') AS ref \gset
SELECT is((SELECT (outcome, refund_ref)::text FROM order_timeout.record_refund('out', 'out', 'x-1', 100)), '(conflict,)',
          'a refund that a worker has is not replaced: money may go twice');
SELECT is(t.sums('out'), 'expired 100 = 0 + 100 + 0 + 0', 'nothing is counted');
SELECT is((SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND order_id = 'out'), 1::bigint, 'a person is told');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_refund('out', 'out', 'x-1', 100)$$), '(conflict)', 'once');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'x-1')),
          'recorded succeeded', 'it was that very refund, the worker says');
SELECT is(t.sums('out'), 'expired 100 = 100 + 0 + 0 + 0', 'and counts');
SELECT t.refund_in('failed', 'tried');
SELECT is((SELECT outcome FROM order_timeout.record_refund('tried', 'tried', 'x-2', 100)), 'recorded', 'one that failed since is: the gateway does not have it');
SELECT is(t.sums('tried'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is back');
SELECT t.create_order('fits', 100), t.pay('fits', 'fits', 100);
SELECT is(t.record('fits', 'x-3', 150), 'conflict 100 external succeeded', 'what fits is recorded, what exceeds is a conflict');
SELECT is(t.sums('fits'), 'paid 100 = 100 + 0 + 0 + 0', 'never more than was paid');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_refund('bank', 'fits', 'x-3', 150)$$), '(conflict)', 'again');
SELECT is((SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND order_id = 'fits'), 1::bigint, 'one conflict');

-- The same number of the gateway's for something else
SELECT t.create_order('number', 200), t.pay('number', 'n1', 100), t.pay('number', 'n2', 100);
SELECT matches(t.record('n1', 'n-1', 40), '^recorded', 'recorded');
SELECT matches(t.record('n1', 'n-1', 50), '^conflict', 'with another amount');
SELECT matches(t.record('n2', 'n-1', 40), '^conflict', 'of another payment');
SELECT is(t.sums('number'), 'paid 200 = 40 + 0 + 0 + 160', 'nothing is overwritten or counted twice');
SELECT t.create_order('other gateway', 100), t.pay('other gateway', 'og', 100, gateway => 'alipay');
SELECT is((SELECT outcome FROM order_timeout.record_refund('alipay', 'og', 'n-1', 40)), 'recorded', 'another gateway has its own numbers');

-- Our own refund, told by the gateway as if it were not
SELECT t.refund_in('processing', 'own') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'own-1');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_refund('own', 'own', 'own-1', 100)$$), '(duplicate)',
          'a webhook about our own refund is a duplicate');

SELECT t.refund_in('processing', 'taken') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'submitted', lease_token, 'taken-1') FROM order_timeout.refunds WHERE refund_ref = :'ref';
SELECT t.conflicts() AS conflicts \gset
SELECT matches((SELECT outcome FROM order_timeout.record_refund('taken', 'taken', 'taken-1', 100)), '^(recorded|duplicate)$',
               'and one about a refund that the gateway took under that number is no contradiction');
SELECT order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'taken-1');
SELECT is(t.sums('taken'), 'expired 100 = 100 + 0 + 0 + 0', 'the money is counted once');
SELECT is(t.conflicts(), :conflicts::bigint, 'and nobody is alarmed');

-- A refund that the bank sent back waits for a person and was never handed out: it is replaced like any other
SELECT t.refund_in('processing', 'sent back') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded');
SELECT order_timeout.reverse_refund(:'ref', 'account closed');
SELECT is((SELECT outcome FROM order_timeout.record_refund('sent back', 'sent back', 'sb-1', 30)), 'recorded', 'a part was paid out elsewhere');
SELECT is(t.sums('sent back'), 'expired 100 = 30 + 70 + 0 + 0', 'the rest is owed');
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('w', gateway => 'sent back')$$, 'and still waits for a person');

-- A conflict that recorded nothing stays one, though there would be money now
SELECT t.create_order('again', 100, 'hold'), t.expire('again'), t.pay('again', 'again', 100);
SELECT order_timeout.resolve_held('bank', 'again', 'refund');
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('w', 1000) WHERE order_id = 'again' \gset
SELECT is(t.record('again', 'again-1', 100), 'conflict', 'a worker has the refund');
SELECT order_timeout.complete_refund(:'ref', 'rejected', :'token'), order_timeout.reverse_refund(:'ref', 'the key is dead');
SELECT is(t.unchanged_by($$SELECT * FROM order_timeout.record_refund('bank', 'again', 'again-1', 100)$$), '(conflict,)',
          'told again when a new refund waits: still a conflict');
SELECT is(t.sums('again'), 'expired 100 = 0 + 100 + 0 + 0', 'and nothing is counted');

-- A webhook tells our own refund as somebody else's before the worker does
SELECT t.create_order('early', 100), t.pay('early', 'early', 100, gateway => 'early');
SELECT order_timeout.request_refund('early', 'k', 30);
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('w', gateway => 'early') \gset
SELECT is((SELECT outcome FROM order_timeout.record_refund('early', 'early', 'MX', 30)), 'recorded', 'taken for a refund without us');
SELECT is(t.sums('early'), 'paid 100 = 30 + 30 + 0 + 40', 'so far it looks like two');
SELECT is((SELECT outcome || ' ' || state FROM order_timeout.complete_refund(:'ref', 'succeeded', :'token', 'MX')), 'recorded succeeded',
          'the worker says that it was this one');
SELECT is(t.sums('early'), 'paid 100 = 30 + 0 + 0 + 70', 'it is counted once');
SELECT is((SELECT (state, replaced_by = :'ref', gateway_refund_ref)::text FROM order_timeout.refunds
            WHERE order_id = 'early' AND reason = 'external'), '(reversed,t,)', 'the other row has given way');
SELECT is(t.unchanged_by($$SELECT outcome FROM order_timeout.record_refund('early', 'early', 'MX', 30)$$), '(duplicate)', 'the webhook again');
SELECT is(t.unchanged_by(format('SELECT outcome FROM order_timeout.complete_refund(%L, ''succeeded'', NULL, ''MX'')', :'ref')), '(duplicate)',
          'the worker again');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'early'$$, 'and nobody needs to look');
SELECT t.refund_in('processing', 'early late') AS ref \gset
SELECT is((SELECT outcome FROM order_timeout.record_refund('early late', 'early late', 'MY', 100)), 'conflict',
          'of a late payment: nothing to take it from');
SELECT set_eq($$SELECT kind FROM order_timeout.attention WHERE order_id = 'early late'$$, ARRAY['conflict', 'needs_attention'],
              'the operator sees that, and that our refund has stopped');
SELECT is((SELECT c.outcome FROM order_timeout.refunds AS r, order_timeout.complete_refund(r.refund_ref, 'succeeded', r.lease_token, 'MY') AS c
            WHERE r.refund_ref = :'ref'), 'recorded', 'until the worker says that it was this one');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'early late'$$, 'then it is settled');
SELECT is(t.sums('early late'), 'expired 100 = 100 + 0 + 0 + 0', 'and counted');

SELECT throws_ok($$SELECT order_timeout.record_refund('bank', 'no such', 'x-9', 1)$$, 'OT009', NULL, 'no such payment');
SELECT throws_ok($$SELECT order_timeout.record_refund('no such', 'fits', 'x-9', 1)$$, 'OT009', NULL, 'not at this gateway');
-- What is replaced names what stands for it
SELECT t.owe('names', 100);
SELECT t.ref('names-1') AS ref \gset
SELECT refund_ref AS recorded FROM order_timeout.record_refund('bank', 'names-1', 'names-1', 30) \gset
SELECT is((SELECT replaced_by FROM order_timeout.refunds WHERE refund_ref = :'ref'), :'recorded'::text, 'the recorded one stands for it');
SELECT is((SELECT (outcome, new_refund_ref = :'recorded')::text FROM order_timeout.reverse_refund(:'ref', 'x')), '(already_reversed,t)',
          'and reverse_refund says so');
SELECT is((SELECT (amount, note LIKE '%' || :'ref' || '%')::text FROM order_timeout.refunds WHERE order_id = 'names' AND state = 'pending'),
          '(70,t)', 'the rest names what it is the rest of');

-- A row of record_refund that turns out to be ours gives back what it took, whatever that was
CREATE FUNCTION t.claimed(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(name, 100), t.pay(name, name, 100, gateway => name);
    PERFORM FROM order_timeout.request_refund(name, 'k1', 30);
    RETURN (SELECT c.refund_ref FROM order_timeout.claim_refunds('w', gateway => name) AS c);
END
$$;
SELECT t.claimed('charged') AS ref \gset
SELECT order_timeout.record_refund('charged', 'charged', 'CX', 30, 'chargeback');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'CX')), 'recorded', 'a chargeback');
SELECT is(t.sums('charged'), 'paid 100 = 30 + 0 + 0 + 70', 'was ours: counted once');
SELECT t.claimed('unequal') AS ref \gset
SELECT order_timeout.record_refund('unequal', 'unequal', 'UX', 20);
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'UX')), 'conflict', 'another amount');
SELECT is(t.sums('unequal'), 'paid 100 = 20 + 10 + 0 + 70', 'what the gateway said under that number went back, the rest is owed');
SELECT set_eq($$SELECT kind FROM order_timeout.attention WHERE order_id = 'unequal'$$, ARRAY['conflict', 'needs_attention'],
              'and not sent before the operator decides: it may have gone back too');
SELECT t.claimed('replaced') AS ref \gset
SELECT order_timeout.request_refund('replaced', 'k2', 30), order_timeout.record_refund('replaced', 'replaced', 'RX', 30);
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'RX')), 'recorded',
          'one that took the place of another refund');
SELECT is(t.sums('replaced'), 'paid 100 = 30 + 30 + 0 + 40', 'gives it back: that one is owed again');
SELECT is(t.refunds('replaced'), 'replaced 30 requested succeeded, replaced 30 requested reversed, replaced 30 external reversed, replaced 30 reversed pending', 'in a new refund');

-- An orphan that was charged back got its order meanwhile; the chargeback is won
SELECT t.pay('came later', 'orphan-1', 100), t.record('orphan-1', 'ox-1', 100, 'chargeback'), t.create_order('came later', 100);
SELECT is(t.sums('came later'), 'pending 0 = 0 + 0 + 0 + 0', 'its money is gone when the order is created');
SELECT is((SELECT outcome FROM order_timeout.reverse_chargeback('bank', 'ox-1', 'won')), 'reversed', 'and is here again');
SELECT is(t.sums('came later'), 'paid 100 = 0 + 0 + 0 + 100', 'so the order is paid');

SELECT t.sound();
SELECT finish();
ROLLBACK;
