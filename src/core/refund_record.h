/*
 * refund_record.h
 *    record_refund: money that already went back without us.
 */
#ifndef OT_REFUND_RECORD_H
#define OT_REFUND_RECORD_H

#include "answers.h"

/* What the gateway reports under a number of its own. */
typedef struct ExternalReport
{
	const char *gateway;
	const char *payment_ref;
	const char *gateway_refund_ref;
	int64		amount;
	RefundReason reason;		/* REASON_EXTERNAL or REASON_CHARGEBACK */
	const char *currency;		/* NULL: not reported */
} ExternalReport;

extern RefundAnswer ot_refund_record(const ExternalReport *report);

#endif
