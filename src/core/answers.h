/*
 * answers.h
 *    What the use cases answer with.
 */
#ifndef OT_ANSWERS_H
#define OT_ANSWERS_H

#include "rows.h"

typedef struct OrderAnswer
{
	const char *outcome;
	const Order *order;			/* NULL: not found */
} OrderAnswer;

typedef struct PaymentAnswer
{
	const char *outcome;
	const Order *order;			/* NULL: unknown */
	Disposition disposition;
	const char *refund_ref;		/* NULL: nothing is given back */
	int64		refund_amount;
	const char *late_reason;	/* NULL: not late */
} PaymentAnswer;

typedef struct RefundAnswer
{
	const char *outcome;
	RefundState state;
	TimestampTz next_attempt_at;
	const char *refund_ref;		/* of record_refund, reverse_refund */
} RefundAnswer;

extern OrderAnswer ot_order_answer(const char *outcome, const Order *order);
extern PaymentAnswer ot_payment_answer(const char *outcome, const Order *order, const Payment *payment, const Refund *refund);
extern RefundAnswer ot_refund_answer(const char *outcome, const Refund *refund);

#endif
