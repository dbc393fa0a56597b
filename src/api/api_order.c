/*
 * api_order.c
 *    SQL functions about orders and payments: arguments and answers, no logic.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "accept.h"
#include "api_args.h"
#include "api_call.h"
#include "currency.h"
#include "held.h"
#include "order_change.h"
#include "order_close.h"
#include "order_create.h"
#include "order_deadline.h"
#include "order_extend.h"
#include "orphan.h"
#include "payment.h"
#include "store.h"

static void
put_state(Answer *answer, const Order *order)
{
	ot_put_text(answer, order ? ot_order_states[order->state] : NULL);
}

static Datum
return_order(FunctionCallInfo fcinfo, OrderAnswer from, bool with_deadline)
{
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	put_state(&answer, from.order);
	if (with_deadline)
		ot_put_time(&answer, from.order->expires_at);
	return ot_return(fcinfo, &answer);
}

static Datum
return_payment(FunctionCallInfo fcinfo, PaymentAnswer from)
{
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	put_state(&answer, from.order);
	ot_put_text(&answer, ot_dispositions[from.disposition]);
	ot_put_text(&answer, from.refund_ref);
	if (from.refund_ref != NULL)
		ot_put_int8(&answer, from.refund_amount);
	else
		ot_put_null(&answer);
	ot_put_text(&answer, from.late_reason);
	return ot_return(fcinfo, &answer);
}

static void
check_one_deadline(const char *order_id, const Interval *expires_in, TimestampTz expires_at)
{
	if (expires_in != NULL && expires_at != OT_NO_TIME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("order \"%s\" is given two deadlines", order_id),
				 errdetail("The call has both expires_in and expires_at."),
				 errhint("Give one of them, or none for the policy's pay_within.")));
}

OT_FUNCTION(ot_create_order)
{
	OrderTerms	terms = {0};

	terms.order_id = ot_get_id(fcinfo, 0, "order_id");
	terms.amount = ot_get_amount(fcinfo, 1, "amount", 0);
	terms.currency = ot_get_currency(fcinfo, 2);
	terms.expires_in = ot_get_interval_or_null(fcinfo, 3, "expires_in");
	terms.expires_at = ot_get_time_or_none(fcinfo, 4, "expires_at");
	terms.policy = ot_get_id_or_null(fcinfo, 5, "policy");
	terms.metadata = ot_get_jsonb_or_null(fcinfo, 6, "metadata");
	if (terms.policy == NULL)
		terms.policy = "default";
	check_one_deadline(terms.order_id, terms.expires_in, terms.expires_at);
	return return_order(fcinfo, ot_order_create(&terms), true);
}

/* Of 0.1.0, which answered without late_reason; so below. */
OT_FUNCTION(ot_record_payment)
{
	return ot_refuse_older_objects();
}

OT_MONEY_FUNCTION(ot_record_payment_2)
{
	Payment    *payment = palloc0(sizeof(Payment));

	payment->order_id = ot_get_id(fcinfo, 0, "order_id");
	payment->gateway = ot_get_id(fcinfo, 1, "gateway");
	payment->payment_ref = ot_get_id(fcinfo, 2, "payment_ref");
	payment->funds.paid = ot_get_amount(fcinfo, 3, "amount", 1);
	payment->currency = ot_get_currency(fcinfo, 4);
	payment->paid_at = ot_get_time_or_none(fcinfo, 5, "paid_at");
	payment->details = ot_get_jsonb_or_note(fcinfo, 6, "details");
	payment->attempt_ref = ot_get_id_or_null(fcinfo, 7, "attempt_ref");
	payment->held_at = payment->accepted_at = OT_NO_TIME;
	return return_payment(fcinfo, ot_payment_record(payment));
}

OT_DECISION_FUNCTION(ot_cancel_order)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");

	return return_order(fcinfo, ot_order_cancel(order_id, ot_get_text_or_null(fcinfo, 1, "reason")), false);
}

OT_FUNCTION(ot_expire_order)
{
	return return_order(fcinfo, ot_order_expire(ot_get_id(fcinfo, 0, "order_id")), false);
}

OT_DECISION_FUNCTION(ot_extend_order)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");

	return return_order(fcinfo, ot_order_extend(order_id, ot_get_time(fcinfo, 1, "expires_at")), true);
}

OT_DECISION_FUNCTION(ot_set_deadline)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");

	return return_order(fcinfo, ot_order_set_deadline(order_id, ot_get_time(fcinfo, 1, "expires_at")), true);
}

OT_DECISION_FUNCTION(ot_reopen_order)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");
	Interval   *expires_in = ot_get_interval_or_null(fcinfo, 1, "expires_in");
	TimestampTz expires_at = ot_get_time_or_none(fcinfo, 2, "expires_at");

	check_one_deadline(order_id, expires_in, expires_at);
	return return_order(fcinfo, ot_order_reopen(order_id, expires_in, expires_at), true);
}

OT_DECISION_FUNCTION(ot_change_order)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");
	OrderAnswer from = ot_order_change(order_id, ot_get_amount(fcinfo, 1, "amount", 0));
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	put_state(&answer, from.order);
	ot_put_int8(&answer, from.order->amount);
	return ot_return(fcinfo, &answer);
}

OT_DECISION_FUNCTION(ot_resolve_held)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *payment_ref = ot_get_id(fcinfo, 1, "payment_ref");
	Decision	decision = ot_get_word(fcinfo, 2, "decision", ot_decisions);

	return return_order(fcinfo, ot_held_resolve(gateway, payment_ref, decision), false);
}

OT_DECISION_FUNCTION(ot_accept_payment)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *payment_ref = ot_get_id(fcinfo, 1, "payment_ref");

	return return_order(fcinfo, ot_payment_accept(gateway, payment_ref, ot_get_text_or_null(fcinfo, 2, "note")), false);
}

OT_DECISION_FUNCTION(ot_accept_short)
{
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");

	return return_order(fcinfo, ot_order_accept_short(order_id, ot_get_text_or_null(fcinfo, 1, "note")), false);
}

OT_DECISION_FUNCTION(ot_refund_orphan)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *payment_ref = ot_get_id(fcinfo, 1, "payment_ref");
	OrphanAnswer from = ot_orphan_refund(gateway, payment_ref);
	Answer		answer = {0};

	ot_put_text(&answer, from.outcome);
	ot_put_text(&answer, from.refund_ref);
	return ot_return(fcinfo, &answer);
}

OT_FUNCTION(ot_assign_orphan)
{
	return ot_refuse_older_objects();
}

OT_DECISION_FUNCTION(ot_assign_orphan_2)
{
	char	   *gateway = ot_get_id(fcinfo, 0, "gateway");
	char	   *payment_ref = ot_get_id(fcinfo, 1, "payment_ref");

	return return_payment(fcinfo, ot_orphan_assign(gateway, payment_ref, ot_get_id(fcinfo, 2, "order_id")));
}

OT_FUNCTION(ot_minor_units)
{
	char	   *amount = DatumGetCString(DirectFunctionCall1(numeric_out, PG_GETARG_DATUM(0)));

	PG_RETURN_INT64(ot_minor_units_of(amount, ot_get_currency(fcinfo, 1), true));
}

OT_FUNCTION(ot_amount)
{
	char	   *words = ot_amount_words(PG_GETARG_INT64(0), ot_get_currency(fcinfo, 1));

	PG_RETURN_TEXT_P(cstring_to_text(words));
}

OT_FUNCTION(ot_policy_in_use)
{
	PG_RETURN_BOOL(ot_store_policy_in_use(ot_get_id(fcinfo, 0, "policy")));
}
