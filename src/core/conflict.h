/*
 * conflict.h
 *    What a gateway says in contradiction to what is recorded.
 */
#ifndef OT_CONFLICT_H
#define OT_CONFLICT_H

#include "nodes/pg_list.h"
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
	PROBLEM_OWED_AGAIN,
	PROBLEM_FAILED_AFTER_ALL,
	PROBLEM_COUNTED_ONCE,
	PROBLEM_MAYBE_COUNTED_TWICE,
	PROBLEM_OTHER_ORDERS_ATTEMPT
} Problem;

/* A report that contradicts, and what of it is counted nowhere. */
typedef struct Contradiction
{
	Problem		problem;
	const char *refund_ref;		/* NULL: nothing of the report is recorded */
	const char *gateway_refund_ref;
	int64		reported;
	int64		amount;			/* counted nowhere */
	RefundReason reason;		/* REASON_REQUESTED: complete_refund reported it */
} Contradiction;

/*
 * Leaves a row for the operator and an event. Reported again, it is the same conflict: then it answers false, and nothing
 * is left. The caller holds the payment.
 */
extern bool ot_conflict_note(const Payment *payment, const Contradiction *contradiction, TimestampTz now);

/* All conflicts about a payment, resolved ones too, oldest first. */
extern List *ot_conflicts_of(const Payment *payment);

/* Whether there was a conflict about that number and amount before, of a report by record_refund or of any. */
extern bool ot_conflicts_have(List *conflicts, const char *gateway_refund_ref, int64 reported, bool by_record_refund);

/* Whether there was one about that refund, for that amount without a number. */
extern bool ot_conflicts_have_success(List *conflicts, const char *refund_ref, int64 reported);

/* That of a report by record_refund under that number with another amount, or NULL. */
extern Conflict *ot_conflict_with_other_amount(List *conflicts, const char *gateway_refund_ref, int64 reported);

/* That of which nothing could be recorded under that number and which nobody resolved, or NULL. */
extern Conflict *ot_conflict_of_number(List *conflicts, const char *gateway_refund_ref);

/* Whether nothing of what it reports is recorded, and nobody resolved it. */
extern bool ot_conflict_is_open_report(const Conflict *conflict);

/* It turned out what was behind it: it leaves attention, with a note and an event. */
extern void ot_conflict_end(Conflict *conflict, const char *note, TimestampTz now);

/* All that was reported under that number is recorded by now. */
extern void ot_conflicts_end_with_number(List *conflicts, const char *gateway_refund_ref, const char *note, TimestampTz now);
extern void ot_conflicts_end_of(List *conflicts, const char *refund_ref, const char *note, TimestampTz now);

#endif
