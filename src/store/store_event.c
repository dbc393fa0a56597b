/*
 * store_event.c
 *    Events.
 */
#include "postgres.h"

#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

void
ot_store_add_event(Event *event)
{
	ot_store_of(TABLE_EVENTS)->insert(TABLE_EVENTS, event);
}

void
ot_store_add_events(List *events)
{
	ot_store_of(TABLE_EVENTS)->insert_many(TABLE_EVENTS, events);
}

/* A newer deadline has taken its place in the order's row; the event stays. */
bool
ot_store_had_deadline(const char *order_id, TimestampTz expires_at)
{
	static Statement find = {"SELECT e.id FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 "
		"AND e.type" SQL_EQ "ANY ('{order.extended,order.changed}') "
	"AND (e.payload OPERATOR(pg_catalog.->>) 'expires_at')::pg_catalog.timestamptz" SQL_EQ "$2 LIMIT 1"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_arg_time(&args, expires_at);
	return ot_run(&find, &args) > 0;
}

bool
ot_store_was_created_for(const char *order_id, int64 amount)
{
	static Statement find = {"SELECT e.id FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 "
		"AND e.type" SQL_EQ "'order.created' "
	"AND (e.payload OPERATOR(pg_catalog.->>) 'amount')::pg_catalog.int8" SQL_EQ "$2 LIMIT 1"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_arg_int8(&args, amount);
	return ot_run(&find, &args) > 0;
}

static void
put_tuple(Columns *columns, void *state)
{
	tuplestore_putvalues((Tuplestorestate *) state, columns->desc, columns->values, columns->nulls);
}

void
ot_store_history(const char *order_id, Tuplestorestate *rows)
{
	static Statement find = {"SELECT e.id, e.aggregatetype, e.aggregateid, e.type, e.payload, e.created_at, e.xid "
	"FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 ORDER BY e.id", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_run_cursor(&find, &args, put_tuple, rows);
}
