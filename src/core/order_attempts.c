/*
 * order_attempts.c
 *    An order and its attempts: how long they keep it open, and what becomes of them when it is closed or paid.
 *
 * An order that no attempt was ever begun for (has_attempts) costs nothing here.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt_state.h"
#include "conflict.h"
#include "event.h"
#include "money.h"
#include "order_attempts.h"
#include "order_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* How long an order is open. */

/*
 * A promise of too little changes nothing: the buyer is still paying. One that covers is good until its end. What its
 * gateway reported as paid holds on until its payment comes.
 */
static TimestampTz
latest_hold(List *attempts)
{
	TimestampTz latest = OT_NO_TIME;
	ListCell   *cell;

	foreach(cell, attempts)
	{
		const Attempt *attempt = lfirst(cell);

		if (!attempt->covers && (ot_attempt_may_pay(attempt) || ot_attempt_is_reported_paid(attempt)))
			latest = Max(latest, attempt->holds_until);
	}
	return latest;
}

/*
 * One whose void is due promises nothing: its order may have been reopened since. Nor is a promise good for more than it was
 * made for: money that the order had next to it may have gone back.
 */
static bool
is_good(const Order *order, const Attempt *attempt)
{
	int64		lacks = ot_money_subtract(order->amount, ot_kept(&order->funds));

	if (!attempt->covers || attempt->next_attempt_at != OT_NO_TIME || attempt->authorized - attempt->captured < lacks)
		return false;
	return attempt->state == ATTEMPT_AUTHORIZED || ot_attempt_has_rest(attempt);
}

/* The promise that the order is authorised by; OT_NO_TIME if there is none any more. */
static TimestampTz
covered_until(const Order *order, List *attempts)
{
	ListCell   *cell;

	foreach(cell, attempts)
	{
		const Attempt *attempt = lfirst(cell);

		if (is_good(order, attempt))
			return attempt->valid_until;
	}
	return OT_NO_TIME;
}

static TimestampTz
hold_of(const Order *order, List *attempts, TimestampTz expires_at)
{
	int64		longest = ot_store_find_policy_of(order->order_id)->attempt_hold;
	TimestampTz hold = longest > 0 ? Min(latest_hold(attempts), expires_at + longest) : OT_NO_TIME;

	return order->state == ORDER_AUTHORIZED ? Max(hold, covered_until(order, attempts)) : hold;
}

TimestampTz
ot_attempts_hold(const Order *order, TimestampTz expires_at)
{
	return order->has_attempts ? hold_of(order, ot_store_find_attempts(order->order_id), expires_at) : OT_NO_TIME;
}

void
ot_attempts_let_go(Order *order)
{
	List	   *attempts;

	if (order->state != ORDER_PENDING && order->state != ORDER_AUTHORIZED)
		return;
	attempts = ot_store_find_attempts(order->order_id);
	if (order->state == ORDER_AUTHORIZED && covered_until(order, attempts) == OT_NO_TIME)
		ot_order_become_pending(order);
	ot_order_move_deadline(order, order->expires_at, hold_of(order, attempts, order->expires_at));
}

/* Ending them. */

/* Open or authorised at a gateway that can end it. */
static bool
can_be_voided(const Attempt *attempt)
{
	return attempt->can_void && (attempt->state == ATTEMPT_OPEN || attempt->state == ATTEMPT_AUTHORIZED);
}

bool
ot_attempts_come_first(const Order *order, const Policy *policy)
{
	ListCell   *cell;

	if (!order->has_attempts || order->state == ORDER_CLOSING || policy->before_close != BEFORE_CLOSE_VOID)
		return false;
	foreach(cell, ot_store_find_attempts(order->order_id))
	{
		if (can_be_voided(lfirst(cell)))
			return true;
	}
	return false;
}

/*
 * One that its gateway reported as paid needs attention until its payment comes; the void of a rest may find it captured.
 * Locked, because nothing of the order is written when one of several ends: above READ COMMITTED each of two calls would
 * see the other's attempt as it was, and none would close the order.
 */
bool
ot_attempts_may_pay(const Order *order)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_attempts(order->order_id))
	{
		const Attempt *attempt = lfirst(cell);

		if (can_be_voided(attempt) || attempt->state == ATTEMPT_NEEDS_ATTENTION ||
			ot_attempt_is_reported_paid(attempt) || (attempt->state == ATTEMPT_CAPTURED && attempt->next_attempt_at != OT_NO_TIME))
			return true;
	}
	return false;
}

bool
ot_attempts_lock_if_free(const Order *order)
{
	return !order->has_attempts || ot_store_lock_attempts_if_free(order->order_id);
}

