-- A shop's month, to look at the report with; doc/report.md says how. Orders, payments and refunds are made by the
-- functions, a day after the other. Then each day is moved to where it belongs, which needs a superuser: the times of the
-- rows change, and no sum.
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
SET client_min_messages = warning;
SELECT setseed(0.42) \g /dev/null
UPDATE order_timeout.policies SET refund_max_attempts = 4, refund_backoff = '20 minutes' WHERE policy = 'default';
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('tickets', 'hold');
SELECT order_timeout.create_consumer('mail') \g /dev/null

CREATE TEMP TABLE days (order_id text COLLATE "C" PRIMARY KEY, day integer);

CREATE FUNCTION pg_temp.trade(day integer, orders integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id text;
    what double precision;
    money text;
    amount bigint;
    due boolean := false;
BEGIN
    FOR n IN 1 .. orders LOOP
        id := format('%s-%s', to_char(now() - day * interval '1 day', 'YYMMDD'), 1000 + n);
        what := random();
        money := CASE WHEN random() < 0.7 THEN 'EUR' WHEN random() < 0.6 THEN 'USD' WHEN random() < 0.6 THEN 'JPY' ELSE 'KWD' END;
        amount := (1000 + 19000 * random() ^ 3)::bigint * CASE money WHEN 'KWD' THEN 3 ELSE 1 END;
        INSERT INTO days VALUES (id, day);
        PERFORM order_timeout.create_order(id, amount, money, expires_in => CASE WHEN what BETWEEN 0.66 AND 0.9 THEN interval '1 millisecond' ELSE '30 minutes' END,
                                           policy => CASE WHEN random() < 0.05 THEN 'tickets' ELSE 'default' END);
        IF what < 0.66 THEN
            PERFORM order_timeout.record_payment(id, 'card', 'ch_' || id, amount, money);
        ELSIF what < 0.9 THEN
            due := true;
            IF what < 0.68 THEN
                PERFORM order_timeout.record_payment(id, 'card', 'part_' || id, amount / 2, money);
            END IF;
        ELSIF what < 0.97 OR day > 0 THEN
            PERFORM order_timeout.cancel_order(id, 'changed my mind');
        END IF;
    END LOOP;
    IF due THEN
        PERFORM pg_sleep(0.002);
        PERFORM order_timeout.sweep_once(10000);
    END IF;
END
$$;

-- Some that were closed are paid after all.
CREATE FUNCTION pg_temp.pay_late(day integer) RETURNS void LANGUAGE sql AS $$
    SELECT order_timeout.record_payment(o.order_id, 'card', 'late_' || o.order_id, o.amount, o.currency)
      FROM order_timeout.orders o JOIN days d ON d.order_id = o.order_id AND d.day = pay_late.day
     WHERE o.state IN ('expired', 'cancelled') AND o.paid = 0 AND random() < 0.3
$$;

CREATE FUNCTION pg_temp.send_refunds(day integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
    said text;
    fate double precision;
BEGIN
    FOR r IN SELECT * FROM order_timeout.claim_refunds('worker 1', 1000) LOOP
        fate := random() * CASE WHEN day > 2 THEN 20 ELSE 3 END;
        said := (ARRAY['card expired', 'balance too low', 'account closed'])[1 + floor(3 * random())];
        IF fate > 1 THEN
            PERFORM order_timeout.complete_refund(r.refund_ref, 'succeeded', r.lease_token, gateway_refund_ref => 're_' || r.payment_ref);
        ELSIF fate < 0.2 OR day > 2 THEN
            PERFORM order_timeout.complete_refund(r.refund_ref, 'rejected', r.lease_token, error => said);
            IF day > 6 THEN
                PERFORM order_timeout.settle_refund(r.refund_ref, 'bank transfer');
            END IF;
        ELSIF fate < 0.4 THEN
            PERFORM order_timeout.complete_refund(r.refund_ref, 'unknown', r.lease_token, error => 'no answer within 10 s');
        ELSIF fate < 0.7 THEN
            PERFORM order_timeout.complete_refund(r.refund_ref, 'failed', r.lease_token, error => said);
        ELSIF fate < 0.9 THEN
            PERFORM order_timeout.complete_refund(r.refund_ref, 'submitted', r.lease_token);
        END IF;
    END LOOP;
END
$$;

SELECT pg_temp.trade(day, (90 + 30 * sin(day) + 2 * (30 - day))::integer), pg_temp.pay_late(day), pg_temp.send_refunds(day)
  FROM generate_series(30, 0, -1) AS day \g /dev/null
SELECT order_timeout.record_payment('260101-7', 'card', 'ch_stray', 4200, 'EUR') \g /dev/null
CALL order_timeout.sweep('2 seconds');

-- Orders come with a peak a day, are paid within minutes, and are closed up to 0.2 s after their deadline, but one day the
-- sweeper stood still for seconds. What happened when, and when it is to have happened:
CREATE TEMP TABLE moved AS
SELECT e.aggregateid AS order_id, e.created_at AS was,
       b.at + max(CASE WHEN e.type = 'order.created' THEN interval '0'
                       WHEN e.type = 'order.expired' THEN interval '30 minutes'
                       WHEN e.type = 'order.cancelled' THEN interval '11 minutes'
                       WHEN e.type LIKE 'refund.%' AND e.type <> 'refund.created' THEN interval '35 minutes'
                       WHEN e.type = 'refund.created' OR e.payload ->> 'disposition' IN ('late', 'held') THEN interval '33 minutes'
                       ELSE interval '4 minutes' END) + (e.created_at - min(e.created_at) OVER (PARTITION BY e.aggregateid)) AS becomes
  FROM order_timeout.events e
  JOIN (SELECT d.order_id, now() - interval '40 minutes' - d.day * interval '1 day' - random() * random() * interval '22 hours' AS at
          FROM days d) b ON b.order_id = e.aggregateid
 GROUP BY e.aggregateid, e.created_at, b.at;
CREATE INDEX ON moved (order_id, was);
ANALYZE moved;

CREATE FUNCTION pg_temp.at(id text, was timestamptz) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT m.becomes + ($2 - m.was) FROM moved m WHERE m.order_id = $1 AND m.was <= $2 ORDER BY m.was DESC LIMIT 1
$$;

UPDATE order_timeout.orders o
   SET created_at = pg_temp.at(o.order_id, o.created_at), settled_at = pg_temp.at(o.order_id, o.settled_at),
       expires_at = CASE o.state WHEN 'expired'
           THEN pg_temp.at(o.order_id, o.settled_at) - interval '1 ms' * (4 + 30 * random() + 160 * random() ^ 12 + CASE d.day WHEN 9 THEN 4000 * random() ^ 4 ELSE 0 END)
           ELSE pg_temp.at(o.order_id, o.created_at) + interval '30 minutes' END
  FROM days d WHERE d.order_id = o.order_id AND o.settled_at IS NOT NULL;
UPDATE order_timeout.payments p
   SET received_at = pg_temp.at(p.order_id, p.received_at), held_at = pg_temp.at(p.order_id, p.held_at)
  FROM days d WHERE d.order_id = p.order_id;
UPDATE order_timeout.refunds r
   SET created_at = pg_temp.at(r.order_id, r.created_at), handed_out_at = pg_temp.at(r.order_id, r.handed_out_at),
       submitted_at = pg_temp.at(r.order_id, r.submitted_at), returned_at = pg_temp.at(r.order_id, r.returned_at),
       attention_at = pg_temp.at(r.order_id, r.attention_at), settled_at = pg_temp.at(r.order_id, r.settled_at)
  FROM days d WHERE d.order_id = r.order_id;
UPDATE order_timeout.events e
   SET created_at = pg_temp.at(e.aggregateid, e.created_at),
       payload = CASE WHEN e.payload ? 'expires_at' THEN jsonb_set(e.payload, '{expires_at}', to_jsonb(o.expires_at)) ELSE e.payload END
  FROM order_timeout.orders o JOIN days d ON d.order_id = o.order_id AND o.settled_at IS NOT NULL
 WHERE e.aggregateid = o.order_id;

-- Ids ascend with time, as they do where time goes on by itself.
UPDATE order_timeout.events e SET id = n.id
  FROM (SELECT id AS was, 1000000 + row_number() OVER (ORDER BY created_at, id) AS id FROM order_timeout.events) n WHERE n.was = e.id;
SELECT setval('order_timeout.events_id_seq', max(id)) FROM order_timeout.events \g /dev/null

-- Runs of the sweeper, each a minute long.
INSERT INTO order_timeout.sweeps (sweep_id, pid, started_at, active_at, ended_at, batches, expired, max_lag)
SELECT -i, 1, t.at, t.at + interval '59 s', t.at + interval '59 s', coalesce(c.n, 0), coalesce(c.n, 0), coalesce(c.lag, '0')
  FROM generate_series(1, 7 * 1440) AS i
 CROSS JOIN LATERAL (SELECT date_trunc('minute', now()) - i * interval '1 minute' AS at) t
  LEFT JOIN (SELECT date_trunc('minute', o.settled_at) AS at, count(*) AS n, max(o.settled_at - o.closes_at) AS lag
               FROM order_timeout.orders o WHERE o.state = 'expired' GROUP BY 1) c ON c.at = t.at;
VACUUM ANALYZE;
