-- What an operator looks at.

-- Each part looks at 10000 rows at most, so that it takes a few milliseconds however much is open: ORDER BY goes along an
-- index, OFFSET 0 keeps a lookup for each row from becoming a join with all of the table.
CREATE VIEW health AS
WITH open_orders AS (SELECT state, closes_at FROM orders WHERE settled_at IS NULL ORDER BY closes_at LIMIT 10000),
     owed AS (SELECT state, currency, count(*) AS n, sum(amount) AS amount, min(created_at) AS oldest
                FROM ((SELECT state, amount, currency, created_at FROM refunds
                        WHERE settled_at IS NULL AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 10000)
                      UNION ALL
                      (SELECT state, amount, currency, created_at FROM refunds
                        WHERE settled_at IS NULL AND next_attempt_at IS NULL LIMIT 10000)) x
               GROUP BY state, currency),
     voids AS (SELECT leased_until FROM attempts WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 10000),
     counts AS (
SELECT o.pending,
       o.overdue,
       o.oldest_overdue,
       r.refunds_by_state,
       m.owed_by_currency,
       r.oldest_refund_owed,
       r.refunds_needing_attention,
       (SELECT count(*) FROM (SELECT FROM payments p WHERE p.disposition = 'held' LIMIT 10000) x) AS payments_held,
       (SELECT count(*) FROM (SELECT FROM payments p
         WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending LIMIT 10000) x) AS payments_orphaned,
       (SELECT count(*) FROM (SELECT FROM set_aside s CROSS JOIN LATERAL (SELECT FROM orders so
         WHERE so.order_id = s.order_id AND so.settled_at IS NULL AND so.closes_at <= s.since OFFSET 0) y LIMIT 10000) x) AS orders_set_aside,
       (SELECT count(*) FROM (SELECT FROM conflicts c WHERE c.resolved_at IS NULL LIMIT 10000) x) AS conflicts_open,
       w.active_at AS last_sweep,
       w.behind AS last_sweep_lag,
       (SELECT count(*) FROM (SELECT FROM set_aside_refunds s CROSS JOIN LATERAL (SELECT FROM refunds sr
         WHERE sr.refund_ref = s.refund_ref AND sr.next_attempt_at = s.due_at OFFSET 0) y LIMIT 10000) x) AS refunds_set_aside,
       o.authorized,
       o.closing,
       v.voids_due,
       (SELECT count(*) FROM (SELECT FROM attempts a WHERE a.attention_at IS NOT NULL LIMIT 10000) x) AS voids_needing_attention,
       o.due_soon,
       coalesce(extract(epoch FROM o.oldest_overdue), 0)::double precision AS oldest_overdue_seconds,
       r.refunds_pending,
       r.refunds_processing,
       r.refunds_submitted,
       r.refunds_failed,
       r.refunds_unknown,
       coalesce(extract(epoch FROM r.oldest_refund_owed), 0)::double precision AS oldest_refund_owed_seconds,
       v.voids_processing,
       f.links_waiting,
       f.hooks_waiting,
       extract(epoch FROM clock_timestamp() - w.active_at)::double precision AS last_sweep_age_seconds,
       extract(epoch FROM w.behind)::double precision AS last_sweep_lag_seconds
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
             count(*) FILTER (WHERE closes_at <= clock_timestamp()) AS overdue,
             clock_timestamp() - min(closes_at) FILTER (WHERE closes_at <= clock_timestamp()) AS oldest_overdue,
             count(*) FILTER (WHERE state = 'authorized') AS authorized,
             count(*) FILTER (WHERE state = 'closing') AS closing,
             count(*) FILTER (WHERE state = 'pending' AND closes_at > clock_timestamp()
                                AND closes_at <= clock_timestamp() + interval '5 minutes') AS due_soon
        FROM open_orders) o
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.state, s.n), '{}') AS refunds_by_state,
                   clock_timestamp() - min(s.oldest) AS oldest_refund_owed,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'pending'), 0)::bigint AS refunds_pending,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'processing'), 0)::bigint AS refunds_processing,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'submitted'), 0)::bigint AS refunds_submitted,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'failed'), 0)::bigint AS refunds_failed,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'unknown'), 0)::bigint AS refunds_unknown,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'needs_attention'), 0)::bigint AS refunds_needing_attention
              FROM (SELECT state, sum(n) AS n, min(oldest) AS oldest FROM owed GROUP BY state) s) r
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.currency, s.owed), '{}') AS owed_by_currency
              FROM (SELECT currency, sum(amount) AS owed FROM owed GROUP BY currency) s) m
