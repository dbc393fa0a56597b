/*
 * attempt_end.c
 *    end_attempt, and what the end of an attempt means for its order.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt_end.h"
#include "attempt_state.h"
#include "errors.h"
#include "event.h"
#include "follow.h"
#include "lock.h"
#include "order_attempts.h"
#include "order_close.h"
#include "order_state.h"
#include "rules.h"
#include "set_aside.h"
#include "store.h"
#include "subtransaction.h"
#include "write.h"

/* An attempt's order never changes, so it may be read before anything is locked. */
LockedAttempt
ot_lock_attempt(const char *gateway, const char *attempt_ref)
{
	Attempt    *found = ot_store_find_attempt(gateway, attempt_ref);
	LockedAttempt locked;

	if (found == NULL)
		ot_no_such_attempt(gateway, attempt_ref);
	locked.order = ot_lock_order(found->order_id);
	locked.attempt = ot_store_lock_attempt(found);
	if (locked.attempt == NULL)
		ot_no_such_attempt(gateway, attempt_ref);
	return locked;
}

/* The order waited for its attempts only. What fails here is the closing, not what was reported: the sweeper tries again. */

static void
close_now(void *work_state)
{
	ot_order_close_after_attempts(work_state);
	ot_follow();
}

static void
close_or_set_aside(const char *order_id, TimestampTz now)
{
	Order	   *order;
	Failure		failure;

	if (ot_try_after_report(close_now, unconstify(char *, order_id), &failure))
		return;
	order = ot_store_lock_order(order_id);
	ot_order_end_voids(order, now);
	ot_write_order(order);
	ot_set_order_aside(order_id, &failure);
}

void
ot_attempt_ended(LockedAttempt *locked, const char *event_type, TimestampTz now)
{
	Order	   *order = locked->order;
	OrderState	before = order->state;

	ot_write_attempt(locked->attempt);
	ot_attempts_let_go(order);
	if (order->unwritten)
		ot_write_order(order);
	ot_event(order->order_id, event_type, ot_attempt_payload(locked->attempt), now);
	if (order->state != before)
		ot_event(order->order_id, "order.changed", ot_order_payload(order), now);
	if (order->state != ORDER_CLOSING || ot_attempts_may_pay(order))
		return;
	close_or_set_aside(order->order_id, now);
	locked->order = ot_store_find_order(order->order_id);
}

/* Of what was captured in part the rest may end, and what its void found paid without any payment. */
static bool
has_ended(const Attempt *attempt)
{
	if (attempt->state != ATTEMPT_CAPTURED || attempt->settled_at != OT_NO_TIME)
		return attempt->settled_at != OT_NO_TIME;
	return !ot_attempt_has_rest(attempt) && attempt->attention_at == OT_NO_TIME;
}

OrderAnswer
ot_attempt_report_end(const char *gateway, const char *attempt_ref, AttemptState result)
{
	LockedAttempt locked = ot_lock_attempt(gateway, attempt_ref);
	TimestampTz now = GetCurrentTimestamp();

	if (has_ended(locked.attempt))
		return ot_order_answer("already_ended", locked.order);
	ot_attempt_end(locked.attempt, result, now);
	ot_attempt_ended(&locked, "attempt.ended", now);
	return ot_order_answer("ended", locked.order);
}
