-- What the works load into the extension's own tables: rows as its functions
-- would have left them.
\set ON_ERROR_STOP on
CREATE SCHEMA bench;

CREATE FUNCTION bench.order_event(state text, paid bigint, expires_at timestamptz) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('state', state, 'amount', 1999, 'currency', 'EUR', 'paid', paid, 'refund_pending', 0,
		'expires_at', expires_at)
$$;

-- A shop's own table, whose rows become orders.
CREATE TABLE bench.shop (id bigint PRIMARY KEY, status text NOT NULL, total numeric(10, 2) NOT NULL, currency text NOT NULL,
	pay_until timestamptz NOT NULL);

-- Orders that are due now, the first one since long, or not due for a long time.
CREATE FUNCTION bench.load_pending(first bigint, orders integer, due boolean) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at, metadata)
	SELECT (first + i)::text, 'default', 'pending', 1999, 'EUR', t + interval '30 minutes', t, '{"channel": "web"}'
	FROM (SELECT i, CASE WHEN due THEN now() - interval '1 day' ELSE now() + interval '1 day' END + i * interval '1 ms' AS t
		FROM generate_series(0, orders - 1) i) s
$$;

-- Orders that wait for something else: closing until their voids are done, and reminded of, a day before they fall due. Ten times
-- as many attempts of the past.
CREATE FUNCTION bench.load_waiting(orders integer) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO order_timeout.policies (policy, before_close, remind_before) VALUES ('waiting', 'void', '2 days');
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at, open_until, due_since, has_attempts)
	SELECT 'closing-' || i, 'waiting', 'closing', 1999, 'EUR', now() - interval '1 hour', now() - interval '2 hours',
		now() + interval '1 day', now() - interval '1 hour', true
	FROM generate_series(1, orders) i;
	INSERT INTO order_timeout.attempts (gateway, attempt_ref, order_id, state, can_void, next_attempt_at, created_at)
	SELECT 'stripe', 'closing-' || i, 'closing-' || i, 'open', true, now(), now() - interval '2 hours'
	FROM generate_series(1, orders) i;
	INSERT INTO order_timeout.attempts (gateway, attempt_ref, order_id, state, can_void, created_at, settled_at)
	SELECT 'stripe', 'past-' || i, 'past-' || i, 'captured', true, now() - interval '1 day', now() - interval '1 day'
	FROM generate_series(1, orders * 10) i;
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at, reminded_of)
	SELECT 'reminded-' || i, 'waiting', 'pending', 1999, 'EUR', now() + interval '1 day', now(), now() + interval '1 day'
	FROM generate_series(1, orders) i;
$$;

-- Orders of the past, each paid once, with two events each.
CREATE FUNCTION bench.load_history(orders integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, paid, expires_at, created_at, settled_at, metadata)
	SELECT (100000000000 + i)::text, 'default', 'paid', 1999, 'EUR', 1999, t + interval '30 minutes', t, t + interval '3 minutes',
		'{"channel": "web"}'
	FROM (SELECT i, timestamptz '2024-01-01' + i * (interval '360 days' / orders) AS t FROM generate_series(0, orders - 1) i) s;
	INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
	SELECT 'stripe', o.order_id, o.order_id, o.amount, o.currency, o.settled_at, 'applied' FROM order_timeout.orders o;
	INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
	SELECT o.order_id, e.type, e.payload, e.at
	FROM order_timeout.orders o, LATERAL (VALUES
		('order.created', bench.order_event('pending', 0, o.expires_at), o.created_at),
		('order.paid', bench.order_event('paid', 1999, o.expires_at)
			|| jsonb_build_object('gateway', 'stripe', 'payment_ref', o.order_id, 'payment_amount', 1999), o.settled_at)) AS e (type, payload, at);
END $$;

-- Refunds of late payments, due now; nothing else is in that table.
CREATE FUNCTION bench.load_refunds(first bigint, refunds integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE order_timeout.refunds;
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, paid, refund_pending, expires_at, created_at,
		settled_at, close_reason)
	SELECT (first + i)::text, 'default', 'expired', 1999, 'EUR', 1999, 1999, now() - interval '1 hour',
		now() - interval '2 hours', now() - interval '1 hour', 'deadline'
	FROM generate_series(0, refunds - 1) i;
	INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition, late_reason,
		refund_pending)
	SELECT 'stripe', (first + i)::text, (first + i)::text, 1999, 'EUR', now() - interval '30 minutes', 'late', 'paid_late', 1999
	FROM generate_series(0, refunds - 1) i;
	INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, currency, reason, state,
		next_attempt_at, asked, created_at)
	SELECT 'rf_' || md5((first + i)::text), (first + i)::text, 'stripe', (first + i)::text, 1999, 'EUR', 'late', 'pending',
		now() - interval '30 minutes' + i * interval '1 ms', 1999, now() - interval '30 minutes'
	FROM generate_series(0, refunds - 1) i;
END $$;

-- Orders that fall due one after the other.
CREATE FUNCTION bench.load_falling_due(first bigint, orders integer, first_deadline timestamptz, step interval) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at)
	SELECT (first + i)::text, 'default', 'pending', 1999, 'EUR', first_deadline + i * step, clock_timestamp()
	FROM generate_series(0, orders - 1) i
$$;
