/*
 * refund_request.c
 *    request_refund: money taken from what a paid order keeps, newest payment first. The request_key makes it safe to
 *    repeat; of two requests for the same money, the second waits for the order's lock and finds what the first left.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "lock.h"
#include "money.h"
#include "refund_owe.h"
#include "refund_request.h"
#include "store.h"
#include "write.h"

static bool
is_asked_for(const Payment *payment, const RefundRequest *request)
{
	return (request->payment_ref == NULL || strcmp(payment->payment_ref, request->payment_ref) == 0) &&
		(request->gateway == NULL || strcmp(payment->gateway, request->gateway) == 0);
}

static void
no_payment_asked_for(const RefundRequest *request)
{
	StringInfoData asked;

	initStringInfo(&asked);
	if (request->payment_ref != NULL)
		appendStringInfo(&asked, " \"%s\"", request->payment_ref);
	if (request->gateway != NULL)
		appendStringInfo(&asked, " of gateway \"%s\"", request->gateway);
	ereport(ERROR,
			(errcode(OT_NO_SUCH_PAYMENT),
			 errmsg("payment%s of order \"%s\" does not exist", asked.data, request->order_id),
			 errhint("Leave payment_ref and gateway out to take the money from any payment of the order.")));
}

/* Gateways number their payments each for itself. Which of the two is meant decides where the money goes. */
static void
check_one_gateway(const Payment *first, const Payment *other, const RefundRequest *request)
{
	if (request->payment_ref == NULL || strcmp(first->gateway, other->gateway) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("two gateways have a payment \"%s\" of order \"%s\"", request->payment_ref, request->order_id),
			 errdetail("They are \"%s\" and \"%s\".", first->gateway, other->gateway),
			 errhint("Say which one with the argument gateway.")));
}

/* The payments that the money may come from, newest first. */
static List *
refundable_payments(const RefundRequest *request)
{
	List	   *payments = NIL;
	Payment    *first = NULL;
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(request->order_id))
	{
		Payment    *payment = lfirst(cell);

		if (!is_asked_for(payment, request))
			continue;
		if (first == NULL)
			first = payment;
		check_one_gateway(first, payment, request);
		if (ot_counts_for_order(payment) && ot_kept(&payment->funds) > 0)
			payments = lcons(payment, payments);	/* they come oldest first */
	}
	if (first == NULL && (request->payment_ref != NULL || request->gateway != NULL))
		no_payment_asked_for(request);
	return payments;
}

static List *
requested_before(const RefundRequest *request)
{
	List	   *refunds = ot_store_find_requested(request->order_id, request->request_key);
	int64		asked = 0;
	ListCell   *cell;

	foreach(cell, refunds)
		asked = ot_money_add(asked, ((Refund *) lfirst(cell))->asked);
	if (refunds != NIL && request->amount != 0 && request->amount != asked)
		ereport(ERROR,
				(errcode(OT_REQUEST_KEY_DIFFERS),
				 errmsg("request key \"%s\" of order \"%s\" was used for another amount",
						request->request_key, request->order_id),
				 errdetail("It was used for %lld %s, and this call asks for %lld.", (long long) asked,
						   ((Refund *) linitial(refunds))->currency, (long long) request->amount),
				 errhint("Repeat a request with the same amount, or use a new request_key for a new one.")));
	return refunds;
}

/* The payments are of one payment_ref, if the request names one. */
static void
check_refundable(const Order *order, List *payments, const RefundRequest *request)
{
	const char *source = request->payment_ref == NULL ? psprintf("order \"%s\"", order->order_id)
	: psprintf("payment \"%s\" of order \"%s\"", request->payment_ref, order->order_id);
	int64		kept = 0;
	ListCell   *cell;

	foreach(cell, payments)
		kept = ot_money_add(kept, ot_kept(&((Payment *) lfirst(cell))->funds));
	if (kept == 0)
		ereport(ERROR,
				(errcode(OT_MORE_THAN_KEPT),
				 errmsg("%s has nothing left to refund", source),
				 errhint("Look with order_timeout.history() at what became of the money.")));
	if (request->amount > kept)
		ereport(ERROR,
				(errcode(OT_MORE_THAN_KEPT),
				 errmsg("%s has less than %lld %s left to refund",
						source, (long long) request->amount, order->currency),
				 errdetail("%lld %s can still be refunded.", (long long) kept, order->currency),
				 errhint("Ask for less, or leave amount out for all that is left.")));
}

static Refund *
refund_part(Order *order, Payment *payment, int64 part, const RefundRequest *request, TimestampTz now)
{
	Refund	   *refund = ot_refund_make(payment, part, REASON_REQUESTED, now);

	refund->request_key = pstrdup(request->request_key);
	refund->note = request->reason ? pstrdup(request->reason) : NULL;
	ot_funds_move(order, payment, BUCKET_KEPT, BUCKET_REFUND_PENDING, part);
	ot_write_payment(payment);
	ot_refund_insert(refund);
	return refund;
}

RequestAnswer
ot_refund_request(const RefundRequest *request)
{
	Order	   *order = ot_lock_order(request->order_id);
	TimestampTz now = GetCurrentTimestamp();
	RequestAnswer answer = {"duplicate", NIL};
	List	   *payments;
	int64		left = request->amount;
	ListCell   *cell;

	answer.refunds = requested_before(request);
	if (answer.refunds != NIL)
		return answer;
	if (order->state != ORDER_PAID)
		ereport(ERROR,
				(errcode(OT_WRONG_STATE),
				 errmsg("cannot refund order \"%s\" in state \"%s\"", order->order_id, ot_order_states[order->state]),
				 errdetail("Only a paid order can be refunded. What was paid for a closed order goes back by itself."),
				 errhint("Cancel a pending order with order_timeout.cancel_order(); "
						 "look at a closed one with order_timeout.history().")));
	payments = refundable_payments(request);
	check_refundable(order, payments, request);

	foreach(cell, payments)
	{
		Payment    *payment = lfirst(cell);
		int64		kept = ot_kept(&payment->funds);
		int64		part = request->amount == 0 ? kept : Min(left, kept);

		if (part == 0)
			break;
		answer.refunds = lappend(answer.refunds, refund_part(order, payment, part, request, now));
		left -= part;
	}
	ot_write_order(order);
	answer.outcome = "accepted";
	return answer;
}
