/*
 * order_deadline.h
 *    set_deadline and reopen_order: deadlines that move either way.
 */
#ifndef OT_ORDER_DEADLINE_H
#define OT_ORDER_DEADLINE_H

#include "answers.h"

extern OrderAnswer ot_order_set_deadline(const char *order_id, TimestampTz expires_at);

/* Expires_in NULL and expires_at OT_NO_TIME: the policy's pay_within. */
extern OrderAnswer ot_order_reopen(const char *order_id, const Interval *expires_in, TimestampTz expires_at);

#endif
