# shellcheck shell=bash
#
# A RabbitMQ of a runner's own, from the packages: on loopback, on free ports, in
# the runner's folder, with its own port mapper, so that neither meets a node that
# runs on this machine. server.sh comes first. ot_stop_others calls ot_broker_stop.

OT_BROKER=
OT_BROKER_EPMD=

# Below the ports that Linux gives to clients, which would take one before the
# broker listens, or while it is down.
ot_free_port() {
	perl -MIO::Socket::INET -e 'for (1 .. 100) {
		my $port = 20_000 + int rand 12_000;
		exit !print $port if IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1);
	}
	die "no free port\n"'
}

# ot_broker_start: exports RABBITMQ_NODE_PORT and AMQP_URL.
ot_broker_start() {
	local dir=$OT_TMP/rabbitmq
	ot_as_user mkdir "$dir"
	RABBITMQ_NODE_PORT=$(ot_free_port)
	RABBITMQ_DIST_PORT=$(ot_free_port)
	ERL_EPMD_PORT=$(ot_free_port)
	export RABBITMQ_NODE_PORT RABBITMQ_DIST_PORT ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
	export AMQP_URL="amqp://guest:guest@127.0.0.1:$RABBITMQ_NODE_PORT/%2F"
	printf 'listeners.tcp.1 = 127.0.0.1:%s\n' "$RABBITMQ_NODE_PORT" |
		ot_as_user tee "$dir/rabbitmq.conf" >/dev/null
	setsid "${OT_AS[@]}" epmd >"$OT_TMP/epmd.log" 2>&1 7>&- &
	OT_BROKER_EPMD=$!
	ot_broker_again
}

# ot_broker_again: what was crashed, from the files that it left.
ot_broker_again() {
	local dir=$OT_TMP/rabbitmq log=$OT_TMP/rabbitmq.log i
	setsid "${OT_AS[@]}" env HOME="$dir" RABBITMQ_CONF_ENV_FILE="$dir/none" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
		RABBITMQ_ADVANCED_CONFIG_FILE="$dir/none" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" \
		RABBITMQ_NODENAME=ot@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
		RABBITMQ_MNESIA_BASE="$dir" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_PID_FILE="$dir/pid" \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
		/usr/lib/rabbitmq/bin/rabbitmq-server >>"$log" 2>&1 7>&- &
	OT_BROKER=$!
	for ((i = 0; i < 600; i++)); do
		if ot_broker_answers; then return 0; fi
		kill -0 "$OT_BROKER" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 30 "$log" >&2
	ot_die 'RabbitMQ did not start'
}

# Greeted by a client, it begins with the frame of Connection.Start.
ot_broker_answers() {
	(
		exec 3<>"/dev/tcp/127.0.0.1/$RABBITMQ_NODE_PORT" && printf 'AMQP\0\0\x09\x01' >&3 && read -rt 5 -N 1 -u 3
	) 2>/dev/null
}

# ot_broker_crash: as if the machine had taken its process away.
ot_broker_crash() {
	kill -KILL "$(<"$OT_TMP/rabbitmq/pid")" || return
	wait "$OT_BROKER" 2>/dev/null || true
	ot_end_group "$OT_BROKER" KILL
	OT_BROKER=
}

# ot_end_group LEADER SIGNAL: returns when none of its process group is left.
ot_end_group() {
	local i
	kill "-$2" -- "-$1" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 -- "-$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null || true
}

# Also when nothing was started.
ot_broker_stop() {
	local group
	for group in $OT_BROKER $OT_BROKER_EPMD; do ot_end_group "$group" TERM; done
	OT_BROKER=
	OT_BROKER_EPMD=
}

ot_broker_version() {
	printf 'RabbitMQ %s, Erlang %s' "$(dpkg-query -W -f '${Version}' rabbitmq-server)" \
		"$(dpkg-query -W -f '${Version}' erlang-base)"
}
