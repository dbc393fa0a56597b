/*
 * lock.c
 *    A payment and its order, locked in the one order that keeps single calls from deadlocking.
 *
 * Which order a payment belongs to is known only when the payment is locked, and by then it is too late to lock the
 * order first. So the order is taken from an unlocked look, and the look is checked under the lock: if an orphan got its
 * order in between, moving its money without the order would leave the order's sums behind.
 */
#include "postgres.h"

#include "errors.h"
#include "lock.h"
#include "money.h"
#include "store.h"

Locked
ot_lock_payment(const char *gateway, const char *payment_ref)
{
	Payment    *found = ot_store_find_payment(gateway, payment_ref);
	Locked		locked;

	if (found == NULL)
		ot_no_such_payment(gateway, payment_ref);
	locked.order = ot_store_lock_order(found->order_id);
	if (locked.order == NULL)
	{
		/* Whoever creates it now is waited for; from here on nobody can until we end. */
		ot_store_meet(found->order_id);
		locked.order = ot_store_lock_order(found->order_id);
	}
	locked.payment = ot_store_lock_payment(gateway, payment_ref);
	if (locked.payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
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
	if (ot_counts(locked->payment))
		ot_store_update_order(locked->order);
}
