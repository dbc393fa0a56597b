/*
 * order_state.h
 *    The states of an order and the steps between them. The diagram is in order_state.c.
 */
#ifndef OT_ORDER_STATE_H
#define OT_ORDER_STATE_H

#include "rows.h"

/* Each changes the row in memory; the caller writes it, or its call fails (unwritten.h). */
extern void ot_order_begin(Order *order, TimestampTz expires_at);
extern void ot_order_become_pending(Order *order);
extern void ot_order_become_pending_again(Order *order, TimestampTz expires_at);
extern void ot_order_change_amount(Order *order, int64 amount);
extern void ot_order_move_deadline(Order *order, TimestampTz expires_at, TimestampTz open_until);
extern void ot_order_end_voids(Order *order, TimestampTz now);
extern void ot_order_note_attempts(Order *order);
extern void ot_order_note_reminder(Order *order);
extern void ot_order_become_authorized(Order *order);
extern void ot_order_become_closing(Order *order, TimestampTz void_until);
extern void ot_order_become_paid(Order *order, TimestampTz now);
extern void ot_order_become_expired(Order *order, TimestampTz now);
extern void ot_order_become_cancelled(Order *order, const char *reason, TimestampTz now);

#endif