CROSS JOIN (SELECT count(*) AS voids_due, count(leased_until) AS voids_processing FROM voids) v
CROSS JOIN (SELECT count(*) FILTER (WHERE kind = 'link') AS links_waiting, count(*) FILTER (WHERE kind <> 'link') AS hooks_waiting
              FROM (SELECT kind FROM follow_ups LIMIT 10000) x) f
LEFT JOIN (SELECT active_at, behind FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w ON true)
SELECT c.*, p.problems = '{}' AS ok, p.problems
  FROM counts c
 CROSS JOIN LATERAL (SELECT ARRAY(
       SELECT q.problem || CASE WHEN q.counts THEN ': ' || q.n ELSE '' END
         FROM (VALUES (1, 'no sweep for two minutes', false,
                       (coalesce(c.last_sweep_age_seconds, c.oldest_overdue_seconds) > 120)::integer),
                      (2, 'orders overdue, the oldest for more than two minutes', true,
                       CASE WHEN c.oldest_overdue_seconds > 120 THEN c.overdue END),
                      (3, 'the oldest refund is owed for more than two days', false,
                       (c.oldest_refund_owed > interval '2 days')::integer),
                      (4, 'refunds that need attention', true, c.refunds_needing_attention),
                      (5, 'payments held', true, c.payments_held),
                      (6, 'orphan payments', true, c.payments_orphaned),
                      (7, 'orders set aside', true, c.orders_set_aside),
                      (8, 'refunds set aside', true, c.refunds_set_aside),
                      (9, 'open conflicts', true, c.conflicts_open),
                      (10, 'voids that need attention', true, c.voids_needing_attention),
                      (11, 'linked rows not written', true, c.links_waiting),
                      (12, 'hooks that failed', true, c.hooks_waiting)) q(place, problem, counts, n)
        WHERE q.n > 0 ORDER BY q.place) AS problems) p;
COMMENT ON VIEW health IS
'One row: is this all right (ok), and if not, why (problems); open orders and the age of the oldest overdue one, open refunds by state, money owed by currency, what needs the operator, when the last sweep last wrote its row and how far behind it was. Counts stop at 10000, sums of money with them.';

