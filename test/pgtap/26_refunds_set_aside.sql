-- One refund that cannot be handed out, taken back or given up waiting for: the others go on, and it is shown.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE FUNCTION t.claimed() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(c.gateway, ' ' ORDER BY c.gateway) FROM order_timeout.claim_refunds('worker', 10, '1 minute') AS c
$$;
CREATE FUNCTION t.aside() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.gateway || ' ' || a.why, ', ' ORDER BY a.gateway) FROM order_timeout.attention AS a
     WHERE a.kind = 'set_aside' AND a.refund_ref = t.ref(a.payment_ref, a.gateway)
$$;
CREATE FUNCTION t.try_again() RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.set_aside_refunds SET retry_at = clock_timestamp() - interval '1 ms'
$$;
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not %', NEW.order_id USING ERRCODE = 'P0042';
END
$$;

-- The policy's row is gone
INSERT INTO order_timeout.policies (policy) VALUES ('gone');
SELECT t.create_order('lost', 1000, 'gone'), t.expire('lost'), t.pay('lost', 'lost', 100, gateway => 'lost');
SELECT t.refund_in('pending', name) FROM unnest(ARRAY['fine1', 'fine2']) AS name;
SET LOCAL session_replication_role = replica;
DELETE FROM order_timeout.policies WHERE policy = 'gone';
SET LOCAL session_replication_role = origin;
SELECT is(t.claimed(), 'fine1 fine2', 'the others are handed out');
SELECT is(t.aside(), 'lost OT008: policy "gone" of order "lost" is not there', 'the one is shown, with the reason');
SELECT is((SELECT refunds_set_aside FROM order_timeout.health), 1::bigint, 'and counted');
SELECT is((SELECT orders_set_aside FROM order_timeout.health), 0::bigint, 'as no order');
SELECT is((SELECT state FROM order_timeout.refunds WHERE gateway = 'lost'), 'pending', 'it is as it was');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('lost') WHERE type LIKE 'refund.%'),
          'refund.created refund.set_aside', 'its history says so');
SELECT is(t.claimed(), NULL, 'it is not tried again at once');

-- again later, with growing waits
CREATE FUNCTION t.next_wait() RETURNS interval LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.try_again(), t.claimed();
    RETURN (SELECT retry_at - clock_timestamp() FROM order_timeout.set_aside_refunds);
END
$$;
SELECT retry_at - clock_timestamp() AS w1 FROM order_timeout.set_aside_refunds \gset
SELECT t.next_wait() AS w2 \gset
SELECT t.next_wait() AS w3 \gset
SELECT cmp_ok(:'w1'::interval, '>', interval '5 s', 'the first wait');
SELECT cmp_ok(:'w3'::interval, '>', :'w2'::interval, 'longer ones');
SELECT ok((SELECT bool_and(t.next_wait() < interval '2 hours') FROM generate_series(1, 20)), 'but not for ever');
SELECT is((SELECT failures FROM order_timeout.set_aside_refunds), 23, 'all are counted');

-- the cause is mended
INSERT INTO order_timeout.policies (policy) VALUES ('gone');
SELECT t.try_again();
SELECT is(t.claimed(), 'lost', 'it is handed out');
SELECT is(t.aside(), NULL, 'nobody needs to look any more');
SELECT is((SELECT refunds_set_aside FROM order_timeout.health), 0::bigint, 'and none is counted');
SELECT is((SELECT count(*) FROM order_timeout.set_aside_refunds), 1::bigint, 'the row is over');
SELECT order_timeout.sweep_once();
SELECT is((SELECT count(*) FROM order_timeout.set_aside_refunds), 0::bigint, 'and the sweeper removes it');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds;

-- A trigger on refunds, and one on events too: then not even the event of setting it aside can be written
SELECT t.refund_in('pending', name) FROM unnest(ARRAY['a', 'b bad', 'c', 'd bad', 'e']) AS name;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds
    FOR EACH ROW WHEN (NEW.order_id = 'b bad') EXECUTE FUNCTION t.refuse();
