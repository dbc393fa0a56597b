/*
 * rules.h
 *    Rules that need no row and no clock of their own: when something is due, late, or tried again.
 */
#ifndef OT_RULES_H
#define OT_RULES_H

#include "rows.h"

/* Half-open: at its deadline an order is due. */
extern bool ot_is_due(const Order *order, TimestampTz now);

/* Pending, authorized or closing: it may become paid in time. */
extern bool ot_state_is_open(OrderState state);
extern bool ot_order_is_open(const Order *order);

extern bool ot_is_closed(const Order *order);

/* A pending order that falls due within remind_before and was not reminded of its deadline yet. */
extern bool ot_reminder_is_due(const Order *order, const Policy *policy, TimestampTz now);

/* Neither succeeded nor reversed: the money is still owed. */
extern bool ot_is_open(const Refund *refund);

/* The gateway took it, and has not said the end for longer than the policy allows. */
extern bool ot_is_overlong(const Refund *refund, const Policy *policy, TimestampTz now);

/*
 * Surely not with the gateway: never handed out, or it failed since. A leased refund is out, so is one whose end nobody
 * reported.
 */
extern bool ot_refund_is_clear(const Refund *refund);

/* Whether it was requested, or owes again what was. */
extern bool ot_refund_is_of_request(const Refund *refund);

/* What record_refund wrote: money that went back without us. */
extern bool ot_is_external(const Refund *refund);

/* Why a payment came too late for a closed order: notified_late or paid_late. */
extern char *ot_late_reason(const Order *order, const Payment *payment);

/* It came after its order was closed, whatever became of it then. */
extern bool ot_is_late(const Payment *payment);

/* What the policy wants of a payment that is late for that reason. */
extern OnLate ot_on_late(const Policy *policy, const char *late_reason);

/* When a refund that was tried attempts times is tried again. */
extern TimestampTz ot_next_attempt(const Policy *policy, int attempts, TimestampTz now);

/* When a refund that the gateway took is asked about again. */
extern TimestampTz ot_next_query(const Policy *policy, TimestampTz submitted_at, TimestampTz now);

/* What a gateway took at or before this time, and has not ended since, needs the operator. */
extern TimestampTz ot_submitted_limit(const Policy *policy, TimestampTz now);

/* Of an interval that api_args or a CHECK has bounded. */
extern int64 ot_interval_usecs(const Interval *interval);

/* How long what failed so often waits until it is tried again. */
extern int64 ot_retry_wait(int failures);

/*
 * What a person can read: free text is no longer. Cut at the end of a character; what is short enough is answered as it
 * is.
 */
#define OT_MAX_TEXT_BYTES 4000
extern int	ot_cut_length(const char *text, int length);
extern const char *ot_cut_text(const char *text);

#endif
