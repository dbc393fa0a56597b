/*
 * lease.h
 *    Leases by their tokens: whose is current, and which ended how.
 */
#ifndef OT_LEASE_H
#define OT_LEASE_H

#include "rows.h"

/*
 * A report is a line: its result and what else tells it from others, separated by tabs, with a newline at the end. Where it
 * is compared it may be the begin of one.
 */

/* Only this worker learns the token, so a report that carries it comes from the worker that has the row now. */
extern void ot_lease_begin(Lease *lease, const char *worker, TimestampTz until);

/* Nobody has it now; the token is remembered. */
extern void ot_lease_end(Lease *lease);

/* Whether the report comes from the worker that has it. A lapsed lease is current until it is taken back. */
extern bool ot_lease_is_current(const Lease *lease, const char *token);

/* Whether that lease ended with this very report. */
extern bool ot_lease_ended_with(const Lease *lease, const char *token, const char *report);

/* Whether it ended, and another one came after it. */
extern bool ot_lease_is_outdated(const Lease *lease, const char *token);

/* Whether the gateway itself, without a token, reported the same since the row was last handed out. */
extern bool ot_lease_gateway_repeats(const Lease *lease, const char *report);
extern void ot_lease_remember_gateway(Lease *lease, const char *report);

/* The current lease ends with this report. */
extern void ot_lease_remember(Lease *lease, const char *report);

#endif
