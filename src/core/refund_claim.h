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

/* Its lease lapsed. */
extern void ot_refund_take_back(Refund *refund, const Policy *policy, TimestampTz now);

/* The gateway took it and has not said the end in time. */
extern void ot_refund_stop_waiting(Refund *refund, TimestampTz now);

#endif
