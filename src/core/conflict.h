/*
 * conflict.h
 *    What a gateway says in contradiction to what is recorded.
 */
#ifndef OT_CONFLICT_H
#define OT_CONFLICT_H

#include "rows.h"

/* In what way it contradicts. Equal conflicts are noted once, so each problem has one wording, wherever it is found. */
typedef enum Problem
{
	NO_PROBLEM,
	PROBLEM_OTHER_REFUND,
	PROBLEM_OTHER_PAYMENT,
	PROBLEM_MORE_THAN_ASKED,
	PROBLEM_MORE_THAN_LEFT,
	PROBLEM_LESS_THAN_RECORDED,
	PROBLEM_TWO_NUMBERS,
	PROBLEM_SETTLED_BY_HAND,
	PROBLEM_OWED_AGAIN
} Problem;

/* Leaves a row for a person and an event. Reported again, it is the same conflict. The caller holds the payment. */
extern void ot_conflict_note(const Payment *payment, const char *refund_ref, const char *gateway_refund_ref, int64 amount,
							 Problem problem, TimestampTz now);
extern const char *ot_conflict_resolve(int64 conflict_id, const char *note);

#endif
