/*
 * payment.h
 *    record_payment, and what a payment does to its order.
 */
#ifndef OT_PAYMENT_H
#define OT_PAYMENT_H

#include "answers.h"

/* Fills in what became of it. */
extern PaymentAnswer ot_payment_record(Payment *reported);

/* Applies an orphan, locked like its order, as if it arrived now. */
extern PaymentAnswer ot_payment_apply(Order *order, Payment *orphan, TimestampTz now);

/* What was decided, in memory; without the refund of what is owed. */
extern void ot_payment_settle(Order *order, Payment *payment, PaymentOutcome outcome, TimestampTz now);

/* Whether what a pending order keeps makes it paid: its amount, or what its policy takes for it. */
extern bool ot_payment_is_enough(const Order *order);

/* Writes the event of what a payment did; both rows are written by then. Order NULL: an orphan. */
extern void ot_payment_event(const Order *order, const Payment *payment, const char *outcome, TimestampTz now);

#endif
