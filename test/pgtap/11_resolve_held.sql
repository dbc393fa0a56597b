-- resolve_held: a person decides about late money.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
CREATE FUNCTION t.resolve(payment_ref text, decision text) RETURNS text LANGUAGE sql AS $$
    SELECT r.outcome || ' ' || r.state FROM order_timeout.resolve_held('bank', $1, $2) AS r
$$;
-- An expired order of 100 under policy hold, with late payments of the given amounts: <order_id>-1, <order_id>-2, ...
CREATE FUNCTION t.hold(order_id text, VARIADIC amounts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(order_id, 100, 'hold'), t.expire(order_id);
    FOR i IN 1 .. cardinality(amounts) LOOP
        PERFORM t.pay(order_id, order_id || '-' || i, amounts[i]);
    END LOOP;
END
$$;

-- refund
SELECT t.hold('r', 100);
SELECT is(t.sums('r'), 'expired 100 = 0 + 0 + 100 + 0', 'held');
SELECT is(t.resolve('r-1', 'refund'), 'refunded expired', 'refund');
SELECT is(t.sums('r'), 'expired 100 = 0 + 100 + 0 + 0', 'owed');
SELECT is(t.refunds('r'), 'r-1 100 late pending', 'as what it is');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE order_id = 'r'$$, 'nothing to decide any more');
SELECT is(t.resolve('r-1', 'refund'), 'already_resolved expired', 'again');
SELECT is(t.resolve('r-1', 'accept'), 'already_resolved expired', 'the other decision comes too late');

-- accept
SELECT t.hold('a', 100);
SELECT is(t.resolve('a-1', 'accept'), 'accepted paid', 'accept');
SELECT is(t.sums('a'), 'paid 100 = 0 + 0 + 0 + 100', 'the order is paid');
SELECT is(t.resolve('a-1', 'accept'), 'already_resolved paid', 'again');
SELECT is(t.resolve('a-1', 'refund'), 'already_resolved paid', 'the other decision comes too late');
SELECT is(t.pay('a', 'a-1', 100), 'duplicate paid applied', 'the gateway tells it again');
SELECT t.hold('more', 130);
SELECT is(t.resolve('more-1', 'accept'), 'accepted paid', 'more than the amount');
SELECT is(t.sums('more'), 'paid 130 = 0 + 30 + 0 + 100', 'what is too much');
SELECT is(t.refunds('more'), 'more-1 30 surplus pending', 'is surplus');
SELECT t.create_order('parts', 100, 'hold'), t.pay('parts', 'parts-0', 60), t.expire('parts'), t.pay('parts', 'parts-1', 100);
SELECT is(t.resolve('parts-1', 'accept'), 'accepted paid', 'an order that had a part payment');
SELECT is(t.sums('parts'), 'paid 160 = 0 + 60 + 0 + 100', 'which stays owed');

-- accept, from cancelled
SELECT t.create_order('c', 100, 'hold'), t.cancel('c'), t.pay('c', 'c-1', 100);
SELECT is(t.resolve('c-1', 'accept'), 'accepted paid', 'a cancelled order');
SELECT is(t.sums('c'), 'paid 100 = 0 + 0 + 0 + 100', 'is paid after all');

-- short
SELECT t.hold('short', 40);
SELECT is(t.resolve('short-1', 'accept'), 'short expired', 'too little');
SELECT is(t.sums('short'), 'expired 40 = 0 + 0 + 40 + 0', 'stays held');
SELECT is(t.resolve('short-1', 'accept'), 'short expired', 'again');
SELECT is(t.pay('short', 'short-2', 60), 'held expired held', 'the rest comes');
SELECT is(t.resolve('short-1', 'accept'), 'accepted paid', 'together they reach the amount');
SELECT is(t.sums('short'), 'paid 100 = 0 + 0 + 0 + 100', 'and pay');
SELECT is(t.resolve('short-2', 'accept'), 'already_resolved paid', 'the other is used up with it');
SELECT t.create_order('part owed', 100, 'hold'), t.pay('part owed', 'po-0', 60), t.expire('part owed'), t.pay('part owed', 'po-1', 40);
SELECT is(t.resolve('po-1', 'accept'), 'short expired', 'what is being refunded does not help');

