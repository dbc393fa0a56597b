/*
 * follow.h
 *    What follows a change of an order's state. The rules are in follow.c.
 */
#ifndef OT_FOLLOW_H
#define OT_FOLLOW_H

#include "nodes/pg_list.h"
#include "rows.h"

/*
 * Orders that a call has closed, and nothing but that: what fails makes the call fail. Without wait, a row that somebody
 * else holds fails, too (55P03).
 */
extern void ot_follow_closing(List *orders, bool wait);

/*
 * Takes the rows that the closing of an order will write. False when somebody else holds one: then it is left for the next
 * pass, like an order that is locked itself.
 */
extern bool ot_follow_may_close(const Order *order);

/* An order that a payment has moved, or NULL: what fails is left for the sweeper, the payment stands. */
extern void ot_follow_payment(Order *order, bool wait);

/* Those that failed and are due again, oldest first. */
extern List *ot_follow_find_due(TimestampTz now, int limit);
/* False when somebody else is at work on it, or it is done; an error is the caller's to note with ot_follow_failed. */
extern bool ot_follow_again(const FollowUp *follow_up);
extern void ot_follow_failed(const FollowUp *follow_up, const char *sqlstate, const char *error);
/* Whether it was still there. */
extern bool ot_follow_resolve(int64 follow_up_id);

#endif
