-- Functions of the user's that follow a change of an order's state (contract, section 10).
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- A shop's stock: a hook counts, and fails on order.
CREATE TABLE t.called (id serial, hook text, order_ids text[], states text[]);
CREATE TABLE t.broken (order_id text PRIMARY KEY);
CREATE FUNCTION t.note(hook text, order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM t.broken b WHERE b.order_id = ANY (order_ids) OR b.order_id IN ('all', hook)) THEN
        RAISE EXCEPTION 'the shelf is locked' USING ERRCODE = 'SH001';
    END IF;
    INSERT INTO t.called (hook, order_ids, states)
    SELECT hook, order_ids, array_agg(o.state ORDER BY o.order_id) FROM order_timeout.orders o WHERE o.order_id = ANY (order_ids);
END
$$;
CREATE FUNCTION t.raise() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
CREATE FUNCTION t.on_close(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT t.note('close', order_ids)$$;
CREATE FUNCTION t.on_paid(order_ids text[]) RETURNS integer LANGUAGE sql AS $$SELECT t.note('paid', order_ids); SELECT 1$$;
CREATE FUNCTION t.on_reopen(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT t.note('reopen', order_ids)$$;
-- what was called since the last look
CREATE FUNCTION t.calls() RETURNS text LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM t.called RETURNING *)
    SELECT string_agg(format('%s %s %s', hook, order_ids, states), ', ' ORDER BY id) FROM gone
$$;
CREATE FUNCTION t.waiting(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s', f.kind, f.failures, f.sqlstate), ', ' ORDER BY f.follow_up_id)
      FROM order_timeout.follow_ups f WHERE f.order_id = $1
$$;

-- set_hook
SELECT is(order_timeout.set_hook('default', 'close_hook', 't.on_close'), 'set', 'a hook is set');
SELECT is(order_timeout.set_hook('default', 'close_hook', 't.on_close'), 'unchanged', 'and again');
SELECT is((SELECT h::text FROM order_timeout.hooks h), '(default,close_hook,t.on_close)', 'the table shows it');
SELECT is(order_timeout.set_hook('default', 'close_hook', 't.on_paid'), 'set', 'another function');
SELECT is(order_timeout.set_hook('default', 'close_hook', NULL), 'removed', 'removed');
SELECT is(order_timeout.set_hook('default', 'close_hook', NULL), 'unchanged', 'and again');
SELECT throws_ok($$SELECT order_timeout.set_hook('none', 'close_hook', 't.on_close')$$, 'OT008', NULL, 'no such policy');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'on_close', 't.on_close')$$, '22023', NULL, 'no such hook');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'close_hook', 't.none')$$, '42883', NULL, 'no such function');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'close_hook', 't.note')$$, '42883', NULL, 'other arguments');
SELECT throws_ok($$SELECT order_timeout.set_hook(NULL, 'close_hook', 't.note')$$, '22004', NULL, 'no policy given');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'refund_handler', 't.on_close')$$, '42883', NULL, 'not a refund_handler');
CREATE FUNCTION t.half_a_handler(refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text,
    action text, attempt integer, OUT result text) LANGUAGE sql AS $$SELECT 'succeeded'$$;
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'refund_handler', 't.half_a_handler')$$, '42804', NULL,
                 'a handler that answers too little');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'void_handler', 't.on_close')$$, '42883', NULL, 'not a void_handler');
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'void_handler', 't.half_a_handler')$$, '42883', NULL, 'a refund_handler is none');
CREATE FUNCTION t.half_a_void(order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer,
    OUT result text) LANGUAGE sql AS $$SELECT 'voided'$$;
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'void_handler', 't.half_a_void')$$, '42804',
                 'function t.half_a_void(text,text,text,bigint,text,text,integer) does not answer as a void_handler', 'nor what answers too little');
CREATE FUNCTION t.many_voids(order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer)
    RETURNS TABLE (result text, error text) LANGUAGE sql AS $$SELECT 'voided', NULL$$;
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'void_handler', 't.many_voids')$$, '42883', NULL, 'nor what answers many rows');
CREATE FUNCTION t.end_it(order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer,
    OUT error text, OUT result text) LANGUAGE sql AS $$SELECT NULL, 'voided'$$;
