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
			 errmsg("no such payment"),
			 errdetail("Order \"%s\" has no payment%s.", request->order_id, asked.data),
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
			 errmsg("two gateways have a payment of this number"),
			 errdetail("Order \"%s\" has a payment \"%s\" of gateway \"%s\" and one of gateway \"%s\".",
					   request->order_id, request->payment_ref, first->gateway, other->gateway),
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
				 errmsg("this request key was used for something else"),
				 errdetail("Request \"%s\" of order \"%s\" asked for %lld, not for %lld.",
						   request->request_key, request->order_id, (long long) asked, (long long) request->amount),
				 errhint("Use a new request_key for a new request.")));
	return refunds;
}

static void
check_refundable(const Order *order, List *payments, int64 amount)
{
	int64		kept = 0;
	ListCell   *cell;

	foreach(cell, payments)
		kept = ot_money_add(kept, ot_kept(&((Payment *) lfirst(cell))->funds));
	if (kept == 0 || amount > kept)
		ereport(ERROR,
				(errcode(OT_MORE_THAN_KEPT),
				 errmsg("more than there is to refund"),
				 errdetail("Of order \"%s\", %lld %s can still be refunded.",
						   order->order_id, (long long) kept, order->currency),
				 errhint("Ask for less, or leave amount out for all that is kept.")));
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
				 errmsg("the order's state does not allow this"),
				 errdetail("Order \"%s\" is %s.", order->order_id, ot_order_states[order->state]),
				 errhint("Only a paid order can be refunded; what was paid for an order that is closed goes back by itself.")));
	payments = refundable_payments(request);
	check_refundable(order, payments, request->amount);

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
