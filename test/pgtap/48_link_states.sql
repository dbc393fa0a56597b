-- Linked rows and hooks follow the open states authorized and closing (contract, sections 9 and 10).
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE SCHEMA shop;
INSERT INTO order_timeout.policies (policy, before_close) VALUES ('ask', 'void');
INSERT INTO order_timeout.policies (policy, late_rule) VALUES ('strict', 'at_deadline');

CREATE FUNCTION t.begin(order_id text, attempt_ref text DEFAULT NULL, can_void boolean DEFAULT true) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state)
      FROM order_timeout.begin_attempt($1, 'card', coalesce($2, $1 || '-a'), can_void => $3) r
$$;
CREATE FUNCTION t.authorize(order_id text, amount bigint DEFAULT 100, currency text DEFAULT 'EUR') RETURNS text LANGUAGE sql AS $$
    SELECT t.begin($1);
    SELECT concat_ws(' ', r.outcome, r.state)
      FROM order_timeout.authorize_attempt('card', $1 || '-a', $2, $3, clock_timestamp() + interval '7 days') r
$$;
CREATE FUNCTION t.end(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.end_attempt('card', $1 || '-a', 'failed') r
$$;
-- What an authorisation keeps open passes, too.
CREATE FUNCTION t.pass(order_id text) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.orders o SET expires_at = clock_timestamp() - interval '1 s', open_until = NULL WHERE o.order_id = $1
$$;
CREATE FUNCTION t.close(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT t.pass($1);
    SELECT concat_ws(' ', r.outcome, r.state) FROM order_timeout.expire_order($1) r
$$;
CREATE FUNCTION t.state(order_id text) RETURNS text LANGUAGE sql AS $$SELECT o.state FROM order_timeout.orders o WHERE o.order_id = $1$$;
CREATE FUNCTION t.shown(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.kind || ': ' || a.why, ', ') FROM order_timeout.attention a WHERE a.order_id = $1 AND a.kind <> 'void'
$$;
CREATE FUNCTION t.look_again() RETURNS text LANGUAGE sql AS $$
    UPDATE order_timeout.follow_ups SET retry_at = clock_timestamp() - interval '1 s';
    UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() - interval '1 s';
    SELECT r::text FROM order_timeout.sweep_once() r;
$$;

-- What link_table takes
CREATE TABLE shop.orders (id text PRIMARY KEY, status text NOT NULL DEFAULT 'new', closed_at timestamptz, why text);
PREPARE link AS SELECT order_timeout.link_table('shop.orders', 'id', 'status', $1, time_columns => $2);
SELECT throws_ok(format('EXECUTE link(%L, NULL)', x), '22023', 'the word "x" cannot stand for an open and a settled state', x)
  FROM (VALUES ('{"pending": "new", "authorized": "x", "expired": "x"}'), ('{"pending": "new", "closing": ["y", "x"], "paid": "x"}')) v (x);
SELECT throws_ok($$EXECUTE link('{"pending": "new", "authorized": "x"}', '{"authorized": "closed_at"}')$$, '22023', NULL,
                 'only settled states have a time');
SELECT lives_ok($$EXECUTE link('{"pending": "x", "authorized": "x", "closing": ["x", "y"], "paid": "z", "expired": "z"}', NULL)$$,
                'open states may share a word, and settled ones');
SELECT order_timeout.unlink_table('shop.orders');

-- Every state has a word
SELECT is(order_timeout.link_table('shop.orders', 'id', 'status',
    '{"pending": ["new", "waiting"], "authorized": ["reserved", "packing"], "closing": "closing", "paid": "paid", "expired": "closed",
      "cancelled": "cancelled"}', time_columns => '{"expired": "closed_at", "cancelled": "closed_at"}', reason_column => 'why'),
    'linked', 'linked');
CREATE FUNCTION t.row(id text, policy text DEFAULT 'ask', amount bigint DEFAULT 100) RETURNS text LANGUAGE sql AS $$
    INSERT INTO shop.orders (id) VALUES ($1);
    SELECT t.create_order($1, amount, policy, currency => 'EUR')
$$;
-- the row's word, whether it has the time of closing, its reason; and the order's state
CREATE FUNCTION t.says(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', s.status, CASE WHEN s.closed_at = o.settled_at THEN 'closed_at' WHEN s.closed_at IS NOT NULL THEN 'another time' END,
                     s.why, '|', o.state)
      FROM shop.orders s JOIN order_timeout.orders o ON o.order_id = s.id WHERE s.id = $1
$$;
SELECT t.row('a');
SELECT is(t.authorize('a'), 'authorized authorized', 'authorised');
SELECT is(t.says('a'), 'reserved | authorized', 'is written');
SELECT is(t.end('a'), 'ended pending', 'its attempt ends');
SELECT is(t.says('a'), 'new | pending', 'it is pending again');
SELECT t.begin('a', 'a-b'), order_timeout.authorize_attempt('card', 'a-b', 100, 'EUR', clock_timestamp() + interval '1 day');
UPDATE shop.orders SET status = 'packing' WHERE id = 'a';
SELECT t.pay('a', 'a-1', 100, 'EUR');
SELECT is(t.says('a'), 'paid | paid', 'another word of authorized becomes paid');
SELECT t.row('b'), t.begin('b'), t.close('b');
SELECT is(t.says('b'), 'closing | closing', 'closing has no time and no reason yet');
SELECT is(t.end('b'), 'ended expired', 'its attempt ends');
SELECT is(t.says('b'), 'closed closed_at deadline | expired', 'it is closed');
SELECT is((SELECT outcome FROM order_timeout.reopen_order('b')), 'reopened', 'reopened');
SELECT is(t.says('b'), 'new | pending', 'the row too');
SELECT t.row('c'), t.authorize('c'), t.close('c');
SELECT is(t.says('c'), 'closing | closing', 'from authorized to closing');
SELECT t.pay('c', 'c-1', 100, 'EUR');
SELECT is(t.says('c'), 'paid | paid', 'from closing to paid');
SELECT t.row('d'), t.begin('d'), t.close('d'), t.cancel('d');
SELECT is(t.says('d'), 'cancelled closed_at | cancelled', 'from closing to cancelled');
SELECT t.row('e'), t.authorize('e'), t.cancel('e');
SELECT is(t.says('e'), 'cancelled closed_at | cancelled', 'from authorized to cancelled');
SELECT t.row('f', 'default'), t.authorize('f'), t.close('f');
SELECT is(t.says('f'), 'closed closed_at deadline | expired', 'from authorized to expired');
SELECT t.row('g'), t.begin('g'), t.row('h'), t.authorize('h'), t.row('i'), t.pass('g'), t.pass('h'), t.pass('i');
SELECT is(t.look_again(), '(1,0,0)', 'the sweeper closes one and asks for two');
SELECT is(concat_ws(', ', t.says('g'), t.says('h'), t.says('i')),
          'closing | closing, closing | closing, closed closed_at deadline | expired', 'their rows say so');
SELECT t.row('j'), t.begin('j'), t.close('j');
UPDATE shop.orders SET status = 'packing' WHERE id = 'j';
SELECT t.end('j');
SELECT is(t.says('j'), 'packing | expired', 'a row that does not say that it is closing is left alone');
SELECT is(t.shown('j'), 'link: 27000: the row in table shop.orders says "packing", and the order went from closing to expired', 'and shown');
SELECT t.create_order('k', 100, currency => 'EUR');
SELECT is(t.authorize('k'), 'authorized authorized', 'a row that is missing does not keep a promise from being noted');
SELECT is(t.shown('k'), 'link: 02000: table shop.orders has no such row, or the caller may not see it', 'and is shown');
INSERT INTO shop.orders VALUES ('k');
SELECT t.look_again();
SELECT is(t.says('k') || coalesce(t.shown('k'), ''), 'reserved | authorized', 'until it is there');
SELECT order_timeout.unlink_table('shop.orders');

-- Authorized and closing have none: the row keeps its word
SELECT order_timeout.link_table('shop.orders', 'id', 'status',
    '{"pending": ["new", "waiting"], "paid": "paid", "expired": "closed", "cancelled": "cancelled"}', time_columns => '{"expired": "closed_at"}');
SELECT t.row('ua'), t.authorize('ua');
UPDATE shop.orders SET status = 'waiting' WHERE id = 'ua';
SELECT t.end('ua');
SELECT is(t.says('ua'), 'waiting | pending', 'a row that says pending already is not written');
SELECT t.row('ub'), t.authorize('ub');
SELECT is(t.says('ub'), 'new | authorized', 'authorised');
SELECT t.pay('ub', 'ub-1', 100, 'EUR');
SELECT is(t.says('ub'), 'paid | paid', 'paid from there');
SELECT t.row('uc'), t.begin('uc'), t.close('uc');
SELECT is(t.says('uc'), 'new | closing', 'closing');
SELECT t.end('uc');
SELECT is(t.says('uc'), 'closed closed_at | expired', 'expired from there');
SELECT t.row('ud'), t.authorize('ud'), t.close('ud'), t.pay('ud', 'ud-1', 100, 'EUR');
SELECT is(t.says('ud'), 'paid | paid', 'paid from both');
SELECT t.row('ue'), t.begin('ue'), t.close('ue'), t.cancel('ue');
SELECT is(t.says('ue'), 'cancelled | cancelled', 'cancelled from there');
SELECT t.row('uf'), t.authorize('uf');
UPDATE shop.orders SET status = 'draft' WHERE id = 'uf';
SELECT t.pay('uf', 'uf-1', 100, 'EUR');
SELECT is(t.says('uf'), 'draft | paid', 'a row that the shop moved on is left alone');
SELECT is(t.shown('uf'), 'link: 27000: the row in table shop.orders says "draft", and the order went from authorized to paid', 'and shown');
SELECT order_timeout.unlink_table('shop.orders');

-- Closing has none, authorized has
SELECT order_timeout.link_table('shop.orders', 'id', 'status', '{"pending": "new", "authorized": "reserved", "paid": "paid", "cancelled": "gone"}');
SELECT t.row('ma'), t.authorize('ma'), t.close('ma'), t.row('mb'), t.begin('mb'), t.close('mb');
SELECT is(t.says('ma') || ', ' || t.says('mb'), 'reserved | closing, new | closing', 'each keeps its word');
SELECT t.end('ma'), t.cancel('ma'), t.pay('mb', 'mb-1', 100, 'EUR');
SELECT is(t.says('ma') || ', ' || t.says('mb'), 'gone | cancelled, paid | paid', 'and is written from it, past an expired without a word');
SELECT order_timeout.unlink_table('shop.orders');

-- Tracked, every state with a word
CREATE TABLE shop.tracked (id text PRIMARY KEY, status text NOT NULL DEFAULT 'new', total bigint DEFAULT 100, pay_until timestamptz,
                           terms text DEFAULT 'ask');
CREATE FUNCTION t.link(on_contradiction text, statuses jsonb DEFAULT '{"pending": ["new", "waiting"], "authorized": ["reserved", "packing"],
    "closing": "closing", "paid": "paid", "expired": "closed", "cancelled": "cancelled"}') RETURNS text LANGUAGE sql AS $$
    SELECT order_timeout.link_table('shop.tracked', 'id', 'status', $2, amount_column => 'total', currency => 'EUR',
        deadline_column => 'pay_until', policy_column => 'terms', track => true, on_contradiction => $1)
$$;
CREATE FUNCTION t.row_and_order(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', (SELECT s.status FROM shop.tracked s WHERE s.id = $1), '|', t.state($1))
$$;
-- the HINT of a statement that is refused with OT005
CREATE FUNCTION t.hint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'not refused';
EXCEPTION WHEN SQLSTATE 'OT005' THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END
$$;
SELECT is(t.link('refuse'), 'linked', 'tracked');
INSERT INTO shop.tracked (id, status) VALUES ('ra', 'new'), ('rb', 'new'), ('rc', 'new'), ('rd', 'new'), ('re', 'reserved'), ('rf', 'closing');
SELECT is(concat(t.state('re'), t.state('rf')), '', 'words of authorized and closing create nothing');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'reserved' WHERE id = 'ra'$$),
          'An order is authorized when its gateway promises the money: call order_timeout.authorize_attempt().', 'not authorised');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'closing' WHERE id = 'ra'$$),
          'An order expires at its deadline; call order_timeout.cancel_order() to close it before.', 'not closing');
