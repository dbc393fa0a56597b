# shellcheck shell=bash disable=SC2034,SC2154
# Whether orders that wait for something else slow the sweep down: the same due
# orders in a database with many that are closing or were reminded of, and in
# one with none.

waiting_syncs=off

describe_waiting() {
	note measure waiting cost "cost of a sweep per due order, $(millions "$waiting") orders closing, $(millions "$waiting") reminded of, $(millions "$((waiting * 10))") attempts of the past" 'µs'
	note side none 'none of them'
}

waiting_databases() {
	query -d postgres -c 'SET client_min_messages = warning' -c 'DROP DATABASE IF EXISTS bench' \
		-c 'CREATE DATABASE bench TEMPLATE empty' -c 'CREATE DATABASE waiting TEMPLATE empty'
	query -d waiting -c "SELECT bench.load_waiting($waiting)" -c 'VACUUM ANALYZE' -c CHECKPOINT >/dev/null
}

run_waiting() {
	local count=$settled_due pair own other cost first last role
	waiting_databases
	settled_cost bench
	settled_cost waiting
	for ((pair = 1; pair <= pairs; pair++)); do
		ot_say "$SECONDS s: waiting, pair $pair" >&2
		for role in $(in_turn); do
			if [[ $role == own ]]; then settled_cost waiting; own=$cost; else settled_cost bench; other=$cost; fi
		done
		settled_cost bench
		figure cost none "$own" "$other"
		figure cost order_timeout "$cost" "$other"
	done
	query -d postgres -c 'DROP DATABASE waiting'
}
