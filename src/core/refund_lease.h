/*
 * refund_lease.h
 *    What is reported of a refund, as its lease remembers it.
 */
#ifndef OT_REFUND_LEASE_H
#define OT_REFUND_LEASE_H

#include "rows.h"

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

#endif
