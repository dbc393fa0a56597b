-- funds and funds_violations: the proof. Whatever is tampered with behind the functions' back is found.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- An order of each kind, with money in every place that money can be.
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
SELECT t.create_order('open', 100), t.pay('open', 'open-1', 60);
SELECT t.create_order('paid', 100), t.pay('paid', 'paid-1', 130), t.pay('paid', 'paid-2', 50), t.pay('paid', 'paid-eur', 50, 'EUR');
SELECT order_timeout.request_refund('paid', 'k', 25);
SELECT t.create_order('shut', 100), t.pay('shut', 'shut-1', 60), t.expire('shut'), t.pay('shut', 'shut-2', 100);
SELECT t.create_order('held', 100, 'hold'), t.expire('held'), t.pay('held', 'held-1', 100), t.pay('held', 'held-2', 40);
SELECT order_timeout.complete_refund(t.ref('shut-1'), 'succeeded');
SELECT order_timeout.complete_refund(t.ref('paid-2'), 'succeeded', refunded_amount => 30);
SELECT t.pay('nobody', 'orphan-1', 10);
SELECT t.pay('nobody', 'orphan-2', 10);
SELECT order_timeout.refund_orphan('bank', 'orphan-2');

-- funds
SELECT is((SELECT f::text FROM order_timeout.funds('open') AS f), '(pending,100,CNY,60,0,0,0,60,t)', 'a pending order');
SELECT is((SELECT f::text FROM order_timeout.funds('paid') AS f), '(paid,100,CNY,180,30,75,0,75,t)', 'a paid order');
SELECT is((SELECT f::text FROM order_timeout.funds('shut') AS f), '(expired,100,CNY,160,60,100,0,0,t)', 'a closed order');
SELECT is((SELECT f::text FROM order_timeout.funds('held') AS f), '(expired,100,CNY,140,0,0,140,0,t)', 'held money');
SELECT throws_ok($$SELECT * FROM order_timeout.funds('nobody')$$, 'OT001', NULL, 'an order that does not exist');
SELECT t.sound('nothing was tampered with');

-- What funds_violations says of a database that someone tampered with, which is then put right again
CREATE FUNCTION t.found_after(tamper text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
    found text;
BEGIN
    EXECUTE tamper;
    GET DIAGNOSTICS touched = ROW_COUNT;
    SELECT concat_ws(' ', CASE WHEN touched = 0 THEN 'touched no row' END,
                     string_agg(DISTINCT concat_ws('/', v.kind, v.order_id, v.gateway, v.payment_ref, v.refund_ref), ' '))
      INTO found FROM order_timeout.funds_violations() AS v;
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN found;
END
$$;
CREATE FUNCTION t.is_found(tamper text, who text) RETURNS text LANGUAGE sql AS $$
    SELECT matches(t.found_after($1), $2, $1)
$$;
SELECT is(t.found_after($$UPDATE order_timeout.orders SET metadata = '{"x": 1}'$$), '', 'what is no money is no violation');

-- Sums on orders that satisfy every CHECK and yet are not what the rows say
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + 1, refunded = refunded + 1 WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET refunded = refunded + 1, refund_pending = refund_pending - 1 WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET refund_pending = 0, held = held + refund_pending WHERE order_id = 'shut'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = 0 WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = 0, refunded = 0, refund_pending = 0, held = 0 WHERE order_id = 'held'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.orders SET paid = paid + CASE order_id WHEN 'open' THEN 1 ELSE -1 END WHERE order_id IN ('open', 'paid')$$,
                  'open.*paid');
SELECT t.is_found($$UPDATE order_timeout.orders SET currency = 'EUR' WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$DELETE FROM order_timeout.orders WHERE order_id = 'open'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.orders SET order_id = 'opened' WHERE order_id = 'open'$$, 'open');

