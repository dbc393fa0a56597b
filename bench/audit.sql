-- Orders, payments and refunds as the functions leave them, and the best plain SQL for the check that funds_violations makes
-- of them. For bench/audit.
\set ON_ERROR_STOP on
CREATE SCHEMA bench;

-- Ids in no order, as random ones are. Of six orders two were never paid, one was paid too late (a refund), and of three that
-- are paid one had two payments in part, one a refund that was asked for, and in one of a hundred of these it came back and was
-- sent again. Each has two events of the time before last_hour, and each thousandth order one since then.
CREATE FUNCTION bench.load_orders(orders integer, events integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	then_ timestamptz := now() - interval '400 days';
	step interval := interval '399 days' / orders;
BEGIN
	CREATE UNLOGGED TABLE bench.made AS
	SELECT i, 'ord_' || substr(md5(i::text), 1, 20) AS id, i % 6 AS kind, then_ + i * step AS t, i % 600 = 5 AS came_back
	FROM generate_series(1, orders) i;

	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, paid, refunded, refund_pending, expires_at, created_at,
		settled_at, close_reason, metadata)
	SELECT id, 'default', CASE WHEN kind < 3 THEN 'expired' ELSE 'paid' END, 1999, 'EUR',
		CASE WHEN kind < 2 THEN 0 ELSE 1999 END,
		CASE WHEN kind = 2 THEN 1999 WHEN kind = 5 AND NOT came_back THEN 500 ELSE 0 END,
		CASE WHEN came_back THEN 500 ELSE 0 END, t + interval '30 minutes', t, t + interval '31 minutes',
		CASE WHEN kind < 3 THEN 'deadline' END, '{"channel": "web"}'
	FROM bench.made ORDER BY i;

	INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition, late_reason,
		refunded, refund_pending)
	SELECT CASE WHEN i % 4 = 0 THEN 'alipay' ELSE 'stripe' END, 'pi_' || substr(md5('p' || i || '/' || part), 1, 20), id,
		CASE WHEN kind = 3 THEN CASE part WHEN 1 THEN 1000 ELSE 999 END ELSE 1999 END, 'EUR', t + interval '1 minute',
		CASE WHEN kind = 2 THEN 'late' ELSE 'applied' END, CASE WHEN kind = 2 THEN 'paid_late' END,
		CASE WHEN kind = 2 THEN 1999 WHEN kind = 5 AND NOT came_back THEN 500 ELSE 0 END,
		CASE WHEN came_back THEN 500 ELSE 0 END
	FROM bench.made, generate_series(1, CASE kind WHEN 3 THEN 2 ELSE 1 END) part
	WHERE kind >= 2 AND (kind <> 3 OR i % 12 = 3 OR part = 1) ORDER BY i;
	UPDATE order_timeout.payments SET amount = 1999 WHERE amount = 1000
		AND order_id IN (SELECT id FROM bench.made WHERE kind = 3 AND i % 12 <> 3);

	INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, currency, reason, state, next_attempt_at,
		asked, returned_at, replaced_by, created_at, settled_at)
	SELECT 'rf_' || md5(m.i || '/' || part), m.id, p.gateway, p.payment_ref, r.amount, 'EUR',
		CASE WHEN kind = 2 THEN 'late' WHEN part = 2 THEN 'reversed' ELSE 'requested' END, r.state,
		CASE WHEN r.state = 'pending' THEN t + interval '2 days' END, r.amount, CASE WHEN part = 1 THEN t + interval '1 day' END,
		CASE WHEN r.state = 'reversed' THEN 'rf_' || md5(m.i || '/' || 2) END, t + interval '1 hour',
		CASE WHEN r.state <> 'pending' THEN t + interval '1 day' END
	FROM bench.made m JOIN order_timeout.payments p ON p.order_id = m.id,
		generate_series(1, CASE WHEN came_back THEN 2 ELSE 1 END) part,
		LATERAL (SELECT CASE WHEN kind = 2 THEN 1999 ELSE 500 END AS amount,
			CASE WHEN came_back AND part = 1 THEN 'reversed' WHEN part = 2 THEN 'pending' ELSE 'succeeded' END AS state) r
	WHERE kind IN (2, 5) ORDER BY m.i;

	INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
	SELECT id, e.type, jsonb_build_object('state', 'paid', 'amount', 1999, 'currency', 'EUR', 'paid', 1999), t + e.after
	FROM bench.made, LATERAL (VALUES ('order.created', interval '0'), ('order.paid', interval '1 minute')) e (type, after)
	WHERE i <= events / 2 ORDER BY i;
	INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
	SELECT id, 'order.changed', '{}', now() - interval '30 minutes' FROM bench.made WHERE i % 1000 = 0 ORDER BY i;
END $$;
