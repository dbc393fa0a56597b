/*
 * lock.h
 *    A payment and its order, locked in the one order that keeps single calls from deadlocking.
 */
#ifndef OT_LOCK_H
#define OT_LOCK_H

#include "rows.h"

typedef struct Locked
{
	Order	   *order;			/* NULL: the payment is an orphan */
	Payment    *payment;
} Locked;

/* Order, then payment; OT009 if there is no such payment. */
extern Locked ot_lock_payment(const char *gateway, const char *payment_ref);

/* Writes what ot_funds_move changed in memory. */
extern void ot_write_money(const Locked *locked);

#endif
