# shellcheck shell=bash disable=SC2034,SC2154
# A transaction that is left open keeps VACUUM from removing what died since: does
# the sweeper get slower, and do the sizes recover afterwards? Orders are created
# with two seconds to pay, some are paid, the sweeper closes the others; autovacuum is on.

held_syncs=off
held_parts='orders orders_due' # where dead rows and dead entries lie; the other tables only gain rows

describe_held() {
	note measure held p99 "$operations operations a second for $held_seconds s under a held xmin: p99 of lateness" ms
	note measure held growth 'after the release, growth of orders and orders_due' 'bytes an event'
	note side not_held 'no xmin held'
}

# Until it is killed; what it says then is of no interest.
held_sweeper() { while query -c "CALL order_timeout.sweep()" 2>"$tmp/sweeper.err"; do :; done; }

# Five of eight operations create an order, the others pay the newest one of the client.
held_operations() {
	cat >"$tmp/script" <<-'SQL'
		\set pays random(1, 8) > 5 and :n > :paid
		\if :pays
		\set paid :n
		\set id :first + :client_id * 1000000 + :n
		SELECT * FROM order_timeout.record_payment(:id, 'stripe', :id, 1999, 'EUR');
		\else
		\set n :n + 1
		\set id :first + :client_id * 1000000 + :n
		SELECT * FROM order_timeout.create_order(:id, 1999, 'EUR', expires_in => '2 seconds');
		\endif
	SQL
	run_pgbench -T "$((held_seconds + release_seconds))" --rate="$operations" -D n=0 -D paid=0 -D first="$first" -f "$tmp/script"
}

# held_sizes FILE: every second: seconds, events so far, and the bytes of each part.
# shellcheck disable=SC2086,SC2312
held_sizes() {
	local second
	for ((second = 0; second < held_seconds + release_seconds; second++)); do
		query -F ' ' -c "SELECT $second, last_value $(printf ", pg_relation_size('order_timeout.%s')" $held_parts)
			FROM order_timeout.events_id_seq" >>"$1"
		sleep 1
	done
}

# held_growth FILE: in the second half of the time after the release, by then autovacuum has been there.
held_growth() {
	awk -v from="$((held_seconds + release_seconds / 2))" '
		$1 >= from {if (!begun) {begun = 1; size = $3 + $4; events = $2} most = $3 + $4; last = $2}
		END {print (most > size ? most - size : 1) / (last - events)}' "$1"
}

# held_once held|not_held: sets p99 and growth.
held_once() {
	local first last sweeper background begun
	fresh empty
	numbers 100000000
	: >"$tmp/sizes-$1"
	begun=$(query -c 'SELECT clock_timestamp()')
	held_sweeper &
	sweeper=$!
	held_sizes "$tmp/sizes-$1" &
	background=$!
	if [[ $1 == held ]]; then
		query -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' -c "SELECT pg_sleep($held_seconds)" >/dev/null &
		background+=" $!"
	fi
	held_operations >/dev/null
	# shellcheck disable=SC2086
	wait $background
	sleep 3 # the last ones fall due
	[[ $(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL') == 0 ]] || {
		cat "$tmp/sweeper.err" >&2
		ot_die 'orders are still open'
	}
	kill "$sweeper"
	query -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL order_timeout.sweep%' AND pid <> pg_backend_pid()" >/dev/null
	wait "$sweeper" 2>/dev/null || true
	lateness "expires_at < '$begun'::timestamptz + interval '$held_seconds seconds'" >"$tmp/late-$1"
	p99=$(percentile 99 "$tmp/late-$1")
	growth=$(held_growth "$tmp/sizes-$1")
	ot_say "$1: $(wc -l <"$tmp/late-$1") orders expired, p99 of lateness $p99 ms, $growth bytes an event" >&2
}

run_held() {
	local pair role own_late own_growth other_late other_growth p99 growth
	query -d postgres -c 'ALTER SYSTEM SET autovacuum = on' -c "ALTER SYSTEM SET autovacuum_naptime = '$naptime'" \
		-c 'SELECT pg_reload_conf()' >/dev/null
	for ((pair = 1; pair <= rounds; pair++)); do
		ot_say "$SECONDS s: held, round $pair" >&2
		for role in $(in_turn); do
			if [[ $role == own ]]; then
				held_once held
				own_late=$p99 own_growth=$growth
			else
				held_once not_held
				other_late=$p99 other_growth=$growth
			fi
		done
		figure p99 not_held "$own_late" "$other_late"
		figure growth not_held "$own_growth" "$other_growth"
	done
	query -d postgres -c 'ALTER SYSTEM RESET ALL' -c 'SELECT pg_reload_conf()' >/dev/null
	held_points
}

# held_points: the chart; the last round's.
held_points() {
	local case name part column
	for case in held not_held; do
		name='xmin held'
		[[ $case == held ]] || name='none held'
		column=3
		for part in $held_parts; do
			awk -v OFS='\t' -v series="$part, $name" -v column="$column" \
				'{print "point", "held", series, $1, $column / 1048576}' "$tmp/sizes-$case" >>"$results"
			column=$((column + 1))
		done
	done
	point held 'release' "$held_seconds" 0
	point held 'release' "$held_seconds" "$(awk '{if ($3 > most) most = $3} END {print most / 1048576}' "$tmp/sizes-held")"
}
