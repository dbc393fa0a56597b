-- Orders, payments and refunds as the functions leave them, and the best plain SQL for the check that funds_violations makes
-- of them. For bench/audit.
\set ON_ERROR_STOP on
CREATE SCHEMA bench;
CREATE UNLOGGED TABLE bench.made (i integer, id text, kind integer, t timestamptz, came_back boolean);

-- Ids in no order, as random ones are. Of six orders two were never paid, one was paid too late (a refund), and of three that
-- are paid every second of one kind had two payments in part, and one had a refund that was asked for; in one of a hundred of
-- these it came back and was sent again. Each has two events.
CREATE FUNCTION bench.load_orders(orders integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	then_ timestamptz := now() - interval '400 days';
	step interval := interval '399 days' / orders;
BEGIN
	INSERT INTO bench.made
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
		CASE WHEN parts = 1 THEN 1999 WHEN part = 1 THEN 1000 ELSE 999 END, 'EUR', t + interval '1 minute',
		CASE WHEN kind = 2 THEN 'late' ELSE 'applied' END, CASE WHEN kind = 2 THEN 'paid_late' END,
		CASE WHEN kind = 2 THEN 1999 WHEN kind = 5 AND NOT came_back THEN 500 ELSE 0 END,
		CASE WHEN came_back THEN 500 ELSE 0 END
	FROM (SELECT *, CASE WHEN i % 12 = 3 THEN 2 ELSE 1 END AS parts FROM bench.made) m, generate_series(1, parts) part
	WHERE kind >= 2 ORDER BY i;

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
	ORDER BY i;
END $$;

-- The refunds of each payment: their sums, and whether one of them is wrong by itself. Currencies and orders are compared later.
CREATE VIEW bench.refunds_by_payment AS
SELECT r.gateway, r.payment_ref, sum(r.amount) FILTER (WHERE r.state = 'succeeded') AS refunded,
	sum(r.amount) FILTER (WHERE r.state NOT IN ('succeeded', 'reversed')) AS pending,
	min(r.currency) AS currency_1, max(r.currency) AS currency_2, min(r.order_id) AS order_1, max(r.order_id) AS order_2,
	bool_or(CASE r.state WHEN 'succeeded' THEN r.returned_at IS NULL AND NOT r.by_hand OR r.replaced_by IS NOT NULL OR r.withdrawn
		WHEN 'reversed' THEN (NOT r.withdrawn AND r.reason NOT IN ('external', 'chargeback') OR r.replaced_by IS NOT NULL)
			AND NOT EXISTS (SELECT FROM order_timeout.refunds n
				WHERE n.refund_ref = r.replaced_by AND n.gateway = r.gateway AND n.payment_ref = r.payment_ref)
		ELSE r.replaced_by IS NOT NULL OR r.withdrawn END) AS wrong
FROM order_timeout.refunds r GROUP BY r.gateway, r.payment_ref;

CREATE FUNCTION bench.never_paid(of_order text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT EXISTS (SELECT FROM order_timeout.events WHERE aggregateid = of_order AND type = 'order.created')
		AND NOT EXISTS (SELECT FROM order_timeout.events WHERE aggregateid = of_order AND type IN ('order.paid', 'order.reopened'))
$$;

-- The order_ids of which something is wrong. First way: payments are summed up with their refunds, and joined to the orders.
CREATE VIEW bench.by_joins AS
WITH payments AS (
	SELECT p.order_id, sum(p.amount) FILTER (WHERE counts) AS paid, sum(r.refunded) FILTER (WHERE counts) AS refunded,
		sum(r.pending) FILTER (WHERE counts) AS refund_pending, sum(p.held) FILTER (WHERE counts) AS held,
		sum(p.amount) FILTER (WHERE disposition = 'applied') AS applied,
		min(p.currency) FILTER (WHERE counts) AS currency_1, max(p.currency) FILTER (WHERE counts) AS currency_2,
		bool_or(disposition <> 'orphan') AS needs_order, bool_or(disposition = 'orphan' AND kept > 0) AS orphan,
		bool_or(p.refunded <> coalesce(r.refunded, 0) OR p.refund_pending <> coalesce(r.pending, 0) OR kept < 0
			OR kept > 0 AND disposition NOT IN ('applied', 'orphan') OR r.wrong OR r.currency_1 <> p.currency
			OR r.currency_2 <> p.currency OR r.order_1 <> p.order_id OR r.order_2 <> p.order_id) AS wrong
	FROM order_timeout.payments p
	LEFT JOIN bench.refunds_by_payment r ON r.gateway = p.gateway AND r.payment_ref = p.payment_ref,
	LATERAL (SELECT p.disposition NOT IN ('orphan', 'wrong_currency', 'uncounted') AS counts,
		p.amount - p.refunded - p.refund_pending - p.held AS kept) x
	GROUP BY p.order_id)
SELECT coalesce(o.order_id, p.order_id) AS order_id
FROM (SELECT *, paid - refunded - refund_pending - held AS kept FROM order_timeout.orders) o
FULL JOIN payments p ON p.order_id = o.order_id
WHERE CASE WHEN o.order_id IS NULL THEN p.wrong OR p.needs_order
	ELSE p.wrong OR p.orphan OR o.paid <> coalesce(p.paid, 0) OR o.refunded <> coalesce(p.refunded, 0)
		OR o.refund_pending <> coalesce(p.refund_pending, 0) OR o.held <> coalesce(p.held, 0)
		OR p.currency_1 <> o.currency OR p.currency_2 <> o.currency
		OR o.state = 'paid' AND coalesce(p.applied, 0) < o.amount AND (coalesce(p.applied, 0) = 0 OR bench.never_paid(o.order_id))
		OR CASE WHEN o.state IN ('pending', 'authorized', 'closing') THEN o.kept NOT BETWEEN 0 AND o.amount - 1
			WHEN o.state = 'paid' THEN o.kept NOT BETWEEN 0 AND o.amount ELSE o.kept <> 0 END
	END
UNION ALL
SELECT r.order_id FROM order_timeout.refunds r
WHERE NOT EXISTS (SELECT FROM order_timeout.payments p WHERE p.gateway = r.gateway AND p.payment_ref = r.payment_ref);

-- Second way: orders and payments become rows of one list that is summed up, and payments are held against their refunds.
CREATE VIEW bench.by_sums AS
SELECT x.order_id FROM (
	SELECT order_id, state, amount, currency, paid, refunded, refund_pending, held, 0::bigint AS applied,
		paid - refunded - refund_pending - held AS kept, false AS wrong, NULL::boolean AS needs_order, NULL::text AS paid_in
	FROM order_timeout.orders
	UNION ALL
	SELECT order_id, NULL, 0, NULL, CASE WHEN counts THEN -amount ELSE 0 END, CASE WHEN counts THEN -refunded ELSE 0 END,
		CASE WHEN counts THEN -refund_pending ELSE 0 END, CASE WHEN counts THEN -held ELSE 0 END,
		CASE WHEN disposition = 'applied' THEN amount ELSE 0 END, 0, kept < 0 OR kept > 0 AND disposition NOT IN ('applied', 'orphan'),
		CASE WHEN disposition <> 'orphan' THEN true WHEN kept > 0 THEN false END, CASE WHEN counts THEN currency END
	FROM order_timeout.payments, LATERAL (SELECT disposition NOT IN ('orphan', 'wrong_currency', 'uncounted') AS counts,
		amount - refunded - refund_pending - held AS kept) c) x
GROUP BY x.order_id
HAVING sum(paid) <> 0 OR sum(refunded) <> 0 OR sum(refund_pending) <> 0 OR sum(held) <> 0 OR bool_or(wrong)
	OR CASE WHEN max(state) IS NULL THEN bool_or(needs_order)
		ELSE NOT bool_and(needs_order) OR min(paid_in) <> max(currency) OR max(paid_in) <> max(currency)
			OR CASE WHEN max(state) = 'paid' THEN sum(kept) NOT BETWEEN 0 AND sum(amount)
					OR sum(applied) < sum(amount) AND (sum(applied) = 0 OR bench.never_paid(x.order_id))
				WHEN max(state) IN ('pending', 'authorized', 'closing') THEN sum(kept) NOT BETWEEN 0 AND sum(amount) - 1
				ELSE sum(kept) <> 0 END
		END
UNION ALL
SELECT coalesce(p.order_id, r.order_1) FROM order_timeout.payments p
FULL JOIN bench.refunds_by_payment r ON r.gateway = p.gateway AND r.payment_ref = p.payment_ref
WHERE p.order_id IS NULL OR p.refunded <> coalesce(r.refunded, 0) OR p.refund_pending <> coalesce(r.pending, 0)
	OR r.wrong OR r.currency_1 <> p.currency OR r.currency_2 <> p.currency OR r.order_1 <> p.order_id OR r.order_2 <> p.order_id;

-- Only the sums of orders, for comparison: no refunds, no states.
CREATE VIEW bench.order_sums AS
SELECT o.order_id FROM order_timeout.orders o
LEFT JOIN (SELECT order_id, sum(amount) AS paid, sum(refunded) AS refunded, sum(refund_pending) AS refund_pending, sum(held) AS held
	FROM order_timeout.payments WHERE disposition NOT IN ('orphan', 'wrong_currency', 'uncounted') GROUP BY order_id) p
ON p.order_id = o.order_id
WHERE o.paid <> coalesce(p.paid, 0) OR o.refunded <> coalesce(p.refunded, 0) OR o.refund_pending <> coalesce(p.refund_pending, 0)
	OR o.held <> coalesce(p.held, 0);

CREATE VIEW bench.by_function AS SELECT order_id FROM order_timeout.funds_violations();

-- Each way must find the same orders when rows of all kinds are changed, deleted and added.
CREATE FUNCTION bench.compare_ways() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	change text;
	way text;
	found bigint;
	differing bigint;
BEGIN
	FOREACH change IN ARRAY ARRAY[
		'UPDATE order_timeout.orders SET currency = ''USD'' WHERE random() < 0.0005',
		'UPDATE order_timeout.orders SET paid = paid + 1, refunded = refunded + 1 WHERE random() < 0.0005',
		'UPDATE order_timeout.orders SET held = refund_pending, refund_pending = 0 WHERE refund_pending > 0 AND random() < 0.1',
		'UPDATE order_timeout.orders SET amount = 2500 WHERE state = ''paid'' AND random() < 0.0005',
		'DELETE FROM order_timeout.orders WHERE random() < 0.0005',
		'UPDATE order_timeout.payments SET currency = ''USD'' WHERE random() < 0.0005',
		'UPDATE order_timeout.payments SET amount = amount + 1 WHERE random() < 0.0005',
		'UPDATE order_timeout.payments SET refunded = 0 WHERE refunded > 0 AND random() < 0.001',
		'UPDATE order_timeout.payments SET disposition = (ARRAY[''applied'', ''late'', ''surplus'', ''wrong_currency'', ''orphan'', ''uncounted''])
			[1 + floor(random() * 6)] WHERE random() < 0.001',
		'UPDATE order_timeout.payments SET order_id = ''elsewhere'' WHERE random() < 0.0005',
		'DELETE FROM order_timeout.payments WHERE random() < 0.0005',
		'UPDATE order_timeout.refunds SET currency = ''USD'' WHERE random() < 0.0005',
		'UPDATE order_timeout.refunds SET amount = amount - 1 WHERE random() < 0.0005',
		'UPDATE order_timeout.refunds SET order_id = ''elsewhere'' WHERE random() < 0.0005',
		'UPDATE order_timeout.refunds SET replaced_by = NULL WHERE replaced_by IS NOT NULL AND random() < 0.1',
		'UPDATE order_timeout.refunds SET replaced_by = ''another'' WHERE random() < 0.0005',
		'UPDATE order_timeout.refunds SET withdrawn = true WHERE random() < 0.001',
		'UPDATE order_timeout.refunds SET returned_at = NULL WHERE random() < 0.0005',
		'DELETE FROM order_timeout.refunds WHERE random() < 0.0005']
	LOOP
		EXECUTE change;
	END LOOP;
	CREATE TEMP TABLE found AS SELECT DISTINCT order_id FROM bench.by_function;
	SELECT count(*) INTO found FROM found;
	FOREACH way IN ARRAY ARRAY['by_joins', 'by_sums'] LOOP
		EXECUTE format('SELECT count(*) FROM (SELECT DISTINCT order_id FROM bench.%I) w FULL JOIN found f ON f.order_id = w.order_id
			WHERE f.order_id IS NULL OR w.order_id IS NULL', way) INTO differing;
		IF differing > 0 THEN
			RAISE EXCEPTION '% and funds_violations differ in % of % orders', way, differing, found;
		END IF;
	END LOOP;
	RETURN found;
END $$;

-- Further events of long ago; then what a sweep noted an hour ago, and an event of each thousandth order since then.
CREATE FUNCTION bench.load_events(old integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
	SELECT m.id, 'order.changed', '{"state": "paid", "amount": 1999, "currency": "EUR", "paid": 1999}', m.t
	FROM generate_series(1, old) n JOIN bench.made m ON m.i = 1 + n % (SELECT max(i) FROM bench.made) ORDER BY n;
	INSERT INTO order_timeout.sweeps (pid, started_at, active_at, last_event)
	SELECT 0, now() - interval '1 hour', now() - interval '1 hour', max(id) FROM order_timeout.events;
	INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
	SELECT id, 'order.changed', '{}', now() - interval '30 minutes' FROM bench.made WHERE i % 1000 = 0 ORDER BY i;
$$;
