/*
 * attempt_begin.c
 *    begin_attempt: before a buyer is sent to a gateway.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt_begin.h"
#include "attempt_state.h"
#include "decide.h"
#include "errors.h"
#include "event.h"
#include "lock.h"
#include "order_attempts.h"
#include "order_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static void
require_same_order(const Attempt *known, const char *order_id)
{
	if (strcmp(known->order_id, order_id) == 0)
		return;
	ereport(ERROR,
			(errcode(OT_PAYMENT_DIFFERS),
			 errmsg("attempt \"%s\" of gateway \"%s\" was begun for another order", known->attempt_ref, known->gateway),
			 errdetail("It was begun for order \"%s\", and this call is for order \"%s\".", known->order_id, order_id),
			 errhint("Give each attempt the gateway's own number.")));
}

/* Under at_deadline what comes now would be late, also where the sweeper has not come by yet. */
static bool
is_too_late(const Order *order, TimestampTz now)
{
	if (ot_is_closed(order) || order->state == ORDER_CLOSING)
		return true;
	return ot_is_due(order, now) && ot_closes_first(order, ot_store_find_policy_of(order->order_id), now);
}

static Attempt *
make_attempt(const AttemptTerms *terms, TimestampTz now)
{
	Attempt    *attempt = palloc0(sizeof(Attempt));

	attempt->gateway = terms->gateway;
	attempt->attempt_ref = terms->attempt_ref;
	attempt->order_id = pstrdup(terms->order_id);
	attempt->details = terms->details;
	attempt->can_void = terms->can_void;
	attempt->holds_until = terms->holds_for > 0 ? now + terms->holds_for : OT_NO_TIME;
	ot_attempt_begin(attempt, now);
	return attempt;
}

OrderAnswer
ot_attempt_to_pay(const AttemptTerms *terms)
{
	Order	   *order = ot_lock_order(terms->order_id);
	TimestampTz now = GetCurrentTimestamp();
	Attempt    *attempt = ot_store_find_attempt(terms->gateway, terms->attempt_ref);

	if (attempt != NULL)
	{
		require_same_order(attempt, terms->order_id);
		return ot_order_answer("exists", order);
	}
	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (is_too_late(order, now))
		return ot_order_answer("already_closed", order);
	attempt = make_attempt(terms, now);
	if (!ot_insert_attempt(attempt))
	{
		Attempt    *known = ot_store_find_attempt(terms->gateway, terms->attempt_ref);

		if (known == NULL)
			ot_row_not_written();
		require_same_order(known, terms->order_id);
		return ot_order_answer("exists", order);
	}
	ot_order_note_attempts(order);
	ot_attempts_let_go(order);
	ot_write_order(order);
	ot_event(order->order_id, "attempt.begun", ot_attempt_payload(attempt), now);
	return ot_order_answer("begun", order);
}
