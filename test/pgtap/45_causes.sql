-- A history shows causes before effects: what a call does comes first, then what that leads to. The simple calls are in 24.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, late_rule, on_late, on_short) VALUES
    ('hold', 'until_closed', 'hold', 'hold'), ('strict', 'at_deadline', 'refund', 'refund');

-- The new events of one order since the last look, each with the payment or the money that it is about.
CREATE TABLE t.looked AS SELECT 0::bigint AS at;
CREATE FUNCTION t.since(order_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text := (SELECT string_agg(concat_ws(' ', e.type, e.payload ->> 'payment_ref', CASE WHEN e.type LIKE 'refund.%' THEN e.payload ->> 'amount' END),
                                     ', ' ORDER BY e.id)
                     FROM order_timeout.events e, t.looked l WHERE e.id > l.at AND e.aggregateid = order_id);
BEGIN
    UPDATE t.looked SET at = (SELECT max(id) FROM order_timeout.events);
    RETURN found;
END
$$;

-- Closing
SELECT t.create_order('cancel', 100), t.pay('cancel', 'c-1', 10), t.pay('cancel', 'c-2', 20), t.since('cancel');
SELECT t.cancel('cancel');
SELECT is(t.since('cancel'), 'order.cancelled, refund.created c-1 10, refund.created c-2 20', 'cancel_order');
SELECT t.create_order('expire', 100), t.pay('expire', 'e-1', 10), t.since('expire');
SELECT t.expire('expire');
SELECT is(t.since('expire'), 'order.expired, refund.created e-1 10', 'expire_order');
SELECT t.create_order('held', 100, 'hold'), t.pay('held', 'h-1', 10), t.pay('held', 'h-2', 20), t.since('held');
SELECT t.expire('held');
SELECT is(t.since('held'), 'order.expired, payment.held h-1, payment.held h-2', 'part payments that are held');
SELECT t.create_order('s' || i, 100), t.pay('s' || i, 's-' || i, i), t.pass_deadline('s' || i), t.since('s' || i) FROM generate_series(1, 3) i;
SELECT * FROM order_timeout.sweep_once();
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('s' || i)),
          'order.created payment.partial order.expired refund.created', 'a batch of the sweeper: ' || i) FROM generate_series(1, 3) i;
SELECT t.since('');

-- Payments
SELECT t.create_order('strict', 100, 'strict'), t.pay('strict', 't-1', 10), t.pass_deadline('strict'), t.since('strict');
SELECT t.pay('strict', 't-2', 100);
SELECT is(t.since('strict'), 'order.expired, refund.created t-1 10, payment.late t-2, refund.created t-2 100', 'a payment that closes its order');
SELECT t.create_order('paid', 100), t.pay('paid', 'p-1', 120);
SELECT is(t.since('paid'), 'order.created, order.paid p-1, refund.created p-1 20', 'a surplus');
SELECT t.pay('orphan', 'o-1', 70), t.pay('orphan', 'o-2', 70), t.since('orphan');
SELECT t.create_order('orphan', 100);
SELECT is(t.since('orphan'), 'order.created, payment.partial o-1, order.paid o-2, refund.created o-2 40', 'orphans that join');
SELECT t.create_order('change', 100), t.pay('change', 'g-1', 60), t.since('change');
SELECT order_timeout.change_order('change', 50);
SELECT is(t.since('change'), 'order.changed, order.paid, refund.created g-1 10', 'change_order');

-- Decisions
SELECT order_timeout.resolve_held('bank', 'h-1', 'refund');
SELECT is(t.since('held'), 'payment.given_back h-1, refund.created h-1 10', 'resolve_held');
SELECT t.create_order('accept', 100), t.pay('accept', 'a-1', 60), t.expire('accept'), t.pay('accept', 'a-2', 60), t.since('accept');
SELECT order_timeout.accept_payment('bank', 'a-2');
SELECT is(t.since('accept'),
          'payment.accepted a-2, refund.withdrawn a-2 60, payment.accepted a-1, refund.withdrawn a-1 60, refund.created a-1 20, order.reopened a-2',
          'accept_payment');
SELECT order_timeout.request_refund('accept', 'k', 30), t.since('accept');
SELECT order_timeout.stop_refund(t.ref('a-2'), 'wait'), t.since('accept');
SELECT order_timeout.reverse_refund(t.ref('a-2'), 'another key');
SELECT is(t.since('accept'), 'refund.reversed a-2 30, refund.created a-2 30', 'reverse_refund');

-- Reports about refunds
SELECT t.create_order('report', 100), t.pay('report', 'r-1', 100), t.since('report');
SELECT order_timeout.request_refund('report', 'k', 60), t.since('report');
SELECT order_timeout.complete_refund(t.ref('r-1'), 'succeeded', refunded_amount => 50);
SELECT is(t.since('report'), 'refund.succeeded r-1 50, refund.created r-1 10', 'less was returned');
SELECT order_timeout.record_refund('bank', 'r-1', 'ext', 5);
SELECT is(t.since('report'), 'refund.recorded r-1 5, refund.reversed r-1 10, refund.created r-1 5', 'record_refund');
SELECT order_timeout.reverse_chargeback('bank', 'ext');
SELECT is(t.since('report'), 'refund.reversed r-1 5, refund.created r-1 5', 'reverse_chargeback');
SELECT order_timeout.record_refund('bank', 'r-1', 'much', 200);
SELECT is(t.since('report'), 'refund.recorded r-1 50, refund.reversed r-1 5, refund.reversed r-1 5, refund.conflict r-1 150',
          'more than is left');
SELECT t.create_order('stop', 100), t.pay('stop', 'st-1', 100);
SELECT order_timeout.request_refund('stop', 'k', 60), t.since('stop');
SELECT count(*) FROM order_timeout.claim_refunds('worker', 100);
SELECT t.since('stop');
SELECT order_timeout.record_refund('bank', 'st-1', 'back', 70, 'chargeback');
SELECT is(t.since('stop'), 'refund.recorded st-1 40, refund.conflict st-1 30, refund.stopped st-1 60', 'a chargeback stops what is out');

-- What was taken over: a report under the number that another row had.
SELECT t.create_order('over', 100), t.pay('over', 'v-1', 100);
SELECT order_timeout.request_refund('over', 'k', 40), t.since('over');
SELECT count(*) FROM order_timeout.claim_refunds('worker', 100);
SELECT order_timeout.record_refund('bank', 'v-1', 'same', 40), t.since('over');
SELECT order_timeout.complete_refund((SELECT refund_ref FROM order_timeout.refunds WHERE order_id = 'over' AND reason = 'requested'),
                                     'succeeded', gateway_refund_ref => 'same');
SELECT is(t.since('over'), 'refund.succeeded v-1 40, refund.reversed v-1 40', 'complete_refund takes a recorded refund over');

-- Money that an open order has again, and is paid by.
SELECT t.create_order('again', 100), t.pay('again', 'n-1', 60);
SELECT order_timeout.record_refund('bank', 'n-1', 'bounced', 60), t.pay('again', 'n-2', 80), t.since('again');
SELECT order_timeout.reverse_chargeback('bank', 'bounced');
SELECT is(t.since('again'), 'refund.reversed n-1 60, order.paid n-1, refund.created n-1 40', 'reverse_chargeback pays an order');
SELECT t.sound();
SELECT finish();
ROLLBACK;
