# shellcheck shell=bash disable=SC2034,SC2154
# Order timeouts by RabbitMQ: a message an order that expires at the deadline and
# is dead-lettered to consumers, which close the order in PostgreSQL. The node is
# bin/lib/broker.sh's. rabbitmq/dead_letters.c is the publisher and the consumers.
# The settings are the fastest of those tried on 2 cores.

rabbitmq_title='RabbitMQ dead letters, a consumer that closes one order after the other'
rabbitmq_leaves="what a crash between the order's commit and its message loses; new deadlines (extend_order: messages leave a queue in their order, one that expires later holds up those behind it); at-least-once dead-lettering, which classic queues lack; part payments; orders whose closing fails"
rabbitmq_packages='rabbitmq-server librabbitmq-dev libpq-dev'
rabbitmq_version=''
rabbitmq_one='8 each 1 500'              # consumers, how they close, messages at once, prefetch
rabbitmq_each='4 each 100 500'
rabbitmq_together='2 together 1000 2000'

rabbitmq_setup() {
	[[ -z $OT_BROKER ]] || return 0 # another peer needs it too
	rabbitmq_build
	ot_broker_start
	rabbitmq_version=$(ot_broker_version)
}

rabbitmq_build() {
	dead_letters=$tmp/dead_letters
	gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$dead_letters" "$here/sides/rabbitmq/dead_letters.c" -lrabbitmq -lpq
}

rabbitmq_stop() { ot_broker_stop; }

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
