# shellcheck shell=bash disable=SC2034,SC2154
# Whether orders that are long settled slow the sweep down: the same due orders
# in a database with many of them and in one with none.

settled_syncs=off

describe_settled() {
	note measure settled cost "cost of a sweep per due order, $(millions "$settled") settled orders in the table" 'µs'
	note side none 'none of them'
}

settled_databases() {
	query -d postgres -c 'SET client_min_messages = warning' -c 'DROP DATABASE IF EXISTS bench' \
		-c 'CREATE DATABASE bench TEMPLATE empty' -c 'CREATE DATABASE settled TEMPLATE empty'
	query -d settled -c "SELECT bench.load_history($settled)" -c 'VACUUM ANALYZE' -c CHECKPOINT >/dev/null
}

# settled_cost DATABASE: sets cost, microseconds per due order of one sweep. What the last
# one left dead is vacuumed before, as autovacuum would have done.
settled_cost() {
	local PGDATABASE=$1 speed
	export PGDATABASE
	numbers "$count"
	[[ $1 != bench ]] || query -c 'TRUNCATE order_timeout.orders, order_timeout.events'
	query -c "SELECT bench.load_pending($first, $count, true)" \
		-c 'VACUUM (ANALYZE, INDEX_CLEANUP ON) order_timeout.orders' -c CHECKPOINT >/dev/null
	speed=$(until_closed "CALL order_timeout.sweep('$((count / 50000 + 1)) seconds')")
	cost=$(awk -v speed="$speed" 'BEGIN {print 1000000 / speed}')
}

run_settled() {
	local count=$settled_due pair own other cost first last role
	settled_databases
	settled_cost bench
	settled_cost settled
	for ((pair = 1; pair <= pairs; pair++)); do
		ot_say "$SECONDS s: settled, pair $pair" >&2
		for role in $(in_turn); do
			if [[ $role == own ]]; then settled_cost settled; own=$cost; else settled_cost bench; other=$cost; fi
		done
		settled_cost bench
		figure cost none "$own" "$other"
		figure cost order_timeout "$cost" "$other"
	done
	query -d postgres -c 'DROP DATABASE settled'
}
