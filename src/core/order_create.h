/*
 * order_create.h
 *    create_order.
 */
#ifndef OT_ORDER_CREATE_H
#define OT_ORDER_CREATE_H

#include "answers.h"

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
	bool		may_be_overdue; /* it was there before the engine */
} OrderTerms;

/* In memory only, as it is at now. */
extern Order *ot_order_make(const OrderTerms *terms, const Policy *policy, TimestampTz now);
extern OrderAnswer ot_order_create(const OrderTerms *terms);

#endif