SELECT t.authorize('ra');
SELECT is(t.row_and_order('ra'), 'reserved | authorized', 'our own write is followed by nothing');
UPDATE shop.tracked SET status = 'packing' WHERE id = 'ra';
UPDATE shop.tracked SET status = 'on its way' WHERE id = 'ra';
UPDATE shop.tracked SET status = 'packing' WHERE id = 'ra';
SELECT is(t.state('ra'), 'authorized', 'its own words, and the shop''s');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'new' WHERE id = 'ra'$$),
          'An authorized order is pending again when its attempt has ended: call order_timeout.end_attempt().', 'not pending any more');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'paid' WHERE id = 'ra'$$),
          'An order is paid when its payment is recorded: call order_timeout.record_payment().', 'not paid yet');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'closed' WHERE id = 'ra'$$),
          'An order expires at its deadline; call order_timeout.cancel_order() to close it before.', 'not due');
SELECT is(t.hint($$UPDATE shop.tracked SET total = 200 WHERE id = 'ra'$$),
          'End the attempt that authorised the order with order_timeout.end_attempt(), then change the amount with order_timeout.change_order(), or cancel the order and use a new row with another key.',
          'another amount');
SELECT throws_ok($$SELECT order_timeout.change_order('ra', 200)$$, 'OT005', NULL, 'change_order says the same');
SELECT is(t.hint($$DELETE FROM shop.tracked WHERE id = 'ra'$$), 'Cancel the order first.', 'deleted');
SELECT is(t.hint($$UPDATE shop.tracked SET id = 'rz' WHERE id = 'ra'$$), 'Cancel the order first.', 'another key');
UPDATE shop.tracked SET pay_until = '2999-01-01 00:00+00' WHERE id = 'ra';
SELECT is((SELECT expires_at FROM order_timeout.orders WHERE order_id = 'ra'), '2999-01-01 00:00+00'::timestamptz, 'a new deadline moves it');
SELECT throws_ok($$UPDATE shop.tracked SET pay_until = now() WHERE id = 'ra'$$, '22023', NULL, 'one in the past is an error');
SELECT is(t.row_and_order('ra'), 'packing | authorized', 'nothing is changed by what was refused');
UPDATE shop.tracked SET status = 'cancelled' WHERE id = 'ra';
SELECT is(t.row_and_order('ra'), 'cancelled | cancelled', 'a cancelled word cancels an authorised order');
SELECT is((SELECT a.state || ' ' || (a.next_attempt_at IS NOT NULL) FROM order_timeout.attempts a WHERE a.attempt_ref = 'ra-a'),
          'authorized true', 'and its void is due');
