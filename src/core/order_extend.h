/*
 * order_extend.h
 *    extend_order.
 */
#ifndef OT_ORDER_EXTEND_H
#define OT_ORDER_EXTEND_H

#include "answers.h"

extern OrderAnswer ot_order_extend(const char *order_id, TimestampTz expires_at);

#endif
