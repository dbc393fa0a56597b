/*
 * store_fast_rows.h
 *    Private to the stores: what the fast store does in place of an SQL statement, where it serves the table. Each does
 *    what the function of store.h with the same name says.
 */
#ifndef OT_STORE_FAST_ROWS_H
#define OT_STORE_FAST_ROWS_H

#include "nodes/lockoptions.h"
#include "nodes/pg_list.h"
#include "rows.h"
#include "store_fast.h"

extern Order *ot_fast_find_order(const char *order_id);
extern Order *ot_fast_lock_order(const char *order_id, LockWaitPolicy wait_policy);
extern bool ot_fast_insert_order(const Order *order);
extern void ot_fast_update_order(const Order *order);
/* Set_aside: their order_ids. Alone: nobody else looks for due orders now. */
extern List *ot_fast_find_due(TimestampTz from, TimestampTz now, int limit, List *set_aside, bool alone);
extern List *ot_fast_update_due(List *orders);
extern TimestampTz ot_fast_next_deadline(TimestampTz from, List *set_aside);

extern Payment *ot_fast_find_payment(const char *gateway, const char *payment_ref);
extern Payment *ot_fast_lock_payment(const Payment *found, LockWaitPolicy wait_policy);
extern List *ot_fast_lock_payments(const char *order_id);
/* False also when that payment may be there in a moment: the SQL store waits and tells. */
extern bool ot_fast_insert_payment(const Payment *payment);
extern void ot_fast_update_payment(const Payment *payment);

extern Refund *ot_fast_find_refund(const char *refund_ref);
extern Refund *ot_fast_lock_refund(const Refund *found);
/* The look only, not the meeting. */
extern Refund *ot_fast_find_gateway_refund(const char *gateway, const char *gateway_refund_ref);
extern List *ot_fast_lock_due_refunds(TimestampTz now, const char *gateway, int limit);
extern void ot_fast_insert_refund(const Refund *refund);
extern void ot_fast_update_refund(const Refund *refund);

extern Policy *ot_fast_find_policy(const char *policy);

extern void ot_fast_add_event(const Event *event);
extern void ot_fast_add_events(List *events);

#endif
