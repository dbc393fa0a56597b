/*
 * refund.h
 *    The life of a refund. The state diagram is in refund.c.
 */
#ifndef OT_REFUND_H
#define OT_REFUND_H

#include "money.h"
#include "nodes/pg_list.h"
#include "rows.h"

typedef struct RefundAnswer
{
	const char *outcome;
	RefundState state;
	TimestampTz next_attempt_at;
	const char *refund_ref;		/* of record_refund, reverse_refund */
} RefundAnswer;

typedef struct RefundReport
{
	const char *refund_ref;
	RefundResult result;
	const char *lease_token;
	const char *gateway_refund_ref;
	const char *error;
	int64		refunded_amount;	/* 0: as much as was asked */
} RefundReport;

typedef struct ClaimedRefund
{
	Refund	   *refund;
	int64		payment_amount;
	const char *action;
} ClaimedRefund;

/* A new obligation: moves the money, writes the refund row and its event. The caller writes order and payment. */
extern Refund *ot_refund_owe(Order *order, Payment *payment, Bucket from, int64 amount, RefundReason reason, TimestampTz now);

/* A refund of a payment, due at once; the first form is not yet written, the money not yet moved. */
extern Refund *ot_refund_make(const Payment *payment, int64 amount, RefundReason reason, TimestampTz now);
extern Refund *ot_refund_insert(Refund *refund);

/* The oldest refund that the payment itself led to, not one that was asked for later; or NULL. */
extern Refund *ot_refund_of(const Payment *payment);

extern List *ot_refund_claim(const char *worker, int max_refunds, int64 lease, const char *gateway);
extern RefundAnswer ot_refund_complete(RefundReport *report);
extern RefundAnswer ot_refund_retry(const char *refund_ref);
extern RefundAnswer ot_refund_settle(const char *refund_ref, const char *note);
extern RefundAnswer ot_refund_reverse(const char *refund_ref, const char *reason);
extern RefundAnswer ot_refund_record(const char *gateway, const char *payment_ref, const char *gateway_refund_ref,
									 int64 amount, RefundReason reason);

/* The gateway took it and never said the end. */
extern void ot_refund_stop_waiting(Refund *refund, TimestampTz now);

/* A lapsed lease counts as an attempt that ended unknown. */
extern void ot_refund_take_back(Refund *refund, const Policy *policy, TimestampTz now);

#endif
