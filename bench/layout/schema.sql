-- The tables in the layout that is to be measured, in a schema of their own.
-- psql variables: layout (A, A', B or C), fillfactor.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS bench CASCADE;
CREATE SCHEMA bench;
SET search_path = bench;

CREATE TABLE orders (
	order_id text COLLATE "C" PRIMARY KEY,
	policy text NOT NULL DEFAULT 'default',
	state text NOT NULL DEFAULT 'pending'
		CHECK (state IN ('pending', 'paid', 'expired', 'cancelled')),
	amount bigint NOT NULL CHECK (amount >= 0),
	currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
	paid bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),
	refunded bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0),
	refund_pending bigint NOT NULL DEFAULT 0 CHECK (refund_pending >= 0),
	held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
	expires_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	settled_at timestamptz,
	close_reason text,
	metadata jsonb,
	CHECK ((settled_at IS NULL) = (state = 'pending')),
	CHECK (CASE state
		WHEN 'pending' THEN paid - refunded - refund_pending - held >= 0
			AND paid - refunded - refund_pending - held < amount
		WHEN 'paid' THEN paid - refunded - refund_pending - held BETWEEN 0 AND amount
		ELSE paid = refunded + refund_pending + held END)
) WITH (fillfactor = :fillfactor);

CREATE TABLE payments (
	gateway text COLLATE "C" NOT NULL,
	payment_ref text COLLATE "C" NOT NULL,
	order_id text COLLATE "C" NOT NULL,
	amount bigint NOT NULL CHECK (amount > 0),
	currency text NOT NULL,
	paid_at timestamptz,
	received_at timestamptz NOT NULL,
	disposition text NOT NULL,
	refunded bigint NOT NULL DEFAULT 0,
	refund_pending bigint NOT NULL DEFAULT 0,
	held bigint NOT NULL DEFAULT 0,
	details jsonb,
	PRIMARY KEY (gateway, payment_ref),
	CHECK (refunded + refund_pending + held BETWEEN 0 AND amount)
);
CREATE INDEX ON payments (order_id);

CREATE SEQUENCE events_id_seq;
CREATE TABLE events (
	id bigint PRIMARY KEY DEFAULT nextval('bench.events_id_seq'),
	aggregatetype text NOT NULL DEFAULT 'order',
	aggregateid text COLLATE "C" NOT NULL,
	type text NOT NULL,
	payload jsonb,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON events (aggregateid, id);

SELECT :'layout' LIKE 'A%' AS partial, :'layout' LIKE 'B%' AS apart \gset
\if :partial
CREATE INDEX orders_due ON orders (expires_at) WHERE settled_at IS NULL;
\elif :apart
CREATE TABLE deadlines (
	expires_at timestamptz NOT NULL,
	order_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (expires_at, order_id)
);
\else
CREATE INDEX orders_due ON orders (expires_at);
\endif

-- Orders that fall due in the past, 1,000 a second and up to a minute out of
-- the order in which they were created; then `later` more that are not due yet.
CREATE FUNCTION load_orders(due int, later int) RETURNS void
LANGUAGE plpgsql SET synchronous_commit = off AS $$
BEGIN
	INSERT INTO bench.orders (order_id, amount, currency, expires_at, created_at, metadata)
	SELECT '24070109' || lpad(i::text, 10, '0'), 1000 + i % 5000, 'EUR',
		CASE WHEN i <= due
			THEN timestamptz '2024-07-01 09:00Z' + i * interval '1 ms'
				+ (hashint4(i) & 65535) * interval '1 ms'
			ELSE now() + interval '1 day' + i * interval '1 ms' END,
		timestamptz '2024-07-01 08:30Z' + i * interval '1 ms',
		'{"channel": "web", "customer": 4711}'
	FROM generate_series(1, due + later) i;
	IF to_regclass('bench.deadlines') IS NOT NULL THEN
		INSERT INTO bench.deadlines SELECT expires_at, order_id FROM bench.orders;
	END IF;
END $$;

-- Orders of the past year, paid long ago, then due ones. Scattered ids are in no
-- order: each due order then has its key on another page of a big index.
CREATE FUNCTION load_settled(settled int, due int, scattered boolean) RETURNS void
LANGUAGE plpgsql SET synchronous_commit = off AS $$
BEGIN
	INSERT INTO bench.orders (order_id, state, amount, currency, paid, expires_at, created_at, settled_at, metadata)
	SELECT CASE WHEN scattered THEN md5(i::text) ELSE '23' || lpad(i::text, 30, '0') END, 'paid', 1999, 'EUR', 1999, t + interval '30 minutes', t, t + interval '3 minutes',
		'{"channel": "web", "customer": 4711}'
	FROM (SELECT i, timestamptz '2023-07-01 00:00Z' + i * (interval '360 days' / settled) AS t
		FROM generate_series(1, settled) i) s;
	INSERT INTO bench.orders (order_id, amount, currency, expires_at, created_at, metadata)
	SELECT CASE WHEN scattered THEN md5('due' || i) ELSE '24' || lpad(i::text, 30, '0') END, 1999, 'EUR', t + interval '30 minutes', t, '{"channel": "web", "customer": 4711}'
	FROM (SELECT i, timestamptz '2024-07-01 08:30Z' + i * interval '1 ms' AS t FROM generate_series(1, due) i) s;
	IF to_regclass('bench.deadlines') IS NOT NULL THEN
		INSERT INTO bench.deadlines SELECT expires_at, order_id FROM bench.orders WHERE settled_at IS NULL;
	END IF;
END $$;

CREATE FUNCTION hot_updates(OUT updates bigint, OUT hot bigint)
LANGUAGE sql AS $$
	SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
	WHERE relid = 'bench.orders'::regclass
$$;
