# shellcheck shell=bash disable=SC2034,SC2154
# A queue in a table, as pgmq does it: the application's transaction adds a message to it, a reader takes the first ones
# that are visible (SKIP LOCKED), hides them for a time, and deletes what is done. The relay is the same program, compiled
# to call these functions.

queue_table_title='a queue in a table, read with SKIP LOCKED and a visibility timeout, as pgmq does'
queue_table_leaves='the order of events that commit in another order than they were written in'
queue_table_packages='rabbitmq-server librabbitmq-dev libpq-dev pkg-config python3-pika'

queue_table_setup() {
	rabbitmq_setup
	queue_table_build order_timeout
	queue_table_build queue_table
}

# queue_table_build SCHEMA: the relay that calls the functions of that schema.
queue_table_build() {
	ot_as_user cp -r "$OT_TMP/src/connect/relay" "$OT_TMP/src/connect/relay_$1"
	ot_as_user make -s -C "$OT_TMP/src/connect/relay_$1" PG_CONFIG="$PG_CONFIG" CPPFLAGS="-DRELAY_SCHEMA='\"$1\"'" >&2
}

queue_table_stop() { rabbitmq_stop; }
