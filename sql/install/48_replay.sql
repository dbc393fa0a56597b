-- What the engine would have done with orders that were not its own.

CREATE FUNCTION replay_orders(
    orders_query text, policy text DEFAULT 'default', pay_within interval DEFAULT NULL,
    sweep_lag interval DEFAULT '0', report_lag interval DEFAULT '0')
RETURNS TABLE (order_id text, happened_at timestamptz, outcome text, state text, currency text,
               paid bigint, owed bigint, held bigint)
AS 'MODULE_PATHNAME', 'ot_replay_orders' LANGUAGE C STABLE;
COMMENT ON FUNCTION replay_orders(text, text, interval, interval, interval) IS
'What would have become of these orders: a row for each payment, each closing, and each order that is still open or cost nothing, in order of order_id. Writes nothing. orders_query: a SELECT with the columns order_id, created_at, amount, currency, paid_at, paid_amount (null for never paid; a further payment of an order is a row of its own; amounts in minor units), run as the caller. pay_within: instead of the policy''s. sweep_lag: how long after its deadline an order closes. report_lag: how long after paid_at a payment is reported. paid is what the payment brought, owed what had to go back from then on, held what waits for the operator. Outcomes: paid, partial, surplus, late, reopened, held (of payments), expired, pending (of orders). Errors: OT008 no such policy, 22023 and 22004 with the number of the row, and what the query raises. Locks: none.';
