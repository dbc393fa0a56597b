/*
 * orphan.h
 *    Payments whose order is not known (yet).
 */
#ifndef OT_ORPHAN_H
#define OT_ORPHAN_H

#include "settle.h"

typedef struct OrphanAnswer
{
	const char *outcome;
	const char *refund_ref;
} OrphanAnswer;

extern OrphanAnswer ot_orphan_refund(const char *gateway, const char *payment_ref);
extern PayAnswer ot_orphan_assign(const char *gateway, const char *payment_ref, const char *order_id);

/* Applies an orphan that stands beside its order; false if somebody else was faster or holds the order. */
extern bool ot_orphan_heal(const Payment *stray);

#endif
