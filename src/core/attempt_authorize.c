/*
 * attempt_authorize.c
 *    authorize_attempt: a gateway promises money. No money of ours until it is captured, which record_payment reports.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt_authorize.h"
#include "attempt_end.h"
#include "decide.h"
#include "errors.h"
#include "event.h"
#include "money.h"
#include "order_attempts.h"
#include "order_close.h"
#include "order_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* A promise that moved its order is reported as the order's event; each type of event has one shape. */
static void
add_event(const Order *order, const Attempt *attempt, const char *outcome, TimestampTz now)
{
	Payload    *payload;

	if (strcmp(outcome, "authorized") != 0)
	{
		payload = ot_attempt_payload(attempt);
		ot_payload_text(payload, "outcome", outcome);
		ot_event(order->order_id, "attempt.authorized", payload, now);
		return;
	}
	payload = ot_order_payload(order);
	ot_payload_text(payload, "gateway", attempt->gateway);
	ot_payload_text(payload, "attempt_ref", attempt->attempt_ref);
	ot_payload_int(payload, "authorized", attempt->authorized);
	ot_payload_time(payload, "valid_until", attempt->valid_until);
	ot_event(order->order_id, "order.authorized", payload, now);
}

static void
require_same_terms(const Attempt *known, const Authorization *authorization)
{
	if (known->authorized == authorization->amount && strcmp(known->currency, authorization->currency) == 0)
		return;
	ereport(ERROR,
			(errcode(OT_PAYMENT_DIFFERS),
			 errmsg("attempt \"%s\" of gateway \"%s\" is authorised with other terms", known->attempt_ref, known->gateway),
			 errdetail("It is authorised for %lld %s, and now for %lld %s.", (long long) known->authorized, known->currency,
					   (long long) authorization->amount, authorization->currency),
			 errhint("The gateway contradicts itself: keep the message, and alert the operator.")));
}

/* The gateway repeats itself; a promise may have become good for longer. */
static OrderAnswer
authorized_before(LockedAttempt *locked, const Authorization *authorization, TimestampTz now)
{
	Attempt    *attempt = locked->attempt;

	require_same_terms(attempt, authorization);
	if (authorization->valid_until <= attempt->valid_until) /* an older message may come again */
		return ot_order_answer("duplicate", locked->order);
	ot_attempt_note_authorization(attempt, authorization);
	ot_write_attempt(attempt);
	ot_attempts_let_go(locked->order);
	if (locked->order->unwritten)
		ot_write_order(locked->order);
	add_event(locked->order, attempt, "duplicate", now);
	return ot_order_answer("duplicate", locked->order);
}

static bool
covers(const Order *order, const Authorization *authorization)
{
	return authorization->amount >= ot_money_subtract(order->amount, ot_kept(&order->funds));
}

static const char *
decide(const Order *order, const Attempt *attempt, const Authorization *authorization)
{
	if (strcmp(order->currency, authorization->currency) != 0)
		return "wrong_currency";
	if (order->state == ORDER_PAID || order->state == ORDER_AUTHORIZED)
		return "surplus";
	if (ot_is_closed(order) || order->state == ORDER_CLOSING || !ot_attempt_may_pay(attempt))
		return "late";
	return covers(order, authorization) ? "authorized" : "partial";
}

/* A promise that nobody can use. */
static void
give_back(const Order *order, Attempt *attempt, bool late, TimestampTz now)
{
	if (attempt->can_void)
	{
		ot_attempt_void(attempt, now);
		ot_effect(order->order_id, "void.due", ot_attempt_payload(attempt), now);
	}
	else if (!late || ot_is_closed(order))
	{
		ot_attempt_end(attempt, ATTEMPT_EXPIRED, now);
		ot_effect(order->order_id, "attempt.ended", ot_attempt_payload(attempt), now);
	}
}

/* What it is good for now. */
static void
become_authorized(const Order *order, Attempt *attempt, const Authorization *authorization, bool covering, bool late,
				  TimestampTz now)
{
	bool		is_over = late || order->state == ORDER_PAID || ot_is_closed(order) || order->state == ORDER_CLOSING;

	if (attempt->state == ATTEMPT_CAPTURED)
	{
		ot_attempt_note_authorization(attempt, authorization);	/* its payment was reported first */
		return;
	}
	ot_attempt_become_authorized(attempt, authorization, covering);
	if (is_over && attempt->next_attempt_at == OT_NO_TIME && attempt->state != ATTEMPT_NEEDS_ATTENTION)
		give_back(order, attempt, late, now);
}

OrderAnswer
ot_attempt_authorize(const char *gateway, const char *attempt_ref, const Authorization *authorization)
{
	LockedAttempt locked = ot_lock_attempt(gateway, attempt_ref);
	Order	   *order = locked.order;
	Attempt    *attempt = locked.attempt;
	TimestampTz now = GetCurrentTimestamp();
	const char *outcome;
	bool		covering;

	if (attempt->authorized > 0)
		return authorized_before(&locked, authorization, now);
	if (ot_is_due(order, now) && ot_closes_first(order, ot_store_find_policy_of(order->order_id), now))
		ot_order_expire_for_payment(order, now);
	outcome = decide(order, attempt, authorization);
	covering = strcmp(outcome, "authorized") == 0;
	become_authorized(order, attempt, authorization, covering, strcmp(outcome, "late") == 0, now);
	ot_write_attempt(attempt);
	if (covering)
		ot_order_become_authorized(order);
	ot_attempts_let_go(order);
	if (order->unwritten)
		ot_write_order(order);
	add_event(order, attempt, outcome, now);
	return ot_order_answer(outcome, order);
}