CREATE VIEW attention AS
SELECT 'needs_attention' AS kind, r.order_id, r.gateway, r.payment_ref, r.refund_ref, NULL::bigint AS conflict_id,
       r.amount, r.currency, r.attention_at AS since,
       CASE WHEN r.last_error LIKE 'stopped:%' THEN format('%s (%s)', r.last_error, w.story)
            ELSE concat(w.story, ', last: ' || nullif(r.last_error, ''), ': ' || nullif(r.note, '')) END AS why,
       -- The ids in it are COLLATE "C", and the column keeps the collation that it has had. What was stopped may have gone back: to send it again is the last thing to think of.
       CASE WHEN r.last_error LIKE 'stopped:%'
            THEN concat_ws(E'\n', t.complete, t.settle, t.reverse, t.retry)
            ELSE concat_ws(E'\n', t.retry, t.settle, t.reverse, t.complete) END COLLATE "default" AS resolved_by,
       NULL::text AS attempt_ref
  FROM refunds r LEFT JOIN orders o ON o.order_id = r.order_id
  LEFT JOIN policies y ON y.policy = coalesce(o.policy, 'default')
 CROSS JOIN LATERAL (SELECT format('%s, %s of %s attempts used', CASE r.reason
                                   WHEN 'late' THEN 'late payment' WHEN 'surplus' THEN 'surplus payment'
                                   WHEN 'wrong_currency' THEN 'payment in another currency'
                                   WHEN 'expired' THEN 'part payment of an expired order'
                                   WHEN 'cancelled' THEN 'part payment of a cancelled order'
                                   WHEN 'requested' THEN 'refund that was requested' WHEN 'orphan' THEN 'payment without an order'
                                   WHEN 'reversed' THEN 'refund that came back' ELSE r.reason END,
                                   r.attempts, y.refund_max_attempts) AS story) w
 CROSS JOIN LATERAL (SELECT format('SELECT * FROM order_timeout.retry_refund(refund_ref => %L);', r.refund_ref) AS retry,
                            format('SELECT * FROM order_timeout.settle_refund(refund_ref => %L, note => :''note'');', r.refund_ref) AS settle,
                            format('SELECT * FROM order_timeout.reverse_refund(refund_ref => %L, reason => :''reason'');', r.refund_ref) AS reverse,
                            format('SELECT * FROM order_timeout.complete_refund(refund_ref => %L, result => ''succeeded''); -- if the gateway says that it went back', r.refund_ref) AS complete) t
 WHERE r.settled_at IS NULL AND r.state = 'needs_attention'
