/*
 * refund_decide.h
 *    retry_refund, settle_refund, reverse_refund: what the operator decides.
 */
#ifndef OT_REFUND_DECIDE_H
#define OT_REFUND_DECIDE_H

#include "answers.h"

extern RefundAnswer ot_refund_retry(const char *refund_ref);
extern RefundAnswer ot_refund_settle(const char *refund_ref, const char *note);
extern RefundAnswer ot_refund_reverse(const char *refund_ref, const char *reason);
extern RefundAnswer ot_refund_stop_by_hand(const char *refund_ref, const char *note);
extern RefundAnswer ot_refund_withdraw(const char *refund_ref, const char *note);

#endif
