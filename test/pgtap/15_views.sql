-- health and attention: what an operator looks at.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
CREATE FUNCTION t.attention(order_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', a.kind, a.payment_ref, a.amount, a.currency), ', ' ORDER BY a.kind, a.payment_ref)
      FROM order_timeout.attention AS a WHERE a.order_id = $1
$$;

-- An empty house
SELECT is((SELECT count(*) FROM order_timeout.health), 1::bigint, 'health is one row');
SELECT is((SELECT (pending, overdue, oldest_overdue, refunds_by_state, owed_by_currency, oldest_refund_owed)::text FROM order_timeout.health),
          '(0,0,,{},{},)', 'nothing pending, nothing owed');
SELECT is((SELECT (refunds_needing_attention, payments_held, payments_orphaned, orders_set_aside, conflicts_open)::text
             FROM order_timeout.health), '(0,0,0,0,0)', 'nothing waits for a person');
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'attention is empty');
CREATE FUNCTION t.problems() RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN h.ok THEN 'ok' ELSE array_to_string(h.problems, ', ') END FROM order_timeout.health h
$$;
SELECT is(t.problems(), 'ok', 'all is right');

-- Orders
SELECT t.create_order('p1', 100), t.create_order('p2', 100), t.create_order('paid', 1), t.pay('paid', 'paid', 1);
SELECT is((SELECT (pending, overdue)::text FROM order_timeout.health), '(2,0)', 'pending orders');
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE order_id = 'p1';
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 minute' WHERE order_id = 'p2';
SELECT is((SELECT (pending, overdue, oldest_overdue BETWEEN '1 hour' AND '61 minutes')::text FROM order_timeout.health), '(2,2,t)',
          'overdue ones, and the age of the oldest');
SELECT ok((SELECT oldest_overdue_seconds BETWEEN 3600 AND 3660 AND due_soon = 0 FROM order_timeout.health), 'in seconds, too');
SELECT is(t.problems(), 'no sweep for two minutes, orders overdue, the oldest for more than two minutes: 2', 'that is not right');
SELECT order_timeout.sweep_once();
SELECT is((SELECT (pending, overdue, oldest_overdue)::text FROM order_timeout.health), '(0,0,)', 'closed ones are not');

-- sweeper: nobody sweeps (sweep_once writes no row of sweeps)
SELECT t.create_order('s1', 100), t.create_order('s2', 100);
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'without a sweep, and nothing due: no alarm');
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '119 seconds' WHERE order_id = 's1';
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'overdue by less than two minutes: no alarm');
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '121 seconds' WHERE order_id = 's1';
SELECT is((SELECT (a.kind, a.order_id, a.amount, a.why, a.since = o.expires_at)::text
             FROM order_timeout.attention a, order_timeout.orders o WHERE o.order_id = 's1'),
          '(sweeper,,,"no sweep has run, and orders are overdue",t)', 'overdue by more, and no sweep ever');
SELECT matches((SELECT resolved_by FROM order_timeout.attention), 'schedule_sweeper\(\);.*\n.*CALL order_timeout.sweep\(\);', 'and what helps');
INSERT INTO order_timeout.sweeps (pid, started_at, active_at) VALUES (1, now() - interval '1 hour', clock_timestamp() - interval '119 seconds');
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'a sweep within the last two minutes: no alarm');
UPDATE order_timeout.sweeps SET active_at = clock_timestamp() - interval '121 seconds';
SELECT is((SELECT (a.kind, a.why, a.since = s.active_at)::text FROM order_timeout.attention a, order_timeout.sweeps s),
          '(sweeper,"no sweep has run since then, and orders are overdue",t)', 'the last sweep is older');
