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
