\echo Use "ALTER EXTENSION order_timeout UPDATE TO '0.2.0'" to load this file. \quit
-- From 0.1.0 to 0.2.0. Every change of an object in sql/install/ has its counterpart here; test/tap/upgrade.pl compares an
-- upgraded database with a fresh one. README.md in this folder says how each kind of change is written. In short: IF NOT
-- EXISTS for tables and indexes, new columns last, CREATE OR REPLACE for bodies, DROP and CREATE for signatures with the
-- rights kept, GRANT and REVOKE on nothing but what this script creates.
SET LOCAL search_path TO order_timeout, pg_temp;

-- What the schema is for, and what a row of each table is.
COMMENT ON SCHEMA order_timeout IS
'Orders with a deadline, their payments and refunds. The tables are written through the functions only, policies apart.';
COMMENT ON TABLE policies IS
'A named set of rules that orders follow: how long they wait for payment, what becomes of late payments, how refunds are tried again.';
COMMENT ON TABLE orders IS
'An order that must be paid by expires_at: its state, and the sums of what was paid, returned, is owed back and is held.';
COMMENT ON TABLE payments IS
'A payment that a gateway received, once for each (gateway, payment_ref), and what became of it.';
COMMENT ON TABLE refunds IS
'An obligation to give back money of one payment: its amount, its state, and who works on it until when. Rows are never deleted.';
COMMENT ON TABLE events IS
'Something that happened to an order, written in the same transaction; an outbox for other systems.';
COMMENT ON TABLE conflicts IS
'What a gateway said that contradicts what is recorded. Nothing was overwritten; a person looks and calls resolve_conflict.';
COMMENT ON TABLE set_aside IS
'An order that the sweeper could not close, and why; it is left alone until retry_at.';
COMMENT ON TABLE sweeps IS
'A run of the procedure sweep: when it worked, what it did, how far behind it was. Kept for 7 days.';
