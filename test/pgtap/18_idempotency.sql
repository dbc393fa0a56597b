-- Every call may be repeated: the documented answer, and no row changes.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold'), ('reopen', 'reopen');

-- Makes a call, and makes it again: what the first one answered, what the second one did, and whether it changed a row.
CREATE FUNCTION t.twice(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first record;
BEGIN
    EXECUTE 'SELECT * FROM order_timeout.' || call INTO first;
    RETURN first.outcome || ', ' || t.unchanged_by('SELECT outcome FROM order_timeout.' || call);
END
$$;

SELECT t.create_order('part', 100), t.create_order('due', 100), t.create_order('r', 100, 'reopen'), t.create_order('h', 100, 'hold');
SELECT t.pay('due', 'due-1', 60), t.expire('r'), t.expire('h'), t.pay('h', 'h-3', 10);
SELECT t.pass_deadline('due');
SELECT t.refund_in('needs_attention', 'retry') AS retry \gset
SELECT t.refund_in('needs_attention', 'settle') AS settle \gset
SELECT t.refund_in('needs_attention', 'dead') AS dead \gset
SELECT t.refund_in('pending', 'bank') AS bank \gset
SELECT t.refund_in('submitted', 'sub') AS sub \gset
SELECT t.refund_in('processing', 'more') AS more \gset
SELECT t.create_order('try', 100), t.create_order('try part', 100), t.create_order('try late', 100), t.create_order('try ends', 100);
SELECT t.void_in('needs_attention', 'void retry'), t.void_in('leased', 'void'), t.void_in('leased', 'void paid'), t.void_in('leased', 'void failed');
SELECT t.void_in('needs_attention', 'void stuck');

SELECT is(t.twice(call), answers, call) FROM (VALUES
    ($$create_order('o', 100, 'CNY')$$, 'created, (exists)'),
    ($$create_order('free', 0, 'CNY')$$, 'created, (exists)'),
    ($$record_payment('part', 'bank', 'part-1', 60, 'CNY')$$, 'partial, (duplicate)'),
    ($$record_payment('o', 'bank', 'o-1', 130, 'CNY')$$, 'paid, (duplicate)'),
    ($$record_payment('o', 'bank', 'o-2', 10, 'CNY')$$, 'surplus, (duplicate)'),
    ($$record_payment('o', 'bank', 'o-3', 10, 'EUR')$$, 'wrong_currency, (duplicate)'),
    ($$record_payment('nobody', 'bank', 'orph-1', 10, 'CNY')$$, 'orphan, (duplicate)'),
    ($$record_payment('nobody', 'bank', 'orph-2', 10, 'CNY')$$, 'orphan, (duplicate)'),
    ($$record_payment('r', 'bank', 'r-1', 10, 'CNY')$$, 'late, (duplicate)'),
    ($$record_payment('r', 'bank', 'r-2', 100, 'CNY')$$, 'reopened, (duplicate)'),
    ($$record_payment('h', 'bank', 'h-1', 100, 'CNY')$$, 'held, (duplicate)'),
    ($$record_payment('h', 'bank', 'h-2', 100, 'CNY')$$, 'held, (duplicate)'),
    ($$request_refund('o', 'k1', 60)$$, 'accepted, (duplicate)'),
    ($$request_refund('o', 'k2')$$, 'accepted, (duplicate)'),
    ($$expire_order('due')$$, 'expired, (already_closed)'),
    ($$expire_order('unheard of')$$, 'not_found, (not_found)'),
    ($$expire_order('part')$$, 'not_due, (not_due)'),
    ($$extend_order('part', '2999-01-01')$$, 'extended, (unchanged)'),
    ($$cancel_order('part', 'reason')$$, 'cancelled, (already_closed)'),
    ($$cancel_order('due')$$, 'cancelled, (already_closed)'),
    ($$cancel_order('o')$$, 'already_paid, (already_paid)'),
    ($$resolve_held('bank', 'h-3', 'refund')$$, 'refunded, (already_resolved)'),
    ($$resolve_held('bank', 'h-1', 'accept')$$, 'accepted, (already_resolved)'),
    ($$accept_payment('bank', 'h-1')$$, 'already_accepted, (already_accepted)'),
    ($$accept_payment('bank', 'h-3')$$, 'surplus, (surplus)'),
    ($$accept_short('o')$$, 'already_paid, (already_paid)'),
    ($$refund_orphan('bank', 'orph-1')$$, 'refunded, (already_refunded)'),
    ($$assign_orphan('bank', 'orph-2', 'free')$$, 'surplus, (duplicate)'),
    ($$record_refund('bank', 'orph-2', 'x-1', 10)$$, 'recorded, (duplicate)'),
    ($$record_refund('bank', 'r-1', 'x-2', 100)$$, 'conflict, (conflict)'),
    (format('complete_refund(%L, ''failed'')', :'sub'), 'recorded, (duplicate)'),
    (format('complete_refund(%L, ''succeeded'', gateway_refund_ref => ''x-3'')', :'bank'), 'recorded, (duplicate)'),
    (format('complete_refund(%L, ''failed'')', :'bank'), 'conflict, (conflict)'),
    (format('complete_refund(%L, ''succeeded'', gateway_refund_ref => ''x-4'')', :'bank'), 'conflict, (conflict)'),
    (format('complete_refund(%L, ''succeeded'', refunded_amount => 150)', :'more'), 'conflict, (conflict)'),
    ($$begin_attempt('try', 'bank', 'a-1')$$, 'begun, (exists)'),
    ($$begin_attempt('try', 'bank', 'a-2', '5 minutes', '{}')$$, 'begun, (exists)'),
    ($$begin_attempt('try part', 'bank', 'a-3')$$, 'begun, (exists)'),
    ($$begin_attempt('try late', 'bank', 'a-4')$$, 'begun, (exists)'),
    ($$begin_attempt('try ends', 'bank', 'a-5')$$, 'begun, (exists)'),
    ($$begin_attempt('void', 'bank', 'a-6')$$, 'already_closed, (already_closed)'),
    ($$begin_attempt('free', 'bank', 'a-7')$$, 'already_paid, (already_paid)'),
    ($$authorize_attempt('bank', 'a-1', 100, 'CNY', '2999-01-01')$$, 'authorized, (duplicate)'),
    ($$authorize_attempt('bank', 'a-2', 100, 'CNY', '2999-01-01')$$, 'surplus, (duplicate)'),
    ($$authorize_attempt('bank', 'a-3', 60, 'CNY', '2999-01-01')$$, 'partial, (duplicate)'),
    ($$authorize_attempt('bank', 'a-5', 100, 'EUR', '2999-01-01')$$, 'wrong_currency, (duplicate)'),
    ($$cancel_order('try late')$$, 'cancelled, (already_closed)'),
    ($$authorize_attempt('bank', 'a-4', 100, 'CNY', '2999-01-01')$$, 'late, (duplicate)'),
    ($$end_attempt('bank', 'a-5', 'failed')$$, 'ended, (already_ended)'),
    ($$end_attempt('bank', 'a-5', 'expired')$$, 'already_ended, (already_ended)'),
    ($$end_attempt('bank', 'a-1', 'cancelled')$$, 'ended, (already_ended)'),
    ($$complete_void('bank', 'void', 'voided')$$, 'recorded, (duplicate)'),
    ($$complete_void('bank', 'void', 'failed')$$, 'ignored, (ignored)'),
    ($$complete_void('bank', 'void', 'paid')$$, 'recorded, (duplicate)'),
    ($$complete_void('bank', 'void paid', 'paid')$$, 'recorded, (duplicate)'),
    ($$complete_void('bank', 'void failed', 'failed')$$, 'stale, (stale)'),
    ($$complete_void('bank', 'void stuck', 'failed')$$, 'recorded, (duplicate)'),
    ($$retry_void('bank', 'void retry')$$, 'retried, (already_due)'),
    (format('retry_refund(%L)', :'retry'), 'retried, (already_due)'),
    (format('settle_refund(%L, ''in cash'')', :'settle'), 'settled, (already_settled)'),
    (format('reverse_refund(%L, ''dead'')', :'dead'), 'reversed, (already_reversed)'),
    (format('reverse_refund(%L, ''sent back'')', :'bank'), 'reversed, (already_reversed)'),
    ($$grant_access('pg_monitor', 'reader')$$, 'granted, (granted)'),
    ($$revoke_access('pg_monitor', 'reader')$$, 'revoked, (revoked)')
) AS x (call, answers);
SELECT t.sound();

-- A worker's answer that is sent twice
SELECT t.refund_in('processing', 'w ' || result) FROM unnest(ARRAY['failed', 'unknown', 'submitted', 'deferred', 'rejected', 'succeeded']) AS result;
CREATE FUNCTION t.tell(result text) RETURNS text LANGUAGE sql AS $$
    SELECT format('SELECT order_timeout.complete_refund(%L, %L, %L, %L, %L)', r.refund_ref, $1, r.lease_token, 'w-' || $1, 'error')
      FROM order_timeout.refunds AS r WHERE r.gateway = 'w ' || $1
$$;
CREATE FUNCTION t.tell_twice(result text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    call text := t.tell(result);
BEGIN
    EXECUTE call;
    RETURN t.unchanged_by(call) !~ 'rows changed';
END
$$;
SELECT ok(t.tell_twice(result), result || ' told twice by the worker counts once')
  FROM unnest(ARRAY['failed', 'unknown', 'submitted', 'deferred', 'rejected', 'succeeded']) AS result;

-- A worker asks for voids twice, and what it answers is sent twice
SELECT t.void_in('due', 'v ' || result) FROM unnest(ARRAY['voided', 'paid', 'failed', 'unknown', 'deferred', 'rejected']) AS result;
CREATE TABLE t.leased AS SELECT * FROM order_timeout.claim_voids('w');
SELECT is((SELECT count(*) FROM t.leased WHERE attempt_ref LIKE 'v %'), 6::bigint, 'voids are leased');
SELECT is(t.unchanged_by($$SELECT count(*) FROM order_timeout.claim_voids('w')$$), '(0)', 'and not handed out again');
CREATE FUNCTION t.tell_void_twice(result text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    call text := (SELECT format('complete_void(%L, %L, %L, %L, %L)', l.gateway, l.attempt_ref, result, l.lease_token, 'error')
                    FROM t.leased l WHERE l.attempt_ref = 'v ' || result);
BEGIN
    RETURN t.twice(call);
END
$$;
SELECT is(t.tell_void_twice(result), 'recorded, (duplicate)', result || ' of a void told twice by the worker counts once')
  FROM unnest(ARRAY['voided', 'paid', 'failed', 'unknown', 'deferred', 'rejected']) AS result;

-- Much later
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.record_payment('part', 'bank', 'part-1', 60, 'CNY')$$),
          '(duplicate,cancelled)', 'a payment told again after its order was cancelled');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.create_order('due', 100, 'CNY', expires_at => '2020-01-01')$$),
          '(exists,cancelled)', 'an order created again after it was closed');

