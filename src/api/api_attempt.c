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
#include "void_claim.h"
#include "void_report.h"

#define MAX_HOLD  (1000 * 365 * USECS_PER_DAY)
#define MAX_CLAIM 10000
#define MAX_LEASE (365 * USECS_PER_DAY)

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

OT_FUNCTION(ot_claim_voids)
{
	char	   *worker = ot_get_id(fcinfo, 0, "worker");
	int			max_voids = ot_get_count(fcinfo, 1, "max_voids", 10, MAX_CLAIM);
	int64		lease = ot_get_usecs(fcinfo, 2, "lease", 0, MAX_LEASE);
	char	   *gateway = ot_get_id_or_null(fcinfo, 3, "gateway");
	List	   *claimed = ot_void_claim(worker, max_voids, lease, gateway);
	ListCell   *cell;

	ot_begin_rows(fcinfo);
	foreach(cell, claimed)
	{
		ClaimedVoid *claim = lfirst(cell);
		Attempt    *attempt = claim->attempt;
		Answer		answer = {0};

		ot_put_text(&answer, attempt->order_id);
		ot_put_text(&answer, attempt->gateway);
		ot_put_text(&answer, attempt->attempt_ref);
		if (claim->amount > 0)
			ot_put_int8(&answer, claim->amount);
		else
			ot_put_null(&answer);
		ot_put_text(&answer, attempt->currency);
		ot_put_text(&answer, claim->action);
		ot_put_int4(&answer, attempt->attempts + 1);
		ot_put_text(&answer, attempt->lease.token);
		ot_put_time(&answer, attempt->lease.until);
		ot_return_row(fcinfo, &answer);
	}
	return (Datum) 0;
}

OT_MONEY_FUNCTION(ot_complete_void)
{
	VoidReport	report;
	VoidAnswer	from;
	Answer		answer = {0};

	report.gateway = ot_get_id(fcinfo, 0, "gateway");
	report.attempt_ref = ot_get_id(fcinfo, 1, "attempt_ref");
	report.result = ot_get_word(fcinfo, 2, "result", ot_void_results);
	report.lease_token = ot_get_text_cut(fcinfo, 3);
	report.error = ot_get_text_cut(fcinfo, 4);
	from = ot_void_complete(&report);
	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_attempt_states[from.attempt->state]);
	ot_put_time(&answer, from.attempt->next_attempt_at);
	return ot_return(fcinfo, &answer);
}

OT_DECISION_FUNCTION(ot_retry_void)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	VoidAnswer	from = ot_void_retry(gateway, ot_get_id(fcinfo, 1, "attempt_ref"));
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_attempt_states[from.attempt->state]);
	return ot_return(fcinfo, &answer);
}
