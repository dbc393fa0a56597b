/*
 * api_consumer.c
 *    SQL functions about consumers of events: arguments and answers, no logic.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api_args.h"
#include "api_call.h"
#include "consumer.h"
#include "store.h"

#define MAX_EVENTS 10000
#define MAX_LEASE (365 * USECS_PER_DAY)

static Datum
return_outcome(FunctionCallInfo fcinfo, const char *outcome)
{
	Answer		answer = {0};

	ot_put_text(&answer, outcome);
	return ot_return(fcinfo, &answer);
}

OT_FUNCTION(ot_create_consumer)
{
	char	   *name = ot_get_id(fcinfo, 0, "consumer");
	List	   *types = ot_get_ids_or_null(fcinfo, 1, "types");
	bool		from_now = ot_get_bool_or_false(fcinfo, 2);

	return return_outcome(fcinfo, ot_consumer_create(name, types, from_now, ot_get_bool_or_false(fcinfo, 3)));
}

OT_FUNCTION(ot_drop_consumer)
{
	return return_outcome(fcinfo, ot_consumer_drop(ot_get_id(fcinfo, 0, "consumer")));
}

OT_FUNCTION(ot_read_events)
{
	char	   *name = ot_get_id(fcinfo, 0, "consumer");
	int			max_events = ot_get_count(fcinfo, 1, "max_events", 100, MAX_EVENTS);
	EventBatch	batch = ot_consumer_read(name, max_events, ot_get_usecs(fcinfo, 2, "lease", USECS_PER_MINUTE, MAX_LEASE));
	ListCell   *cell;

	ot_begin_rows(fcinfo);
	foreach(cell, batch.events)
	{
		Event	   *event = lfirst(cell);
		Answer		answer = {0};

		ot_put_int8(&answer, event->id);
		ot_put_text(&answer, event->order_id);
		ot_put_text(&answer, event->type);
		ot_put_jsonb(&answer, event->payload);
		ot_put_time(&answer, event->created_at);
		ot_put_text(&answer, batch.lease_token);
		ot_return_row(fcinfo, &answer);
	}
	return (Datum) 0;
}

OT_FUNCTION(ot_ack_events)
{
	char	   *name = ot_get_id(fcinfo, 0, "consumer");
	char	   *lease_token = ot_get_id(fcinfo, 1, "lease_token");

	return return_outcome(fcinfo, ot_consumer_acknowledge(name, lease_token, ot_get_amount_or_zero(fcinfo, 2, "up_to")));
}

OT_FUNCTION(ot_consumer_backlog)
{
	char	   *name = ot_get_id(fcinfo, 0, "consumer");
	int			looks_at = PG_ARGISNULL(1) ? 0 : ot_get_count(fcinfo, 1, "looks_at", 1000, 10000);
	EventBacklog backlog = ot_store_consumer_backlog(name, looks_at);
	Answer		answer = {0};

	ot_put_int8(&answer, backlog.unread);
	ot_put_time(&answer, backlog.oldest_unread);
	return ot_return(fcinfo, &answer);
}
