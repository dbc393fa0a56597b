/*
 * order_change.c
 *    change_order: another amount for a pending order. What is paid already may reach it; the rest is a surplus.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "order_change.h"
#include "order_state.h"
#include "payment.h"
#include "refund_owe.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* Newest payment first, as request_refund does. */
static void
owe_surplus(Order *order, TimestampTz now)
{
	List	   *payments = ot_store_lock_payments(order->order_id);
	int64		left = ot_money_subtract(ot_kept(&order->funds), order->amount);

	for (int i = list_length(payments) - 1; i >= 0 && left > 0; i--)
	{
		Payment    *payment = list_nth(payments, i);
		int64		part = Min(left, ot_kept(&payment->funds));

		if (!ot_counts_for_order(payment) || part == 0)
			continue;
		ot_refund_owe(order, payment, BUCKET_KEPT, part, REASON_SURPLUS, now);
		ot_write_payment(payment);
		left -= part;
	}
}

static void
cannot_change(const Order *order)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("order \"%s\" is authorized, so its amount cannot change", order->order_id),
			 errdetail("Its amount is %lld %s.", (long long) order->amount, order->currency),
			 errhint("End the attempt that authorised it first with order_timeout.end_attempt().")));
}

OrderAnswer
ot_order_change(const char *order_id, int64 amount)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();
	bool		is_paid;

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_is_closed(order) || order->state == ORDER_CLOSING)
		return ot_order_answer("already_closed", order);
	if (amount == order->amount)
		return ot_order_answer("unchanged", order);
	if (order->state == ORDER_AUTHORIZED)
		cannot_change(order);
	ot_order_change_amount(order, amount);
	is_paid = amount == 0 || ot_payment_is_enough(order);
	ot_event(order_id, "order.changed", ot_order_payload(order), now);
	if (is_paid)
	{
		ot_order_become_paid(order, now);
		owe_surplus(order, now);
	}
	ot_write_order(order);
	if (is_paid)
		ot_event(order_id, "order.paid", ot_order_payload(order), now);
	if (is_paid && ot_kept(&order->funds) < order->amount)
		ot_event(order_id, "order.accepted_short", ot_order_payload(order), now);
	return ot_order_answer(is_paid ? "paid" : "changed", order);
}