SELECT is((SELECT (last_sweep_age_seconds BETWEEN 121 AND 150, last_sweep_lag_seconds)::text FROM order_timeout.health), '(t,0)', 'health has its age');
INSERT INTO order_timeout.set_aside (order_id, since, failures, retry_at, sqlstate, error)
VALUES ('s1', clock_timestamp(), 1, clock_timestamp() + interval '1 hour', 'P0001', 'no');
SELECT is((SELECT string_agg(kind, ',') FROM order_timeout.attention), 'set_aside', 'an order that was tried and set aside raises its own alarm');
DELETE FROM order_timeout.set_aside;
SELECT order_timeout.sweep_once();
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'closed, whoever did it: no alarm');
SELECT is(t.problems(), 'no sweep for two minutes', 'a sweeper that ran once and stopped is none that is right');
DELETE FROM order_timeout.sweeps;
SELECT order_timeout.cancel_order('s2');

-- Money owed
SELECT t.owe('owe', 10, 20), t.pay('owe', 'eur', 7, 'EUR');
SELECT t.attempt('failed');
SELECT is((SELECT owed_by_currency FROM order_timeout.health), '{"CNY": 30, "EUR": 7}'::jsonb, 'money owed, by currency');
SELECT is((SELECT refunds_by_state FROM order_timeout.health), '{"failed": 1, "pending": 2}'::jsonb, 'refunds by state');
SELECT is((SELECT (refunds_failed, refunds_pending, refunds_unknown, refunds_processing, refunds_submitted)::text FROM order_timeout.health),
          '(1,2,0,0,0)', 'as numbers');
SELECT ok((SELECT oldest_refund_owed BETWEEN '0' AND '1 hour' FROM order_timeout.health), 'the oldest refund owed');
UPDATE order_timeout.refunds SET created_at = clock_timestamp() - interval '3 days' WHERE payment_ref = 'owe-2';
SELECT ok((SELECT oldest_refund_owed BETWEEN '3 days' AND '73 hours' FROM order_timeout.health), 'is that old');
SELECT is((SELECT (oldest_refund_owed_seconds BETWEEN 259200 AND 262800)::text || ', ' || t.problems() FROM order_timeout.health),
          'true, the oldest refund is owed for more than two days', 'which is a problem');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds;
SELECT is((SELECT (owed_by_currency, oldest_refund_owed)::text FROM order_timeout.health), '({},)', 'what is back is not owed');

-- needs_attention
SELECT t.refund_in('needs_attention', 'na') AS ref \gset
SELECT is((SELECT (kind, order_id, gateway, payment_ref, refund_ref = :'ref', amount, currency, since > now(), why IS NOT NULL)::text
             FROM order_timeout.attention), '(needs_attention,na,na,na,t,100,CNY,t,t)', 'a refund that needs attention');
SELECT is((SELECT why FROM order_timeout.attention), 'late payment, 1 of 20 attempts used', 'its story');
UPDATE order_timeout.refunds SET last_error = 'connection refused' WHERE refund_ref = :'ref';
SELECT is((SELECT why FROM order_timeout.attention), 'late payment, 1 of 20 attempts used, last: connection refused', 'with its last error');
SELECT is((SELECT resolved_by FROM order_timeout.attention), format($$SELECT * FROM order_timeout.retry_refund(refund_ref => %1$L);
SELECT * FROM order_timeout.settle_refund(refund_ref => %1$L, note => :'note');
SELECT * FROM order_timeout.reverse_refund(refund_ref => %1$L, reason => :'reason');
SELECT * FROM order_timeout.complete_refund(refund_ref => %1$L, result => 'succeeded'); -- if the gateway says that it went back$$, :'ref'), 'and the lines that resolve it');
SELECT is((SELECT refunds_needing_attention FROM order_timeout.health), 1::bigint, 'is counted');
SELECT is(t.problems(), 'refunds that need attention: 1', 'and a problem');
SELECT is((SELECT owed_by_currency FROM order_timeout.health), '{"CNY": 100}'::jsonb, 'and owed');
SELECT order_timeout.retry_refund(:'ref');
SELECT is(t.attention('na'), NULL, 'retried: it is gone');

