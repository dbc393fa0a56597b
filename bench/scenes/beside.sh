# shellcheck shell=bash disable=SC2034,SC2154
# What payments notice of a sweep that clears many orders. A closed loop would
# measure how many processes share the cores; so payments come at a fixed rate,
# a third of what the extension can take, and latency counts from when they were due.

beside_syncs=off

describe_beside() {
	note measure beside p99 "p99 of record_payment at 30 % load, while $(millions "$overdue") overdue are cleared" ms
	note side alone 'nothing beside it'
}

# Sets rate: 30 % of the best of three runs.
beside_rate() {
	local count=$((8 * each)) first last speeds=()
	while ((${#speeds[@]} < 3)); do
		numbers "$count"
		pay_before
		speeds+=("$(order_timeout_pay)")
	done
	rate=$(printf '%s\n' "${speeds[@]}" | sort -n | awk '{best = $1} END {printf "%d", 0.3 * best}')
}

# beside_sql SIDE: what clears the orders.
beside_sql() {
	case $1 in
	order_timeout) echo "CALL order_timeout.sweep('$((overdue / 50000 + 1)) seconds')" ;;
	batch_loop) echo 'CALL bench.sweep(1000)' ;;
	esac
}

# beside_payments: record_payment at the rate, each with a line in a log, until it is killed.
beside_payments() {
	cat >"$tmp/script" <<-'SQL'
		\set n :n + 1
		\set id :payable + :client_id * :each + permute(:n - 1, :each, 42)
		SELECT * FROM order_timeout.record_payment(:id, 'stripe', :id, 1999, 'EUR');
	SQL
	exec pgbench -n -M prepared -c 8 -j 2 -T 3600 --rate="$rate" -l --log-prefix="$tmp/beside-log" \
		-D n=0 -D each="$((stock / 8))" -D payable="$payable" -f "$tmp/script" >"$tmp/pgbench.out" 2>&1
}

# beside_latencies FROM TO: milliseconds of the payments that ended between, sorted.
beside_latencies() {
	cat "$tmp"/beside-log.* | awk -v from="$1" -v to="$2" '{at = $5 + $6 / 1e6} at >= from && at <= to {print $3 / 1000}' | sort -n
}

beside_epoch() { query -c "SELECT extract(epoch FROM coalesce(nullif('${1:-}', '')::timestamptz, clock_timestamp()))"; }

# beside_once SIDE: sets p99, and the time from the start to the last closing.
beside_once() {
	local first last count=$overdue payable stock=$((rate * (overdue / 15000 + 8) / 8 * 8)) pgbench begun ended sweeper=''
	numbers "$stock"
	payable=$first
	query -c "SELECT bench.load_pending($first, $stock, false)" >/dev/null
	numbers "$overdue"
	query -c "SELECT bench.load_pending($first, $overdue, true)" \
		-c 'VACUUM ANALYZE order_timeout.orders' -c CHECKPOINT >/dev/null
	rm -f "$tmp"/beside-log.*
	beside_payments &
	pgbench=$!
	sleep 1
	begun=$(beside_epoch)
	if [[ $1 == alone ]]; then
		sleep 2
		ended=$(beside_epoch)
	else
		until_closed "$(beside_sql "$1")" >/dev/null
		ended=$(beside_epoch "$(last_closing)")
	fi
	# pgbench writes its log in blocks: what belongs to the sweep is out by then.
	sleep 1
	kill "$pgbench" 2>/dev/null || { cat "$tmp/pgbench.out" >&2; ot_die 'pgbench ended too early'; }
	wait "$pgbench" 2>/dev/null || true
	! grep -q 'aborted' "$tmp/pgbench.out" || { cat "$tmp/pgbench.out" >&2; ot_die 'a client of pgbench was aborted'; }
	beside_latencies "$begun" "$ended" >"$tmp/beside-$1"
	p99=$(percentile 99 "$tmp/beside-$1")
	ot_say "$1: $(wc -l <"$tmp/beside-$1") payments in $(awk -v a="$begun" -v b="$ended" 'BEGIN {printf "%.1f", b - a}') s, p99 $p99 ms" >&2
}

run_beside() {
	local pair role own peer p99 rate
	fresh loaded
	beside_rate
	for ((pair = 1; pair <= beside_pairs; pair++)); do
		ot_say "$SECONDS s: beside, pair $pair, $rate payments a second" >&2
		fresh loaded
		for role in $(in_turn); do
			if [[ $role == own ]]; then beside_once order_timeout; own=$p99; continue; fi
			for peer in alone batch_loop; do
				if [[ $peer == alone ]] || has_peer "$peer"; then
					beside_once "$peer"
					printf -v "peer_$peer" %s "$p99"
				fi
			done
		done
		figure p99 alone "$own" "$peer_alone"
		if has_peer batch_loop; then figure p99 batch_loop "$own" "$peer_batch_loop"; fi
		beside_once order_timeout
		figure p99 order_timeout "$p99" "$own"
	done
	for peer in alone order_timeout batch_loop; do
		if [[ -e $tmp/beside-$peer ]]; then distribution beside "$peer" "$tmp/beside-$peer"; fi
	done
}
