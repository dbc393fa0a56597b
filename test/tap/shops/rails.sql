-- A shop as Rails' migrations make it: uuid keys, status as an enum, amounts as bigint cents, timestamps without a time
-- zone, updated_at. doc/adoption.md adopts it. Run as the role that the application logs in as.

CREATE TYPE order_status AS ENUM ('pending', 'paid', 'fulfilled', 'canceled');

CREATE TABLE products (
    id         uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    name       character varying NOT NULL,
    stock      integer NOT NULL CHECK (stock >= 0),
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL
);

CREATE TABLE orders (
    id           uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    status       order_status DEFAULT 'pending' NOT NULL,
    amount_cents bigint NOT NULL,
    currency     character varying(3) DEFAULT 'USD' NOT NULL,
    product_id   uuid NOT NULL CONSTRAINT fk_rails_3ca2 REFERENCES products (id),
    quantity     integer DEFAULT 1 NOT NULL,
    canceled_at  timestamp(6) without time zone,
    created_at   timestamp(6) without time zone NOT NULL,
    updated_at   timestamp(6) without time zone NOT NULL
);
CREATE INDEX index_orders_on_status ON orders (status);

CREATE TABLE payments (
    id              uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    order_id        uuid NOT NULL CONSTRAINT fk_rails_6af9 REFERENCES orders (id),
    processor_id    character varying NOT NULL,
    amount_cents    bigint NOT NULL,
    refunded_at     timestamp(6) without time zone,
    created_at      timestamp(6) without time zone NOT NULL,
    updated_at      timestamp(6) without time zone NOT NULL
);
CREATE UNIQUE INDEX index_payments_on_processor_id ON payments (processor_id);

CREATE TABLE shipments (
    id         uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY,
    order_id   uuid NOT NULL CONSTRAINT fk_rails_e30d REFERENCES orders (id),
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL
);
CREATE UNIQUE INDEX index_shipments_on_order_id ON shipments (order_id);

-- Rails does this in the model; here for all who write the table.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();

-- Today's job: a recurring job of Active Job, every five minutes.
CREATE FUNCTION close_unpaid() RETURNS bigint LANGUAGE sql AS $$
    WITH closed AS (
        UPDATE orders SET status = 'canceled', canceled_at = now()
         WHERE status = 'pending' AND created_at < now() - interval '30 minutes' RETURNING product_id, quantity
    ), lines AS (
        SELECT product_id, sum(quantity) AS quantity FROM closed GROUP BY 1
    ), stock AS (
        UPDATE products p SET stock = p.stock + l.quantity FROM lines l WHERE p.id = l.product_id
    )
    SELECT count(*) FROM closed
$$;

-- Some hundreds of orders in all states; 60 are pending.
INSERT INTO products (name, stock, created_at, updated_at) SELECT 'product ' || i, 1000, now(), now() FROM generate_series(1, 10) i;
INSERT INTO orders (status, amount_cents, product_id, quantity, canceled_at, created_at, updated_at)
SELECT s.status::order_status, 1095 + 100 * (i % 90), p.id, 1 + i % 3,
       CASE WHEN s.status = 'canceled' THEN s.created_at + interval '33 minutes' END, s.created_at, s.created_at
  FROM generate_series(1, 400) i
  JOIN products p ON p.name = 'product ' || 1 + i % 10,
       LATERAL (SELECT CASE WHEN i > 340 THEN 'pending' ELSE (ARRAY['paid', 'fulfilled', 'fulfilled', 'canceled'])[1 + i % 4] END AS status,
                       now() - CASE WHEN i > 340 THEN interval '10 minutes' ELSE i * interval '1 hour' END AS created_at) s;
INSERT INTO payments (order_id, processor_id, amount_cents, created_at, updated_at)
SELECT id, 'pi_' || row_number() OVER (ORDER BY created_at), amount_cents, created_at, created_at FROM orders WHERE status IN ('paid', 'fulfilled');
INSERT INTO shipments (order_id, created_at, updated_at) SELECT id, created_at, created_at FROM orders WHERE status IN ('paid', 'fulfilled');
