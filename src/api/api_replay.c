/*
 * api_replay.c
 *    The SQL function replay_orders: arguments and answers, no logic.
 */
#include "postgres.h"

#include "api_args.h"
#include "api_call.h"
#include "replay.h"

#define MAX_LAG (365 * USECS_PER_DAY)

static void
return_step(const ReplayStep *step, void *state)
{
	Answer		answer = {0};

	ot_put_text(&answer, step->order_id);
	ot_put_time(&answer, step->at);
	ot_put_text(&answer, step->outcome);
	ot_put_text(&answer, ot_order_states[step->state]);
	ot_put_text(&answer, step->currency);
	ot_put_int8(&answer, step->paid);
	ot_put_int8(&answer, step->owed);
	ot_put_int8(&answer, step->held);
	ot_return_row((FunctionCallInfo) state, &answer);
}

OT_FUNCTION(ot_replay_orders)
{
	ReplayTerms terms;
	char	   *policy = ot_get_id_or_null(fcinfo, 1, "policy");

	terms.query = ot_get_sql(fcinfo, 0, "orders_query");
	terms.policy = policy != NULL ? policy : "default";
	terms.pay_within = ot_get_interval_or_null(fcinfo, 2, "pay_within");
	terms.sweep_lag = ot_get_usecs_or_zero(fcinfo, 3, "sweep_lag", MAX_LAG);
	terms.report_lag = ot_get_usecs_or_zero(fcinfo, 4, "report_lag", MAX_LAG);
	ot_begin_rows(fcinfo);
	ot_replay(&terms, return_step, fcinfo);
	return (Datum) 0;
}
