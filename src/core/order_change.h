/*
 * order_change.h
 *    change_order: another amount for a pending order.
 */
#ifndef OT_ORDER_CHANGE_H
#define OT_ORDER_CHANGE_H

#include "answers.h"

extern OrderAnswer ot_order_change(const char *order_id, int64 amount);

#endif
