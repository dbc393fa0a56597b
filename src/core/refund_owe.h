/*
 * refund_owe.h
 *    A new obligation to return money.
 */
#ifndef OT_REFUND_OWE_H
#define OT_REFUND_OWE_H

#include "money.h"
#include "rows.h"

/* Moves the money, writes the refund and its event. The caller writes order and payment. */
extern Refund *ot_refund_owe(Order *order, Payment *payment, Bucket from, int64 amount, RefundReason reason, TimestampTz now);

/* The same without the money, in two steps: a refund that is due at once, in memory; then its row and its event. */
extern Refund *ot_refund_make(const Payment *payment, int64 amount, RefundReason reason, TimestampTz now);
extern void ot_refund_insert(Refund *refund);

/* The first step for what a refund still owes when a part of it went back. It needs attention where that one did. */
extern Refund *ot_refund_make_rest(const Refund *refund, const Payment *payment, int64 amount, TimestampTz now);

/* What a paid order keeps beyond its amount is owed to that payment; NULL if there is nothing. */
extern Refund *ot_refund_owe_surplus(Order *order, Payment *payment, TimestampTz now);

/* The oldest refund that the payment itself led to and that was not withdrawn, not one that was asked for later; or NULL. */
extern Refund *ot_refund_of(const Payment *payment);

#endif
