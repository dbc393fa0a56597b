/*
 * refund_claim.h
 *    claim_refunds: refunds handed out to workers, and taken back from them.
 */
#ifndef OT_REFUND_CLAIM_H
#define OT_REFUND_CLAIM_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct ClaimedRefund
{
	Refund	   *refund;
	int64		payment_amount;
	const char *action;
} ClaimedRefund;

/* lease 0: as long as the refund's policy says; gateway NULL: any. */
extern List *ot_refund_claim(const char *worker, int max_refunds, int64 lease, const char *gateway);

/*
 * One refund of these policies, leased for as long as its policy says; NULL if none is due at or after from. From moves on
 * to the time before which no more is to be expected, so that refunds of other policies are not passed again and again.
 */
extern ClaimedRefund *ot_refund_claim_next(const char *worker, List *policies, TimestampTz *from);

/* Its lease lapsed. */
extern void ot_refund_take_back(Refund *refund, const Policy *policy, TimestampTz now);

/* The gateway took it and has not said the end in time. */
extern void ot_refund_stop_waiting(Refund *refund, TimestampTz now);

#endif
