/*
 * store_row.h
 *    Private to the stores: rows of the tables from and into the structs of rows.h.
 *
 * Columns stand in the order of the tables. What is only written (metadata, details) is the last column and is not among
 * them.
 */
#ifndef OT_STORE_ROW_H
#define OT_STORE_ROW_H

#include "rows.h"
#include "store_values.h"

extern void *ot_read_order(Columns *columns);
extern void *ot_read_payment(Columns *columns);
extern void *ot_read_refund(Columns *columns);
extern void *ot_read_policy(Columns *columns);

extern void ot_order_args(Args *args, const Order *order);
extern void ot_payment_args(Args *args, const Payment *payment);
extern void ot_refund_args(Args *args, const Refund *refund);

#endif
