-- The transitions for layouts A and C: the deadline stands on the order alone.
\set ON_ERROR_STOP on

CREATE FUNCTION bench.create_order(id text, price bigint, due timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.orders (order_id, amount, currency, expires_at, metadata)
	VALUES (id, price, 'EUR', due, '{"channel": "web", "customer": 4711}');
	INSERT INTO bench.events (aggregateid, type, payload)
	VALUES (id, 'created', jsonb_build_object('amount', price, 'expires_at', due));
	RETURN 'created';
END $$;

CREATE FUNCTION bench.pay(id text, ref text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	o bench.orders;
	t timestamptz;
BEGIN
	SELECT * INTO o FROM bench.orders WHERE order_id = id FOR UPDATE;
	IF o.state IS DISTINCT FROM 'pending' THEN
		RAISE 'order % is %', id, o.state;
	END IF;
	t := clock_timestamp();
	INSERT INTO bench.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
	VALUES ('acme', ref, id, o.amount, o.currency, t, 'applied');
	UPDATE bench.orders SET state = 'paid', paid = o.amount, settled_at = t WHERE order_id = id;
	INSERT INTO bench.events (aggregateid, type, payload)
	VALUES (id, 'paid', jsonb_build_object('gateway', 'acme', 'payment_ref', ref, 'amount', o.amount));
	RETURN 'paid';
END $$;

CREATE FUNCTION bench.close(id text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	o bench.orders;
BEGIN
	SELECT * INTO o FROM bench.orders WHERE order_id = id FOR UPDATE;
	IF o.state IS DISTINCT FROM 'pending' THEN
		RAISE 'order % is %', id, o.state;
	END IF;
	UPDATE bench.orders SET state = 'cancelled', settled_at = clock_timestamp(), close_reason = 'customer'
	WHERE order_id = id;
	INSERT INTO bench.events (aggregateid, type, payload) VALUES (id, 'cancelled', '{"reason": "customer"}');
	RETURN 'cancelled';
END $$;

CREATE PROCEDURE bench.sweep(batch int, seen timestamptz DEFAULT '-infinity')
LANGUAGE plpgsql AS $$
DECLARE
	furthest timestamptz;
	-- A variable: the volatile clock_timestamp() would be no index condition,
	-- and a batch that is not full would read all that is not due yet.
	until timestamptz;
	n bigint;
BEGIN
	LOOP
		until := clock_timestamp();
		WITH due AS MATERIALIZED (
			SELECT ctid, order_id, expires_at FROM bench.orders
			WHERE settled_at IS NULL AND expires_at >= seen AND expires_at <= until
			ORDER BY expires_at LIMIT batch FOR UPDATE SKIP LOCKED
		), closed AS (
			UPDATE bench.orders o
			SET state = 'expired', settled_at = clock_timestamp(), close_reason = 'deadline'
			FROM due WHERE o.ctid = due.ctid
		), told AS (
			INSERT INTO bench.events (aggregateid, type, payload)
			SELECT order_id, 'expired', jsonb_build_object('expires_at', expires_at) FROM due
		)
		SELECT count(*), max(expires_at) INTO n, furthest FROM due;
		COMMIT;
		EXIT WHEN n < batch;
		seen := furthest - interval '1 second';
	END LOOP;
END $$;

CREATE FUNCTION bench.next_due(bound timestamptz) RETURNS timestamptz
LANGUAGE sql AS $$
	SELECT expires_at FROM bench.orders
	WHERE settled_at IS NULL AND expires_at >= bound ORDER BY expires_at LIMIT 1
$$;
