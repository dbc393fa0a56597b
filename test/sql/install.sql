-- Installing and removing the extension.
\set SHOW_CONTEXT never

-- A schema of this name that is somebody else's: its owner could replace what the functions call.
CREATE ROLE regress_order_timeout_stranger;
CREATE SCHEMA order_timeout AUTHORIZATION regress_order_timeout_stranger;
CREATE EXTENSION order_timeout;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) AS extensions FROM pg_extension WHERE extname = 'order_timeout';
DROP SCHEMA order_timeout;
DROP ROLE regress_order_timeout_stranger;

-- What the database holds without it.
CREATE VIEW catalog AS
          SELECT 'pg_class' AS catalog, oid, relname::text AS name FROM pg_class
UNION ALL SELECT 'pg_proc', oid, proname FROM pg_proc
UNION ALL SELECT 'pg_type', oid, typname FROM pg_type
UNION ALL SELECT 'pg_namespace', oid, nspname FROM pg_namespace
UNION ALL SELECT 'pg_trigger', oid, tgname FROM pg_trigger
UNION ALL SELECT 'pg_constraint', oid, conname FROM pg_constraint
UNION ALL SELECT 'pg_event_trigger', oid, evtname FROM pg_event_trigger;
CREATE TABLE before (catalog text, oid oid, name text);
INSERT INTO before SELECT * FROM catalog;

CREATE EXTENSION order_timeout;
SELECT policy, pay_within, late_rule, on_late, refund_max_attempts, refund_settle_within, orphan_after
  FROM order_timeout.policies;
SELECT outcome, state FROM order_timeout.create_order('order-1', 100, 'EUR');

-- Every function says in a comment what it answers and what it locks, every view what it shows, every table what a row is.
SELECT p.oid::regprocedure::text AS undescribed FROM pg_proc p
 WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.prorettype <> 'trigger'::regtype
   AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT n.nspname FROM pg_namespace n WHERE n.nspname = 'order_timeout' AND obj_description(n.oid, 'pg_namespace') IS NULL;

-- Nothing is PUBLIC's: no routine, table, view, sequence or the schema itself.
SELECT p.oid::regprocedure::text AS public_may FROM pg_proc p
 WHERE p.pronamespace = 'order_timeout'::regnamespace
   AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
UNION ALL
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee = 0)
UNION ALL
SELECT n.nspname FROM pg_namespace n
 WHERE n.nspname = 'order_timeout' AND EXISTS (SELECT FROM aclexplode(n.nspacl) WHERE grantee = 0);

-- Dropped, nothing is left of it, the schema included.
DROP EXTENSION order_timeout;
SELECT catalog, name FROM catalog EXCEPT SELECT catalog, name FROM before ORDER BY 1, 2;

-- Created again in the same session: what the session had prepared for the old tables is not used for the new ones.
CREATE EXTENSION order_timeout;
SELECT outcome, state FROM order_timeout.create_order('order-1', 100, 'EUR');
SELECT outcome, state FROM order_timeout.record_payment('order-1', 'bank', 'pay-1', 100, 'EUR');
SELECT count(*) AS violations FROM order_timeout.funds_violations();
DROP EXTENSION order_timeout;
DROP TABLE before;
DROP VIEW catalog;
