# shellcheck shell=bash disable=SC2034,SC2154
# How late orders are closed, with the sweeper as schedule_sweeper() schedules it
# with pg_cron, and by RabbitMQ under the same load. Lateness is the commit of the
# closing minus the deadline. A turn has a burst, then the even load, which lasts
# past the end of at least one run of the sweeper and the beginning of the next.

lateness_syncs=off
lateness_database=postgres # pg_cron's own: it keeps a connection, so this one is never dropped

describe_lateness() {
	local p
	for p in p50 p99 p99.9; do
		note measure lateness "even_$p" "lateness, $(millions "$even_rate") due a second for $even_seconds s, $p" ms
	done
	note measure lateness burst_p50 "lateness, $(millions "$burst") due in the same instant, p50" ms
	note measure lateness burst_p99 "lateness, $(millions "$burst") due in the same instant, p99" ms
}

# falling_due COUNT SECONDS STEP: loads orders of which the first is due in so
# many seconds, the others STEP seconds apart; sets deadline, in microseconds.
falling_due() {
	numbers "$1"
	count=$1
	deadline=$(query -c "SELECT (extract(epoch FROM clock_timestamp() + interval '$2 seconds') * 1000000)::bigint")
	query -v first="$first" -v count="$1" -v deadline="$deadline" -v step="$3" >/dev/null <<-'SQL'
		SELECT bench.load_falling_due(:first, :count, timestamptz 'epoch' + :deadline * interval '1 microsecond', interval '1 second' * :step);
		SELECT 1 / (clock_timestamp() < timestamptz 'epoch' + :deadline * interval '1 microsecond')::integer AS "loaded in time";
	SQL
}

# closed_by SIDE FILE: waits until all are closed; their lateness goes to the file.
closed_by() {
	local i open
	for ((i = 0; i < even_seconds + 120; i++)); do
		open=$(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL')
		if ((open == 0)); then break; fi
		sleep 1
	done
	((open == 0)) || ot_die "$1 left $open orders open"
	lateness "order_id BETWEEN '$first' AND '$last'" >"$2"
	(($(wc -l <"$2") == count)) || ot_die "$1 closed other orders"
	ot_say "$1: lateness p50 $(percentile 50 "$2"), p99 $(percentile 99 "$2"), p99.9 $(percentile 99.9 "$2") ms" >&2
}

lateness_order_timeout() {
	query -c 'SELECT order_timeout.schedule_sweeper()' >/dev/null
	until [[ $(query -c 'SELECT count(*) FROM order_timeout.sweeps WHERE ended_at IS NULL') == 1 ]]; do sleep 0.5; done
	falling_due "$burst" 3 0
	closed_by order_timeout "$tmp/burst-order_timeout"
	falling_due "$((even_rate * even_seconds))" $((2 + even_rate * even_seconds / 50000)) "$(awk -v r="$even_rate" 'BEGIN {print 1 / r}')"
	closed_by order_timeout "$tmp/even-order_timeout"
	query -c 'SELECT order_timeout.unschedule_sweeper()' >/dev/null
	query -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL order_timeout.sweep%' AND pid <> pg_backend_pid()" >/dev/null
}

# Every message is published five seconds before its deadline; those of the burst
# all at once, in time for the broker to have stored them.
lateness_rabbitmq_batches() {
	falling_due "$burst" 8 0
	lateness_messages 0 8000000
	closed_by rabbitmq_batches "$tmp/burst-rabbitmq_batches"
	falling_due "$((even_rate * even_seconds))" $((6 + even_rate * even_seconds / 50000)) "$(awk -v r="$even_rate" 'BEGIN {print 1 / r}')"
	lateness_messages $((1000000 / even_rate)) 5000000
	closed_by rabbitmq_batches "$tmp/even-rabbitmq_batches"
}

# lateness_messages STEP LEAD
lateness_messages() {
	local consumers
	rabbitmq_consume "$rabbitmq_together" >/dev/null &
	consumers=$!
	"$dead_letters" publish "$first" "$count" "$deadline" "$1" "$2"
	wait "$consumers"
}

lateness_turn() {
	query -c 'TRUNCATE order_timeout.orders, order_timeout.events, order_timeout.sweeps' -c CHECKPOINT
	"lateness_$1"
}

run_lateness() {
	local PGDATABASE=$lateness_database pair role first last count deadline
	export PGDATABASE
	query -c 'CREATE EXTENSION pg_cron' -c 'CREATE EXTENSION order_timeout' -f "$here/load.sql"
	for ((pair = 1; pair <= rounds; pair++)); do
		ot_say "$SECONDS s: lateness, round $pair" >&2
		for role in $(in_turn); do
			if [[ $role == own ]]; then
				lateness_turn order_timeout
			elif has_peer rabbitmq_batches; then
				lateness_turn rabbitmq_batches
			fi
		done
		lateness_figures even 50 99 99.9
		lateness_figures burst 50 99
	done
	query -c 'SET client_min_messages = warning' -c 'DROP EXTENSION order_timeout CASCADE' -c 'DROP SCHEMA bench CASCADE' -c 'DROP EXTENSION pg_cron'
}

# lateness_figures even|burst PERCENTILE...: also the chart, of the first round.
lateness_figures() {
	local part=$1 p own side
	shift
	for p; do
		own=$(percentile "$p" "$tmp/$part-order_timeout")
		figure "${part}_p$p" - "$own"
		if has_peer rabbitmq_batches; then
			figure "${part}_p$p" rabbitmq_batches "$own" "$(percentile "$p" "$tmp/$part-rabbitmq_batches")"
		fi
	done
	if ((pair > 1)); then return; fi
	for side in order_timeout rabbitmq_batches; do
		if [[ -e $tmp/$part-$side ]]; then distribution "lateness_$part" "$side" "$tmp/$part-$side"; fi
	done
}
