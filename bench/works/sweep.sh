# shellcheck shell=bash disable=SC2034,SC2154
# Closing many orders that are due at once, and nothing else in the tables.

sweep_title="sweep of $(millions "$due") due orders"
sweep_unit='orders/s'
sweep_wal='WAL bytes an expired order'
sweep_syncs='off on'
sweep_window=$((due / 20000 + 1)) # seconds; then what it took last time, and a bit

sweep_count() { echo "$due"; }
sweep_prepare() { fresh empty; }
sweep_before() {
	query -c 'TRUNCATE order_timeout.orders, order_timeout.events' -c CHECKPOINT \
		-c "SELECT bench.load_pending($first, $count, true)" -c 'VACUUM ANALYZE order_timeout.orders' >/dev/null
}
sweep_after() {
	if [[ $side == order_timeout ]]; then
		sweep_window=$(awk -v count="$count" -v speed="$speed" 'BEGIN {print 1.2 * count / speed + 0.2}')
	fi
}
