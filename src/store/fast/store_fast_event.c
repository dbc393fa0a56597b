/*
 * store_fast_event.c
 *    The fast store: events.
 */
#include "postgres.h"

#include "store_fast_rows.h"

/* As much of a batch as its memory is fetched from the system once, and not again for each batch. */
#define AT_ONCE 100

static void
event_args(Args *args, FastTable *events, const Event *event)
{
	ot_arg_int8(args, ot_fast_next_identity(events));
	ot_arg_text(args, "order");
	ot_arg_text(args, event->order_id);
	ot_arg_text(args, event->type);
	ot_arg_jsonb(args, event->payload);
	ot_arg_time(args, event->created_at);
}

void
ot_fast_add_event(const Event *event)
{
	FastTable  *events = ot_fast_begin(FAST_EVENTS);
	Args		args = {0};

	event_args(&args, events, event);
	ot_fast_insert(events, &args);
	ot_fast_end(events);
}

static void
add_some(List *of_one_batch, int first)
{
	FastTable  *events = ot_fast_begin(FAST_EVENTS);
	int			count = Min(list_length(of_one_batch) - first, AT_ONCE);
	Args	   *rows = palloc0(count * sizeof(Args));

	for (int i = 0; i < count; i++)
		event_args(&rows[i], events, list_nth(of_one_batch, first + i));
	ot_fast_insert_many(events, rows, count);
	ot_fast_end(events);
}

void
ot_fast_add_events(List *of_one_batch)
{
	for (int first = 0; first < list_length(of_one_batch); first += AT_ONCE)
		add_some(of_one_batch, first);
}