-- stopped
SELECT t.refund_in('processing', 'stop') AS ref \gset
SELECT order_timeout.stop_refund(:'ref', 'the buyer called');
SELECT is((SELECT (why, t.ways(resolved_by))::text FROM order_timeout.attention WHERE refund_ref = :'ref'),
          '("stopped: the buyer called (late payment, 0 of 20 attempts used)","complete_refund settle_refund reverse_refund retry_refund")',
          'a stopped refund: to send it again comes last');
SELECT order_timeout.retry_refund(:'ref'), order_timeout.stop_refund(:'ref', 'again');
SELECT order_timeout.complete_refund(:'ref', 'succeeded');
SELECT is(t.attention('stop'), NULL, 'completed: it is gone');

-- held
SELECT t.create_order('held', 100, 'hold'), t.expire('held'), t.pay('held', 'held-1', 100);
SELECT is(t.attention('held'), 'held held-1 100 CNY', 'a held payment');
SELECT is((SELECT (t.ways(resolved_by), since > now())::text FROM order_timeout.attention), '("resolve_held resolve_held accept_payment",t)', 'and what resolves it');
SELECT is((SELECT payments_held FROM order_timeout.health), 1::bigint, 'is counted');
SELECT is(t.problems(), 'payments held: 1', 'and a problem');
SELECT order_timeout.resolve_held('bank', 'held-1', 'accept');
SELECT is(t.attention('held'), NULL, 'accepted: it is gone');

-- orphan
SELECT t.pay('nobody', 'o1', 10), t.pay('nobody', 'o2', 20), t.pay('nobody', 'o3', 30);
SELECT is(t.attention('nobody'), 'orphan o1 10 CNY, orphan o2 20 CNY, orphan o3 30 CNY', 'orphans');
SELECT is((SELECT payments_orphaned FROM order_timeout.health), 3::bigint, 'are counted');
SELECT t.create_order('else', 100);
SELECT order_timeout.refund_orphan('bank', 'o1'), order_timeout.assign_orphan('bank', 'o2', 'else');
SELECT is(t.attention('nobody'), 'orphan o3 30 CNY', 'refunded, assigned: they are gone');
SELECT t.create_order('nobody', 100);
SELECT is(t.attention('nobody'), NULL, 'the order came: gone, too');

-- conflict
SELECT t.refund_in('processing', 'c') AS ref \gset
SELECT order_timeout.complete_refund(:'ref', 'succeeded', refunded_amount => 150);
SELECT is((SELECT (kind, order_id, gateway, payment_ref, refund_ref = :'ref', since > now(), why IS NOT NULL, t.ways(resolved_by))::text
             FROM order_timeout.attention), '(conflict,c,c,c,t,t,t,resolve_conflict)', 'a contradiction');
SELECT is((SELECT conflicts_open FROM order_timeout.health), 1::bigint, 'is counted');
SELECT is(t.problems(), 'open conflicts: 1', 'and a problem');
SELECT order_timeout.resolve_conflict(conflict_id) FROM order_timeout.attention;
SELECT is_empty($$SELECT * FROM order_timeout.attention$$, 'looked at: it is gone');
SELECT is((SELECT conflicts_open FROM order_timeout.health), 0::bigint, 'and not counted');
SELECT throws_ok($$SELECT order_timeout.resolve_conflict(999999)$$, 'OT006', NULL, 'no such conflict');

-- metrics
SELECT is_empty($$SELECT * FROM order_timeout.metrics WHERE num_nulls(name, labels, value, help, type) > 0$$, 'metrics: nothing is without a value, help or type');
SELECT is_empty($$SELECT name, labels FROM order_timeout.metrics GROUP BY 1, 2 HAVING count(*) > 1$$, 'nothing comes twice');
SELECT is_empty($$SELECT * FROM order_timeout.metrics WHERE name !~ '^order_timeout_[a-z_]+$' OR (type = 'counter') <> (name ~ '_total$')
                     OR type NOT IN ('counter', 'gauge')$$, 'names and types by the conventions');
SELECT is((SELECT string_agg(DISTINCT labels ->> 'kind', ',' ORDER BY labels ->> 'kind') FROM order_timeout.metrics WHERE name = 'order_timeout_attention'),
          'conflict,held,hook,link,needs_attention,orphan,set_aside,void', 'the kinds of attention');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds WHERE settled_at IS NULL;
