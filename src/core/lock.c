/*
 * lock.c
 *    Orders, payments and refunds, locked in the one sequence that keeps single calls from deadlocking.
 *
 * Which order a payment belongs to is known only when the payment is locked, and then it is too late to lock the order
 * first. So the payment is first read without a lock, and that row names the order. While an order is there, its payments
 * stay with it. An orphan may get its order meanwhile (create_order, assign_orphan): both take the advisory lock of its
 * order_id first, so a call that holds that lock as well can look again and be sure. Moving an orphan's money without the
 * order would leave the order's sums behind.
 *
 * Locks: an order_id (advisory), then the rows of linked tables, orders, payments, the gateway's number for a refund (advisory), refunds.
 */
#include "postgres.h"

#include "errors.h"
#include "link.h"
#include "lock.h"
#include "store.h"
#include "unwritten.h"

/* A trigger's call about an order that the call which fired it has changed and not yet written. */
static void
refuse_call_in_trigger(const char *order_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("order \"%s\" is being changed by the call that fired this trigger", order_id),
			 errdetail("Nothing of the two calls is written."),
			 errhint("Make the inner call after the outer one, for example from a program that reads order_timeout.events.")));
}

Order *
ot_lock_order_if_there(const char *order_id)
{
	if (ot_is_changed_by_outer_call(order_id))
		refuse_call_in_trigger(order_id);
	ot_link_lock(order_id);
	return ot_store_lock_order(order_id);
}

/* The linked row of an order that is not there may be busy, and was waited for already. */
static Order *
lock_if_created(const char *order_id)
{
	return ot_store_find_order(order_id) != NULL ? ot_lock_order_if_there(order_id) : NULL;
}

Order *
ot_lock_order_or_id(const char *order_id)
{
	Order	   *order = ot_lock_order_if_there(order_id);

	if (order != NULL)
		return order;
	ot_store_lock_order_id(order_id);
	return lock_if_created(order_id);
}

Order *
ot_lock_order(const char *order_id)
{
	Order	   *order = ot_lock_order_if_there(order_id);

	if (order == NULL)
		ot_no_such_order(order_id);
	return order;
}

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

	locked.order = ot_lock_order_if_there(found->order_id);
	if (locked.order == NULL)
	{
		ot_store_lock_order_id(found->order_id);
		found = find_payment(gateway, payment_ref);
		locked.order = lock_if_created(found->order_id);
	}
	locked.payment = ot_store_lock_payment(found);
	if (locked.payment == NULL)
		ot_no_such_payment(gateway, payment_ref);
	/* An orphan that REPEATABLE READ left next to its order can still be given another one. */
	if (strcmp(locked.payment->order_id, found->order_id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent move of payment \"%s\" of gateway \"%s\"",
						payment_ref, gateway),
				 errdetail("It was given another order at the same moment."),
				 errhint("Run the whole transaction again.")));
	return locked;
}

/* Refunds. */

static void
no_such_refund(const char *refund_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_REFUND),
			 errmsg("refund \"%s\" does not exist", refund_ref),
			 errhint("Give a refund_ref that order_timeout.refunds shows.")));
}

static Refund *
find_refund(const char *refund_ref)
{
	Refund	   *refund = ot_store_find_refund(refund_ref);

	if (refund == NULL)
		no_such_refund(refund_ref);
	return refund;
}

static Refund *
lock_found(const Refund *found)
{
	Refund	   *refund = ot_store_lock_refund(found);

	if (refund == NULL)
		no_such_refund(found->refund_ref);
	return refund;
}

static Refund *
lock_number(const char *gateway, const char *number)
{
	return number ? ot_store_lock_gateway_refund_ref(gateway, number) : NULL;
}

LockedRefund
ot_lock_refund(const char *refund_ref, const char *number)
{
	Refund	   *found = find_refund(refund_ref);
	LockedRefund locked = {0};

	locked.same_number = lock_number(found->gateway, number);
	locked.refund = lock_found(found);
	return locked;
}

/* A refund's gateway and payment never change, so they may be read before anything is locked. */
LockedRefund
ot_lock_refund_and_money(const char *refund_ref, const char *number)
{
	Refund	   *found = find_refund(refund_ref);
	LockedRefund locked;

	locked.money = ot_lock_payment(found->gateway, found->payment_ref);
	locked.same_number = lock_number(found->gateway, number);
	locked.refund = lock_found(found);
	return locked;
}

/* A refund of another payment stays unlocked: its payment and order would have to be locked before it. */
LockedRefund
ot_lock_number_and_money(const char *gateway, const char *payment_ref, const char *number)
{
	LockedRefund locked;

	locked.money = ot_lock_payment(gateway, payment_ref);
	locked.same_number = locked.refund = lock_number(gateway, number);
	if (locked.refund != NULL && strcmp(locked.refund->payment_ref, payment_ref) == 0)
		locked.refund = lock_found(locked.refund);
	return locked;
}
