-- The rows of the orders :first to :last, without what differs from order to
-- order, times as "a time", and how many there are of each.
CREATE FUNCTION pg_temp.like_all(written jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace((written - '{id,xid,aggregateid,order_id,payment_ref,refund_ref,worker}'::text[])::text,
		'"\d{4}-\d\d-\d\dT[^"]*"', '"a time"', 'g')
$$;
SELECT 'orders', pg_temp.like_all(to_jsonb(o) - 'metadata'), count(*)
FROM order_timeout.orders o WHERE o.order_id BETWEEN :'first' AND :'last' GROUP BY 1, 2 ORDER BY 1, 2;

SELECT 'payments', pg_temp.like_all(to_jsonb(p)), count(*)
FROM order_timeout.payments p WHERE p.order_id BETWEEN :'first' AND :'last' GROUP BY 1, 2 ORDER BY 1, 2;

SELECT 'refunds', pg_temp.like_all(to_jsonb(r)), count(*)
FROM order_timeout.refunds r WHERE r.order_id BETWEEN :'first' AND :'last' GROUP BY 1, 2 ORDER BY 1, 2;

SELECT 'events', pg_temp.like_all(to_jsonb(e) - 'payload'), pg_temp.like_all(e.payload), count(*)
FROM order_timeout.events e WHERE e.aggregateid BETWEEN :'first' AND :'last' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

SELECT 'shop', pg_temp.like_all(to_jsonb(s)), count(*)
FROM bench.shop s WHERE s.id BETWEEN :'first' AND :'last' GROUP BY 1, 2 ORDER BY 1, 2;
