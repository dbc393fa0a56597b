-- How long a statement takes, in a database of its own, which it fills. Run nothing else meanwhile.
--
--   psql -X -d empty -v payments=10000000 -v lines=1000000 -f bench/statements.sql
\set ON_ERROR_STOP on
CREATE EXTENSION IF NOT EXISTS order_timeout;
SET synchronous_commit = off;
SET client_min_messages = warning;

-- One payment a statement's time / lines; those after its end are of later days. Orders as payments leave them.
INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, paid, expires_at, created_at, settled_at)
SELECT 'o' || n, 'default', 'paid', 1000, 'EUR', 1000, now(), now() - interval '1 hour', now() FROM generate_series(0, :payments - 1) n;
INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, paid_at, received_at, disposition)
SELECT 'stripe', 'ch_' || n, 'o' || n, 1000, 'EUR', t, t, 'applied'
  FROM (SELECT n, '2026-05-10+00'::timestamptz + n * interval '1 day' / :lines AS t FROM generate_series(0, :payments - 1) n) p;
ANALYZE order_timeout.payments;

-- One in a thousand is not in the file.
CREATE TABLE file AS
SELECT 0::bigint AS n, 'balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,description,charge_id,'
                       'payment_intent_id,payment_metadata[order_id],refund_metadata[refund_ref]' AS line
UNION ALL
SELECT n + 1, format('txn_%s,%s,eur,10.00,0.55,9.45,charge,ch_%s,"Two, mugs",ch_%s,pi_%s,o%s,', n,
                     to_char('2026-05-10'::timestamp + n * interval '1 day' / :lines, 'YYYY-MM-DD HH24:MI:SS'), n, n, n, n)
  FROM generate_series(0, :lines - 1) n WHERE n % 1000 <> 7;

\timing on
\echo load
SELECT * FROM order_timeout.load_statement('stripe', 'day', order_timeout.statement_layout('stripe'),
    (SELECT string_agg(line, E'\n' ORDER BY n) FROM file), '2026-05-10+00', '2026-05-11+00');
\echo check
SELECT problem, count(*) FROM order_timeout.check_statement('stripe', 'day', '0') GROUP BY 1;
\echo totals
SELECT currency, lines, total, agreed, differing FROM order_timeout.statement_totals('stripe', 'day');
\echo apply: a thousand payments that are not here
DELETE FROM order_timeout.payments WHERE payment_ref IN (SELECT 'ch_' || n FROM generate_series(50, :lines - 1, :lines / 1000) n);
CALL order_timeout.apply_statement('stripe', 'day', 1000);
SELECT problem, count(*) FROM order_timeout.check_statement('stripe', 'day', '0') GROUP BY 1;