INSERT INTO order_timeout.policies (policy) VALUES ('voids');
SELECT is(order_timeout.set_hook('voids', 'void_handler', 't.end_it'), 'set', 'a void_handler, its answers in any sequence');
SELECT is(order_timeout.set_hook('voids', 'void_handler', 't.end_it'), 'unchanged', 'and again');
CREATE FUNCTION t.shown() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', kind, uses, is_there, waiting) FROM order_timeout.integrations WHERE name = 'void_handler'
$$;
SELECT t.create_order('to void', 1, 'voids'), order_timeout.begin_attempt('to void', 'bank', 'to void'),
       t.create_order('another', 1), order_timeout.begin_attempt('another', 'bank', 'another'), t.cancel('another');
SELECT is(t.shown(), 'hook t.end_it t 0', 'integrations shows it');
SELECT t.cancel('to void');
SELECT is(t.shown(), 'hook t.end_it t 1', 'with the voids that are due');
DROP FUNCTION t.end_it(text, text, text, bigint, text, text, integer);
SELECT is(t.shown(), 'hook t.end_it f 1', 'and that it is gone');
SELECT is(order_timeout.set_hook('voids', 'void_handler', NULL), 'removed', 'removed');
SELECT order_timeout.complete_void('bank', 'to void', 'voided'), order_timeout.complete_void('bank', 'another', 'voided');
SET LOCAL search_path TO t, public;
SELECT is(order_timeout.set_hook('default', 'close_hook', 'on_close'), 'set', 'the caller''s search_path finds it');
RESET search_path;
SELECT is((SELECT h.function_name FROM order_timeout.hooks h), 't.on_close', 'and it is kept with its schema');
SELECT is(order_timeout.set_hook('default', 'paid_hook', 't.on_paid'), 'set', 'a function that answers something');
SELECT is(order_timeout.set_hook('default', 'reopen_hook', 't.on_reopen'), 'set', 'and the third');
CREATE ROLE t_operator;
SELECT order_timeout.grant_access('t_operator', 'operator');
GRANT EXECUTE ON FUNCTION order_timeout.set_hook(text, text, text), order_timeout._write_hook(text, text, text, regprocedure),
    order_timeout._hook_arguments(text), order_timeout._require_owner(text) TO t_operator;
GRANT USAGE ON SCHEMA t TO t_operator;
SET LOCAL ROLE t_operator;
SELECT throws_ok($$SELECT order_timeout.set_hook('default', 'close_hook', NULL)$$, '42501', NULL, 'an operator may not');
RESET ROLE;
INSERT INTO order_timeout.policies (policy) VALUES ('used');
SELECT order_timeout.set_hook('used', 'paid_hook', 't.on_paid');
SELECT throws_ok($$DELETE FROM order_timeout.policies WHERE policy = 'used'$$, '23503', NULL, 'a policy with hooks stays');
SELECT order_timeout.set_hook('used', 'paid_hook', NULL);
SELECT lives_ok($$DELETE FROM order_timeout.policies WHERE policy = 'used'$$, 'without them it goes');

