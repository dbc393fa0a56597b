/*
 * rules.c
 *    Rules that need no row and no clock of their own.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"

#include "rules.h"

#define FIRST_RETRY        (10 * USECS_PER_SEC)
#define LONGEST_RETRY      USECS_PER_HOUR

bool
ot_is_due(const Order *order, TimestampTz now)
{
	return ot_order_is_open(order) && now >= order->closes_at;
}

bool
ot_state_is_open(OrderState state)
{
	return state == ORDER_PENDING || state == ORDER_AUTHORIZED || state == ORDER_CLOSING;
}

bool
ot_order_is_open(const Order *order)
{
	return ot_state_is_open(order->state);
}

bool
ot_is_closed(const Order *order)
{
	return order->state == ORDER_EXPIRED || order->state == ORDER_CANCELLED;
}

bool
ot_reminder_is_due(const Order *order, const Policy *policy, TimestampTz now)
{
	return order->state == ORDER_PENDING && !ot_is_due(order, now) && order->closes_at - now <= policy->remind_before &&
		order->reminded_of != order->expires_at;
}

bool
ot_is_open(const Refund *refund)
{
	return refund->state != REFUND_SUCCEEDED && refund->state != REFUND_REVERSED;
}

bool
ot_refund_is_clear(const Refund *refund)
{
	return refund->lease.token == NULL && !refund->maybe_sent;
}

bool
ot_refund_is_of_request(const Refund *refund)
{
	return refund->reason == REASON_REQUESTED || refund->was_requested;
}

bool
ot_is_overlong(const Refund *refund, const Policy *policy, TimestampTz now)
{
	return refund->state == REFUND_SUBMITTED && refund->submitted_at <= ot_submitted_limit(policy, now);
}

bool
ot_is_external(const Refund *refund)
{
	return refund->reason == REASON_EXTERNAL || refund->reason == REASON_CHARGEBACK;
}

#define NOTIFIED_LATE "notified_late"

char *
ot_late_reason(const Order *order, const Payment *payment)
{
	bool		paid_in_time = (payment->paid_at != OT_NO_TIME &&
								payment->paid_at < order->closes_at && payment->paid_at < order->settled_at);

	return paid_in_time ? NOTIFIED_LATE : "paid_late";
}

bool
ot_is_late(const Payment *payment)
{
	return payment->late_reason != NULL;
}

OnLate
ot_on_late(const Policy *policy, const char *late_reason)
{
	if (policy->on_notified_late != ON_LATE_UNSET && strcmp(late_reason, NOTIFIED_LATE) == 0)
		return policy->on_notified_late;
	return policy->on_late;
}

/* Spreads a wait so that refunds that failed together are not tried together, and bounds it. */
static TimestampTz
after(const Policy *policy, int64 wait, TimestampTz now)
{
	double		spread = 1.0 + policy->refund_jitter * (2.0 * pg_prng_double(&pg_global_prng_state) - 1.0);
	int64		spread_wait = (int64) (wait * spread);

	return now + Min(spread_wait, policy->refund_backoff_max);
}

TimestampTz
ot_next_attempt(const Policy *policy, int attempts, TimestampTz now)
{
	int64		wait = policy->refund_backoff;

	for (int i = 1; i < attempts && wait < policy->refund_backoff_max; i++)
		wait *= 2;
	return after(policy, Min(wait, policy->refund_backoff_max), now);
}

/*
 * Asking uses up no attempts, so the wait cannot double with them: it doubles with the time that has passed
 * since the gateway took the refund, which comes to the same.
 */
TimestampTz
ot_next_query(const Policy *policy, TimestampTz submitted_at, TimestampTz now)
{
	int64		wait = Max(now - submitted_at, policy->refund_backoff);

	return after(policy, Min(wait, policy->refund_backoff_max), now);
}

TimestampTz
ot_submitted_limit(const Policy *policy, TimestampTz now)
{
	return now - policy->refund_settle_within;
}

/* A month counts as 30 days and a day as 24 hours: for waits and leases that is exact enough. */
int64
ot_interval_usecs(const Interval *interval)
{
	return interval->time + (interval->day + interval->month * (int64) DAYS_PER_MONTH) * USECS_PER_DAY;
}

int
ot_cut_length(const char *text, int length)
{
	return length <= OT_MAX_TEXT_BYTES ? length : pg_mbcliplen(text, length, OT_MAX_TEXT_BYTES);
}

int64
ot_retry_wait(int failures)
{
	int64		wait = FIRST_RETRY;

	for (int i = 1; i < failures && wait < LONGEST_RETRY; i++)
		wait *= 2;
	return Min(wait, LONGEST_RETRY);
}

const char *
ot_cut_text(const char *text)
{
	int			length = text == NULL ? 0 : strlen(text);

	return length <= OT_MAX_TEXT_BYTES ? text : pnstrdup(text, ot_cut_length(text, length));
}
