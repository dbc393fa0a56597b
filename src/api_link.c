/*
 * api_link.c
 *    SQL functions about linked tables: arguments and answers, no logic. What needs no speed (link_table and its kin) is
 *    plpgsql in sql/install.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "api_args.h"
#include "backfill.h"
#include "currency.h"
#include "store.h"
#include "track.h"

#define MAX_BATCH 100000

PG_FUNCTION_INFO_V1(ot_minor_units);
PG_FUNCTION_INFO_V1(ot_track);
PG_FUNCTION_INFO_V1(ot_backfill);

Datum
ot_minor_units(PG_FUNCTION_ARGS)
{
	char	   *amount;

	ot_require(fcinfo, 0, "amount");
	amount = DatumGetCString(DirectFunctionCall1(numeric_out, PG_GETARG_DATUM(0)));
	PG_RETURN_INT64(ot_minor_units_of(amount, ot_get_currency(fcinfo, 1), true));
}

Datum
ot_track(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	const Link *link;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("track is for the trigger that link_table makes")));
	link = ot_store_find_link(trigger->tg_trigger->tgargs[0]);
	if (link == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s has a trigger of order_timeout, and is not linked", trigger->tg_trigger->tgargs[0]),
				 errhint("Link it with order_timeout.link_table(), or drop the trigger \"%s\".", trigger->tg_trigger->tgname)));
	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	ot_track_row(link, ot_store_read_linked(link, tuple, RelationGetDescr(trigger->tg_relation)));
	return PointerGetDatum(NULL);
}

Datum
ot_backfill(PG_FUNCTION_ARGS)
{
	int			batch_size = ot_get_count(fcinfo, 1, "batch_size", 1000, MAX_BATCH);

	ot_require(fcinfo, 0, "table_name");
	ot_require_own_transactions(fcinfo, "backfill", "after every batch", "CALL order_timeout.backfill() alone.");
	ot_backfill_table(PG_GETARG_OID(0), batch_size);
	return (Datum) 0;
}
