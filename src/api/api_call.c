/*
 * api_call.c
 *    A call of a SQL function: when it returns, every row that it changed is written, and what follows is done.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"

#include "api_call.h"
#include "follow.h"
#include "store.h"
#include "unwritten.h"

Datum
ot_call(PGFunction body, FunctionCallInfo fcinfo, CallKind kind)
{
	Changes		changes;
	Datum		result;

	ot_changes_begin(&changes);
	if (kind == CALL_REPORTS_MONEY)
		ot_set_reports_money();
	if (kind == CALL_DECIDES)
		ot_set_decides();
	PG_TRY();
	{
		result = body(fcinfo);
		ot_follow();
		ot_changes_require_written();
	}
	PG_FINALLY();
	{
		ot_changes_end(&changes);
	}
	PG_END_TRY();
	return result;
}

void
ot_require_own_transactions(FunctionCallInfo fcinfo, const char *procedure, const char *commits, const char *instead)
{
	CallContext *call = (CallContext *) fcinfo->context;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s cannot run inside a transaction block or a function", procedure),
				 errdetail("%s", commits),
				 errhint("%s", instead)));
}

Datum
ot_refuse_older_objects(void)
{
	ot_store_require_same_version();
	elog(ERROR, "a function of an older version of the extension");
	return (Datum) 0;
}
