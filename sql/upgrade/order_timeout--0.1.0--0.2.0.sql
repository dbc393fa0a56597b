\echo Use "ALTER EXTENSION order_timeout UPDATE TO '0.2.0'" to load this file. \quit
-- From 0.1.0 to 0.2.0. Afterwards the objects are those that the install script makes: test/tap/upgrade.pl compares them,
-- so every change of an object in sql/install/ has its counterpart here.
--
-- How to write it:
-- * Tables and indexes: CREATE TABLE IF NOT EXISTS, CREATE INDEX IF NOT EXISTS. A plain form breaks under Citus.
-- * Columns: at the end of the table, here and in the install script, with a DEFAULT that is a constant, so that no table is
--   written anew. The rows that are there must satisfy a new CHECK.
-- * Bodies: CREATE OR REPLACE with the whole function. It keeps the rights and the comment.
-- * Signatures: DROP and CREATE. Rights and comment go with the old one: write the comment again, REVOKE from PUBLIC, and give
--   each role what it held (a DO block over aclexplode(proacl), before the DROP; every dependent view has to go first).
-- * New objects: COMMENT ON, REVOKE ALL ... FROM PUBLIC, and pg_extension_config_dump() for a table and for its sequence.
-- * Rights: REVOKE and GRANT only on what this script creates. Each makes the object's present rights, those of the users'
--   roles too, the extension's own, which pg_dump leaves out: after a restore the roles would have lost them. So never
--   REVOKE ... ON ALL ... IN SCHEMA here.
-- * A C function that a released script names stays in the library, also when no newer script does.
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
