/*
 * money.h
 *    The only place where money is added.
 */
#ifndef OT_MONEY_H
#define OT_MONEY_H

#include "rows.h"

typedef enum Bucket
{
	BUCKET_KEPT,
	BUCKET_HELD,
	BUCKET_REFUND_PENDING,
	BUCKET_REFUNDED
} Bucket;

extern int64 ot_money_add(int64 a, int64 b);
extern int64 ot_money_subtract(int64 a, int64 b);

/* For the proof, which reports instead of failing: false, and the sum unchanged, if it does not fit. */
extern bool ot_money_accumulate(int64 *sum, int64 by);

/* What is neither owed back, nor given back, nor held. */
extern int64 ot_kept(const Funds *funds);

/* What an order keeps beyond its amount. */
extern int64 ot_surplus(const Order *order);

/* Whether the payment's money is part of its order's sums. */
extern bool ot_counts_for_order(const Payment *payment);

/* How much of what the order keeps came with the payment. */
extern int64 ot_kept_for_order(const Payment *payment);

/* What a payment is to its order, and with that whether it counts there. The caller writes the payment. */
extern void ot_payment_become(Payment *payment, Disposition disposition);

/* Which attempt brought it. */
extern void ot_payment_name_attempt(Payment *payment, const char *attempt_ref);

/* Takes a payment into its order's sums, with whatever became of it so far. The caller writes the order. */
extern void ot_funds_join(Order *order, const Payment *payment);

/* Whether the order's sums can hold it as well. */
extern bool ot_funds_can_join(const Order *order, const Payment *payment);

/*
 * Moves money of a payment, and of its order if the payment counts there (order may be NULL if not). The caller writes
 * both: a call that forgets it fails, see unwritten.h.
 */
extern void ot_funds_move(Order *order, Payment *payment, Bucket from, Bucket to, int64 amount);

/* All that is kept of the payment waits for the operator from now on. The caller writes both. */
extern void ot_funds_hold(Order *order, Payment *payment, TimestampTz now);

#endif
