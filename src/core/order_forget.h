/*
 * order_forget.h
 *    forget_order: what people wrote about an order is emptied; the money's rows and the proof stay.
 */
#ifndef OT_ORDER_FORGET_H
#define OT_ORDER_FORGET_H

/* Answers the outcome. */
extern const char *ot_order_forget(const char *order_id);

#endif
