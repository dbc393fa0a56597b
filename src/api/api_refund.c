/*
 * api_refund.c
 *    SQL functions about refunds: arguments and answers, no logic.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api_args.h"
#include "api_call.h"
#include "chargeback.h"
#include "conflict_resolve.h"
#include "refund_claim.h"
#include "refund_decide.h"
#include "refund_record.h"
#include "refund_report.h"
#include "refund_request.h"

#define MAX_CLAIM 10000
#define MAX_LEASE (365 * USECS_PER_DAY)

/* What record_refund may say of money that went back without us. */
static const char *const external_reasons[] = {"external", "chargeback", NULL};

/* Of 0.1.0, where a payment's gateway could not be said. */
OT_FUNCTION(ot_request_refund)
{
	return ot_refuse_older_objects();
}

OT_DECISION_FUNCTION(ot_request_refund_2)
{
	RefundRequest request;
	RequestAnswer from;
	ListCell   *cell;

	request.order_id = ot_get_id(fcinfo, 0, "order_id");
	request.request_key = ot_get_id(fcinfo, 1, "request_key");
	request.amount = ot_get_amount_or_zero(fcinfo, 2, "amount");
	request.reason = ot_get_text_or_null(fcinfo, 3, "reason");
	request.payment_ref = ot_get_id_or_null(fcinfo, 4, "payment_ref");
	request.gateway = ot_get_id_or_null(fcinfo, 5, "gateway");
	from = ot_refund_request(&request);
	ot_begin_rows(fcinfo);
	foreach(cell, from.refunds)
	{
		Refund	   *refund = lfirst(cell);
		Answer		answer = {0};

		ot_put_text(&answer, from.outcome);
		ot_put_text(&answer, refund->refund_ref);
		ot_put_text(&answer, refund->gateway);
		ot_put_text(&answer, refund->payment_ref);
		ot_put_int8(&answer, refund->asked);
		ot_return_row(fcinfo, &answer);
	}
	return (Datum) 0;
}

OT_FUNCTION(ot_claim_refunds)
{
	char	   *worker = ot_get_id(fcinfo, 0, "worker");
	int			max_refunds = ot_get_count(fcinfo, 1, "max_refunds", 10, MAX_CLAIM);
	int64		lease = ot_get_usecs(fcinfo, 2, "lease", 0, MAX_LEASE);
	char	   *gateway = ot_get_id_or_null(fcinfo, 3, "gateway");
	List	   *claimed = ot_refund_claim(worker, max_refunds, lease, gateway);
	ListCell   *cell;

	ot_begin_rows(fcinfo);
	foreach(cell, claimed)
	{
		ClaimedRefund *claim = lfirst(cell);
		Refund	   *refund = claim->refund;
		Answer		answer = {0};

		ot_put_text(&answer, refund->refund_ref);
		ot_put_text(&answer, refund->order_id);
		ot_put_text(&answer, refund->gateway);
		ot_put_text(&answer, refund->payment_ref);
		ot_put_int8(&answer, refund->amount);
		ot_put_text(&answer, refund->currency);
		ot_put_int8(&answer, claim->payment_amount);
		ot_put_text(&answer, claim->action);
		ot_put_int4(&answer, refund->attempts + 1);
		ot_put_text(&answer, refund->lease.token);
		ot_put_time(&answer, refund->lease.until);
		ot_return_row(fcinfo, &answer);
	}
	return (Datum) 0;
}

OT_MONEY_FUNCTION(ot_complete_refund)
{
	RefundReport report;
	RefundAnswer from;
	Answer		answer = {0};

	report.refund_ref = ot_get_id(fcinfo, 0, "refund_ref");
	report.result = ot_get_word(fcinfo, 1, "result", ot_refund_results);
	report.lease_token = ot_get_text_cut(fcinfo, 2);
	report.gateway_refund_ref = ot_get_id_or_null(fcinfo, 3, "gateway_refund_ref");
	report.error = ot_get_text_cut(fcinfo, 4);
	report.refunded_amount = ot_get_amount_or_zero(fcinfo, 5, "refunded_amount");
	from = ot_refund_complete(&report);
	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_refund_states[from.state]);
	ot_put_time(&answer, from.next_attempt_at);
	return ot_return(fcinfo, &answer);
}

