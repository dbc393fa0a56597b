/*
 * orphan.c
 *    Payments whose order is not known (yet): given back, given an order, or found beside an order that
 *    REPEATABLE READ could not see.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "money.h"
#include "orphan.h"
#include "refund.h"
#include "store.h"

static Payment *
find_payment(const char *gateway, const char *payment_ref)
{
	Payment    *payment = ot_store_find_payment(gateway, payment_ref);

	if (payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	return payment;
}

static void
not_an_orphan(const Payment *payment)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("this payment is not an orphan that waits"),
			 errdetail("Payment \"%s\" of gateway \"%s\" belongs to order \"%s\", its disposition is %s, %lld of it is refunded or being refunded.",
					   payment->payment_ref, payment->gateway, payment->order_id, ot_dispositions[payment->disposition],
					   (long long) ot_money_add(payment->funds.refunded, payment->funds.refund_pending))));
}

static bool
is_free(const Payment *payment)
{
	return payment->disposition == PAYMENT_ORPHAN && ot_kept(&payment->funds) > 0;
}

OrphanAnswer
ot_orphan_refund(const char *gateway, const char *payment_ref)
{
	Payment    *payment = find_payment(gateway, payment_ref);
	Refund	   *refund;
	OrphanAnswer result;
	TimestampTz now;

	ot_store_lock_order(payment->order_id);
	payment = ot_store_lock_payment(gateway, payment_ref);
	now = GetCurrentTimestamp();
	if (payment->disposition != PAYMENT_ORPHAN)
		not_an_orphan(payment);
	result.outcome = is_free(payment) ? "refunded" : "already_refunded";
	if (is_free(payment))
	{
		refund = ot_refund_owe(NULL, payment, KEPT, ot_kept(&payment->funds), REASON_ORPHAN, now);
		ot_store_update_payment(payment);
	}
	else
		refund = ot_refund_of(payment);
	result.refund_ref = refund ? refund->refund_ref : NULL;
	return result;
}

static PayAnswer
assigned_before(const Payment *payment, const Order *order)
{
	PayAnswer	result = {"duplicate", order, payment->disposition, NULL, 0};
	Refund	   *refund = ot_refund_of(payment);

	if (refund != NULL)
	{
		result.refund_ref = refund->refund_ref;
		result.refund_amount = refund->asked;
	}
	return result;
}

PayAnswer
ot_orphan_assign(const char *gateway, const char *payment_ref, const char *order_id)
{
	Payment    *payment = find_payment(gateway, payment_ref);
	Order	   *order = ot_store_lock_order(order_id);
	TimestampTz now;

	if (order == NULL)
		ot_no_such_order(order_id);
	payment = ot_store_lock_payment(gateway, payment_ref);
	now = GetCurrentTimestamp();
	if (payment->disposition != PAYMENT_ORPHAN && strcmp(payment->order_id, order_id) == 0)
		return assigned_before(payment, order);
	if (!is_free(payment))
		not_an_orphan(payment);
	if (strcmp(payment->order_id, order_id) != 0)
	{
		/* The gateway will go on telling the order_id that it told: that stays a repeat, not a contradiction. */
		payment->told_order_id = payment->order_id;
		payment->order_id = pstrdup(order_id);
		if (payment->funds.refunded > 0)
			ot_store_move_refunds(payment);
	}
	return ot_payment_apply(order, payment, now);
}

bool
ot_orphan_heal(const Payment *stray)
{
	Order	   *order = ot_store_lock_order_if_free(stray->order_id);
	Payment    *payment = order ? ot_store_lock_payment(stray->gateway, stray->payment_ref) : NULL;

	if (payment == NULL || !is_free(payment) || strcmp(payment->order_id, order->order_id) != 0)
		return false;
	ot_payment_apply(order, payment, GetCurrentTimestamp());
	return true;
}
