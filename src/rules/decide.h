/*
 * decide.h
 *    What becomes of a payment, and of part payments when their order closes. core carries it out.
 */
#ifndef OT_DECIDE_H
#define OT_DECIDE_H

#include "rows.h"

/* Whether the policy has a say about the payment. It is read only then. */
extern bool ot_policy_decides(const Order *order, const Payment *payment, TimestampTz now);

/* Whether an order that is due at now closes before money that comes now is looked at. */
extern bool ot_closes_first(const Order *order, const Policy *policy, TimestampTz now);

/* Of an order as it stands, closed first if it had to be. The policy may be NULL where it has no say. */
extern PaymentOutcome ot_decide_payment(const Order *order, const Payment *payment, const Policy *policy);

/* What the payment is to its order then. */
extern Disposition ot_disposition_of(PaymentOutcome outcome);

/* What is owed back at once, when the payment has joined its order's sums, and why. */
extern int64 ot_owed_at_once(const Order *order, const Payment *payment, PaymentOutcome outcome);
extern RefundReason ot_owed_for(PaymentOutcome outcome);

/* Whether a pending order is paid that lacks so much, if it lacks anything. */
extern bool ot_is_tolerated(const Policy *policy, int64 lacks);

/* Whether part payments wait for the operator when their order closes; else they are owed back. */
extern bool ot_holds_short(const Policy *policy);

#endif
