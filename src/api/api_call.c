/*
 * api_call.c
 *    A call of a SQL function: when it returns, every row that it changed is written.
 */
#include "postgres.h"

#include "api_call.h"
#include "unwritten.h"

Datum
ot_call(PGFunction body, FunctionCallInfo fcinfo)
{
	int			outer = ot_changes_begin();
	Datum		result;

	PG_TRY();
	{
		result = body(fcinfo);
		ot_changes_require_written();
	}
	PG_FINALLY();
	{
		ot_changes_end(outer);
	}
	PG_END_TRY();
	return result;
}
