# shellcheck shell=bash disable=SC2034,SC2154
# A table of a shop that is filled by one COPY, and each row becomes an order.

load_title="COPY of $(millions "$load") rows into a table of the shop"
load_unit='rows/s'
load_syncs='off'

load_count() { echo "$load"; }
load_prepare() { fresh empty; }
load_before() {
	query -c "SELECT order_timeout.unlink_table('bench.shop')" -c 'SET client_min_messages = warning' \
		-c 'DROP TRIGGER IF EXISTS create_order ON bench.shop' \
		-c 'TRUNCATE bench.shop, order_timeout.orders, order_timeout.events' \
		-c "COPY (SELECT i, 'new', 19.99, 'EUR', now() + interval '1 day' FROM generate_series($first, $last) i) TO '$tmp/rows'" \
		-c CHECKPOINT >/dev/null
}

# load_rows: COPY, until it has committed.
load_rows() { statement "$count" <<<"COPY bench.shop FROM '$tmp/rows';"; }
