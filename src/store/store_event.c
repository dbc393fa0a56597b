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

static void
put_tuple(Columns *columns, void *state)
{
	tuplestore_putvalues((Tuplestorestate *) state, columns->desc, columns->values, columns->nulls);
}

void
ot_store_history(const char *order_id, Tuplestorestate *rows)
{
	static Statement find = {"SELECT e.id, e.aggregatetype, e.aggregateid, e.type, e.payload, e.created_at "
	"FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 ORDER BY e.id", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_run_cursor(&find, &args, put_tuple, rows);
}
