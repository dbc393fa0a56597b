/*
 * held.c
 *    resolve_held: what the operator decides about money that was held, of a late payment or of a part payment whose order
 *    was closed.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "accept.h"
#include "errors.h"
#include "event.h"
#include "held.h"
#include "lock.h"
#include "money.h"
#include "refund_owe.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static void
give_back(Order *order, Payment *payment, RefundReason reason, Disposition disposition, TimestampTz now)
{
	ot_refund_owe(order, payment, BUCKET_HELD, payment->funds.held, reason, now);
	ot_payment_become(payment, disposition);
	ot_write_money(order, payment);
	ot_event(order->order_id, "payment.given_back", ot_payment_payload(payment), now);
}

/* A part payment is what it would be if it had not been held. An order that was paid meanwhile had expired: it reopened. */
static void
give_back_unwanted(Order *order, Payment *payment, TimestampTz now)
{
	if (ot_is_late(payment))
		give_back(order, payment, REASON_LATE, PAYMENT_LATE, now);
	else
		give_back(order, payment, order->state == ORDER_CANCELLED ? REASON_CANCELLED : REASON_EXPIRED, PAYMENT_APPLIED, now);
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
		give_back_unwanted(order, payment, now);
		return ot_order_answer("refunded", order);
	}
	if (order->state == ORDER_PAID)
	{
		give_back(order, payment, REASON_SURPLUS, PAYMENT_SURPLUS, now);
		return ot_order_answer("surplus", order);
	}
	return ot_order_answer(ot_held_accept(order, payment), order);
}