SELECT t.begin('rb'), t.pass('rb');
SELECT is(t.hint($$UPDATE shop.tracked SET status = 'closed' WHERE id = 'rb'$$),
          'A closing order expires by itself when its attempts have ended, and its row is written then: leave it as it is.',
          'the shop''s own timer is too early, where gateways are asked first');
SELECT is(t.row_and_order('rb'), 'new | pending', 'it stays as it was');
SELECT is(t.close('rb'), 'closing closing', 'until it is closing');
SELECT is(t.row_and_order('rb'), 'closing | closing', 'and the row says so');
SELECT is(t.hint(format('UPDATE shop.tracked SET %s WHERE id = %L', change, 'rb')),
          'A closing order expires by itself when its attempts have ended, and its row is written then: leave it as it is.', change)
  FROM (VALUES ($$status = 'closed'$$), ($$status = 'new'$$), ($$status = 'reserved'$$)) v (change);
SELECT is(t.hint($$UPDATE shop.tracked SET total = 200 WHERE id = 'rb'$$), 'A closing order cannot change: use a new row with another key.',
          'another amount');
SELECT is(t.hint($$DELETE FROM shop.tracked WHERE id = 'rb'$$), 'Cancel the order first.', 'deleted');
UPDATE shop.tracked SET pay_until = '2999-01-01 00:00+00' WHERE id = 'rb';
SELECT cmp_ok((SELECT expires_at FROM order_timeout.orders WHERE order_id = 'rb'), '<', now() + interval '1 day', 'a deadline comes too late');
UPDATE order_timeout.orders SET open_until = clock_timestamp() WHERE order_id = 'rb';
UPDATE shop.tracked SET status = 'closed' WHERE id = 'rb';
SELECT is(t.row_and_order('rb'), 'closed | expired', 'when its voids had their time, the shop''s timer may close it');
SELECT t.begin('rc'), t.close('rc');
UPDATE shop.tracked SET status = 'cancelled' WHERE id = 'rc';
SELECT is(t.row_and_order('rc'), 'cancelled | cancelled', 'a cancelled word cancels a closing order');
SELECT t.authorize('rd'), t.pass('rd');
UPDATE order_timeout.orders SET policy = 'default' WHERE order_id = 'rd';
UPDATE shop.tracked SET status = 'closed' WHERE id = 'rd';
SELECT is(t.row_and_order('rd'), 'closed | expired', 'an authorised order that is due expires by its row');
SELECT order_timeout.unlink_table('shop.tracked');

