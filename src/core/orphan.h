/*
 * orphan.h
 *    Payments whose order is not known (yet).
 */
#ifndef OT_ORPHAN_H
#define OT_ORPHAN_H

#include "answers.h"
#include "lock.h"

typedef struct OrphanAnswer
{
	const char *outcome;
	const char *refund_ref;
} OrphanAnswer;

extern OrphanAnswer ot_orphan_refund(const char *gateway, const char *payment_ref);
extern PaymentAnswer ot_orphan_assign(const char *gateway, const char *payment_ref, const char *order_id);

/* Applies the payments that came before their order was created, oldest first. */
extern void ot_orphans_apply(Order *order, TimestampTz now);

/*
 * Applies an orphan that stands next to its order, or gives it back if it has none and may_give_back. False if there is
 * nothing to do any more or another transaction holds a row.
 */
extern bool ot_orphan_settle(const Payment *found, bool may_give_back);

/* An orphan whose money is here again, after its order was created without it: applies it. Payment and order are written. */
extern void ot_orphan_join(const Locked *money, TimestampTz now);

#endif
