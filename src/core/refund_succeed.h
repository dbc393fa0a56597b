/*
 * refund_succeed.h
 *    A refund whose money went back, as a worker or the gateway reports it.
 */
#ifndef OT_REFUND_SUCCEED_H
#define OT_REFUND_SUCCEED_H

#include "answers.h"
#include "lock.h"
#include "refund_lease.h"

/* complete_refund with succeeded. */
extern RefundAnswer ot_refund_complete_succeeded(const RefundReport *report);

/* The gateway returned the money of an open refund: writes refund, payment and order. */
extern RefundAnswer ot_refund_succeed(const LockedRefund *locked, const RefundReport *report, TimestampTz now);

#endif