-- Each change of state, when all rows are written
SELECT t.create_order('a', 100), t.pay('a', 'a-1', 40);
SELECT is(t.calls(), NULL, 'nothing follows an order that stays pending');
SELECT is(t.pay('a', 'a-2', 60), 'paid paid applied', 'paid');
SELECT is(t.calls(), 'paid {a} {paid}', 'paid_hook');
SELECT t.create_order('b', 100), t.expire('b');
SELECT is(t.calls(), 'close {b} {expired}', 'close_hook of expire_order');
SELECT is(t.cancel('b'), 'cancelled cancelled', 'an expired order is cancelled');
SELECT is(t.calls(), NULL, 'which closes nothing');
SELECT t.create_order('c', 100), t.cancel('c');
SELECT is(t.calls(), 'close {c} {cancelled}', 'close_hook of cancel_order');
SELECT t.create_order('free', 0);
SELECT is(t.calls(), 'paid {free} {paid}', 'paid_hook of an order with amount 0');
SELECT t.pay('early', 'early-1', 10), t.create_order('early', 10);
SELECT is(t.calls(), 'paid {early} {paid}', 'paid_hook of an orphan that joined');
SELECT t.pay('b', 'b-1', 100), order_timeout.accept_payment('bank', 'b-1');
SELECT is(t.calls(), 'reopen {b} {paid}, paid {b} {paid}', 'late money accepted: reopen_hook, then paid_hook');
SELECT t.create_order('short', 100), t.pay('short', 'short-1', 10), order_timeout.accept_short('short');
SELECT is(t.calls(), 'paid {short} {paid}', 'accept_short');
SELECT is(t.pay('short', 'short-1', 10), 'duplicate paid applied', 'a repeat');
SELECT is(t.calls(), NULL, 'calls nothing');
SELECT t.create_order('d1', 1), t.create_order('d2', 1), t.create_order('d3', 1);
SELECT t.pass_deadline('d1'), t.pass_deadline('d2'), t.pass_deadline('d3');
SELECT order_timeout.sweep_once();
SELECT is((SELECT array_agg(x ORDER BY x)::text FROM t.called, unnest(order_ids) x WHERE hook = 'close'), '{d1,d2,d3}', 'the sweeper');
SELECT is((SELECT count(*) FROM t.called), 1::bigint, 'calls once for a batch');
DELETE FROM t.called;

-- Reopened, and refused
INSERT INTO order_timeout.policies (policy, on_late, late_rule) VALUES ('reopen', 'reopen', 'at_deadline');
SELECT order_timeout.set_hook('reopen', 'reopen_hook', 't.on_reopen'), order_timeout.set_hook('reopen', 'paid_hook', 't.on_paid'),
       order_timeout.set_hook('reopen', 'close_hook', 't.on_close');
SELECT t.create_order('r', 100, 'reopen'), t.expire('r');
SELECT is(t.pay('r', 'r-1', 100), 'reopened paid applied', 'a late payment reopens');
SELECT is(t.calls(), 'close {r} {expired}, reopen {r} {paid}, paid {r} {paid}', 'the hooks say so');
SELECT t.create_order('s', 100, 'reopen'), t.expire('s');
INSERT INTO t.broken VALUES ('reopen');
SELECT is(t.pay('s', 's-1', 100), 'late expired late 100', 'nothing is left to deliver: late, and refunded');
SELECT is(t.sums('s'), 'expired 100 = 0 + 100 + 0 + 0', 'the money goes back');
SELECT is(t.calls(), 'close {s} {expired}', 'no hook was called');
SELECT is(t.waiting('s'), NULL, 'nothing waits');
SELECT is((SELECT array_agg(type ORDER BY id)::text FROM order_timeout.history('s')), '{order.created,order.expired,payment.late,refund.created}',
          'nothing of the reopening is left in the history');
SELECT is(t.pay('s', 's-1', 100), 'duplicate expired late 100', 'a repeat');
SELECT t.create_order('u', 100, 'reopen'), t.pass_deadline('u');
SELECT is(t.pay('u', 'u-1', 100), 'late expired late 100', 'closed and refused in one call');
SELECT is(t.calls(), 'close {u} {expired}', 'the closing is followed');
SELECT t.pay('v', 'v-1', 100), t.create_order('v2', 100, 'reopen'), t.expire('v2');
SELECT is((SELECT concat_ws(' ', outcome, state) FROM order_timeout.assign_orphan('bank', 'v-1', 'v2')), 'late expired',
          'refused for an orphan that is assigned, too');
DELETE FROM t.broken;
DELETE FROM t.called;

-- Money is never refused
INSERT INTO t.broken VALUES ('m'), ('n');
SELECT t.create_order('m', 100);
SELECT is(t.pay('m', 'm-1', 100), 'paid paid applied', 'a payment whose hook fails is recorded');
SELECT is(t.waiting('m'), 'paid_hook 1 SH001', 'its hook is kept');
SELECT is((SELECT concat_ws(' ', kind, order_id, amount, why) FROM order_timeout.attention WHERE order_id = 'm'),
          'hook m 100 paid_hook: SH001: the shelf is locked', 'and shown');
