/*
 * void_claim.h
 *    claim_voids: voids handed out to workers, and taken back from them.
 */
#ifndef OT_VOID_CLAIM_H
#define OT_VOID_CLAIM_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct ClaimedVoid
{
	Attempt    *attempt;
	int64		amount;			/* 0: it never was authorised */
	const char *action;
} ClaimedVoid;

/* lease 0: as long as the policy of the attempt's order says; gateway NULL: any. */
extern List *ot_void_claim(const char *worker, int max_voids, int64 lease, const char *gateway);

/* One of these policies, as ot_refund_claim_next does it. */
extern ClaimedVoid *ot_void_claim_next(const char *worker, List *policies, TimestampTz *from);

/* Its lease lapsed. */
extern void ot_void_take_back(Attempt *attempt, const Policy *policy, TimestampTz now);

#endif