-- Tracked, and authorized and closing have no word: their rows may keep what they say
SELECT is(t.link('refuse', '{"pending": ["new", "waiting"], "paid": "paid", "expired": "closed", "cancelled": "cancelled"}'), 'linked', 'linked');
INSERT INTO shop.tracked (id) VALUES ('va'), ('vb');
SELECT t.authorize('va'), t.begin('vb'), t.close('vb');
UPDATE shop.tracked SET status = 'waiting' WHERE id IN ('va', 'vb');
UPDATE shop.tracked SET pay_until = '2999-01-01 00:00+00' WHERE id IN ('va', 'vb');
SELECT is(t.row_and_order('va') || ', ' || t.row_and_order('vb'), 'waiting | authorized, waiting | closing', 'another word of pending is right');
SELECT ok(t.hint($$UPDATE shop.tracked SET status = 'closed' WHERE id = 'vb'$$) LIKE 'A closing order expires by itself%', 'closed is not');
SELECT t.end('vb'), t.pay('va', 'va-1', 100, 'EUR');
SELECT is(t.row_and_order('va') || ', ' || t.row_and_order('vb'), 'paid | paid, closed | expired', 'it is written when that comes');
SELECT order_timeout.unlink_table('shop.tracked');

-- Noted
SELECT is(t.link('note'), 'linked', 'linked');
INSERT INTO shop.tracked (id) VALUES ('na'), ('nb'), ('nc');
UPDATE shop.tracked SET total = 200 WHERE id = 'nc';
SELECT t.authorize('nc');
SELECT is(t.row_and_order('nc') || ', ' || t.shown('nc'),
          'reserved | authorized, link: 27000: the row in table shop.tracked asks for 200 EUR, and the order for 100 EUR',
          'an amount that was noted of a pending order is still shown when it is authorized');
