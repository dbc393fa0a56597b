-- sweep_once: what it closes and in which order, what it sets aside, leases, old orphans, stray orphans.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE FUNCTION t.sweep(max_orders integer DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s expired, %s failed, %s leases', r.expired, r.failed, r.leases_returned) FROM order_timeout.sweep_once($1) AS r
$$;
CREATE FUNCTION t.due_since(order_id text, age interval) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.orders AS o SET expires_at = clock_timestamp() - $2 WHERE o.order_id = $1
$$;
CREATE FUNCTION t.closed() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(o.order_id, ' ' ORDER BY o.order_id) FROM order_timeout.orders AS o WHERE o.state = 'expired'
$$;

SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'nothing to do');
SELECT t.create_order('o' || i, 100) FROM generate_series(1, 6) AS i;
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'nothing due');

-- Oldest deadline first, no more than asked for
SELECT t.pay('o2', 'p2', 60), t.pay('o4', 'p4', 100);
SELECT t.due_since('o1', '1 minute'), t.due_since('o2', '3 minutes'), t.due_since('o3', '2 minutes'), t.due_since('o4', '9 minutes'),
       t.due_since('o5', '5 seconds');
SELECT is(t.sweep(2), '2 expired, 0 failed, 0 leases', 'two of four');
SELECT is(t.closed(), 'o2 o3', 'the oldest two; the paid one is none of them');
SELECT is(t.sums('o2'), 'expired 60 = 0 + 60 + 0 + 0', 'what was paid is owed');
SELECT is(t.refunds('o2'), 'p2 60 expired pending', 'as a refund');
SELECT is(t.sweep(1), '1 expired, 0 failed, 0 leases', 'one more');
SELECT is(t.closed(), 'o1 o2 o3', 'the next oldest');
SELECT is(t.sweep(NULL), '1 expired, 0 failed, 0 leases', 'as many as there are');
SELECT is(t.closed(), 'o1 o2 o3 o5', 'all that were due');
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'no order twice');
SELECT is((SELECT state FROM order_timeout.orders WHERE order_id = 'o6'), 'pending', 'one that is not due is left alone');
SELECT is(t.pay('o1', 'p1', 100), 'late expired late 100', 'a payment then is late');
SELECT ok((SELECT bool_and(settled_at >= expires_at) FROM order_timeout.orders WHERE state = 'expired'), 'none was closed early');
SELECT t.create_order('soon', 100, expires_in => '5 ms');
SELECT pg_sleep(0.01);
SELECT is(t.sweep(), '1 expired, 0 failed, 0 leases', 'the clock decides, not the transaction''s start');

-- A deadline older than those that were closed already
SELECT t.create_order('older', 100), t.due_since('older', '1 day');
SELECT is(t.sweep(), '1 expired, 0 failed, 0 leases', 'an old deadline that shows up late is found');
SELECT t.sound();

-- Leases that lapsed
SELECT t.refund_in('processing', 'lapsed'), t.refund_in('processing', 'running');
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'leases that run');
UPDATE order_timeout.refunds SET leased_until = clock_timestamp() - interval '1 s', next_attempt_at = clock_timestamp() - interval '1 s'
 WHERE gateway = 'lapsed';
SELECT is(t.sweep(), '0 expired, 0 failed, 1 leases', 'one that lapsed');
SELECT is((SELECT string_agg(gateway || ' ' || state, ', ' ORDER BY gateway) FROM order_timeout.refunds WHERE gateway IN ('lapsed', 'running')),
          'lapsed unknown, running processing', 'is taken back, the other is not');
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'once');

-- An order whose closing fails
SET LOCAL test.bad = '';
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'expired' AND NEW.order_id = ANY (string_to_array(current_setting('test.bad'), ' ')) THEN
        RAISE EXCEPTION 'no, not %', NEW.order_id USING ERRCODE = 'P0042';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION t.refuse();
SET LOCAL test.bad = 'bad1 bad2';
SELECT t.create_order(o, 100), t.pay(o, o || '-1', 60), t.due_since(o, age)
  FROM (VALUES ('good1', interval '4 min'), ('bad1', '3 min'), ('good2', '2 min'), ('bad2', '1 min'), ('good3', '1 s')) AS x (o, age);