CREATE FUNCTION t.refuse_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no event of %', NEW.aggregateid USING ERRCODE = 'P0043';
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON order_timeout.events
    FOR EACH ROW WHEN (NEW.aggregateid = 'd bad') EXECUTE FUNCTION t.refuse_event();
SELECT is(t.claimed(), 'a c e', 'three are handed out');
SELECT is(t.aside(), 'b bad P0042: not b bad, d bad P0043: no event of d bad', 'two are shown');
DROP TRIGGER refuse ON order_timeout.refunds;
DROP TRIGGER refuse ON order_timeout.events;
SELECT is(t.claimed(), NULL, 'they wait');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(t.ref('b bad', 'b bad'), 'succeeded')), 'recorded', 'a report is taken');
SELECT is(t.aside(), 'd bad P0043: no event of d bad', 'and ends it');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds WHERE settled_at IS NULL;

-- More bad ones than a worker asks for
SELECT t.refund_in('pending', 'bad' || i) FROM generate_series(1, 5) AS i;
SELECT t.refund_in('pending', 'good');
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds
    FOR EACH ROW WHEN (NEW.order_id LIKE 'bad%') EXECUTE FUNCTION t.refuse();
SELECT is((SELECT string_agg(gateway, ' ') FROM order_timeout.claim_refunds('worker', 1)), 'good', 'hold nobody up');

-- Lapsed leases, and what a gateway never ends
SELECT t.lapse_leases();
DROP TRIGGER refuse ON order_timeout.refunds;
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds WHERE settled_at IS NULL;
SELECT t.refund_in('processing', name) FROM unnest(ARRAY['l1', 'l2 bad', 'l3']) AS name;
SELECT t.refund_in('submitted', name) FROM unnest(ARRAY['s1', 's2 bad', 's3']) AS name;
SELECT t.lapse_leases();
UPDATE order_timeout.refunds SET submitted_at = submitted_at - interval '1 year' WHERE state = 'submitted';
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds
    FOR EACH ROW WHEN (NEW.order_id LIKE '%bad') EXECUTE FUNCTION t.refuse();
SELECT is((SELECT leases_returned FROM order_timeout.sweep_once()), 2::bigint, 'two of three leases are taken back');
SELECT is((SELECT string_agg(gateway || ' ' || state, ', ' ORDER BY gateway) FROM order_timeout.refunds WHERE settled_at IS NULL),
          'l1 unknown, l2 bad processing, l3 unknown, s1 needs_attention, s2 bad submitted, s3 needs_attention', 'and two of three are waited for no more');
SELECT is(t.aside(), 'l2 bad P0042: not l2 bad, s2 bad P0042: not s2 bad', 'the others are shown');
SELECT is((SELECT leases_returned FROM order_timeout.sweep_once()), 0::bigint, 'and left alone');
DROP TRIGGER refuse ON order_timeout.refunds;
SELECT t.try_again();
SELECT is((SELECT leases_returned FROM order_timeout.sweep_once()), 1::bigint, 'until the cause is mended');
SELECT is(t.aside(), NULL, 'and nobody needs to look');

-- Old orphans
UPDATE order_timeout.policies SET orphan_after = '1 hour' WHERE policy = 'default';
SELECT t.pay(o, o, 10, gateway => o) FROM unnest(ARRAY['o1', 'o2 bad', 'o3']) AS o;
UPDATE order_timeout.payments SET received_at = received_at - interval '1 day' WHERE disposition = 'orphan';
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.payments
    FOR EACH ROW WHEN (NEW.order_id LIKE '%bad') EXECUTE FUNCTION t.refuse();
SELECT order_timeout.sweep_once();
SELECT is((SELECT string_agg(gateway, ' ') FROM order_timeout.attention WHERE kind = 'orphan'), 'o2 bad', 'an orphan that cannot be given back stays alone');
SELECT t.sound();
SELECT finish();
ROLLBACK;
