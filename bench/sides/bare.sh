# shellcheck shell=bash disable=SC2034,SC2154
# Only the statement that changes the order's state: no payment, no event, no
# answer about what was found. Less cannot be written.

bare_title='bare statements'
bare_writes=orders
bare_leaves='the payment, the event, the lock before the check, every answer; a sweep in one statement also locks out payments until its end'

bare_pay() {
	clients "$(pay_each)" <<-'SQL'
		UPDATE order_timeout.orders SET state = 'paid', paid = amount, settled_at = clock_timestamp() WHERE order_id = :id AND state = 'pending';
	SQL
}

bare_create() {
	clients "$(create_each)" <<-'SQL'
		INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, expires_at, created_at) VALUES (:id, 'default', 'pending', 1999, 'EUR', clock_timestamp() + interval '30 minutes', clock_timestamp());
	SQL
}

bare_inside() {
	statement "$count" <<-'SQL'
		UPDATE order_timeout.orders SET state = 'paid', paid = amount, settled_at = clock_timestamp()
		WHERE order_id BETWEEN :'first' AND :'last' AND state = 'pending';
	SQL
}

bare_sweep() {
	until_closed "UPDATE order_timeout.orders SET state = 'expired', settled_at = clock_timestamp(), close_reason = 'deadline'
		WHERE settled_at IS NULL AND closes_at <= now()"
}
