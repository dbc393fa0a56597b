/*
 * order_close.h
 *    Closing an order: expire_order, cancel_order, and the closing that the sweeper and a late payment do.
 */
#ifndef OT_ORDER_CLOSE_H
#define OT_ORDER_CLOSE_H

#include "answers.h"
#include "nodes/pg_list.h"

extern OrderAnswer ot_order_expire(const char *order_id);
extern OrderAnswer ot_order_cancel(const char *order_id, const char *reason);

/*
 * For the sweeper: orders that were found due by then, all together. Answers with those that no other transaction took
 * first.
 */
extern List *ot_orders_expire(List *due, TimestampTz now);

/* A closing order whose attempts have ended. */
extern void ot_order_close_after_attempts(const char *order_id);

/* For a payment that finds its order due: the caller writes the order, once, with the payment in it. */
extern void ot_order_expire_for_payment(Order *order, TimestampTz now);

#endif