-- A repeat is recognised before anything else is asked or run: a sum that would not fit, a CHECK and a trigger that came later
SELECT is(t.create_order('huge', 9000000000000000000) || ', ' || t.pay('huge', 'huge-1', 5000000000000000000), 'created pending, partial pending applied', 'a part of a huge amount');
SELECT is(r.outcome, 'recorded', 'and it went back elsewhere') FROM order_timeout.record_refund('bank', 'huge-1', 'huge-back', 5000000000000000000) AS r;
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.record_payment('huge', 'bank', 'huge-1', 5000000000000000000, 'CNY')$$),
          '(duplicate,pending)', 'told again');
SELECT is(t.create_order('watched', 5000) || ', ' || t.pay('watched', 'watched-1', 2000), 'created pending, partial pending applied', 'a part payment');
ALTER TABLE order_timeout.payments ADD CONSTRAINT mine CHECK (amount <= 1000) NOT VALID;
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.record_payment('watched', 'bank', 'watched-1', 2000, 'CNY')$$),
          '(duplicate,pending)', 'told again after somebody added a CHECK');
ALTER TABLE order_timeout.payments DROP CONSTRAINT mine;
CREATE TABLE t.ledger (amount bigint);
CREATE FUNCTION t.count_payment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.ledger VALUES (NEW.amount); RETURN NEW; END $$;
CREATE TRIGGER count_payment BEFORE INSERT ON order_timeout.payments FOR EACH ROW EXECUTE FUNCTION t.count_payment();
SELECT is(t.pay('watched', 'watched-2', 500), 'partial pending applied', 'a part payment that a trigger counts');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.record_payment('watched', 'bank', 'watched-2', 500, 'CNY')$$),
          '(duplicate,pending)', 'told again');
SELECT results_eq('SELECT amount FROM t.ledger', ARRAY[500::bigint], 'is not counted again');
DROP TRIGGER count_payment ON order_timeout.payments;
SELECT t.sound();
SELECT finish();
ROLLBACK;
