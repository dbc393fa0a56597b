/*
 * conflict.h
 *    What a gateway says in contradiction to what is recorded.
 */
#ifndef OT_CONFLICT_H
#define OT_CONFLICT_H

#include "rows.h"

/* Leaves a row for a person and an event. Told again, it is the same conflict. The caller holds the payment. */
extern void ot_conflict_note(const Payment *payment, const char *refund_ref, const char *gateway_refund_ref, int64 amount,
							 const char *problem, TimestampTz now);
extern const char *ot_conflict_resolve(int64 conflict_id, const char *note);

#endif