UNION ALL
SELECT 'held', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.held, p.currency, p.held_at,
       coalesce('a late payment waits for a decision (' || p.late_reason || ')',
                'the order was closed before all of it was paid'),
       concat_ws(E'\n',
           format('SELECT * FROM order_timeout.resolve_held(gateway => %L, payment_ref => %L, decision => ''accept'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.resolve_held(gateway => %L, payment_ref => %L, decision => ''refund'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.accept_payment(gateway => %L, payment_ref => %L, note => :''note'');', p.gateway, p.payment_ref)) COLLATE "default", NULL
  FROM payments p WHERE p.disposition = 'held'
UNION ALL
SELECT 'orphan', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.amount - p.refunded - p.refund_pending, p.currency,
       p.received_at, 'no order with this id is known',
       concat_ws(E'\n',
           format('SELECT * FROM order_timeout.create_order(order_id => %L, amount => :amount, currency => %L);', p.order_id, p.currency),
           format('SELECT * FROM order_timeout.assign_orphan(gateway => %L, payment_ref => %L, order_id => :''order_id'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.refund_orphan(gateway => %L, payment_ref => %L);', p.gateway, p.payment_ref)) COLLATE "default", NULL
  FROM payments p WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending
UNION ALL
SELECT 'set_aside', s.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, s.since,
       s.sqlstate || ': ' || s.error, concat_ws(E'\n',
           format('SELECT * FROM order_timeout.expire_order(order_id => %L); -- once the cause is mended; the sweeper tries again by itself', s.order_id),
           format('SELECT * FROM order_timeout.cancel_order(order_id => %L, reason => :''reason'');', s.order_id)) COLLATE "default", NULL
  FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
UNION ALL
SELECT 'set_aside', r.order_id, r.gateway, r.payment_ref, r.refund_ref, NULL, r.amount, r.currency, s.since,
       s.sqlstate || ': ' || s.error, format('SELECT * FROM order_timeout.complete_refund(refund_ref => %L, result => ''succeeded''); -- if it went back; workers get it again by itself, once the cause is mended', r.refund_ref) COLLATE "default", NULL
  FROM set_aside_refunds s JOIN refunds r ON r.refund_ref = s.refund_ref AND r.next_attempt_at = s.due_at
UNION ALL
SELECT 'conflict', c.order_id, c.gateway, c.payment_ref, c.refund_ref, c.conflict_id, c.amount, p.currency, c.created_at,
       c.problem,
       concat_ws(E'\n',
           CASE WHEN c.is_failure AND x.reason IN ('external', 'chargeback')
                THEN format('SELECT * FROM order_timeout.reverse_chargeback(gateway => %L, gateway_refund_ref => %L, note => :''note'', refund_ref => %L);', x.gateway, x.gateway_refund_ref, x.refund_ref)
                WHEN c.is_failure
                THEN format('SELECT * FROM order_timeout.reverse_refund(refund_ref => %L, reason => :''reason'');', c.refund_ref) END,
           format('SELECT * FROM order_timeout.resolve_conflict(conflict_id => %s, note => :''note'');', c.conflict_id)) COLLATE "default", NULL
  FROM conflicts c LEFT JOIN payments p ON p.gateway = c.gateway AND p.payment_ref = c.payment_ref
  LEFT JOIN refunds x ON x.refund_ref = c.refund_ref
 WHERE c.resolved_at IS NULL
UNION ALL
SELECT 'void', v.order_id, v.gateway, NULL, NULL, NULL, nullif(coalesce(v.authorized, 0) - v.captured, 0), v.currency, v.attention_at,
       CASE v.state WHEN 'captured' THEN 'the gateway reported paid, and no payment is recorded'
            ELSE format('void of an attempt, %s of %s attempts used%s', v.attempts, y.refund_max_attempts,
                        coalesce(', last: ' || nullif(v.last_error, ''), ': it was rejected, or tried too often')) END,
       CASE v.state WHEN 'captured' THEN concat_ws(E'\n',
                format('SELECT * FROM order_timeout.record_payment(order_id => %L, gateway => %L, payment_ref => :''payment_ref'', amount => :amount, currency => :''currency'', attempt_ref => %L);', v.order_id, v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.end_attempt(gateway => %L, attempt_ref => %L, result => ''cancelled''); -- if it brought nothing', v.gateway, v.attempt_ref))
            ELSE concat_ws(E'\n',
                format('SELECT * FROM order_timeout.retry_void(gateway => %L, attempt_ref => %L);', v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.complete_void(gateway => %L, attempt_ref => %L, result => ''voided'');', v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.end_attempt(gateway => %L, attempt_ref => %L, result => ''cancelled'');', v.gateway, v.attempt_ref)) END COLLATE "default",
       v.attempt_ref
  FROM attempts v LEFT JOIN orders o ON o.order_id = v.order_id LEFT JOIN policies y ON y.policy = o.policy
 WHERE v.attention_at IS NOT NULL
UNION ALL
SELECT 'link', f.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, f.since,
       f.sqlstate || ': ' || f.error, 
       format('SELECT * FROM order_timeout.resolve_link(order_id => %L, kind => ''link'', note => :''note''); -- or mend the cause: the sweeper tries again by itself', f.order_id) COLLATE "default", NULL
  FROM follow_ups f LEFT JOIN orders o ON o.order_id = f.order_id WHERE f.kind = 'link'
UNION ALL
SELECT 'hook', f.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, f.since,
       f.kind || ': ' || f.sqlstate || ': ' || f.error, 
       format('SELECT * FROM order_timeout.resolve_link(order_id => %L, kind => ''hook'', note => :''note''); -- or mend the cause: the sweeper tries again by itself', f.order_id) COLLATE "default", NULL
  FROM follow_ups f LEFT JOIN orders o ON o.order_id = f.order_id WHERE f.kind <> 'link'
UNION ALL
-- pg_cron's table may not be there, so no view can name it. query_to_xml reads it as the caller, if the caller may.
SELECT 'sweeper', NULL, NULL, NULL, NULL, NULL, NULL, NULL, coalesce(w.last_sweep, d.oldest),
       CASE WHEN w.last_sweep IS NULL THEN 'no sweep has run' ELSE 'no sweep has run since then' END
           || CASE WHEN d.oldest IS NULL THEN ', although pg_cron has a job for it' ELSE ', and orders are overdue' END,
       concat_ws(E'\n', 'SELECT * FROM order_timeout.schedule_sweeper(); -- says what keeps its job from running',
                        'CALL order_timeout.sweep(); -- called in another way') COLLATE "default", NULL
  FROM (SELECT (SELECT active_at FROM sweeps ORDER BY sweep_id DESC LIMIT 1) AS last_sweep) w
 CROSS JOIN (SELECT min(o.closes_at) AS oldest FROM orders o
              WHERE o.settled_at IS NULL AND o.closes_at <= clock_timestamp() - interval '2 minutes'
                AND NOT EXISTS (SELECT FROM set_aside s WHERE s.order_id = o.order_id AND o.closes_at <= s.since)) d
 WHERE coalesce(w.last_sweep, '-infinity') < clock_timestamp() - interval '2 minutes'
   AND (d.oldest IS NOT NULL
        OR (SELECT CASE WHEN has_schema_privilege(j.relnamespace, 'USAGE') AND has_table_privilege(j.oid, 'SELECT')
                        THEN query_to_xml($$SELECT true AS found FROM cron.job j
                             WHERE j.active AND j.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
                               AND j.command OPERATOR(pg_catalog.~) 'order_timeout\.sweep\('
                               AND j.schedule OPERATOR(pg_catalog.~) '^(\*(/1)? \* \* \* \*|\d+ seconds?)$'$$, true, true, '')::text <> '' END
              FROM pg_extension e
              JOIN pg_depend x ON x.refclassid = 'pg_extension'::regclass AND x.refobjid = e.oid AND x.deptype = 'e'
                              AND x.classid = 'pg_class'::regclass
              JOIN pg_class j ON j.oid = x.objid AND j.relname = 'job' AND j.relnamespace = to_regnamespace('cron')
             WHERE e.extname = 'pg_cron'));
COMMENT ON VIEW attention IS
'Everything that needs the operator: kind (needs_attention, held, orphan, set_aside, conflict, void, link, hook, sweeper), the ids, since when, why, and the lines that resolve it.';

-- By the catalogs: to_regclass and to_regprocedure raise an error where the caller has no right to the schema.
CREATE VIEW integrations AS
SELECT 'link' AS kind, l.table_name AS name, l.policy,
       concat_ws(', ', 'order_id: ' || CASE WHEN l.order_prefix <> '' THEN quote_literal(l.order_prefix) || ' and ' ELSE '' END || l.key_column,
                 'status: ' || l.status_column, 'amount: ' || l.amount_column,
                 'currency: ' || coalesce(l.currency_column, l.currency), 'deadline: ' || l.deadline_column,
                 'policy: ' || l.policy_column,
                 'times: ' || (SELECT string_agg(DISTINCT t.value, ' and ') FROM jsonb_each_text(l.time_columns) t),
                 'reason: ' || l.reason_column,
                 CASE WHEN l.track THEN 'track, ' || l.on_contradiction END) AS uses,
       NOT EXISTS (SELECT FROM unnest(ARRAY[l.key_column, l.status_column, l.amount_column, l.currency_column, l.deadline_column,
                                            l.policy_column, l.reason_column]
                                      || ARRAY(SELECT t.value FROM jsonb_each_text(l.time_columns) t)) AS used (name)
                    WHERE used.name IS NOT NULL
                      AND NOT EXISTS (SELECT FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                                        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                       WHERE ARRAY[n.nspname, c.relname]::text[] = parse_ident(l.table_name)
                                         AND a.attname = used.name))
       AND (NOT l.track OR EXISTS (SELECT FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                                     JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'order_timeout_track' AND t.tgenabled <> 'D'
                                    WHERE ARRAY[n.nspname, c.relname]::text[] = parse_ident(l.table_name))) AS is_there,
       (SELECT count(*) FROM follow_ups f WHERE f.kind = 'link' AND starts_with(f.order_id, l.order_prefix)) AS waiting,
       (SELECT count(*) FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
         WHERE starts_with(s.order_id, l.order_prefix)) AS orders_set_aside
  FROM links l
UNION ALL
SELECT 'hook', h.hook, h.policy, h.function_name,
       EXISTS (SELECT FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid
                WHERE ARRAY[n.nspname, p.proname]::text[] = parse_ident(h.function_name) AND p.prokind = 'f'
                  AND oidvectortypes(p.proargtypes) = CASE h.hook
                      WHEN 'refund_handler' THEN 'text, text, text, text, bigint, text, text, integer'
                      WHEN 'void_handler' THEN 'text, text, text, bigint, text, text, integer' ELSE 'text[]' END),
       CASE h.hook WHEN 'refund_handler'
            THEN (SELECT count(*) FROM refunds r JOIN orders o ON o.order_id = r.order_id AND o.policy = h.policy
                   WHERE r.settled_at IS NULL AND r.state IN ('failed', 'unknown', 'needs_attention'))
            WHEN 'void_handler'
            THEN (SELECT count(*) FROM attempts v JOIN orders o ON o.order_id = v.order_id AND o.policy = h.policy
                   WHERE v.next_attempt_at IS NOT NULL)
            ELSE (SELECT count(*) FROM follow_ups f JOIN orders o ON o.order_id = f.order_id AND o.policy = h.policy
                   WHERE f.kind = h.hook) END,
       (SELECT count(*) FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
         WHERE o.policy = h.policy)
  FROM hooks h;
COMMENT ON VIEW integrations IS
'What of yours the extension uses: a row for each linked table and each hook, with its columns or function, whether all of it is still there, and how much waits.';

CREATE VIEW consumers AS
SELECT p.consumer, p.types, p.notify, p.created_at, b.unread, clock_timestamp() - b.oldest_unread AS oldest_unread,
       CASE WHEN p.leased_until > clock_timestamp() THEN p.leased_until END AS leased_until
  FROM consumer_positions p CROSS JOIN LATERAL _consumer_backlog(p.consumer) b WHERE p.consumer <> '';
COMMENT ON VIEW consumers IS
'A row for each consumer: its unread events, counted to 10000, the age of the first of them, and until when a reader has its batch.';

CREATE VIEW sizes AS
SELECT t.table_name, t.rows, t.bytes, t.index_bytes, (t.bytes / nullif(t.rows, 0))::bigint AS bytes_per_row,
       (t.bytes / nullif(max(t.rows) FILTER (WHERE t.table_name = 'orders') OVER (), 0))::bigint AS bytes_per_order
  FROM (SELECT c.relname::text AS table_name, nullif(c.reltuples, -1)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes,
               pg_indexes_size(c.oid) AS index_bytes
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'order_timeout' AND c.relkind IN ('r', 'p')) t;
COMMENT ON VIEW sizes IS
'How much room each table takes: rows as of the last ANALYZE or VACUUM, bytes with indexes, bytes for a row and for an order. Reads no table.';

-- PostgreSQL keeps it in shared memory. More may be done than was counted: while a sweep runs, more falls due.
CREATE VIEW progress AS
SELECT p.pid, p.command, p.phase, p.step, p.steps, CASE WHEN p.total IS NOT NULL OR p.done > 0 THEN p.done END AS done, p.total,
       CASE WHEN p.total > 0 THEN round(least(100.0 * p.done / p.total, 100), 1) END AS percent, p.unit, p.started_at,
       clock_timestamp() - p.started_at AS running
  FROM _progress_rows() p;
COMMENT ON VIEW progress IS
'How far long work is: a row for each session that is at a sweep with more than a batch to close, adopt_orders, load_statement, check_statement, statement_totals, apply_statement or funds_violations. Reads no table.';

-- Each part is bounded: health is, of a consumer's backlog 1000 events are looked at, the totals are few rows.
CREATE VIEW metrics AS
WITH h AS (SELECT * FROM health),
     samples AS (
SELECT m.name, m.labels, m.value
  FROM h CROSS JOIN LATERAL (VALUES
       ('order_timeout_ok', '{}'::jsonb, h.ok::integer::double precision),
       ('order_timeout_clock_seconds', '{}', extract(epoch FROM clock_timestamp())),
       ('order_timeout_orders', '{"state": "pending"}', h.pending),
       ('order_timeout_orders', '{"state": "authorized"}', h.authorized),
       ('order_timeout_orders', '{"state": "closing"}', h.closing),
       ('order_timeout_orders_due_soon', '{}', h.due_soon),
       ('order_timeout_orders_overdue', '{}', h.overdue),
       ('order_timeout_oldest_overdue_seconds', '{}', h.oldest_overdue_seconds),
       ('order_timeout_refunds', '{"state": "pending"}', h.refunds_pending),
       ('order_timeout_refunds', '{"state": "processing"}', h.refunds_processing),
       ('order_timeout_refunds', '{"state": "submitted"}', h.refunds_submitted),
       ('order_timeout_refunds', '{"state": "failed"}', h.refunds_failed),
       ('order_timeout_refunds', '{"state": "unknown"}', h.refunds_unknown),
       ('order_timeout_refunds', '{"state": "needs_attention"}', h.refunds_needing_attention),
       ('order_timeout_oldest_refund_owed_seconds', '{}', h.oldest_refund_owed_seconds),
       ('order_timeout_voids_due', '{}', h.voids_due),
       ('order_timeout_leases', '{"of": "refund"}', h.refunds_processing),
       ('order_timeout_leases', '{"of": "void"}', h.voids_processing),
       ('order_timeout_attention', '{"kind": "needs_attention"}', h.refunds_needing_attention),
       ('order_timeout_attention', '{"kind": "held"}', h.payments_held),
       ('order_timeout_attention', '{"kind": "orphan"}', h.payments_orphaned),
       ('order_timeout_attention', '{"kind": "set_aside"}', h.orders_set_aside + h.refunds_set_aside),
       ('order_timeout_attention', '{"kind": "conflict"}', h.conflicts_open),
       ('order_timeout_attention', '{"kind": "void"}', h.voids_needing_attention),
       ('order_timeout_attention', '{"kind": "link"}', h.links_waiting),
       ('order_timeout_attention', '{"kind": "hook"}', h.hooks_waiting),
       ('order_timeout_last_sweep_age_seconds', '{}', h.last_sweep_age_seconds),
       ('order_timeout_last_sweep_lag_seconds', '{}', h.last_sweep_lag_seconds)) m (name, labels, value)
UNION ALL
SELECT 'order_timeout_owed', jsonb_build_object('currency', o.key), o.value::double precision
  FROM h CROSS JOIN LATERAL jsonb_each_text(h.owed_by_currency) o
UNION ALL
SELECT m.name, jsonb_build_object('consumer', c.consumer), m.value
  FROM consumer_positions c CROSS JOIN LATERAL _consumer_backlog(c.consumer, 1000) b CROSS JOIN LATERAL (VALUES
       ('order_timeout_consumer_unread', b.unread::double precision),
       ('order_timeout_consumer_oldest_unread_seconds', coalesce(extract(epoch FROM clock_timestamp() - b.oldest_unread), 0))) m (name, value)
 WHERE c.consumer <> ''
UNION ALL
SELECT m.name, '{}', m.value
  FROM (SELECT sweep_id, max_lag FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w CROSS JOIN LATERAL (VALUES
       ('order_timeout_sweeps_total', w.sweep_id::double precision),
       ('order_timeout_closing_lag_seconds', extract(epoch FROM w.max_lag))) m (name, value)
UNION ALL
SELECT 'order_timeout_events_total', jsonb_build_object('type', t.type), sum(t.events)::double precision
  FROM event_totals t GROUP BY t.type
UNION ALL
SELECT 'order_timeout_event_amount_total', jsonb_build_object('type', t.type, 'currency', t.currency), t.amount::double precision
  FROM event_totals t WHERE t.currency <> ''
UNION ALL
SELECT m.name, jsonb_build_object('table', c.relname), m.value
  FROM pg_class c CROSS JOIN LATERAL (VALUES
       ('order_timeout_table_bytes', pg_total_relation_size(c.oid)::double precision),
       ('order_timeout_table_rows', pg_stat_get_live_tuples(c.oid)),
       ('order_timeout_table_dead_rows', pg_stat_get_dead_tuples(c.oid))) m (name, value)
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind = 'r')
SELECT s.name, s.labels, s.value, f.help, f.type
  FROM samples s LEFT JOIN (VALUES
       ('order_timeout_ok', 'gauge', '1 if health finds no problem'),
       ('order_timeout_clock_seconds', 'gauge', 'the time of the database'),
       ('order_timeout_orders', 'gauge', 'open orders by state, counted to 10000 of all states'),
       ('order_timeout_orders_due_soon', 'gauge', 'pending orders that fall due within five minutes, counted to 10000'),
       ('order_timeout_orders_overdue', 'gauge', 'open orders that are past their deadline, counted to 10000'),
       ('order_timeout_oldest_overdue_seconds', 'gauge', 'how long the oldest overdue order is past its deadline; 0 if none is'),
       ('order_timeout_refunds', 'gauge', 'open refunds by state, counted to 10000 that are due and 10000 that need attention'),
       ('order_timeout_oldest_refund_owed_seconds', 'gauge', 'the age of the oldest of these refunds; 0 if none is open'),
       ('order_timeout_owed', 'gauge', 'money owed and not yet back, in minor units, by currency: the sum of these refunds'),
       ('order_timeout_voids_due', 'gauge', 'voids that are due, wait for their next attempt, or are with a worker, counted to 10000'),
       ('order_timeout_leases', 'gauge', 'refunds and voids that workers have, counted to 10000'),
       ('order_timeout_attention', 'gauge', 'rows of view attention by kind, each counted to 10000; kind sweeper is order_timeout_last_sweep_age_seconds'),
       ('order_timeout_last_sweep_age_seconds', 'gauge', 'since when the newest sweep has not written its row'),
       ('order_timeout_last_sweep_lag_seconds', 'gauge', 'how far the newest sweep was behind the clock then'),
       ('order_timeout_closing_lag_seconds', 'gauge', 'how late the latest closing of the newest sweep was'),
       ('order_timeout_sweeps_total', 'counter', 'sweeps that have begun'),
       ('order_timeout_consumer_unread', 'gauge', 'events that a consumer has not acknowledged, among the first 1000 of all types'),
       ('order_timeout_consumer_oldest_unread_seconds', 'gauge', 'the age of the first of them, or of the last of these 1000 if none is of its types; 0 if nothing is unread'),
       ('order_timeout_events_total', 'counter', 'events by type, since the first sweep'),
       ('order_timeout_event_amount_total', 'counter', 'the sum of the amounts in these events, in minor units, by type and currency'),
       ('order_timeout_table_bytes', 'gauge', 'the size of a table with its indexes'),
       ('order_timeout_table_rows', 'gauge', 'the rows of a table, estimated'),
       ('order_timeout_table_dead_rows', 'gauge', 'rows of a table that vacuum has not removed yet, estimated')) f (name, type, help) ON f.name = s.name
 WHERE s.value IS NOT NULL;
COMMENT ON VIEW metrics IS
'What a monitoring system records: name, labels, value, help and type (counter or gauge) in the conventions of Prometheus. A few milliseconds, so that it can be read every 15 seconds.';