SELECT t.create_order('m1', 100, 'hold'), t.expire('m1'), t.pay('m1', 'm1', 100), t.pay('unknown', 'm2', 5);
SELECT t.owe('m3', 11);
INSERT INTO order_timeout.sweeps (pid, started_at, active_at, max_lag, behind) VALUES (1, now(), clock_timestamp() - interval '3 minutes', '4 s', '5 s');
-- Whether events of an open transaction are counted as unread in it depends on what other sessions did meanwhile.
SELECT order_timeout.create_consumer('follower');
SELECT is((SELECT string_agg(concat_ws(' ', substr(name, 15), labels ->> 'kind', labels ->> 'currency', labels ->> 'consumer', value), ', ' ORDER BY name, labels)
             FROM order_timeout.metrics WHERE type = 'gauge' AND value > 0 AND name !~ 'table|clock|sweep_age|oldest|unread'),
          'attention held 1, attention orphan 1, closing_lag_seconds 4, last_sweep_lag_seconds 5, orders 2, owed CNY 11, refunds 1', 'what is not 0');
SELECT ok((SELECT value BETWEEN 180 AND 240 FROM order_timeout.metrics WHERE name = 'order_timeout_last_sweep_age_seconds'), 'and how old the last sweep is');
SELECT is((SELECT value FROM order_timeout.metrics WHERE name = 'order_timeout_ok'), 0.0::double precision, 'which is not all right');
SELECT order_timeout.resolve_held('bank', 'm1', 'accept'), order_timeout.refund_orphan('bank', 'm2');
SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds WHERE settled_at IS NULL;
SELECT order_timeout.drop_consumer('follower');
DELETE FROM order_timeout.sweeps;

-- integrations
SELECT is_empty('SELECT * FROM order_timeout.integrations', 'nothing is linked or hooked');
CREATE SCHEMA "the shop";
CREATE TABLE "the shop"."Orders" (id bigint PRIMARY KEY, status integer NOT NULL, total numeric(10,2), pay_until timestamptz,
                                  paid_at timestamptz, closed_at timestamptz);