-- Payments
SELECT t.is_found($$UPDATE order_timeout.payments SET amount = amount + 1 WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET refund_pending = refund_pending + 1 WHERE payment_ref = 'open-1'$$, 'open-1');
SELECT t.is_found($$UPDATE order_timeout.payments SET refunded = 0 WHERE payment_ref = 'shut-1'$$, 'shut-1');
SELECT t.is_found($$UPDATE order_timeout.payments SET refunded = refund_pending, refund_pending = 0 WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$UPDATE order_timeout.payments SET held = held - 1 WHERE payment_ref = 'held-1'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.payments SET held = held + CASE payment_ref WHEN 'held-1' THEN -1 ELSE 1 END, amount = amount + 1
                     WHERE order_id = 'held'$$, 'held');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'paid' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'unheard of' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET currency = 'EUR' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET currency = 'USD' WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'orphan' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'wrong_currency' WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$UPDATE order_timeout.payments SET disposition = 'applied' WHERE payment_ref = 'orphan-1'$$, 'orphan-1');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'open-1'$$, 'open');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$DELETE FROM order_timeout.payments WHERE payment_ref = 'orphan-2'$$, 'orphan-2');
SELECT t.is_found($$UPDATE order_timeout.payments SET order_id = 'open' WHERE payment_ref = 'orphan-1'$$, 'open/bank/orphan-1');
SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    VALUES ('bank', 'stray', 'paid', 1, 'CNY', now(), 'orphan')$$, 'paid/bank/stray');
SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    VALUES ('bank', 'free', 'paid', 1, 'CNY', now(), 'applied')$$, 'paid');

SELECT t.is_found($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
                    SELECT 'bank', ref, 'open', 9223372036854775807, 'CNY', now(), 'applied' FROM unnest(ARRAY['much', 'more']) AS ref$$,
                  'overflow/open');