SELECT order_timeout.sweep_once();
SELECT is(t.waiting('m'), 'paid_hook 1 SH001', 'it is not tried before its time');
UPDATE order_timeout.follow_ups SET retry_at = clock_timestamp();
SELECT order_timeout.sweep_once();
SELECT is(t.waiting('m'), 'paid_hook 2 SH001', 'then it is');
SELECT ok((SELECT retry_at > clock_timestamp() + interval '15 seconds' FROM order_timeout.follow_ups WHERE order_id = 'm'), 'with a longer wait');
DELETE FROM t.broken WHERE order_id = 'm';
SELECT is(order_timeout.set_hook('default', 'paid_hook', 't.on_paid'), 'unchanged', 'set_hook again');
SELECT order_timeout.sweep_once();
SELECT is(t.waiting('m'), NULL, 'makes it due at once, and it is done');
SELECT is(t.calls(), 'paid {m} {paid}', 'once');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'm'$$, 'nobody needs to look');
SELECT throws_ok($$SELECT order_timeout.cancel_order('none')$$, 'OT001', NULL, 'still');
SELECT t.create_order('n', 100);
SELECT throws_ok($$SELECT order_timeout.cancel_order('n')$$, 'SH001', NULL, 'cancel_order raises the hook''s error');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'n'), 'pending', 'and nothing is changed');
SELECT t.pass_deadline('n');
SELECT throws_ok($$SELECT order_timeout.expire_order('n')$$, 'SH001', NULL, 'expire_order, too');
-- at_deadline: the order closes with the payment, its hook is kept
INSERT INTO t.broken VALUES ('w');
SELECT t.create_order('w', 100, 'reopen'), t.pass_deadline('w');
UPDATE order_timeout.policies SET on_late = 'refund' WHERE policy = 'reopen';
SELECT is(t.pay('w', 'w-1', 100), 'late expired late 100', 'a payment closes the order');
SELECT is(t.waiting('w'), 'close_hook 1 SH001', 'the closing''s hook is kept');
SELECT is((SELECT outcome FROM order_timeout.accept_payment('bank', 'w-1')), 'accepted', 'the money is accepted meanwhile');
SELECT is(t.waiting('w'), 'close_hook 1 SH001, reopen_hook 0 00000, paid_hook 0 00000', 'later hooks wait behind the first');
DELETE FROM t.broken;
UPDATE order_timeout.follow_ups SET retry_at = clock_timestamp() - interval '1 s';
SELECT order_timeout.sweep_once(), order_timeout.sweep_once(), order_timeout.sweep_once();
SELECT is((SELECT string_agg(hook, ', ' ORDER BY id) FROM t.called WHERE order_ids = '{w}'), 'close, reopen, paid', 'and come in their order');
SELECT is(t.waiting('w'), NULL, 'all done');

-- resolve_link
INSERT INTO t.broken VALUES ('x');
SELECT t.create_order('x', 100), t.pay('x', 'x-1', 100);
SELECT is(order_timeout.resolve_link('x', 'link', 'nothing'), 'already_resolved', 'no link waits');
SELECT is(order_timeout.resolve_link('x', 'hook', 'sent it by hand'), 'resolved', 'the operator did it by hand');
SELECT is(order_timeout.resolve_link('x', 'hook', 'sent it by hand'), 'already_resolved', 'again');
SELECT is(t.waiting('x'), NULL, 'nothing waits');
SELECT is((SELECT payload ->> 'note' FROM order_timeout.events WHERE type = 'order.follow_up_resolved'), 'sent it by hand', 'an event says so');
SELECT throws_ok($$SELECT order_timeout.resolve_link('none', 'hook', 'x')$$, 'OT001', NULL, 'no such order');
SELECT throws_ok($$SELECT order_timeout.resolve_link('x', 'hok', 'x')$$, '22023', NULL, 'no such kind');
SELECT throws_ok($$SELECT order_timeout.resolve_link('x', 'hook', NULL)$$, '22004', NULL, 'no note');
DELETE FROM t.broken;
DELETE FROM t.called;