static Datum
return_outcome_and_state(FunctionCallInfo fcinfo, RefundAnswer from)
{
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_refund_states[from.state]);
	return ot_return(fcinfo, &answer);
}

OT_DECISION_FUNCTION(ot_retry_refund)
{
	return return_outcome_and_state(fcinfo, ot_refund_retry(ot_get_id(fcinfo, 0, "refund_ref")));
}

OT_DECISION_FUNCTION(ot_settle_refund)
{
	char	   *refund_ref = ot_get_id(fcinfo, 0, "refund_ref");

	return return_outcome_and_state(fcinfo, ot_refund_settle(refund_ref, ot_get_text(fcinfo, 1, "note")));
}

OT_DECISION_FUNCTION(ot_reverse_refund)
{
	char	   *refund_ref = ot_get_id(fcinfo, 0, "refund_ref");
	RefundAnswer from = ot_refund_reverse(refund_ref, ot_get_text(fcinfo, 1, "reason"));
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_refund_states[from.state]);
	ot_put_text(&answer, from.refund_ref);
	return ot_return(fcinfo, &answer);
}

OT_DECISION_FUNCTION(ot_stop_refund)
{
	char	   *refund_ref = ot_get_id(fcinfo, 0, "refund_ref");

	return return_outcome_and_state(fcinfo, ot_refund_stop_by_hand(refund_ref, ot_get_text(fcinfo, 1, "note")));
}

OT_DECISION_FUNCTION(ot_withdraw_refund)
{
	char	   *refund_ref = ot_get_id(fcinfo, 0, "refund_ref");

	return return_outcome_and_state(fcinfo, ot_refund_withdraw(refund_ref, ot_get_text(fcinfo, 1, "note")));
}

/* Of 0.1.0, where a currency could not be said. */
OT_FUNCTION(ot_record_refund)
{
	return ot_refuse_older_objects();
}

OT_MONEY_FUNCTION(ot_record_refund_2)
{
	ExternalReport report;
	RefundAnswer from;
	Answer		answer = {0};
	int			reason;

	report.gateway = ot_get_id(fcinfo, 0, "gateway");
	report.payment_ref = ot_get_id(fcinfo, 1, "payment_ref");
	report.gateway_refund_ref = ot_get_id(fcinfo, 2, "gateway_refund_ref");
	report.amount = ot_get_amount(fcinfo, 3, "amount", 1);
	reason = PG_ARGISNULL(4) ? 0 : ot_get_word(fcinfo, 4, "reason", external_reasons);
	report.reason = reason == 0 ? REASON_EXTERNAL : REASON_CHARGEBACK;
	report.currency = ot_get_currency_or_null(fcinfo, 5);
	from = ot_refund_record(&report);
	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, from.refund_ref);
	return ot_return(fcinfo, &answer);
}

OT_DECISION_FUNCTION(ot_reverse_chargeback)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *note = ot_get_text_or_null(fcinfo, 2, "note");
	char	   *refund_ref = ot_get_id_or_null(fcinfo, 3, "refund_ref");
	char	   *number = refund_ref != NULL ? ot_get_id_or_null(fcinfo, 1, "gateway_refund_ref")
	: ot_get_id(fcinfo, 1, "gateway_refund_ref");
	RefundAnswer from = ot_chargeback_reverse(gateway, number, refund_ref, note);
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, ot_refund_states[from.state]);
	ot_put_text(&answer, from.refund_ref);
	return ot_return(fcinfo, &answer);
}

/* Of 0.1.0, which could not book. */
OT_FUNCTION(ot_resolve_conflict)
{
	return ot_refuse_older_objects();
}

OT_DECISION_FUNCTION(ot_resolve_conflict_2)
{
	int64		conflict_id = ot_get_amount(fcinfo, 0, "conflict_id", 1);
	char	   *note = ot_get_text_or_null(fcinfo, 1, "note");
	Answer		answer = {0};

	ot_put_text(&answer, ot_conflict_resolve(conflict_id, note, ot_get_bool_or_false(fcinfo, 2)));
	return ot_return(fcinfo, &answer);
}
