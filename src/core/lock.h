/*
 * lock.h
 *    Orders, payments and refunds, locked in the one order that keeps single calls from deadlocking.
 */
#ifndef OT_LOCK_H
#define OT_LOCK_H

#include "rows.h"

typedef struct Locked
{
	Order	   *order;			/* NULL: the payment is an orphan */
	Payment    *payment;
} Locked;

/* A refund with everything that a report of returned money touches. */
typedef struct LockedRefund
{
	Locked		money;
	Refund	   *refund;
	Refund	   *same_number;	/* the refund that has the reported gateway_refund_ref already, or NULL */
} LockedRefund;

/* OT001 if there is no such order. */
extern Order *ot_lock_order(const char *order_id);

/* NULL if there is none. */
extern Order *ot_lock_order_if_there(const char *order_id);

/* NULL if there is none, and nobody creates it before this transaction ends. */
extern Order *ot_lock_order_or_id(const char *order_id);

/* Order, then payment; OT009 if there is no such payment. */
extern Locked ot_lock_payment(const char *gateway, const char *payment_ref);

/* The refund alone, where its state moves and no money; OT006 if there is no such refund. number may be NULL. */
extern LockedRefund ot_lock_refund(const char *refund_ref, const char *number);

/* Order, payment, number, refund. */
extern LockedRefund ot_lock_refund_and_money(const char *refund_ref, const char *number);

/* The same for a caller that knows no refund_ref: refund is the one that has the number, or NULL. */
extern LockedRefund ot_lock_number_and_money(const char *gateway, const char *payment_ref, const char *number);

#endif
