/*
 * refund_lease.c
 *    What is reported of a refund, as its lease remembers it.
 */
#include "postgres.h"

#include "lease.h"
#include "refund_lease.h"

const char *
ot_refund_report_line(const RefundReport *report)
{
	return psprintf("%s\t%s\t" INT64_FORMAT "\n", ot_refund_results[report->result],
					report->gateway_refund_ref ? report->gateway_refund_ref : "", report->refunded_amount);
}

/*
 * A worker may say more or less the second time. Only of a success it matters: another number or amount is a contradiction,
 * and a number that was missing is news.
 */
bool
ot_refund_was_reported(const Refund *refund, const RefundReport *report)
{
	bool		compares_all = report->result == RESULT_SUCCEEDED &&
	(report->gateway_refund_ref != NULL || report->refunded_amount != 0);

	return ot_lease_ended_with(&refund->lease, report->lease_token, compares_all ? ot_refund_report_line(report)
							   : psprintf("%s\t", ot_refund_results[report->result]));
}
