/*
 * replay.h
 *    replay_orders: what the engine would have done with orders that were not its own.
 */
#ifndef OT_REPLAY_H
#define OT_REPLAY_H

#include "rows.h"

typedef struct ReplayTerms
{
	const char *query;
	const char *policy;
	const Interval *pay_within; /* NULL: the policy's */
	int64		sweep_lag;		/* microseconds; so long after its deadline an order closes */
	int64		report_lag;		/* and so long after paid_at a payment is reported */
} ReplayTerms;

/* One thing that happened to an order. */
typedef struct ReplayStep
{
	const char *order_id;
	TimestampTz at;
	const char *outcome;
	OrderState	state;			/* after it */
	const char *currency;
	int64		paid;
	int64		owed;			/* from now on */
	int64		held;			/* the same */
} ReplayStep;

typedef void (*ReplayVisitor) (const ReplayStep *step, void *state);

/* Order after order, each from its beginning to its end. Writes nothing. */
extern void ot_replay(const ReplayTerms *terms, ReplayVisitor visit, void *state);

#endif
