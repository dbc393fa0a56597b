# shellcheck shell=bash disable=SC2034,SC2154
# The extension, called as an application calls it. As a peer it is the control.

order_timeout_title='order_timeout'

order_timeout_pay() {
	clients "$(pay_each)" <<-'SQL'
		SELECT * FROM order_timeout.record_payment(:id, 'stripe', :id, 1999, 'EUR');
	SQL
}

order_timeout_create() {
	clients "$(create_each)" <<-'SQL'
		SELECT * FROM order_timeout.create_order(:id, 1999, 'EUR');
	SQL
}

order_timeout_inside() {
	statement "$count" <<-'SQL'
		SELECT count(r.outcome) FROM order_timeout.orders x,
			LATERAL order_timeout.record_payment(x.order_id, 'stripe', x.order_id, x.amount, x.currency) r
		WHERE x.order_id BETWEEN :'first' AND :'last';
	SQL
}

order_timeout_load_before() {
	query >/dev/null <<-'SQL'
		SELECT order_timeout.link_table('bench.shop', 'id', 'status', '{"pending": "new"}', amount_column => 'total',
			currency_column => 'currency', deadline_column => 'pay_until', track => true);
	SQL
}

order_timeout_load() { load_rows; }

# The sweeper works until its time is up; a window a little longer than the work
# saves waiting, and does not count.
order_timeout_sweep() {
	until_closed "CALL order_timeout.sweep('$sweep_window seconds')"
}

order_timeout_refund() {
	workers order_timeout
}
