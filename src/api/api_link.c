/*
 * api_link.c
 *    SQL functions about linked tables: arguments and answers, no logic. link_table and its kin are in sql/install.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "utils/rel.h"

#include "adopt.h"
#include "api_args.h"
#include "api_call.h"
#include "store.h"
#include "track.h"

#define MAX_BATCH 100000

static const Link *
link_of(const Trigger *trigger)
{
	const Link *link = ot_store_find_link(trigger->tgargs[0]);

	if (link != NULL)
		return link;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s has the trigger \"%s\", and is not linked", trigger->tgargs[0], trigger->tgname),
			 errhint("Link it with order_timeout.link_table(), or drop the trigger.")));
}

/* On a tracked table; its argument is the table's name as links shows it. */
OT_FUNCTION(ot_track_row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	const Link *link;
	HeapTuple	before = NULL;
	HeapTuple	after = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("order_timeout._track is for the trigger that link_table makes")));
	link = link_of(data->tg_trigger);
	desc = RelationGetDescr(data->tg_relation);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		after = data->tg_trigtuple;
	else
	{
		before = data->tg_trigtuple;
		after = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : NULL;
	}
	ot_track(link, before ? ot_store_read_linked(link, before, desc) : NULL,
			 after ? ot_store_read_linked(link, after, desc) : NULL, data->tg_relation->rd_rel->relispartition);
	return PointerGetDatum(NULL);
}

OT_FUNCTION(ot_require_links_seen)
{
	ot_store_require_links_seen();
	return (Datum) 0;
}

OT_FUNCTION(ot_adopt_orders_procedure)
{
	char	   *table_name = ot_get_text(fcinfo, 0, "table_name");
	int			batch_size = ot_get_count(fcinfo, 1, "batch_size", 1000, MAX_BATCH);
	CallContext *call = (CallContext *) fcinfo->context;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("adopt_orders cannot run inside a transaction block or a function"),
				 errdetail("It commits after every batch."),
				 errhint("CALL order_timeout.adopt_orders(...) alone.")));
	ot_adopt_orders(table_name, batch_size);
	return (Datum) 0;
}
