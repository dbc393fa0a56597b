-- What an operator looks at.

CREATE VIEW health AS
SELECT o.pending,
       o.overdue,
       o.oldest_overdue,
       r.refunds_by_state,
       m.owed_by_currency,
       r.oldest_refund_owed,
       (SELECT count(*) FROM refunds x WHERE x.settled_at IS NULL AND x.state = 'needs_attention') AS refunds_needing_attention,
       (SELECT count(*) FROM payments p WHERE p.disposition = 'held') AS payments_held,
       (SELECT count(*) FROM payments p
         WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending) AS payments_orphaned,
       (SELECT count(*) FROM set_aside s JOIN orders so ON so.order_id = s.order_id AND so.settled_at IS NULL
                                                                   AND so.closes_at <= s.since) AS orders_set_aside,
       (SELECT count(*) FROM conflicts c WHERE c.resolved_at IS NULL) AS conflicts_open,
       w.active_at AS last_sweep,
       w.behind AS last_sweep_lag,
       (SELECT count(*) FROM set_aside_refunds s JOIN refunds x ON x.refund_ref = s.refund_ref
                                                               AND x.next_attempt_at = s.due_at) AS refunds_set_aside,
       o.authorized,
       o.closing,
       (SELECT count(*) FROM attempts v WHERE v.next_attempt_at IS NOT NULL) AS voids_due,
       (SELECT count(*) FROM attempts v WHERE v.attention_at IS NOT NULL) AS voids_needing_attention
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
             count(*) FILTER (WHERE closes_at <= clock_timestamp()) AS overdue,
             clock_timestamp() - min(closes_at) FILTER (WHERE closes_at <= clock_timestamp()) AS oldest_overdue,
             count(*) FILTER (WHERE state = 'authorized') AS authorized,
             count(*) FILTER (WHERE state = 'closing') AS closing
        FROM orders WHERE settled_at IS NULL) o
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.state, s.n), '{}') AS refunds_by_state,
                   clock_timestamp() - min(s.oldest) AS oldest_refund_owed
              FROM (SELECT state, count(*) AS n, min(created_at) AS oldest
                      FROM refunds WHERE settled_at IS NULL GROUP BY state) s) r
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.currency, s.owed), '{}') AS owed_by_currency
              FROM (SELECT currency, sum(amount) AS owed
                      FROM refunds WHERE settled_at IS NULL GROUP BY currency) s) m
LEFT JOIN (SELECT active_at, behind FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w ON true;
COMMENT ON VIEW health IS
'One row: pending and overdue orders, the oldest overdue order''s age, open refunds by state, money owed by currency, the age of the oldest refund owed, what needs the operator, when the last sweep last wrote its row and how far behind it was.';

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
  FROM consumer_positions p CROSS JOIN LATERAL _consumer_backlog(p.consumer) b;
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