static void
make_void_due(Attempt *attempt, TimestampTz now)
{
	ot_attempt_void(attempt, now);
	ot_write_attempt(attempt);
	ot_effect(attempt->order_id, "void.due", ot_attempt_payload(attempt), now);
}

static void
settle(Attempt *attempt, AttemptState state, TimestampTz now)
{
	ot_attempt_end(attempt, state, now);
	ot_write_attempt(attempt);
	ot_effect(attempt->order_id, "attempt.ended", ot_attempt_payload(attempt), now);
}

/* While the order is closing, what cannot be voided may still pay. */
static void
follow_order(const Order *order, Attempt *attempt, TimestampTz now)
{
	bool		has_rest = ot_attempt_has_rest(attempt) && ot_is_closed(order);

	if (attempt->next_attempt_at != OT_NO_TIME || attempt->attention_at != OT_NO_TIME)
		return;
	if (attempt->can_void && (ot_attempt_may_pay(attempt) || has_rest))
		make_void_due(attempt, now);
	else if (order->state != ORDER_CLOSING)
		settle(attempt, ATTEMPT_EXPIRED, now);
}

void
ot_attempts_follow(const Order *order)
{
	TimestampTz now;
	ListCell   *cell;

	if (!order->has_attempts || order->state == ORDER_PENDING || order->state == ORDER_AUTHORIZED)
		return;
	now = GetCurrentTimestamp();
	foreach(cell, ot_store_lock_attempts(order->order_id))
		follow_order(order, lfirst(cell), now);
}

/* Payments. */

void
ot_attempts_name(const Order *order, Payment *payment)
{
	const Attempt *attempt;

	if (payment->attempt_ref != NULL || !order->has_attempts)
		return;
	attempt = ot_store_find_attempt(payment->gateway, payment->payment_ref);
	if (attempt != NULL && attempt->settled_at == OT_NO_TIME && strcmp(attempt->order_id, order->order_id) == 0)
		payment->attempt_ref = payment->payment_ref;
}

/* Captured in part, and its order is authorised by the rest. */
static bool
may_capture_more(const Order *order, const Attempt *attempt, bool was_good)
{
	return was_good && order->state == ORDER_AUTHORIZED && ot_attempt_has_rest(attempt);
}

/* Nobody waits for the rest. */
static bool
is_to_be_voided(const Order *order, const Attempt *attempt)
{
	return order->state != ORDER_PAID && attempt->can_void && ot_attempt_has_rest(attempt);
}

/* Of what it promised; another currency is another sum. */
static int64
amount_of(const Attempt *attempt, const Payment *payment)
{
	return attempt->currency == NULL || strcmp(attempt->currency, payment->currency) == 0 ? payment->funds.paid : 0;
}

static void
capture(Order *order, Attempt *attempt, const Payment *payment, TimestampTz now)
{
	bool		was_captured = attempt->state == ATTEMPT_CAPTURED;
	bool		was_good = is_good(order, attempt) && attempt->settled_at == OT_NO_TIME;

	ot_attempt_become_captured(attempt, amount_of(attempt, payment), now);
	if (may_capture_more(order, attempt, was_good))
		ot_attempt_may_capture_more(attempt);
	else if (is_to_be_voided(order, attempt))
		ot_attempt_void(attempt, now);
	ot_write_attempt(attempt);
	if (!was_captured)
		ot_effect(attempt->order_id, "attempt.ended", ot_attempt_payload(attempt), now);
	if (attempt->next_attempt_at != OT_NO_TIME)
		ot_effect(attempt->order_id, "void.due", ot_attempt_payload(attempt), now);
}

/* The gateway says that an attempt to pay another order brought it: the money counts, and the operator looks. */
static void
note_other_order(const Payment *payment, TimestampTz now)
{
	Contradiction contradiction = {PROBLEM_OTHER_ORDERS_ATTEMPT, NULL, NULL, 0, 0, REASON_REQUESTED};
	int			held_from = ot_events_hold();

	(void) ot_conflict_note(payment, &contradiction, now);
	ot_events_release(held_from);
}

void
ot_attempts_capture(Order *order, const Payment *payment, TimestampTz now)
{
	Attempt    *attempt;

	if (payment->attempt_ref == NULL)
		return;
	attempt = ot_store_find_attempt(payment->gateway, payment->attempt_ref);
	if (attempt == NULL)
		return;
	if (strcmp(attempt->order_id, payment->order_id) != 0)
	{
		note_other_order(payment, now);
		return;
	}
	attempt = ot_store_lock_attempt(attempt);
	if (attempt != NULL)		/* its row may have been deleted by hand meanwhile */
		capture(order, attempt, payment, now);
	ot_attempts_let_go(order);
}
