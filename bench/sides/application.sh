# shellcheck shell=bash disable=SC2034,SC2154
# A program that keeps to the rules itself: a transaction with a lock, a check of
# the state, and a statement a row. What it leaves out: a webhook that comes twice
# is an error, orders and payments that race are not reconciled, nothing is late.

application_title='application, one transaction'
application_leaves='repeats (a payment told twice is an error), orders and payments that race, late and surplus payments'

application_pay() {
	clients "$(pay_each)" <<-'SQL'
		BEGIN;
		SELECT state = 'pending' AND currency = 'EUR' AND amount = paid + 1999 AS settles, expires_at FROM order_timeout.orders WHERE order_id = :id FOR UPDATE \gset
		\if :settles
		INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, received_at, disposition) VALUES ('stripe', :id, :id, 1999, 'EUR', clock_timestamp(), 'applied');
		UPDATE order_timeout.orders SET state = 'paid', paid = paid + 1999, settled_at = clock_timestamp() WHERE order_id = :id;
		INSERT INTO order_timeout.events (aggregateid, type, payload, created_at) VALUES (:id, 'order.paid', jsonb_build_object('state', 'paid', 'amount', 1999, 'currency', 'EUR', 'paid', 1999, 'refund_pending', 0, 'expires_at', :expires_at::timestamptz, 'gateway', 'stripe', 'payment_ref', :id::text, 'payment_amount', 1999), clock_timestamp());
		\endif
		COMMIT;
	SQL
}

application_create() {
	clients "$(create_each)" <<-'SQL'
		BEGIN;
		INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at) VALUES (:id, 'default', 'pending', 1999, 'EUR', clock_timestamp() + interval '30 minutes', clock_timestamp());
		INSERT INTO order_timeout.events (aggregateid, type, payload, created_at) VALUES (:id, 'order.created', jsonb_build_object('state', 'pending', 'amount', 1999, 'currency', 'EUR', 'paid', 0, 'refund_pending', 0, 'expires_at', clock_timestamp() + interval '30 minutes'), clock_timestamp());
		COMMIT;
	SQL
}
