-- events and history: one row for each thing that happened, in the same transaction, readable by an outbox router.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- How many events a query leaves behind
CREATE FUNCTION t.events_of(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT count(*) FROM order_timeout.events);
BEGIN
    EXECUTE query;
    RETURN (SELECT count(*) FROM order_timeout.events) - before;
END
$$;

-- The columns that Debezium's outbox router reads by default
SELECT columns_are('order_timeout', 'events', ARRAY['id', 'aggregatetype', 'aggregateid', 'type', 'payload', 'created_at', 'xid']);
SELECT col_type_is('order_timeout', 'events', 'id', 'bigint', 'id');
SELECT col_type_is('order_timeout', 'events', 'payload', 'jsonb', 'payload');
SELECT is_empty($$SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text IN
                  ('order_timeout.orders', 'order_timeout.payments', 'order_timeout.refunds', 'order_timeout.events')$$,
                'events come from the functions, not from triggers');

-- One thing, one event
SELECT is(t.events_of($$SELECT t.create_order('o', 100)$$), 1::bigint, 'an order is created');
SELECT is(t.events_of($$SELECT t.pay('o', 'p1', 60)$$), 1::bigint, 'a part payment');
SELECT is(t.events_of($$SELECT order_timeout.extend_order('o', clock_timestamp() + interval '2 hours')$$), 1::bigint, 'a deadline is moved');
SELECT cmp_ok(t.events_of($$SELECT t.pay('o', 'p2', 60)$$), '>=', 1::bigint, 'an order is paid, with a surplus');
SELECT is(t.events_of($$SELECT t.create_order('e', 100), t.expire('e')$$), 2::bigint, 'created, expired');
SELECT is(t.events_of($$SELECT t.cancel('e')$$), 1::bigint, 'cancelled after all');
SELECT cmp_ok(t.events_of($$SELECT t.pay('e', 'late', 60)$$), '>=', 1::bigint, 'a late payment');
SELECT is(t.events_of($$SELECT t.pay('nobody', 'orph', 60)$$), 1::bigint, 'an orphan');
SELECT cmp_ok(t.events_of($$SELECT order_timeout.refund_orphan('bank', 'orph')$$), '>=', 1::bigint, 'is refunded');
SELECT cmp_ok(t.events_of($$SELECT order_timeout.request_refund('o', 'k', 10)$$), '>=', 1::bigint, 'a refund is asked for');
SELECT cmp_ok(t.events_of($$SELECT t.attempt('failed')$$), '>=', 1::bigint, 'a refund fails');
SELECT cmp_ok(t.events_of($$SELECT t.attempt('rejected')$$), '>=', 1::bigint, 'one needs attention');
SELECT refund_ref AS ref FROM order_timeout.refunds WHERE state = 'needs_attention' \gset
SELECT is(t.events_of(format('SELECT order_timeout.retry_refund(%L)', :'ref')), 1::bigint, 'it is tried again');
SELECT is(t.events_of(format('SELECT order_timeout.complete_refund(%L, %L)', :'ref', 'succeeded')), 1::bigint, 'it succeeds');
SELECT cmp_ok(t.events_of(format('SELECT order_timeout.reverse_refund(%L, %L)', :'ref', 'sent back')), '>=', 1::bigint, 'it comes back');
SELECT is(t.events_of($$SELECT order_timeout.settle_refund(refund_ref, 'x') FROM order_timeout.refunds WHERE state = 'needs_attention'$$),
          1::bigint, 'and is settled by hand');
SELECT cmp_ok(t.events_of($$SELECT order_timeout.record_refund('bank', 'p1', 'x-1', 5)$$), '>=', 1::bigint, 'a refund made elsewhere');

-- What they say
SELECT is((SELECT count(DISTINCT type) FROM order_timeout.events WHERE aggregateid = 'e'), (SELECT count(DISTINCT type) FROM order_timeout.events
           WHERE aggregateid = 'e' AND type <> ''), 'every event has a type');
SELECT cmp_ok((SELECT count(DISTINCT type) FROM order_timeout.events WHERE aggregateid = 'e'), '>=', 4::bigint,
              'created, expired, cancelled, late: four types at least');
SELECT ok((SELECT bool_and(aggregatetype = 'order' AND jsonb_typeof(payload) = 'object' AND created_at > now()) FROM order_timeout.events),
          'aggregatetype order, an object for payload, the time of the event');
SELECT is((SELECT string_agg(DISTINCT aggregateid, ' ' ORDER BY aggregateid) FROM order_timeout.events), 'e nobody o',
          'aggregateid is the order''s id, an orphan''s too');

-- history
SELECT results_eq($$SELECT h::text FROM order_timeout.history('o') AS h$$,
                  $$SELECT e::text FROM order_timeout.events AS e WHERE aggregateid = 'o' ORDER BY id$$, 'history: that order''s events, in order');
SELECT isnt_empty($$SELECT * FROM order_timeout.history('nobody')$$, 'also of an order that only orphans know');
SELECT is_empty($$SELECT * FROM order_timeout.history('unheard of')$$, 'and none where nothing happened');

-- What changes nothing is no event
SELECT is(t.events_of(query), 0::bigint, query) FROM unnest(ARRAY[
    $$SELECT t.create_order('o', 100)$$, $$SELECT t.pay('o', 'p1', 60)$$, $$SELECT t.pay('e', 'late', 60)$$, $$SELECT t.cancel('e')$$,
    $$SELECT t.cancel('o')$$, $$SELECT order_timeout.expire_order('o')$$, $$SELECT order_timeout.expire_order('unheard of')$$,
    $$SELECT order_timeout.request_refund('o', 'k', 10)$$, $$SELECT order_timeout.refund_orphan('bank', 'orph')$$,
    $$SELECT order_timeout.record_refund('bank', 'p1', 'x-1', 5)$$, $$SELECT * FROM order_timeout.funds('o')$$,
    $$SELECT order_timeout.complete_refund(refund_ref, 'failed') FROM order_timeout.refunds WHERE state = 'reversed'$$]) AS query;
SELECT t.sound();

-- What is rolled back never happened
SELECT count(*) AS events FROM order_timeout.events \gset
DO $$
BEGIN
    PERFORM t.create_order('undone', 100), t.pay('undone', 'undone', 100);
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
    NULL;
END
$$;
SELECT is((SELECT count(*) FROM order_timeout.events), :events::bigint, 'an event goes with its transaction');
SELECT is(t.create_order('undone', 100), 'created pending', 'and so does all else');
SELECT t.sound();
SELECT finish();
ROLLBACK;
