/*
 * orphan.c
 *    Payments whose order is not known (yet): given back, given an order, or found next to an order that
 *    REPEATABLE READ could not see.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "lock.h"
#include "money.h"
#include "orphan.h"
#include "payment.h"
#include "refund_owe.h"
#include "store.h"
#include "write.h"

static void
not_an_orphan(const Payment *payment)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("payment \"%s\" of gateway \"%s\" is not an orphan", payment->payment_ref, payment->gateway),
			 errdetail("It belongs to order \"%s\", its disposition is \"%s\".",
					   payment->order_id, ot_dispositions[payment->disposition]),
			 errhint("Look for orphans in order_timeout.attention.")));
}

static void
given_back_already(const Payment *payment)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("orphan payment \"%s\" of gateway \"%s\" is given back already",
					payment->payment_ref, payment->gateway),
			 errdetail("Of its %lld %s, %lld are refunded and %lld are being refunded.",
					   (long long) payment->funds.paid, payment->currency,
					   (long long) payment->funds.refunded, (long long) payment->funds.refund_pending),
			 errhint("Let the refund go on, and ask for another payment of the order.")));
}

static bool
is_free(const Payment *payment)
{
	return payment->disposition == PAYMENT_ORPHAN && ot_kept(&payment->funds) > 0;
}

void
ot_orphan_join(const Locked *money, TimestampTz now)
{
	if (money->order != NULL && is_free(money->payment))
		(void) ot_payment_apply(money->order, money->payment, now);
}

static Refund *
give_back(Payment *payment)
{
	Refund	   *refund = ot_refund_owe(NULL, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_ORPHAN, GetCurrentTimestamp());

	ot_write_payment(payment);
	return refund;
}

OrphanAnswer
ot_orphan_refund(const char *gateway, const char *payment_ref)
{
	Payment    *payment = ot_lock_payment(gateway, payment_ref).payment;
	OrphanAnswer result;
	Refund	   *refund;

	if (payment->disposition != PAYMENT_ORPHAN)
		not_an_orphan(payment);
	result.outcome = is_free(payment) ? "refunded" : "already_refunded";
	refund = is_free(payment) ? give_back(payment) : ot_refund_of(payment);
	result.refund_ref = refund ? refund->refund_ref : NULL;
	return result;
}

void
ot_orphans_apply(Order *order, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *payment = lfirst(cell);

		if (is_free(payment))
			ot_payment_apply(order, payment, now);
	}
}

PaymentAnswer
ot_orphan_assign(const char *gateway, const char *payment_ref, const char *order_id)
{
	Payment    *payment = ot_store_find_payment(gateway, payment_ref);
	Order	   *order;

	if (payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	if (strcmp(payment->order_id, order_id) != 0)
		ot_store_lock_order_id(payment->order_id);	/* others may be about to apply it there, or to give it back */
	order = ot_lock_order(order_id);
	payment = ot_store_lock_payment(payment);
	if (payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	if (payment->disposition != PAYMENT_ORPHAN && strcmp(payment->order_id, order_id) == 0)
		return ot_payment_answer("duplicate", order, payment, ot_refund_of(payment));
	if (payment->disposition != PAYMENT_ORPHAN)
		not_an_orphan(payment);
	if (!is_free(payment))
		given_back_already(payment);
	if (strcmp(payment->order_id, order_id) != 0)
	{
		/* The gateway will go on reporting the order_id that it reported: that is a repeat, not a contradiction. */
		payment->told_order_id = payment->order_id;
		payment->order_id = pstrdup(order_id);
		ot_store_move_refunds(payment);
		ot_store_move_conflicts(payment);
	}
	return ot_payment_apply(order, payment, GetCurrentTimestamp());
}

/*
 * For the sweeper, which holds other rows and so must not wait for any: what another transaction holds is left for the
 * next time. An order that is there is never overlooked because it is locked; then its orphan is applied, however old.
 */
bool
ot_orphan_settle(const Payment *found, bool may_give_back)
{
	bool		has_order = ot_store_find_order(found->order_id) != NULL;
	Order	   *order = has_order ? ot_store_lock_order_if_free(found->order_id) : NULL;
	Payment    *payment;

	if (has_order ? order == NULL : !may_give_back)
		return false;
	payment = ot_store_lock_payment_if_free(found);
	if (payment == NULL || !is_free(payment) || strcmp(payment->order_id, found->order_id) != 0)
		return false;
	if (has_order)
		ot_payment_apply(order, payment, GetCurrentTimestamp());
	else
		give_back(payment);
	return true;
}