-- Several held: this payment's first, then the oldest; what is not needed goes back to its own payment
SELECT t.hold('two', 60, 60);
SELECT is(t.resolve('two-2', 'accept'), 'accepted paid', 'accept the second of two');
SELECT is(t.sums('two'), 'paid 120 = 0 + 20 + 0 + 100', 'both are used');
SELECT is(t.refunds('two'), 'two-1 20 surplus pending', 'the rest of the first goes back');
SELECT t.hold('three', 30, 50, 60);
SELECT is(t.resolve('three-3', 'accept'), 'accepted paid', 'accept the third of three');
SELECT is(t.sums('three'), 'paid 140 = 0 + 40 + 0 + 100', 'all are used or go back');
SELECT is(t.refunds('three'), 'three-2 40 surplus pending', 'the oldest is used before the others');
SELECT t.hold('enough', 100, 100);
SELECT is(t.resolve('enough-2', 'accept'), 'accepted paid', 'one that is enough alone');
SELECT is(t.sums('enough'), 'paid 200 = 0 + 100 + 0 + 100', 'the other is not needed');
SELECT is(t.refunds('enough'), 'enough-1 100 surplus pending', 'and goes back');
SELECT t.hold('one back', 60, 60);
SELECT is(t.resolve('one back-1', 'refund'), 'refunded expired', 'refund one of two');
SELECT is(t.resolve('one back-2', 'accept'), 'short expired', 'the other is short then');

-- An order that was paid meanwhile
SELECT t.hold('meanwhile', 100);
UPDATE order_timeout.policies SET on_late = 'reopen' WHERE policy = 'hold';
SELECT is(t.pay('meanwhile', 'mw-2', 100), 'reopened paid applied', 'paid meanwhile');
SELECT is(t.sums('meanwhile'), 'paid 200 = 0 + 0 + 100 + 100', 'the first is still held');
SELECT is(t.resolve('meanwhile-1', 'accept'), 'surplus paid', 'accept it');
SELECT is(t.sums('meanwhile'), 'paid 200 = 0 + 100 + 0 + 100', 'it is refunded');
SELECT is(t.refunds('meanwhile'), 'meanwhile-1 100 surplus pending', 'as surplus');
SELECT is(t.resolve('meanwhile-1', 'accept'), 'already_resolved paid', 'again');
UPDATE order_timeout.policies SET on_late = 'hold' WHERE policy = 'hold';
SELECT t.hold('meanwhile2', 100);
UPDATE order_timeout.policies SET on_late = 'reopen' WHERE policy = 'hold';
SELECT t.pay('meanwhile2', 'mw2-2', 100);
SELECT is(t.resolve('meanwhile2-1', 'refund'), 'refunded paid', 'or refund it');
SELECT is(t.sums('meanwhile2'), 'paid 200 = 0 + 100 + 0 + 100', 'which comes to the same');

-- Nothing to decide
SELECT throws_ok($$SELECT order_timeout.resolve_held('bank', 'mw-2', 'accept')$$, 'OT005', NULL, 'a payment that was never held');
SELECT throws_ok($$SELECT order_timeout.resolve_held('bank', 'no such', 'accept')$$, 'OT009', NULL, 'no such payment');
SELECT throws_ok($$SELECT order_timeout.resolve_held('alipay', 'mw-2', 'accept')$$, 'OT009', NULL, 'not at this gateway');
-- What the rows say
UPDATE order_timeout.policies SET on_late = 'hold' WHERE policy = 'hold';
SELECT t.hold('says', 120), t.hold('back', 120);
SELECT settled_at AS closed FROM order_timeout.orders WHERE order_id = 'says' \gset
SELECT t.resolve('says-1', 'accept'), t.resolve('back-1', 'refund');
SELECT is((SELECT string_agg(disposition || ' ' || (held_at > now()), ', ' ORDER BY payment_ref DESC) FROM order_timeout.payments
            WHERE payment_ref IN ('says-1', 'back-1')), 'applied true, late true', 'disposition, and held_at, which stays');
SELECT ok((SELECT settled_at > :'closed'::timestamptz AND close_reason IS NULL FROM order_timeout.orders WHERE order_id = 'says'),
          'the order was settled when it was accepted');

SELECT t.sound();
SELECT finish();
ROLLBACK;
