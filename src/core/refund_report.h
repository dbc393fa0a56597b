/*
 * refund_report.h
 *    complete_refund: what a worker or the gateway reports about a refund.
 */
#ifndef OT_REFUND_REPORT_H
#define OT_REFUND_REPORT_H

#include "answers.h"
#include "lock.h"

typedef struct RefundReport
{
	const char *refund_ref;
	RefundResult result;
	const char *lease_token;
	const char *gateway_refund_ref;
	const char *error;
	int64		refunded_amount;	/* 0: as much as was asked */
} RefundReport;

/* As its lease remembers it, and whether that lease ended with this very report. */
extern const char *ot_refund_report_line(const RefundReport *report);
extern bool ot_refund_was_reported(const Refund *refund, const RefundReport *report);

extern RefundAnswer ot_refund_complete(const RefundReport *report);

#endif