CREATE FUNCTION "the shop".give_back(order_ids text[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION "the shop".refuse(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
SELECT order_timeout.link_table('"the shop"."Orders"', 'id', 'status', '{"pending": 1, "paid": 2, "expired": 9}', 'in-',
    amount_column => 'total', currency => 'EUR', deadline_column => 'pay_until', policy => 'hold', track => true,
    time_columns => '{"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}');
SELECT order_timeout.set_hook('hold', 'close_hook', '"the shop".give_back'), order_timeout.set_hook('hold', 'paid_hook', '"the shop".refuse');
CREATE FUNCTION t.integrations() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(x, ', ' ORDER BY x COLLATE "C")
      FROM (SELECT concat_ws(' ', i.kind, i.name, i.is_there, i.waiting, i.orders_set_aside) FROM order_timeout.integrations i) AS i (x)
$$;
SELECT is(t.integrations(), 'hook close_hook t 0 0, hook paid_hook t 0 0, link "the shop"."Orders" t 0 0', 'a row for the link and for each hook');
SELECT is((SELECT string_agg(i.uses, '; ' ORDER BY i.uses COLLATE "C") FROM order_timeout.integrations i),
    '"the shop".give_back; "the shop".refuse; order_id: ''in-'' and id, status: status, amount: total, currency: EUR, deadline: pay_until, times: closed_at and paid_at, track, refuse', 'what they use');
INSERT INTO "the shop"."Orders" VALUES (1, 1, 10, now() + interval '1 hour'), (2, 1, 10, now() + interval '1 hour');
SELECT t.pay('in-1', 'in-1', 1000, 'EUR');
SELECT is(t.integrations(), 'hook close_hook t 0 0, hook paid_hook t 1 0, link "the shop"."Orders" t 0 0', 'a hook that failed waits');
SELECT is((SELECT (hooks_waiting, links_waiting, t.problems())::text FROM order_timeout.health), '(1,0,"hooks that failed: 1")', 'and is a problem');
CREATE ROLE t_reader;
SELECT order_timeout.grant_access('t_reader', 'reader');
SET LOCAL ROLE t_reader;
SELECT is((SELECT count(*) FROM order_timeout.integrations WHERE is_there), 3::bigint, 'a reader needs no right to the shop''s schema');
RESET ROLE;
ALTER TABLE "the shop"."Orders" DISABLE TRIGGER order_timeout_track;
DROP FUNCTION "the shop".give_back;
SELECT is(t.integrations(), 'hook close_hook f 0 0, hook paid_hook t 1 0, link "the shop"."Orders" f 0 0', 'a dropped function, a disabled trigger');
ALTER TABLE "the shop"."Orders" ENABLE TRIGGER order_timeout_track;
ALTER TABLE "the shop"."Orders" RENAME COLUMN total TO sum;
SELECT is((SELECT is_there FROM order_timeout.integrations WHERE kind = 'link'), false, 'a renamed column');
ALTER TABLE "the shop"."Orders" RENAME COLUMN sum TO total;
ALTER TABLE "the shop"."Orders" RENAME COLUMN closed_at TO closed_on;
SELECT is((SELECT is_there FROM order_timeout.integrations WHERE kind = 'link'), false, 'of a time');
ALTER TABLE "the shop"."Orders" RENAME COLUMN closed_on TO closed_at;
UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE order_id = 'in-2';
SELECT order_timeout.sweep_once();
SELECT is((SELECT string_agg(concat_ws(' ', name, orders_set_aside), ', ' ORDER BY name COLLATE "C") FROM order_timeout.integrations),
          '"the shop"."Orders" 1, close_hook 1, paid_hook 1', 'an order that could not be closed is counted with each');
SELECT t.sound();

-- progress: test/tap/progress.pl looks at it in the middle of work
SELECT is_empty('SELECT * FROM order_timeout.progress', 'progress: nothing is at long work');
SELECT columns_are('order_timeout', 'progress', '{pid,command,phase,step,steps,done,total,percent,unit,started_at,running}'::name[], 'progress: its columns');
SELECT order_timeout._progress('check_statement', 1, 40);
SELECT pg_stat_clear_snapshot();
SELECT is((SELECT (pid = pg_backend_pid(), command, phase, step, steps, done, total, percent, unit, running >= '0')::text FROM order_timeout.progress),
          '(t,check_statement,"matching lines",1,2,0,40,0.0,lines,t)', 'progress: a row for the session');
SAVEPOINT before_error;
ROLLBACK TO before_error;
SELECT pg_stat_clear_snapshot();
SELECT is_empty('SELECT * FROM order_timeout.progress', 'progress: a rollback ends it');
DO $$
BEGIN
    PERFORM order_timeout._progress('check_statement', 1, 40);
    PERFORM count(order_timeout._progress_row(1)) FROM generate_series(1, 10);
    PERFORM count(order_timeout._progress_row(2)) FROM generate_series(1, 10);
    BEGIN
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        PERFORM order_timeout._progress_row(1);
    END;
    PERFORM order_timeout._progress('load_statement', 1, 5), order_timeout._progress_row(2), order_timeout._progress('load_statement', 0);
END
$$;
SELECT pg_stat_clear_snapshot();
SELECT is((SELECT (command, step, done, percent)::text FROM order_timeout.progress), '(check_statement,1,11,27.5)',
          'progress: rows of its phase, through an error, and not what is begun within it');
SELECT order_timeout._progress('check_statement', 0), order_timeout._progress_row(1);
SELECT pg_stat_clear_snapshot();
SELECT is((SELECT step FROM order_timeout.progress), 1, 'progress: only its own statement ends it');
SAVEPOINT before_error;
ROLLBACK TO before_error;
DO $$
BEGIN
    PERFORM order_timeout._progress('check_statement', 1, 2);
    PERFORM count(order_timeout._progress_row(1)) FROM generate_series(1, 3);
    PERFORM order_timeout._progress('load_statement', 2);
END
$$;
SELECT pg_stat_clear_snapshot();
SELECT is((SELECT (done, total, percent)::text FROM order_timeout.progress), '(3,2,100.0)', 'progress: more than was counted is 100 percent');
SAVEPOINT before_error;
ROLLBACK TO before_error;

-- sizes: the statistics are those of this transaction
ANALYZE order_timeout.orders, order_timeout.events;
SELECT is((SELECT rows FROM order_timeout.sizes WHERE table_name = 'orders'), (SELECT count(*) FROM order_timeout.orders), 'sizes: rows of orders');
SELECT is((SELECT bytes > index_bytes AND bytes = pg_total_relation_size('order_timeout.events') AND bytes_per_row = bytes / rows
                  AND bytes_per_order = bytes / (SELECT count(*) FROM order_timeout.orders) FROM order_timeout.sizes WHERE table_name = 'events'), true,
          'bytes of events, for a row and for an order');
SELECT set_eq('SELECT table_name FROM order_timeout.sizes',
              $$SELECT relname::text FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace AND relkind = 'r'$$, 'a row for each table');

-- resolved_by: every line of every kind can be run as it is; what only a person knows is a variable of psql.
CREATE FUNCTION t.runs(line text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    EXECUTE replace(regexp_replace(line, ':''\w+''', '''EUR''', 'g'), ':amount', '100') INTO outcome;
    RAISE EXCEPTION 'undone' USING ERRCODE = 'UNDO0';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE WHEN SQLSTATE = 'UNDO0' THEN outcome ELSE SQLSTATE || ': ' || SQLERRM END;
END
$$;
SELECT order_timeout.set_hook(policy, hook, NULL) FROM order_timeout.hooks;
SELECT t.create_order('EUR', 100);
SELECT t.create_order($$it's \$$, 100, 'hold'), t.cancel($$it's \$$), t.pay($$it's \$$, $$p'1 \$$, 100, gateway => $$g'1 \$$);
SELECT t.pay($$not \' there$$, $$p'2 \$$, 100, gateway => $$g'2 \$$);
SELECT t.refund_in('needs_attention', $$n'a \$$), t.refund_in('processing', $$c'f \$$) AS failed, t.refund_in('processing', $$x \' y$$) AS external \gset
SELECT order_timeout.complete_refund(:'failed', 'succeeded', gateway_refund_ref => 'f'), order_timeout.complete_refund(:'failed', 'failed', gateway_refund_ref => 'f');
SELECT t.void_in('needs_attention', $$v'o \$$);
SELECT set_eq($$SELECT DISTINCT a.kind FROM order_timeout.attention a$$, $$VALUES ('needs_attention'), ('held'), ('orphan'), ('set_aside'), ('conflict'), ('void'), ('hook')$$,
              'these kinds are there');
SELECT is((SELECT string_agg(DISTINCT x.answer, ', ') FROM (
               SELECT t.runs(line) AS answer FROM order_timeout.attention a, regexp_split_to_table(a.resolved_by, '\n') AS line WHERE a.kind <> 'sweeper') AS x
            WHERE x.answer ~ '^[0-9A-Z]{5}: '), NULL, 'their lines can be run');
-- Counts stop, and see first what is due first
INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at)
SELECT 'many-' || i, 'default', 'pending', 1, 'EUR', now() + i * interval '1 second', now() FROM generate_series(1, 10100) i;
INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at)
VALUES ('many', 'default', 'pending', 1, 'EUR', now() - interval '1 day', now());
SELECT is((SELECT sum(value) FROM order_timeout.metrics WHERE name = 'order_timeout_orders'), 10000.0::double precision, 'in metrics, too');
SELECT is((SELECT (pending + authorized + closing, date_trunc('day', oldest_overdue))::text FROM order_timeout.health), '(10000,"1 day")',
          'counts stop at 10000, with the oldest order among them');
SELECT finish();
ROLLBACK;
