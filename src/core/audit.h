/*
 * audit.h
 *    The proof: payments and refunds added up, and held against the orders.
 */
#ifndef OT_AUDIT_H
#define OT_AUDIT_H

#include "rows.h"

typedef struct Violation
{
	const char *kind;
	const char *order_id;
	const char *gateway;
	const char *payment_ref;
	const char *refund_ref;
	const char *problem;
} Violation;

typedef void (*ViolationVisitor) (const Violation *violation, void *state);

typedef struct OrderFunds
{
	OrderState	state;
	int64		amount;
	const char *currency;
	Funds		funds;			/* added up from payments and refunds */
	bool		balanced;
} OrderFunds;

extern OrderFunds ot_audit_order(const char *order_id);

/* since OT_NO_TIME: all orders; else those with an event since then. */
extern void ot_audit_all(TimestampTz since, ViolationVisitor visit, void *state);

#endif
