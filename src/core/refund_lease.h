/*
 * refund_lease.h
 *    Leases by their tokens: whose is current, and which ended how.
 */
#ifndef OT_REFUND_LEASE_H
#define OT_REFUND_LEASE_H

#include "refund_report.h"

/* Whether the report comes from the worker that has the refund. A lapsed lease is current until it is taken back. */
extern bool ot_lease_is_current(const Refund *refund, const char *token);

/* Whether a worker has it; then only that worker may report a result other than success. */
extern bool ot_lease_is_running(const Refund *refund, TimestampTz now);

/* Whether that lease ended with this very report. */
extern bool ot_lease_ended_with(const Refund *refund, const RefundReport *report);

/* Whether it ended, and another one came after it. */
extern bool ot_lease_is_outdated(const Refund *refund, const char *token);

/* Whether the gateway itself, without a token, reported the same since the refund was last handed out. */
extern bool ot_lease_gateway_repeats(const Refund *refund, const RefundReport *report);
extern void ot_lease_remember_gateway(Refund *refund, const RefundReport *report);

/* The current lease ends with this report, or (NULL) with none. */
extern void ot_lease_remember(Refund *refund, const RefundReport *report);

#endif
