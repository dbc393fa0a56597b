/*
 * refund_owe.c
 *    A new obligation to return money.
 */
#include "postgres.h"

#include "event.h"
#include "money.h"
#include "random_key.h"
#include "refund_owe.h"
#include "refund_state.h"
#include "store.h"
#include "write.h"

Refund *
ot_refund_make(const Payment *payment, int64 amount, RefundReason reason, TimestampTz now)
{
	Refund	   *refund = palloc0(sizeof(Refund));

	refund->refund_ref = ot_random_key("rf_");
	refund->order_id = payment->order_id;
	refund->gateway = payment->gateway;
	refund->payment_ref = payment->payment_ref;
	refund->amount = refund->asked = amount;
	refund->currency = payment->currency;
	refund->reason = reason;
	refund->handed_out_at = refund->submitted_at = refund->returned_at = refund->settled_at = OT_NO_TIME;
	refund->created_at = now;
	ot_refund_become_pending(refund, now);
	return refund;
}

Refund *
ot_refund_make_rest(const Refund *refund, const Payment *payment, int64 amount, TimestampTz now)
{
	Refund	   *rest = ot_refund_make(payment, amount, refund->reason, now);

	rest->note = psprintf("rest of %s", refund->refund_ref);
	rest->was_requested = refund->was_requested;
	if (refund->state == REFUND_NEEDS_ATTENTION)
		ot_refund_become_needs_attention(rest, now);
	if (ot_refund_is_stopped(refund))
		rest->last_error = pstrdup(refund->last_error);
	return rest;
}

void
ot_refund_insert(Refund *refund)
{
	ot_insert_refund(refund);
	ot_refund_effect(refund, "refund.created", refund->created_at);
}

Refund *
ot_refund_owe(Order *order, Payment *payment, Bucket from, int64 amount, RefundReason reason, TimestampTz now)
{
	Refund	   *refund = ot_refund_make(payment, amount, reason, now);

	ot_funds_move(order, payment, from, BUCKET_REFUND_PENDING, amount);
	ot_refund_insert(refund);
	return refund;
}

Refund *
ot_refund_owe_surplus(Order *order, Payment *payment, TimestampTz now)
{
	int64		surplus = ot_surplus(order);

	return surplus > 0 ? ot_refund_owe(order, payment, BUCKET_KEPT, surplus, REASON_SURPLUS, now) : NULL;
}

Refund *
ot_refund_of(const Payment *payment)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (!refund->withdrawn &&
			refund->reason != REASON_REQUESTED && refund->reason != REASON_EXTERNAL &&
			refund->reason != REASON_CHARGEBACK && refund->reason != REASON_REVERSED)
			return refund;
	}
	return NULL;
}
