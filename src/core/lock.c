/*
 * lock.c
 *    A payment and its order, locked in the one order that keeps single calls from deadlocking.
 *
 * Which order a payment belongs to is known only when the payment is locked, and by then it is too late to lock the
 * order first. So the order is taken from an unlocked look. While an order is there, its payments stay with it. An
 * orphan may get its order meanwhile (create_order, assign_orphan): both meet at its order_id first, so whoever has met
 * there as well can look again and be sure. Moving its money without the order would leave the order's sums behind.
 *
 * Locks: meeting at an order_id, then orders, payments, refunds.
 */
#include "postgres.h"

#include "errors.h"
#include "lock.h"
#include "money.h"
#include "store.h"

static Payment *
find_payment(const char *gateway, const char *payment_ref)
{
	Payment    *payment = ot_store_find_payment(gateway, payment_ref);

	if (payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	return payment;
}

Locked
ot_lock_payment(const char *gateway, const char *payment_ref)
{
	Payment    *found = find_payment(gateway, payment_ref);
	Locked		locked;

	locked.order = ot_store_lock_order(found->order_id);
	if (locked.order == NULL)
	{
		ot_store_lock_order_id(found->order_id);
		found = find_payment(gateway, payment_ref);
		locked.order = ot_store_lock_order(found->order_id);
	}
	locked.payment = ot_store_lock_payment(found);
	if (locked.payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	/* An orphan that REPEATABLE READ left beside its order can still be given another one. */
	if (strcmp(locked.payment->order_id, found->order_id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a payment given another order at the same moment")));
	return locked;
}

void
ot_write_money(const Locked *locked)
{
	ot_store_update_payment(locked->payment);
	if (ot_counts_for_order(locked->payment))
		ot_store_update_order(locked->order);
}
