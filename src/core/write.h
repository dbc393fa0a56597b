/*
 * write.h
 *    Orders, payments and refunds, written: the only way from the use cases to their rows.
 */
#ifndef OT_WRITE_H
#define OT_WRITE_H

#include "lock.h"
#include "nodes/pg_list.h"
#include "rows.h"

/* False when the order is there already, or its policy is gone. */
extern bool ot_insert_order(Order *order);
extern void ot_write_order(Order *order);

/*
 * Orders that were found due and closed in memory. Answers with those that no other transaction took first; only these
 * are written.
 */
extern List *ot_write_due_orders(List *orders);

/* What was changed in memory is not to be written: it turned out that nothing happened. */
extern void ot_give_up_order(Order *order);
extern void ot_give_up_refund(Refund *refund);

/* False when it is there already. */
extern bool ot_insert_payment(Payment *payment);
extern void ot_write_payment(Payment *payment);

/* Both rows of a payment whose money moved; the order's only if the payment counts there. */
extern void ot_write_money(Order *order, Payment *payment);

/* False when it is there already. */
extern bool ot_insert_attempt(Attempt *attempt);
extern void ot_write_attempt(Attempt *attempt);

extern void ot_insert_refund(Refund *refund);
extern void ot_write_refund(Refund *refund);
extern void ot_write_refund_and_event(Refund *refund, const char *event_type, TimestampTz now);
extern void ot_write_refund_and_effect(Refund *refund, const char *event_type, TimestampTz now);

#endif
