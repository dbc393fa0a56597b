# shellcheck shell=bash disable=SC2034,SC2154
# Order timeouts by RabbitMQ: a message an order that expires at the deadline and
# is dead-lettered to consumers, which close the order in PostgreSQL. A node of its
# own, on loopback, that lives in the benchmark's folder. rabbitmq/dead_letters.c
# is the publisher and the consumers. The settings are the fastest of those tried
# on 2 cores.

rabbitmq_title='RabbitMQ dead letters, a consumer that closes one order after the other'
rabbitmq_leaves="what a crash between the order's commit and its message loses; new deadlines (extend_order: messages leave a queue in their order, one that expires later holds up those behind it); at-least-once dead-lettering, which classic queues lack; part payments; orders whose closing fails"
rabbitmq_packages='rabbitmq-server librabbitmq-dev libpq-dev'
rabbitmq_version=''
rabbitmq_one='8 each 1 500'              # consumers, how they close, messages at once, prefetch
rabbitmq_each='4 each 100 500'
rabbitmq_together='2 together 1000 2000'

rabbitmq_setup() {
	[[ -z ${rabbitmq_groups:-} ]] || return 0 # another peer needs it too
	rabbitmq_build
	rabbitmq_start
}

rabbitmq_build() {
	dead_letters=$tmp/dead_letters
	gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$dead_letters" "$here/sides/rabbitmq/dead_letters.c" -lrabbitmq -lpq
}

rabbitmq_free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

# Erlang's port mapper is one of our own too: on another port than the usual, so
# that neither meets a node that runs on this machine.
rabbitmq_start() {
	local dir=$OT_TMP/rabbitmq i
	ot_as_user mkdir "$dir"
	RABBITMQ_NODE_PORT=$(rabbitmq_free_port)
	ERL_EPMD_PORT=$(rabbitmq_free_port)
	printf 'listeners.tcp.1 = 127.0.0.1:%s\n' "$RABBITMQ_NODE_PORT" |
		ot_as_user tee "$dir/rabbitmq.conf" >/dev/null
	export RABBITMQ_NODE_PORT ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT
	setsid "${OT_AS[@]}" epmd >"$tmp/epmd.log" 2>&1 &
	rabbitmq_groups=$!
	setsid "${OT_AS[@]}" env HOME="$dir" RABBITMQ_CONF_ENV_FILE="$dir/none" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
		RABBITMQ_ADVANCED_CONFIG_FILE="$dir/none" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" \
		RABBITMQ_NODENAME=bench@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
		RABBITMQ_DIST_PORT="$(rabbitmq_free_port)" RABBITMQ_MNESIA_BASE="$dir" RABBITMQ_LOG_BASE="$dir/log" \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
		/usr/lib/rabbitmq/bin/rabbitmq-server >"$tmp/rabbitmq.log" 2>&1 &
	rabbitmq_groups+=" $!"
	for ((i = 0; i < 600; i++)); do
		if "$dead_letters" due >/dev/null 2>&1; then break; fi
		sleep 0.1
	done
	"$dead_letters" due >/dev/null || { tail -n 30 "$tmp/rabbitmq.log" >&2; ot_die 'RabbitMQ did not start'; }
	rabbitmq_version="RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server), Erlang $(dpkg-query -W -f '${Version}' erlang-base)"
}

# Also when nothing was started.
rabbitmq_stop() {
	local group i
	for group in $(printf '%s\n' "${rabbitmq_groups:-}" | awk '{for (i = NF; i; i--) print $i}'); do
		kill -TERM -- "-$group" 2>/dev/null || continue
		for ((i = 0; i < 100; i++)); do
			kill -0 -- "-$group" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$group" 2>/dev/null || true
	done
	rabbitmq_groups=
}

# rabbitmq_await_due COUNT: until that many messages wait for consumers.
rabbitmq_await_due() {
	local due i
	for ((i = 0; i < 1200; i++)); do
		due=$("$dead_letters" due)
		if ((due == $1)); then return; fi
		sleep 0.1
	done
	ot_die "$due messages are due, not $1"
}

# The messages of all orders are dead-lettered before the clock starts.
rabbitmq_sweep_before() {
	"$dead_letters" publish "$first" "$count" 0 0 0
	rabbitmq_await_due "$count"
}

rabbitmq_sweep() { rabbitmq_drain "$rabbitmq_one"; }

# rabbitmq_consume SETTINGS: until this run's messages are done; prints when it began.
# shellcheck disable=SC2086 # the settings are several arguments
rabbitmq_consume() { "$dead_letters" consume $1 "$count"; }

rabbitmq_drain() {
	local begun
	begun=$(rabbitmq_consume "$1")
	[[ $(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL') == 0 ]] || ot_die 'RabbitMQ left orders open'
	query -c "SELECT $count / (extract(epoch FROM timestamptz '$(last_closing)') - $begun)"
}
