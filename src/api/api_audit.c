/*
 * api_audit.c
 *    SQL functions of the proof and the history, and the one that empties it: arguments and answers, no logic.
 */
#include "postgres.h"

#include "funcapi.h"

#include "api_args.h"
#include "api_call.h"
#include "audit.h"
#include "money.h"
#include "order_forget.h"
#include "store.h"

OT_FUNCTION(ot_funds)
{
	OrderFunds	from = ot_audit_order(ot_get_id(fcinfo, 0, "order_id"));
	Answer		answer = {0};

	ot_put_text(&answer, ot_order_states[from.state]);
	ot_put_int8(&answer, from.amount);
	ot_put_text(&answer, from.currency);
	ot_put_int8(&answer, from.funds.paid);
	ot_put_int8(&answer, from.funds.refunded);
	ot_put_int8(&answer, from.funds.refund_pending);
	ot_put_int8(&answer, from.funds.held);
	ot_put_int8(&answer, ot_kept(&from.funds));
	ot_put_bool(&answer, from.balanced);
	return ot_return(fcinfo, &answer);
}

static void
return_violation(const Violation *violation, void *state)
{
	Answer		answer = {0};

	ot_put_text(&answer, violation->kind);
	ot_put_text(&answer, violation->order_id);
	ot_put_text(&answer, violation->gateway);
	ot_put_text(&answer, violation->payment_ref);
	ot_put_text(&answer, violation->refund_ref);
	ot_put_text(&answer, violation->problem);
	ot_return_row((FunctionCallInfo) state, &answer);
}

/* As version 0.1.0 has it. */
OT_FUNCTION(ot_funds_violations)
{
	ot_begin_rows(fcinfo);
	ot_audit_all(OT_NO_TIME, return_violation, fcinfo);
	return (Datum) 0;
}

OT_FUNCTION(ot_funds_violations_2)
{
	TimestampTz since = ot_get_time_or_none(fcinfo, 0, "since");

	ot_begin_rows(fcinfo);
	ot_audit_all(since, return_violation, fcinfo);
	return (Datum) 0;
}

OT_FUNCTION(ot_history)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");

	ot_begin_rows(fcinfo);
	ot_store_history(order_id, ((ReturnSetInfo *) fcinfo->resultinfo)->setResult);
	return (Datum) 0;
}

OT_DECISION_FUNCTION(ot_forget_order)
{
	Answer		answer = {0};

	ot_put_text(&answer, ot_order_forget(ot_get_id(fcinfo, 0, "order_id")));
	return ot_return(fcinfo, &answer);
}
