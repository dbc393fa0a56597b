/*
 * chargeback.h
 *    reverse_chargeback: a chargeback was won, or a refund by the gateway's dashboard bounced.
 */
#ifndef OT_CHARGEBACK_H
#define OT_CHARGEBACK_H

#include "answers.h"
#include "lock.h"

/* By the gateway's number, or by refund_ref; the other one may be NULL. */
extern RefundAnswer ot_chargeback_reverse(const char *gateway, const char *gateway_refund_ref, const char *refund_ref,
										  const char *note);

/* The same for a row that is locked, and was not reversed before. Its replaced_by names the refund that owes money now. */
extern void ot_chargeback_give_back(const LockedRefund *locked, const char *note, TimestampTz now);

#endif
