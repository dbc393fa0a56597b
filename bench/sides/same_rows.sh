# shellcheck shell=bash disable=SC2034,SC2154
# The rows that a paid order needs, and nothing else: what the WAL must hold
# however it is done. No lock, no check, no answer about what was found.

same_rows_title='bare statements for the same rows'
same_rows_leaves='every check: what is late, short, too much, in another currency or told twice it would record as paid'

same_rows_pay() {
	clients "$(pay_each)" <<-'SQL'
		BEGIN;
		UPDATE order_timeout.orders SET state = 'paid', paid = paid + 1999, settled_at = clock_timestamp() WHERE order_id = :id RETURNING expires_at \gset
		INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition) VALUES ('stripe', :id, :id, 1999, 'EUR', clock_timestamp(), 'applied');
		INSERT INTO order_timeout.events (aggregateid, type, payload, created_at) VALUES (:id, 'order.paid', jsonb_build_object('state', 'paid', 'amount', 1999, 'currency', 'EUR', 'paid', 1999, 'refund_pending', 0, 'expires_at', :expires_at::timestamptz, 'gateway', 'stripe', 'payment_ref', :id::text, 'payment_amount', 1999), clock_timestamp());
		COMMIT;
	SQL
}
