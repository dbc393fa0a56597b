# shellcheck shell=bash disable=SC2034,SC2154
# The sweeper that people write. It owes nothing back: an order that was paid in
# part would break the funds identity here.

batch_loop_title='plpgsql batch loop'
batch_loop_leaves='part payments (it gives none back), orders whose closing fails (one stops all), leases, orphans, waiting for the next deadline'

batch_loop_setup() {
	query <<-'SQL'
		CREATE PROCEDURE bench.sweep(batch_size integer) LANGUAGE plpgsql AS $$
		DECLARE
			closed bigint;
		BEGIN
			LOOP
				-- An array and not a join: with a table of this size a join may read all of it for each batch.
				-- Where the rows lie is known and stays so, for they are locked: faster than by their key.
				WITH closed AS (
					UPDATE order_timeout.orders o
					SET state = 'expired', settled_at = clock_timestamp(), close_reason = 'deadline'
					WHERE o.ctid = ANY (ARRAY(
						SELECT d.ctid FROM order_timeout.orders d
						WHERE d.settled_at IS NULL AND d.closes_at <= now()
						ORDER BY d.closes_at LIMIT batch_size FOR NO KEY UPDATE SKIP LOCKED))
					RETURNING o.order_id, o.state, o.amount, o.currency, o.paid, o.refund_pending, o.expires_at, o.close_reason, o.settled_at
				)
				INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
				SELECT c.order_id, 'order.expired', jsonb_build_object('state', c.state, 'amount', c.amount,
					'currency', c.currency, 'paid', c.paid, 'refund_pending', c.refund_pending,
					'expires_at', c.expires_at, 'reason', c.close_reason), c.settled_at
				FROM closed c;
				GET DIAGNOSTICS closed = ROW_COUNT;
				COMMIT;
				EXIT WHEN closed = 0;
			END LOOP;
		END $$;
	SQL
}

batch_loop_sweep() { until_closed 'CALL bench.sweep(1000)'; }
