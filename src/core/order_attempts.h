/*
 * order_attempts.h
 *    An order and its attempts: how long they keep it open, and what becomes of them when it is closed or paid.
 */
#ifndef OT_ORDER_ATTEMPTS_H
#define OT_ORDER_ATTEMPTS_H

#include "rows.h"

/* The later of both is when the order closes; OT_NO_TIME if nothing keeps it open beyond its deadline. */
extern TimestampTz ot_attempts_hold(const Order *order, TimestampTz expires_at);

/* What an attempt did is written; now its order is open as long as the others say. The caller writes it. */
extern void ot_attempts_let_go(Order *order);

/* Of an order that is due: whether its attempts are to be ended first. */
extern bool ot_attempts_come_first(const Order *order, const Policy *policy);

/* Of an order that is closing: whether one of them may still bring money. Locks them. */
extern bool ot_attempts_may_pay(const Order *order);

/* What follows for them from a change of the order's state, which is written. */
extern void ot_attempts_follow(const Order *order);

/* An order's attempts are locked; false if another transaction has one of them. */
extern bool ot_attempts_lock_if_free(const Order *order);

/*
 * Before a payment is written: which attempt brought it, in payment->attempt_ref. After that, before the order is written:
 * the attempt is captured.
 */
extern void ot_attempts_name(const Order *order, Payment *payment);
extern void ot_attempts_capture(Order *order, const Payment *payment, TimestampTz now);

#endif