-- One order of 1,000 fails
SELECT order_timeout.set_hook('default', 'close_hook', 't.on_close');
SELECT t.create_order('k' || i, 1) FROM generate_series(1, 1000) i;
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id ~ '^k';
INSERT INTO t.broken VALUES ('k500');
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(999,1,0)', 'the other 999 are closed');
SELECT is((SELECT string_agg(order_id || ' ' || sqlstate, ', ') FROM order_timeout.set_aside), 'k500 SH001', 'that one is set aside');
SELECT is((SELECT count(DISTINCT x) FROM t.called, unnest(order_ids) x WHERE x ~ '^k'), 999::bigint, 'each closing was followed');
SELECT is((SELECT count(x) FROM t.called, unnest(order_ids) x WHERE x ~ '^k'), 999::bigint, 'once');
SELECT cmp_ok((SELECT count(*) FROM t.called), '<', 25::bigint, 'in few calls');
DELETE FROM t.broken;
SELECT order_timeout.set_hook('default', 'close_hook', 't.on_close');
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(1,0,0)', 'set_hook again makes it due');
-- It fails for everybody
SELECT t.create_order('l' || i, 1) FROM generate_series(1, 500) i;
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id ~ '^l';
CREATE SEQUENCE t.tries;
CREATE OR REPLACE FUNCTION t.on_close(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('t.tries');
    RAISE 'never';
END
$$;
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(0,500,0)', 'all are set aside');
SELECT cmp_ok(nextval('t.tries'), '<', 20::bigint, 'and few were tried');
SELECT is((SELECT count(*) FROM order_timeout.set_aside WHERE error = 'never'), 500::bigint, 'each with the reason');

-- A trigger on our tables keeps back only the orders it raises for, however many
DELETE FROM order_timeout.orders WHERE order_id ~ '^l';
SELECT order_timeout.set_hook('default', 'close_hook', NULL);
CREATE TRIGGER some_fail BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id ~ '^m[0-9]*7$') EXECUTE FUNCTION t.raise();
SELECT t.create_order('m' || i, 1) FROM generate_series(1, 100) i;
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id ~ '^m[0-9]*[^7]$';
ALTER TABLE order_timeout.orders DISABLE TRIGGER some_fail;
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id ~ '^m[0-9]*7$';
ALTER TABLE order_timeout.orders ENABLE TRIGGER some_fail;
SELECT is((SELECT s::text FROM order_timeout.sweep_once() s), '(90,10,0)', 'ten of a hundred fail, the others are closed');
DROP TRIGGER some_fail ON order_timeout.orders;

-- The function is gone: resolved at each use
DROP FUNCTION t.on_paid;
SELECT t.create_order('gone', 100);
SELECT is(t.pay('gone', 'gone-1', 100), 'paid paid applied', 'money is recorded');
SELECT is(t.waiting('gone'), 'paid_hook 1 42883', 'the missing function is shown');

-- A hook that calls our functions
CREATE FUNCTION t.on_paid(order_ids text[]) RETURNS void LANGUAGE sql AS $$
    SELECT order_timeout.request_refund(x, 'from the hook', 10) FROM unnest(order_ids) x;
    SELECT order_timeout.cancel_order('other');
$$;
SELECT order_timeout.set_hook('default', 'close_hook', NULL);
SELECT t.create_order('inner', 100), t.create_order('other', 100);
SELECT is(t.pay('inner', 'inner-1', 100), 'paid paid applied', 'the answer is the state before the hook');
SELECT is(t.sums('inner'), 'paid 100 = 0 + 10 + 0 + 90', 'the hook asked for a refund of the same order');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'other'), 'cancelled', 'and cancelled another');
SELECT is_empty('SELECT * FROM order_timeout.funds_violations()', 'the proof');
SELECT * FROM finish();
ROLLBACK;
