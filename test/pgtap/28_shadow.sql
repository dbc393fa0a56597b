-- A table linked in shadow mode: its orders are a rehearsal. Nothing comes of them, and none of them ever becomes real.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

CREATE TABLE t.shop (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'new', cents bigint NOT NULL DEFAULT 100);
CREATE TABLE t.called (hook text, ids text[]);
CREATE FUNCTION t.on_close(ids text[]) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.called VALUES ('close', ids) $$;
CREATE FUNCTION t.on_paid(ids text[]) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.called VALUES ('paid', ids) $$;
CREATE FUNCTION t.on_reopen(ids text[]) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.called VALUES ('reopen', ids) $$;
CREATE FUNCTION t.send(refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text, action text,
                       attempt integer) RETURNS text LANGUAGE sql AS $$ SELECT 'succeeded' $$;
UPDATE order_timeout.policies SET on_close = 't.on_close', on_paid = 't.on_paid', on_reopen = 't.on_reopen', send_refund = 't.send';
INSERT INTO order_timeout.policies (policy, on_late, on_paid, on_reopen) VALUES ('reopens', 'reopen', 't.on_paid', 't.on_reopen');

CREATE FUNCTION t.link(shadow boolean, prefix text DEFAULT 'shop-', track boolean DEFAULT true) RETURNS text LANGUAGE sql AS $$
    SELECT outcome FROM order_timeout.link_table('t.shop', 'id', 'status',
        '{"pending": "new", "paid": "paid", "expired": "closed", "cancelled": "closed"}',
        amount_column => 'cents', currency => 'CNY', prefix => $2, track => $3, shadow => $1)
$$;

-- Nothing comes of it
SELECT is(t.link(true), 'linked', 'in shadow mode');
INSERT INTO t.shop SELECT generate_series(1, 4);
SELECT is((SELECT count(*) FROM order_timeout.orders), 4::bigint, 'rows create orders');
SELECT is(t.pay('shop-1', 'p1', 100), 'paid paid applied', 'one is paid');
SELECT is(t.cancel('shop-2'), 'cancelled cancelled', 'one is cancelled');
SELECT is(t.pay('shop-2', 'p2', 100), 'late cancelled late 100', 'and paid');
SELECT t.pass_deadline('shop-3');
SELECT is((SELECT expired FROM order_timeout.sweep_once()), 1::bigint, 'one is swept');
UPDATE order_timeout.orders SET policy = 'reopens' WHERE order_id = 'shop-3';
SELECT is(t.pay('shop-3', 'p3', 100), 'reopened paid applied', 'and reopened');
SELECT is((SELECT count(*) FROM t.called), 0::bigint, 'no hook is called');
SELECT is((SELECT count(*) FROM order_timeout.follow_ups), 0::bigint, 'nor is one left for later');
SELECT is((SELECT string_agg(DISTINCT status, '') FROM t.shop), 'new', 'the table is not written');
SELECT t.all_due();
SELECT is((SELECT count(*) FROM order_timeout.claim_refunds('w', 10)), 0::bigint, 'no refund is handed out');
SELECT is((SELECT count(*) FROM order_timeout.claim_refunds('w', 10, gateway => 'bank')), 0::bigint, 'nor of that gateway');

-- Beside orders that are real
SELECT t.create_order('real', 100);
SELECT t.cancel('real');
SELECT t.pay('real', 'p4', 100);
SELECT is((SELECT array_agg(hook || ids::text) FROM t.called), ARRAY['close{real}'], 'real orders have their hooks');
SELECT is((SELECT array_agg(order_id) FROM order_timeout.claim_refunds('w', 1)), ARRAY['real'],
          'and their refunds, though older ones of the rehearsal are passed over');

-- It cannot become real
SELECT throws_ok($$SELECT t.link(false)$$, '55000', 'the orders of table t.shop are a rehearsal', 'the link cannot just leave shadow mode');
SELECT throws_ok($$SELECT t.link(true, 'other-')$$, '55000', 'the orders of table t.shop are a rehearsal', 'nor take another prefix');
SELECT throws_ok($$SELECT * FROM order_timeout.unlink_table('t.shop')$$, '55000', 'the orders of table t.shop are a rehearsal', 'nor end');
SELECT is(t.link(true, track => false), 'changed', 'all else may change');

-- Forgotten
SELECT throws_ok($$SELECT * FROM order_timeout.forget_shadow(NULL)$$, '22004', 'table_name must not be null', 'forget_shadow: null');
SELECT throws_ok($$SELECT * FROM order_timeout.forget_shadow('a..b')$$, '22023', NULL, 'forget_shadow: not a name');
SELECT t.pay('shop-99', 'p99', 100);
SELECT results_eq($$SELECT * FROM order_timeout.forget_shadow('t.shop')$$, $$VALUES ('forgotten', 4::bigint, 4::bigint)$$,
                  'orders, and payments with or without one');
SELECT is((SELECT array_agg(order_id) FROM order_timeout.orders), ARRAY['real'], 'what is real stays');
SELECT is((SELECT array_agg(order_id) FROM order_timeout.payments), ARRAY['real'], 'its payment');
SELECT is((SELECT array_agg(order_id) FROM order_timeout.refunds), ARRAY['real'], 'its refund');
SELECT is((SELECT array_agg(DISTINCT aggregateid) FROM order_timeout.events), ARRAY['real'], 'its events');
SELECT is((SELECT count(*) FROM order_timeout.links), 0::bigint, 'the link is gone');
SELECT results_eq($$SELECT * FROM order_timeout.forget_shadow('t.shop')$$, $$VALUES ('not_linked', 0::bigint, 0::bigint)$$, 'a second time');
SELECT t.sound();

-- Nor can real orders become a rehearsal
SELECT is(t.link(false), 'linked', 'for real');
INSERT INTO t.shop VALUES (5);
SELECT throws_ok($$SELECT t.link(true)$$, '55000', 'there are orders already whose order_id begins with "shop-"', 'its orders are real');
SELECT throws_ok($$SELECT * FROM order_timeout.forget_shadow('t.shop')$$, '55000', 'table t.shop is linked for real', 'and are not forgotten');
SELECT is((SELECT outcome FROM order_timeout.unlink_table('t.shop')), 'unlinked', 'unlinked, they stay');
SELECT throws_ok($$SELECT t.link(true, '')$$, '55000', 'there are orders already whose order_id begins with ""', 'the empty prefix is everybody''s');
SELECT t.pay('orphan-1', 'p5', 100);
SELECT throws_ok($$SELECT t.link(true, 'orphan-')$$, '55000', NULL, 'a payment without an order is money, too');
SELECT is(t.link(true, 'new-'), 'linked', 'a prefix of its own');
SELECT is((SELECT outcome FROM order_timeout.unlink_table('t.shop')), 'unlinked', 'a shadow without orders ends like any link');

SELECT finish();
ROLLBACK;
