# shellcheck shell=bash disable=SC2034,SC2154
# Closing many orders that are due at once, and nothing else in the tables.

sweep_title="sweep of $due due orders"
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

# until_closed SQL: runs it until no order is open; prints orders a second, from
# the start to the commit of the last closing, whatever SQL does after it.
until_closed() {
	local begun
	begun=$(query -c 'SELECT clock_timestamp()')
	while [[ $(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL') != 0 ]]; do
		query -c "$1"
	done
	query -v begun="$begun" -v count="$count" <<-'SQL'
		SELECT :count / extract(epoch FROM max(pg_xact_commit_timestamp(xmin)) - :'begun')
		FROM (SELECT xmin FROM order_timeout.orders GROUP BY xmin) s
	SQL
}