SELECT is(t.sweep(), '3 expired, 2 failed, 0 leases', 'two can''t be closed, the others go on');
SELECT is((SELECT string_agg(order_id || ' ' || state, ', ' ORDER BY order_id) FROM order_timeout.orders WHERE order_id ~ 'bad|good'),
          'bad1 pending, bad2 pending, good1 expired, good2 expired, good3 expired', 'the bad ones stay as they were');
SELECT is(t.sums('bad1'), 'pending 60 = 0 + 0 + 0 + 60', 'with their money');
SELECT is(t.refunds('bad1'), NULL, 'and nothing half done');
SELECT t.sound('some could not be closed');
SELECT is((SELECT string_agg(order_id || ' ' || (why LIKE '%no, not ' || order_id), ', ' ORDER BY order_id) FROM order_timeout.attention
            WHERE kind = 'set_aside'), 'bad1 true, bad2 true', 'they are set aside, with the reason');
SELECT is((SELECT orders_set_aside FROM order_timeout.health), 2::bigint, 'and counted');
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'they are not tried again at once');
SELECT t.create_order('good4', 100), t.due_since('good4', '1 s');
SELECT is(t.sweep(1), '1 expired, 0 failed, 0 leases', 'and hold nobody up');
SELECT throws_ok($$SELECT order_timeout.expire_order('bad1')$$, 'P0042', NULL, 'who asks for it is told the reason');

-- again later, with growing waits
CREATE FUNCTION t.next_wait() RETURNS interval LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() - interval '1 ms' WHERE order_id = 'bad1';
    PERFORM order_timeout.sweep_once();
    RETURN (SELECT retry_at - clock_timestamp() FROM order_timeout.set_aside WHERE order_id = 'bad1');
END
$$;
SELECT retry_at - clock_timestamp() AS w1 FROM order_timeout.set_aside WHERE order_id = 'bad1' \gset
SELECT t.next_wait() AS w2 \gset
SELECT t.next_wait() AS w3 \gset
SELECT t.next_wait() AS w4 \gset
SELECT cmp_ok(:'w1'::interval, '>', interval '0', 'the first wait');
SELECT cmp_ok(:'w2'::interval, '>', :'w1'::interval, 'the second is longer');
SELECT cmp_ok(:'w4'::interval, '>', :'w2'::interval, 'and so on');
SELECT ok((SELECT bool_and(t.next_wait() < interval '1 year') FROM generate_series(1, 100)), 'but not for ever');
SELECT is((SELECT count(*) FROM order_timeout.set_aside WHERE order_id = 'bad1'), 1::bigint, 'it is set aside once');
UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() - interval '1 ms';
SELECT is(t.sweep(), '0 expired, 2 failed, 0 leases', 'both again');

-- the cause is mended
SET LOCAL test.bad = '';
UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() - interval '1 ms' WHERE order_id = 'bad1';
SELECT is(t.sweep(), '1 expired, 0 failed, 0 leases', 'closed by the sweeper, when it tries again');
SELECT is(t.sums('bad1'), 'expired 60 = 0 + 60 + 0 + 0', 'as if nothing had been');
SELECT is(t.pay('bad2', 'bad2-2', 40), 'paid paid applied', 'or paid, having never been closed');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE kind = 'set_aside'$$, 'nobody needs to look any more');
SELECT is((SELECT orders_set_aside FROM order_timeout.health), 0::bigint, 'and none is counted');

-- or given more time: then it is an order like any other, and closed at its new deadline
SET LOCAL test.bad = 'bad3';
SELECT t.create_order('bad3', 100), t.pass_deadline('bad3');
SELECT is(t.sweep(), '0 expired, 1 failed, 0 leases', 'another is set aside');
SELECT is((SELECT outcome FROM order_timeout.extend_order('bad3', clock_timestamp() + interval '300 ms')), 'extended', 'and extended');
SELECT is_empty($$SELECT * FROM order_timeout.attention WHERE kind = 'set_aside'$$, 'nobody needs to look');
SET LOCAL test.bad = '';
SELECT is(t.sweep(), '0 expired, 0 failed, 0 leases', 'it is not due');
SELECT pg_sleep(0.35);
SELECT is(t.sweep(), '1 expired, 0 failed, 0 leases', 'closed at its new deadline, without the wait of one set aside');
DROP TRIGGER refuse ON order_timeout.orders;
SELECT t.sound();

