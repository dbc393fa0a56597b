/*
 * settle.h
 *    How an order is created, paid and closed. The state diagram is in settle.c.
 */
#ifndef OT_SETTLE_H
#define OT_SETTLE_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct OrderAnswer
{
	const char *outcome;
	const Order *order;			/* NULL: not found */
} OrderAnswer;

typedef struct PayAnswer
{
	const char *outcome;
	const Order *order;			/* NULL: unknown */
	Disposition disposition;
	const char *refund_ref;		/* NULL: nothing is given back */
	int64		refund_amount;
} PayAnswer;

/* What create_order was asked for; expires_in NULL and expires_at OT_NO_TIME when not given. */
typedef struct OrderTerms
{
	const char *order_id;
	int64		amount;
	const char *currency;
	const char *policy;
	const Interval *expires_in;
	TimestampTz expires_at;
	Jsonb	   *metadata;
} OrderTerms;

extern OrderAnswer ot_order_create(const OrderTerms *terms);
extern OrderAnswer ot_order_cancel(const char *order_id, const char *reason);
extern OrderAnswer ot_order_expire(const char *order_id);
extern OrderAnswer ot_order_extend(const char *order_id, TimestampTz expires_at);

/* Closes orders that were found due by then, all together; answers with those that nobody else took first. */
extern List *ot_orders_expire(List *due, TimestampTz now);

extern PayAnswer ot_payment_record(Payment *told);
extern OrderAnswer ot_payment_resolve_held(const char *gateway, const char *payment_ref, Decision decision);

/* Applies a waiting payment, locked like its order, as if it came now. */
extern PayAnswer ot_payment_apply(Order *order, Payment *orphan, TimestampTz now);

#endif