SELECT t.end('nc'), t.look_again();
SELECT is(t.row_and_order('nc') || ', ' || t.shown('nc'),
          'new | pending, link: 27000: the row in table shop.tracked asks for 200 EUR, and the order for 100 EUR', 'and pending again');
UPDATE shop.tracked SET total = 100 WHERE id = 'nc';
SELECT t.look_again();
SELECT is(t.shown('nc'), NULL, 'until they agree');
UPDATE shop.tracked SET status = 'reserved' WHERE id = 'na';
SELECT is(t.shown('na'), 'link: 27000: the row in table shop.tracked says "reserved"', 'a word of authorized is shown');
SELECT is(t.authorize('na'), 'authorized authorized', 'until the promise comes');
SELECT is(t.shown('na'), NULL, 'then they agree');
UPDATE shop.tracked SET total = 200 WHERE id = 'na';
SELECT is(t.shown('na'), 'link: 27000: the row in table shop.tracked asks for 200 EUR, and the order for 100 EUR', 'another amount is shown');
SELECT t.look_again();
SELECT is(t.shown('na'), 'link: 27000: the row in table shop.tracked asks for 200 EUR, and the order for 100 EUR', 'as long as it differs');
SELECT t.begin('nb'), t.pass('nb');
UPDATE shop.tracked SET status = 'closed' WHERE id = 'nb';
SELECT is(t.row_and_order('nb'), 'closed | closing', 'the shop''s own timer makes the order closing, and goes through');
SELECT is(t.shown('nb'), 'link: 27000: the row in table shop.tracked says "closed", and the order is closing', 'which is shown');
SELECT t.look_again();
SELECT is(t.shown('nb'), 'link: 27000: the row in table shop.tracked says "closed", and the order is closing', 'while it is closing');
SELECT t.end('nb');
SELECT is(t.row_and_order('nb') || coalesce(t.shown('nb'), ''), 'closed | expired', 'then they agree');
SELECT order_timeout.unlink_table('shop.tracked');
SELECT t.link('note', '{"pending": "new", "paid": "paid", "expired": "closed"}');
INSERT INTO shop.tracked (id) VALUES ('oa'), ('ob');
SELECT t.authorize('oa'), t.begin('ob'), t.pass('ob');
UPDATE shop.tracked SET total = 200 WHERE id = 'oa';
UPDATE shop.tracked SET status = 'closed' WHERE id = 'ob';
SELECT is(t.row_and_order('ob'), 'closed | closing', 'closing without a word');
SELECT t.look_again();
SELECT is(t.shown('oa') || ', ' || t.shown('ob'), 'link: 27000: the row in table shop.tracked asks for 200 EUR, and the order for 100 EUR, '
          'link: 27000: the row in table shop.tracked says "closed", and the order is closing', 'what differs is shown as long as it does, without a word too');