-- Refunds
SELECT t.is_found($$UPDATE order_timeout.refunds SET amount = amount - 1 WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'succeeded', settled_at = now(), next_attempt_at = NULL
                     WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'pending', settled_at = NULL, next_attempt_at = now()
                     WHERE payment_ref = 'shut-1'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET state = 'reversed', settled_at = now(), next_attempt_at = NULL
                     WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET payment_ref = 'shut-1' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET order_id = 'open' WHERE payment_ref = 'shut-2'$$, 'open|shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET gateway = 'alipay' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$UPDATE order_timeout.refunds SET currency = 'EUR' WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'shut-2'$$, 'shut');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'paid-eur'$$, 'paid-eur');
SELECT t.is_found($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'orphan-2'$$, 'orphan-2');
SELECT t.is_found($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                                       next_attempt_at, created_at)
                    VALUES ('made-up', 'open', 'bank', 'open-1', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$, 'open');
SELECT t.is_found($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                                       next_attempt_at, created_at)
                    VALUES ('made-up', 'open', 'bank', 'no such', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$, 'made-up');

-- Rows that agree with each other and break the identity, the CHECKs being gone
CREATE FUNCTION t.without_checks(tamper text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    ALTER TABLE order_timeout.orders DROP CONSTRAINT orders_funds, DROP CONSTRAINT orders_settled;
    ALTER TABLE order_timeout.payments DROP CONSTRAINT payments_funds;
    found := t.found_after(tamper);
    RAISE EXCEPTION USING ERRCODE = 'P9998';
EXCEPTION WHEN SQLSTATE 'P9998' THEN
    RETURN found;
END
$$;
SELECT matches(t.without_checks(tamper), who, tamper || ' (no CHECKs)') FROM (VALUES
    ($$UPDATE order_timeout.orders SET state = 'expired', settled_at = now() WHERE order_id = 'open'$$, 'open'),
    ($$UPDATE order_timeout.orders SET state = 'cancelled' WHERE order_id = 'paid'$$, 'paid'),
    ($$UPDATE order_timeout.orders SET amount = 60 WHERE order_id = 'open'$$, 'open'),
    ($$UPDATE order_timeout.orders SET amount = 10 WHERE order_id = 'paid'$$, 'paid'),
    ($$UPDATE order_timeout.payments SET refund_pending = amount + 1 WHERE payment_ref = 'paid-eur'$$, 'paid-eur'),
    ($$UPDATE order_timeout.payments SET amount = 10 WHERE payment_ref = 'paid-eur'$$, 'paid-eur')
) AS x (tamper, who);

-- One thing wrong at a time, and what it is called
SELECT is(t.found_after(tamper), called, tamper || ': what it is called') FROM (VALUES
    ($$UPDATE order_timeout.orders SET paid = paid - 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET refunded = refunded + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET refund_pending = refund_pending + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET held = held + 1 WHERE order_id = 'paid'$$, 'order_sums/paid'),
    ($$UPDATE order_timeout.orders SET amount = 1000 WHERE order_id = 'shut'$$, ''),
    ($$UPDATE order_timeout.refunds SET currency = 'EUR' WHERE payment_ref = 'paid-1' AND reason = 'surplus'$$,
     'refund_currency/paid/bank/paid-1/' || (SELECT refund_ref FROM order_timeout.refunds WHERE payment_ref = 'paid-1' AND reason = 'surplus')),
    ($$UPDATE order_timeout.refunds SET order_id = 'open' WHERE payment_ref = 'paid-eur'$$, 'refund_order/paid/bank/paid-eur/' || t.ref('paid-eur')),
    ($$INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
       VALUES ('bank', 'stray', 'paid', 1, 'CNY', now(), 'orphan')$$, 'orphan_beside_order/paid/bank/stray'),
    ($$UPDATE order_timeout.payments SET order_id = 'none' WHERE payment_ref = 'paid-eur'$$,
     format('payment_without_order/none/bank/paid-eur refund_order/none/bank/paid-eur/%s', t.ref('paid-eur'))),
    ($$UPDATE order_timeout.payments SET refunded = refunded + 1 WHERE payment_ref = 'open-1'$$, 'payment_sums/open/bank/open-1'),
    ($$UPDATE order_timeout.orders SET state = 'cancelled', amount = 1 WHERE order_id = 'held'$$, ''),
    ($$INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
                                          next_attempt_at, created_at)
       VALUES ('made-up', 'open', 'bank', 'no such', 5, 5, 'CNY', 'requested', 'pending', now(), now())$$,
     'refund_without_payment/open/bank/no such/made-up')
) AS x (tamper, called);

-- balanced tells it of one order
CREATE FUNCTION t.balanced_after(tamper text, order_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE tamper;
    SELECT f.balanced INTO answer FROM order_timeout.funds(order_id) AS f;
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN answer;
END
$$;
SELECT is(t.balanced_after(tamper, order_id), balanced, format('%s: funds(%L)', tamper, order_id)) FROM (VALUES
    ($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'open', false),
    ($$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'open'$$, 'paid', true),
    ($$UPDATE order_timeout.payments SET amount = amount + 1 WHERE payment_ref = 'open-1'$$, 'open', false),
    ($$UPDATE order_timeout.payments SET refunded = 0 WHERE payment_ref = 'shut-1'$$, 'shut', false),
    ($$DELETE FROM order_timeout.refunds WHERE payment_ref = 'shut-2'$$, 'shut', false),
    ($$UPDATE order_timeout.refunds SET amount = amount - 1 WHERE payment_ref = 'paid-1'$$, 'paid', false)
) AS x (tamper, order_id, balanced);
SELECT t.sound('all tampering was put right');

-- The CHECKs themselves
SELECT throws_ok(tamper, '23514', NULL, tamper) FROM unnest(ARRAY[
    $$UPDATE order_timeout.orders SET paid = paid + 1 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.orders SET refund_pending = refund_pending - 1 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.orders SET paid = 1000 WHERE order_id = 'paid'$$,
    $$UPDATE order_timeout.orders SET refunded = 1000 WHERE order_id = 'paid'$$,
    $$UPDATE order_timeout.orders SET paid = 100 WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET state = 'expired', settled_at = now() WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET state = 'lost' WHERE order_id = 'open'$$,
    $$UPDATE order_timeout.orders SET held = -1, refund_pending = 101 WHERE order_id = 'shut'$$,
    $$UPDATE order_timeout.payments SET refund_pending = 61 WHERE payment_ref = 'open-1'$$,
    $$UPDATE order_timeout.payments SET refunded = -1 WHERE payment_ref = 'open-1'$$,
    $$UPDATE order_timeout.refunds SET amount = 0 WHERE payment_ref = 'shut-2'$$,
    $$UPDATE order_timeout.refunds SET state = 'lost' WHERE payment_ref = 'shut-2'$$]) AS tamper;
SELECT finish();
ROLLBACK;
