/*
 * refund_report.h
 *    complete_refund: what a worker or the gateway reports about a refund.
 */
#ifndef OT_REFUND_REPORT_H
#define OT_REFUND_REPORT_H

#include "answers.h"
#include "refund_lease.h"

extern RefundAnswer ot_refund_complete(const RefundReport *report);

#endif
