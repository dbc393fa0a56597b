/*
 * held.c
 *    resolve_held: what a person decides about a late payment that was held.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "held.h"
#include "lock.h"
#include "money.h"
#include "order_state.h"
#include "payment.h"
#include "refund_owe.h"
#include "store.h"
#include "write.h"

static bool
same_payment(const Payment *a, const Payment *b)
{
	return strcmp(a->gateway, b->gateway) == 0 && strcmp(a->payment_ref, b->payment_ref) == 0;
}

/* The chosen payment first, then what else of the order is held, oldest first. */
static List *
all_held(const Order *order, Payment *chosen)
{
	List	   *held = list_make1(chosen);
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *other = lfirst(cell);

		if (other->disposition == PAYMENT_HELD && !same_payment(other, chosen))
			held = lappend(held, other);
	}
	return held;
}

static int64
sum_held(List *payments)
{
	int64		sum = 0;
	ListCell   *cell;

	foreach(cell, payments)
		sum = ot_money_add(sum, ((Payment *) lfirst(cell))->funds.held);
	return sum;
}

/* Uses what is needed of a payment, and gives back the rest. Answers how much was used. */
static int64
release(Order *order, Payment *payment, int64 needed, TimestampTz now)
{
	int64		held = payment->funds.held;
	int64		used = Min(held, needed);

	ot_funds_move(order, payment, BUCKET_HELD, BUCKET_KEPT, used);
	ot_payment_become(payment, used > 0 ? PAYMENT_APPLIED : PAYMENT_SURPLUS);
	if (used < held)
		ot_refund_owe(order, payment, BUCKET_HELD, held - used, REASON_SURPLUS, now);
	ot_write_payment(payment);
	ot_event(order->order_id, "payment.accepted", ot_payment_payload(payment), now);
	return used;
}

static const char *
accept_held(Order *order, Payment *chosen, TimestampTz now)
{
	List	   *held = all_held(order, chosen);
	int64		needed = order->amount;
	ListCell   *cell;

	if (sum_held(held) < needed)
		return "short";
	foreach(cell, held)
		needed -= release(order, lfirst(cell), needed, now);
	ot_order_become_paid(order, now);
	ot_write_order(order);
	ot_payment_event(order, chosen, "reopened", now);
	return "accepted";
}

static void
give_back(Order *order, Payment *payment, Disposition disposition, TimestampTz now)
{
	RefundReason reason = disposition == PAYMENT_SURPLUS ? REASON_SURPLUS : REASON_LATE;

	ot_refund_owe(order, payment, BUCKET_HELD, payment->funds.held, reason, now);
	ot_payment_become(payment, disposition);
	ot_write_money(order, payment);
	ot_event(order->order_id, "payment.given_back", ot_payment_payload(payment), now);
}

OrderAnswer
ot_held_resolve(const char *gateway, const char *payment_ref, Decision decision)
{
	Locked		locked = ot_lock_payment(gateway, payment_ref);
	Order	   *order = locked.order;
	Payment    *payment = locked.payment;
	TimestampTz now = GetCurrentTimestamp();

	if (payment->held_at == OT_NO_TIME)
		ereport(ERROR,
				(errcode(OT_WRONG_STATE),
				 errmsg("payment \"%s\" of gateway \"%s\" was never held", payment_ref, gateway),
				 errdetail("Its disposition is \"%s\".", ot_dispositions[payment->disposition]),
				 errhint("Look for the payments that are held in order_timeout.attention.")));
	if (order == NULL)
		ot_no_such_order(payment->order_id);
	if (payment->disposition != PAYMENT_HELD)
		return ot_order_answer("already_resolved", order);
	if (decision == DECISION_REFUND)
	{
		give_back(order, payment, PAYMENT_LATE, now);
		return ot_order_answer("refunded", order);
	}
	if (order->state == ORDER_PAID)
	{
		give_back(order, payment, PAYMENT_SURPLUS, now);
		return ot_order_answer("surplus", order);
	}
	return ot_order_answer(accept_held(order, payment, now), order);
}
