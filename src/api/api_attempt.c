/*
 * api_attempt.c
 *    SQL functions about attempts to pay: arguments and answers, no logic.
 */
#include "postgres.h"

#include "api_args.h"
#include "api_call.h"
#include "attempt_authorize.h"
#include "attempt_begin.h"
#include "attempt_end.h"

#define MAX_HOLD (1000 * 365 * USECS_PER_DAY)

/* What end_attempt may report. */
static const char *const ends[] = {"failed", "cancelled", "expired", NULL};

static Datum
return_order(FunctionCallInfo fcinfo, OrderAnswer from, bool with_times)
{
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_order_states[from.order->state]);
	if (with_times)
	{
		ot_put_time(&answer, from.order->expires_at);
		ot_put_time(&answer, from.order->open_until);
	}
	return ot_return(fcinfo, &answer);
}

OT_FUNCTION(ot_begin_attempt)
{
	AttemptTerms terms;

	terms.order_id = ot_get_id(fcinfo, 0, "order_id");
	terms.gateway = ot_get_id(fcinfo, 1, "gateway");
	terms.attempt_ref = ot_get_id(fcinfo, 2, "attempt_ref");
	terms.holds_for = ot_get_usecs(fcinfo, 3, "holds_for", 0, MAX_HOLD);
	terms.details = ot_get_jsonb_or_null(fcinfo, 4, "details");
	terms.can_void = PG_ARGISNULL(5) || PG_GETARG_BOOL(5);
	return return_order(fcinfo, ot_attempt_to_pay(&terms), true);
}

OT_MONEY_FUNCTION(ot_end_attempt)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *attempt_ref = ot_get_id(fcinfo, 1, "attempt_ref");
	const char *result = ends[ot_get_word(fcinfo, 2, "result", ends)];

	return return_order(fcinfo, ot_attempt_report_end(gateway, attempt_ref, ot_word_find(ot_attempt_states, result)), false);
}

OT_MONEY_FUNCTION(ot_authorize_attempt)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *attempt_ref = ot_get_id(fcinfo, 1, "attempt_ref");
	Authorization authorization;

	authorization.amount = ot_get_amount(fcinfo, 2, "amount", 1);
	authorization.currency = ot_get_currency(fcinfo, 3);
	authorization.valid_until = ot_get_time(fcinfo, 4, "valid_until");
	return return_order(fcinfo, ot_attempt_authorize(gateway, attempt_ref, &authorization), false);
}