-- Orphans that are too old
SELECT t.pay('nobody', 'old', 10), t.pay('nobody', 'young', 10);
UPDATE order_timeout.payments SET received_at = clock_timestamp() - interval '10 years' WHERE payment_ref = 'old';
UPDATE order_timeout.payments SET received_at = clock_timestamp() - interval '1 hour' WHERE payment_ref = 'young';
SELECT t.sweep();
SELECT is(t.refunds('nobody'), NULL, 'orphan_after null: they are kept');
UPDATE order_timeout.policies SET orphan_after = '1 day' WHERE policy = 'default';
SELECT t.sweep();
SELECT is(t.refunds('nobody'), 'old 10 orphan pending', 'one older than orphan_after is refunded');
SELECT t.sweep();
SELECT is(t.refunds('nobody'), 'old 10 orphan pending', 'once');
SELECT is((SELECT outcome FROM order_timeout.refund_orphan('bank', 'old')), 'already_refunded', 'as refund_orphan would have');
SELECT is((SELECT disposition FROM order_timeout.payments WHERE payment_ref = 'young'), 'orphan', 'a younger one waits');

-- Stray orphans, as REPEATABLE READ can leave them beside their order
SELECT t.create_order('stray open', 100), t.create_order('stray paid', 100), t.pay('stray paid', 'sp', 100), t.create_order('stray late', 100),
       t.expire('stray late'), t.create_order('stray eur', 100);
INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition)
VALUES ('bank', 'stray 1', 'stray open', 60, 'CNY', now() - interval '2 days', 'orphan'),
       ('bank', 'stray 2', 'stray open', 60, 'CNY', now() - interval '1 days', 'orphan'),
       ('bank', 'stray 3', 'stray paid', 60, 'CNY', now(), 'orphan'),
       ('bank', 'stray 4', 'stray late', 60, 'CNY', now(), 'orphan'),
       ('bank', 'stray 5', 'stray eur', 60, 'EUR', now(), 'orphan');
SELECT is((SELECT count(DISTINCT payment_ref) FROM order_timeout.funds_violations() WHERE payment_ref LIKE 'stray %'), 5::bigint,
          'the proof names each');
SELECT t.sweep();
SELECT is(t.sums('stray open'), 'paid 120 = 0 + 20 + 0 + 100', 'applied to a pending order, however old');
SELECT is(t.refunds('stray open'), 'stray 2 20 surplus pending', 'oldest first');
SELECT is(t.refunds('stray paid'), 'stray 3 60 surplus pending', 'to a paid one');
SELECT is(t.refunds('stray late'), 'stray 4 60 late pending', 'to a closed one');
SELECT is(t.refunds('stray eur'), 'stray 5 60 wrong_currency pending', 'to one in another currency');
SELECT t.sound('the sweeper healed it');

-- How long an order is set aside: 10 seconds, doubling to an hour
SELECT t.create_order('waits', 1), t.pass_deadline('waits');
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION t.refuse();
SET LOCAL test.bad = 'waits';
CREATE FUNCTION t.wait_after_sweep() RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_timeout.set_aside SET retry_at = clock_timestamp() - interval '1 ms';
    PERFORM order_timeout.sweep_once();
    RETURN (SELECT round(extract(epoch FROM retry_at - clock_timestamp()) / 10) * 10 FROM order_timeout.set_aside);
END
$$;
SELECT is(ARRAY(SELECT t.wait_after_sweep() FROM generate_series(1, 11)),
          ARRAY[10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]::numeric[], 'the waits double to an hour');
SELECT is((SELECT (failures, sqlstate, error, since < retry_at - interval '1 hour')::text FROM order_timeout.set_aside),
          '(11,P0042,"no, not waits",t)',
          'one row, since the first failure');
SET LOCAL test.bad = '';
SELECT t.cancel('waits'), order_timeout.sweep_once();
SELECT is_empty($$SELECT * FROM order_timeout.set_aside$$, 'the row goes when its order is closed');
SELECT t.sound();

-- The procedure commits, so it does not run here
SELECT throws_ok('CALL order_timeout.sweep()', '2D000', NULL, 'sweep in a transaction block');
SELECT finish();
ROLLBACK;
