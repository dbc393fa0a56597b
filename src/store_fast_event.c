/*
 * store_fast_event.c
 *    The fast store: events.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "store_fast_rows.h"

static void
event_args(Args *args, FastTable *events, const Event *event)
{
	Datum		payload = DirectFunctionCall1(jsonb_in, CStringGetDatum(event->payload));

	ot_arg_int8(args, ot_fast_next_identity(events));
	ot_arg_text(args, "order");
	ot_arg_text(args, event->order_id);
	ot_arg_text(args, event->type);
	ot_arg_jsonb(args, DatumGetJsonbP(payload));
	ot_arg_time(args, event->created_at);
}

void
ot_fast_add_events(List *of_one_batch)
{
	FastTable  *events = ot_fast_begin(FAST_EVENTS);
	List	   *rows = NIL;
	ListCell   *cell;

	foreach(cell, of_one_batch)
	{
		Args	   *args = palloc0(sizeof(Args));

		event_args(args, events, lfirst(cell));
		rows = lappend(rows, args);
	}
	if (list_length(rows) == 1)
		ot_fast_insert(events, linitial(rows));
	else
		ot_fast_insert_many(events, rows);
	ot_fast_end(events);
}
