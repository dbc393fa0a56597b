/*
 * refund_record.h
 *    record_refund: money that already went back without us.
 */
#ifndef OT_REFUND_RECORD_H
#define OT_REFUND_RECORD_H

#include "answers.h"

extern RefundAnswer ot_refund_record(const char *gateway, const char *payment_ref, const char *gateway_refund_ref,
									 int64 amount, RefundReason reason);

#endif
