# shellcheck shell=bash disable=SC2034,SC2154
# The relay to RabbitMQ: how fast it works off a backlog, and how long after it was written an event is at a consumer of
# the broker, next to the same program on a queue in a table. Each side has a database of its own.

relay_syncs=on # an acknowledgement that a crash forgets is a repeat, so both commit to disk

describe_relay() {
	note measure relay speed "the relay, from a backlog of $(millions "$backlog") events" 'events/s'
	note measure relay lag_p50 "the relay, $relay_rate orders a second, from the event to a consumer of RabbitMQ, p50" ms
	note measure relay lag_p99 "the same, p99" ms
}

relay_lags() { /usr/bin/python3 "$here/sides/rabbitmq/lags.py" "$RABBITMQ_NODE_PORT" "$1"; }

# relay_start SIDE: asks as often as pgmq.read_with_poll does.
relay_start() {
	: >"$tmp/relay.log" # of the run before, which could be read before the relay begins its own
	AMQP_URL=amqp://guest:guest@127.0.0.1:$RABBITMQ_NODE_PORT/%2F "$OT_TMP/src/connect/relay_$1/order_timeout_relay" \
		--consumer bench --verbose --batch 500 --poll-interval 100 2>"$tmp/relay.log" &
	relay=$!
}

relay_end() {
	kill "$relay"
	wait "$relay" || ot_die "the relay ended with status $?"
}

# To ask the database would keep it from its work, and one side more than the other.
relay_acknowledged() { awk '/DEBUG relayed/ {n += $5} END {print n + 0}' "$tmp/relay.log"; }

relay_prepare() {
	fresh empty
	if [[ $1 == queue_table ]]; then
		query -f "$here/sides/queue_table.sql"
	else
		query -c "SELECT order_timeout.create_consumer('bench')" >/dev/null
	fi
}

# relay_speed SIDE: sets speed, from the connection to the last acknowledgement.
relay_speed() {
	relay_prepare "$1"
	relay_lags 0
	query -c "INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
		SELECT i::text, 'order.created', bench.order_event('pending', 0, now()), now() FROM generate_series(1, $backlog) i" \
		-c 'VACUUM ANALYZE' -c CHECKPOINT >/dev/null
	relay_start "$1"
	until (($(relay_acknowledged) >= backlog)); do sleep 0.2; done
	relay_end
	speed=$(awk -v events="$backlog" '
		{split($2, t, ":"); now = (t[1] * 60 + t[2]) * 60 + t[3]}
		/database: connected/ {begun = now}
		/DEBUG relayed/ {done = now}
		END {print events / (done - begun + (done < begun) * 86400)}' "$tmp/relay.log")
}

# relay_lag SIDE FILE: the lags of all events go to the file.
relay_lag() {
	local count=$((relay_rate * relay_seconds)) consumer
	relay_prepare "$1"
	relay_lags "$count" >"$2" &
	consumer=$!
	until grep -q ready "$2"; do sleep 0.1; done
	relay_start "$1"
	until grep -q 'database: connected' "$tmp/relay.log"; do sleep 0.1; done
	numbers "$count"
	printf '%s\n' '\set n :n + 1' '\set id :first + :client_id * 1000000 + :n' \
		"SELECT * FROM order_timeout.create_order(:id, 1999, 'EUR');" >"$tmp/script"
	run_pgbench -t $((count / 8)) --rate="$relay_rate" -D n=0 -D first="$first" -f "$tmp/script"
	wait "$consumer"
	relay_end
	sed -i 1d "$2"
}

run_relay() {
	local pair role side speed relay first last
	local -A speeds
	has_peer queue_table || return 0
	for ((pair = 1; pair <= rounds; pair++)); do
		ot_say "$SECONDS s: relay, round $pair" >&2
		for role in $(in_turn); do
			side=order_timeout
			[[ $role == own ]] || side=queue_table
			relay_speed "$side"
			speeds[$side]=$speed
			relay_lag "$side" "$tmp/lag-$side"
		done
		figure speed - "${speeds[order_timeout]}"
		figure speed queue_table "${speeds[order_timeout]}" "${speeds[queue_table]}"
		relay_figures 50 99
	done
}

relay_figures() {
	local p own
	for p; do
		own=$(percentile "$p" "$tmp/lag-order_timeout")
		figure "lag_p$p" - "$own"
		figure "lag_p$p" queue_table "$own" "$(percentile "$p" "$tmp/lag-queue_table")"
	done
}
