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

extern Payment *ot_fast_find_payment(const char *gateway, const char *payment_ref);
extern Payment *ot_fast_lock_payment(const char *gateway, const char *payment_ref, LockWaitPolicy wait_policy);
/* False also when that payment may be there in a moment: the SQL store waits and tells. */
extern bool ot_fast_insert_payment(const Payment *payment);
extern void ot_fast_update_payment(const Payment *payment);

extern Policy *ot_fast_find_policy(const char *policy);

extern void ot_fast_add_events(List *events);

#endif
