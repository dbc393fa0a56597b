-- The proof, the history, and the sweeper.

CREATE FUNCTION funds(order_id text,
    OUT state text, OUT amount bigint, OUT currency text, OUT paid bigint, OUT refunded bigint,
    OUT refund_pending bigint, OUT held bigint, OUT kept bigint, OUT balanced boolean)
AS 'MODULE_PATHNAME', 'ot_funds' LANGUAGE C STABLE;
COMMENT ON FUNCTION funds(text) IS
'What became of an order''s money (minor units), added up from its payments and refunds; balanced says that the rows agree with each other and with the funds identity. Errors: OT001 no such order, 22003, 22023, 22004. Locks: none.';

CREATE FUNCTION funds_violations(since timestamptz DEFAULT NULL)
RETURNS TABLE (kind text, order_id text, gateway text, payment_ref text, refund_ref text, problem text)
AS 'MODULE_PATHNAME', 'ot_funds_violations_2' LANGUAGE C STABLE;
COMMENT ON FUNCTION funds_violations(timestamptz) IS
'Every row and sum that disagrees, in the whole database; empty is the proof that all money is accounted for. Reads all orders, payments and refunds in one snapshot. since: only orders with an event since then. Errors: 22023. Locks: none.';

CREATE FUNCTION history(order_id text) RETURNS SETOF events
AS 'MODULE_PATHNAME', 'ot_history' LANGUAGE C STABLE;
COMMENT ON FUNCTION history(text) IS
'The events of one order, in order; also of an order_id that only orphan payments have. Errors: 22023, 22004. Locks: none.';

CREATE FUNCTION forget_order(order_id text, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_forget_order' LANGUAGE C;
COMMENT ON FUNCTION forget_order(text) IS
'Empties what people wrote about a settled order: metadata, details, notes, reasons, errors and worker names of the order, its payments, refunds, conflicts and events. The money''s rows and the proof stay. Safe to repeat. Outcome: forgotten. Errors: OT001 no such order, OT005 it is open, or money of it is owed or held, 22023, 22004. Locks: the order, then its payments, refunds, events.';

CREATE PROCEDURE sweep(
    run_for interval DEFAULT '1 minute', batch_size integer DEFAULT 1000, poll_interval interval DEFAULT '100 ms')
AS 'MODULE_PATHNAME', 'ot_sweep_procedure' LANGUAGE C;
COMMENT ON PROCEDURE sweep(interval, integer, interval) IS
'Closes due orders, oldest deadline first, in batches of batch_size with a commit each; reminds of orders that fall due soon, takes lapsed leases back, refunds old orphans, applies stray ones. Works for run_for, looking for work at each deadline and at least every poll_interval; ends before statement_timeout would. Called alone: 2D000 inside a transaction block or a function. Errors: 22023. Locks: the orders of a batch (SKIP LOCKED), their payments; none while it waits.';

CREATE FUNCTION sweep_once(max_orders integer DEFAULT 1000,
    OUT expired bigint, OUT failed bigint, OUT leases_returned bigint)
AS 'MODULE_PATHNAME', 'ot_sweep_function' LANGUAGE C;
COMMENT ON FUNCTION sweep_once(integer) IS
'One batch of sweep inside the caller''s transaction: up to max_orders due orders, and as many reminders, lapsed leases and orphans. Answers how many orders expired, how many failed and were set aside, how many leases were taken back. Errors: 22023. Locks: the orders (SKIP LOCKED), their payments; the refunds taken back (SKIP LOCKED).';