UPDATE shop.tracked SET total = 100 WHERE id = 'oa';
SELECT t.end('ob'), t.look_again();
SELECT is(concat(t.shown('oa'), t.shown('ob')), '', 'and no longer');
SELECT order_timeout.unlink_table('shop.tracked');

-- Hooks
CREATE TABLE t.called (id serial, hook text, order_ids text[], states text[]);
CREATE TABLE t.broken (hook text PRIMARY KEY);
CREATE FUNCTION t.note(hook text, order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM t.broken b WHERE b.hook = $1) THEN
        RAISE EXCEPTION 'the shelf is locked' USING ERRCODE = 'SH001';
    END IF;
    INSERT INTO t.called (hook, order_ids, states)
    SELECT hook, order_ids, array_agg(o.state ORDER BY o.order_id) FROM order_timeout.orders o WHERE o.order_id = ANY (order_ids);
END
$$;
CREATE FUNCTION t.on_close(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT t.note('close', order_ids)$$;
CREATE FUNCTION t.on_paid(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT t.note('paid', order_ids)$$;
CREATE FUNCTION t.on_reopen(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT t.note('reopen', order_ids)$$;
CREATE FUNCTION t.calls() RETURNS text LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM t.called RETURNING *)
    SELECT string_agg(format('%s %s %s', hook, order_ids, states), ', ' ORDER BY id) FROM gone
$$;
CREATE FUNCTION t.waiting(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', f.kind, f.failures, f.sqlstate), ', ' ORDER BY f.follow_up_id)
      FROM order_timeout.follow_ups f WHERE f.order_id = $1
$$;
SELECT count(*) FROM (VALUES ('ask'), ('strict'), ('default')) p (policy), (VALUES ('close'), ('paid'), ('reopen')) h (hook),
       LATERAL order_timeout.set_hook(p.policy, h.hook || '_hook', 't.on_' || h.hook);
CREATE FUNCTION t.order(order_id text, policy text DEFAULT 'ask') RETURNS text LANGUAGE sql AS $$
    SELECT t.create_order($1, 100, $2, currency => 'EUR')
$$;
SELECT t.order('ha'), t.authorize('ha');
SELECT is(t.calls(), NULL, 'no hook when it becomes authorized');
SELECT t.end('ha');
SELECT is(t.calls(), NULL, 'nor when it is pending again');
SELECT t.begin('ha', 'ha-b'), t.close('ha');
SELECT is(t.state('ha') || coalesce(t.calls(), ''), 'closing', 'nor when it is closing');
SELECT order_timeout.end_attempt('card', 'ha-b', 'expired');
SELECT is(t.calls(), 'close {ha} {expired}', 'close_hook once it is closed by the end of its attempt');
SELECT t.order('hb'), t.begin('hb'), t.close('hb'), t.cancel('hb');
SELECT is(t.calls(), 'close {hb} {cancelled}', 'closing, cancelled');
SELECT t.order('hc'), t.authorize('hc'), t.cancel('hc');
SELECT is(t.calls(), 'close {hc} {cancelled}', 'authorized, cancelled');
SELECT t.order('hd', 'default'), t.authorize('hd'), t.close('hd');
SELECT is(t.calls(), 'close {hd} {expired}', 'authorized, expired');
SELECT t.order('he'), t.authorize('he'), t.close('he'), t.pay('he', 'he-1', 100, 'EUR');
SELECT is(t.calls(), 'paid {he} {paid}', 'authorized, closing, paid');
SELECT t.order('hf'), t.authorize('hf'), t.pay('hf', 'hf-1', 100, 'EUR');
SELECT is(t.calls(), 'paid {hf} {paid}', 'authorized, paid');
SELECT t.order('hg'), t.begin('hg'), t.close('hg'), t.pay('hg', 'hg-1', 40, 'EUR'), order_timeout.accept_short('hg');
SELECT is(t.calls(), 'paid {hg} {paid}', 'closing, accepted short');
SELECT t.order('hh'), t.begin('hh'), t.close('hh');
UPDATE order_timeout.orders SET open_until = clock_timestamp() WHERE order_id = 'hh';
SELECT is(t.look_again(), '(1,0,0)', 'its voids had their time');
SELECT is(t.calls(), 'close {hh} {expired}', 'closing, expired by the sweeper');
SELECT t.order('hi', 'default'), t.authorize('hi'), t.close('hi'), order_timeout.reopen_order('hi');
SELECT is(t.calls(), 'close {hi} {expired}, reopen {hi} {pending}', 'reopened');

-- A gateway's word is never lost
INSERT INTO t.broken VALUES ('close');
SELECT t.order('ma2'), t.authorize('ma2');
SELECT is(t.state('ma2'), 'authorized', 'no hook, no failure');
SELECT t.order('mb2', 'strict'), t.begin('mb2'), t.pass('mb2');
SELECT is((SELECT concat_ws(' ', outcome, state) FROM order_timeout.authorize_attempt('card', 'mb2-a', 100, 'EUR', clock_timestamp() + interval '1 day')),
          'late expired', 'authorize_attempt closes what is due under at_deadline');
SELECT is(t.waiting('mb2'), 'close_hook 1 SH001', 'and keeps the hook');
SELECT is((SELECT concat_ws(' ', state, authorized, next_attempt_at IS NOT NULL) FROM order_timeout.attempts WHERE attempt_ref = 'mb2-a'),
          'authorized 100 t', 'and the promise, whose void is due');
SELECT t.order('mc'), t.begin('mc'), t.close('mc');
SELECT is(t.end('mc'), 'ended closing', 'end_attempt whose closing fails: the attempt has ended');
SELECT is((SELECT state FROM order_timeout.attempts WHERE attempt_ref = 'mc-a'), 'failed', 'its row says so');
SELECT is((SELECT concat_ws(' ', sqlstate, failures, error) FROM order_timeout.set_aside WHERE order_id = 'mc'), 'SH001 1 the shelf is locked',
          'the order is set aside');
SELECT is(t.shown('mc'), 'set_aside: SH001: the shelf is locked', 'and shown');
SELECT is(t.waiting('mc'), NULL, 'no hook is kept');
SELECT is((SELECT array_agg(type ORDER BY id)::text FROM order_timeout.history('mc') WHERE type NOT LIKE 'void%'),
          '{order.created,attempt.begun,order.closing,attempt.ended,order.set_aside}', 'the history has nothing of the closing');
SELECT is(t.end('mc'), 'already_ended closing', 'a repeat');
SELECT is((SELECT r::text FROM order_timeout.sweep_once() r), '(0,0,0)', 'it is not tried before its time');
SELECT is(t.look_again(), '(0,1,0)', 'then it is, and fails again');
SELECT is((SELECT failures FROM order_timeout.set_aside WHERE order_id = 'mc'), 2, 'with a longer wait');
SELECT throws_ok($$SELECT order_timeout.cancel_order('mc')$$, 'SH001', NULL, 'a person''s call raises the error');
SELECT throws_ok($$SELECT order_timeout.cancel_order('ma2')$$, 'SH001', NULL, 'of an authorised order, too');
SELECT t.pass('ma2'), t.order('me'), t.begin('me', can_void => false);
SELECT is((SELECT concat_ws(' ', outcome, state) FROM order_timeout.expire_order('ma2')), 'closing closing', 'to be closing calls no hook');
SELECT throws_ok($$SELECT t.close('me')$$, 'SH001', NULL, 'to expire does');
SELECT is(t.calls(), NULL, 'nothing was called');
DELETE FROM t.broken;
SELECT is(order_timeout.set_hook('ask', 'close_hook', 't.on_close') || order_timeout.set_hook('strict', 'close_hook', 't.on_close'),
          'unchangedunchanged', 'repaired: set_hook again makes both due');
SELECT order_timeout.sweep_once();
SELECT is(t.state('mc'), 'expired', 'and the sweeper closes it');
SELECT is((SELECT array_agg(c::text ORDER BY c::text)::text FROM (SELECT order_ids, states FROM t.called) c),
          '{"({mb2},{expired})","({mc},{expired})"}', 'each hook is called once');
SELECT is(t.shown('mc'), NULL, 'nobody needs to look');
DELETE FROM t.called;
INSERT INTO t.broken VALUES ('paid');
SELECT t.order('mf'), t.authorize('mf');
SELECT is(t.pay('mf', 'mf-1', 100, 'EUR'), 'paid paid applied', 'a capture whose hook fails is recorded');
SELECT is(t.waiting('mf'), 'paid_hook 1 SH001', 'its hook is kept');
SELECT t.order('mg'), t.begin('mg');
SELECT lives_ok($$SELECT order_timeout.set_deadline('mg', '2999-01-01 00:00+00')$$, 'set_deadline calls none');
SELECT throws_ok($$SELECT order_timeout.change_order('mg', 0)$$, 'SH001', NULL, 'change_order raises the error');
DELETE FROM t.broken;
INSERT INTO t.broken VALUES ('reopen');
SELECT t.order('mh', 'default'), t.close('mh');
SELECT throws_ok($$SELECT order_timeout.reopen_order('mh')$$, 'SH001', NULL, 'reopen_order, too');
DELETE FROM t.broken;

-- A linked table that fails
SELECT order_timeout.link_table('shop.orders', 'id', 'status', '{"pending": "new", "authorized": "reserved", "closing": "closing", "paid": "paid", "expired": "closed"}');
SELECT t.row('la'), t.row('lb'), t.begin('lb'), t.row('lc'), t.begin('lc'), t.close('lc'), t.row('ld');
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'read only' USING ERRCODE = 'SH002'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT is(t.authorize('la'), 'authorized authorized', 'the promise is noted');
SELECT is(t.waiting('la'), 'link 1 SH002', 'the row is written later');
SELECT is(t.end('la'), 'ended pending', 'its end, too');
SELECT throws_ok($$SELECT t.close('lb')$$, 'SH002', NULL, 'expire_order raises the error');
SELECT is(t.end('lc'), 'ended closing', 'end_attempt whose closing fails');
SELECT is((SELECT sqlstate FROM order_timeout.set_aside WHERE order_id = 'lc'), 'SH002', 'is set aside');
SELECT is(t.begin('ld'), 'begun pending', 'begin_attempt writes no row');
DROP TRIGGER refuse ON shop.orders;
SELECT t.look_again();
SELECT is(t.says('la') || ', ' || t.says('lc'), 'new | pending, closed | expired', 'repaired');
SELECT is(coalesce(t.shown('la'), '') || coalesce(t.shown('lc'), ''), '', 'nobody needs to look');
SELECT t.sound();
SELECT * FROM finish();
ROLLBACK;
