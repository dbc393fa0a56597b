/*
 * payment.c
 *    record_payment, and what a payment does to its order.
 *
 * What becomes of it is decided in decide.c. How the states change stands in order_state.c, and the invariants too.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "decide.h"
#include "errors.h"
#include "event.h"
#include "follow.h"
#include "money.h"
#include "order_attempts.h"
#include "order_close.h"
#include "order_state.h"
#include "payment.h"
#include "refund_owe.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* The policy is read only where money is missing. */
bool
ot_payment_is_enough(const Order *order)
{
	int64		kept = ot_kept(&order->funds);
	int64		lacks = ot_money_subtract(order->amount, kept);

	return lacks <= 0 || (kept > 0 && ot_is_tolerated(ot_store_find_policy_of(order->order_id), lacks));
}

void
ot_payment_settle(Order *order, Payment *payment, PaymentOutcome outcome, TimestampTz now)
{
	if (ot_is_closed(order) && outcome != OUTCOME_WRONG_CURRENCY && outcome != OUTCOME_UNCOUNTED)
		payment->late_reason = ot_late_reason(order, payment);
	ot_payment_become(payment, ot_disposition_of(outcome));
	if (ot_counts_for_order(payment))
		ot_funds_join(order, payment);
	if (outcome == OUTCOME_HELD)
		ot_funds_hold(order, payment, now);
	if (outcome == OUTCOME_PAID || outcome == OUTCOME_REOPENED)
		ot_order_become_paid(order, now);
}

/* The caller writes both rows. */
static PaymentAnswer
apply(Order *order, Payment *payment, TimestampTz now)
{
	Policy	   *policy = ot_policy_decides(order, payment, now) ? ot_store_find_policy_of(order->order_id) : NULL;
	PaymentOutcome outcome;
	Refund	   *refund = NULL;
	int64		owed;

	if (ot_closes_first(order, policy, now))
		ot_order_expire_for_payment(order, now);
	ot_attempts_name(order, payment);
	outcome = ot_decide_payment(order, payment, policy);
	ot_payment_settle(order, payment, outcome, now);
	owed = ot_owed_at_once(order, payment, outcome);
	if (owed > 0)
		refund = ot_refund_owe(order, payment, BUCKET_KEPT, owed, ot_owed_for(outcome), now);
	return ot_payment_answer(ot_payment_outcomes[outcome], order, payment, refund);
}

/* A payment that moved its order is reported as the order's event; each type of event has one shape. */
void
ot_payment_event(const Order *order, const Payment *payment, const char *outcome, TimestampTz now)
{
	Payload    *payload;

	if (strcmp(outcome, "paid") != 0 && strcmp(outcome, "reopened") != 0)
	{
		ot_event(payment->order_id, psprintf("payment.%s", outcome), ot_payment_payload(payment), now);
		return;
	}
	payload = ot_order_payload(order);
	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_int(payload, "payment_amount", payment->funds.paid);
	ot_payload_text(payload, "late_reason", payment->late_reason);
	ot_event(order->order_id, psprintf("order.%s", outcome), payload, now);
	if (ot_kept(&order->funds) < order->amount)
		ot_event(order->order_id, "order.accepted_short", ot_order_payload(order), now);
}

/* The attempt that brought the payment may have kept the order open, also where its money does not count. */
static void
write_order_of(const Payment *payment, Order *order, TimestampTz now)
{
	ot_attempts_capture(order, payment, now);
	if (order->unwritten || ot_counts_for_order(payment))
		ot_write_order(order);
}

/* A reopen_hook may refuse what was decided about a payment; then it is decided again, from the same rows. */
typedef struct PaymentDecision
{
	Order	   *order;
	Payment    *payment;
	TimestampTz now;
	bool		looked_before;
	PaymentAnswer answer;
} PaymentDecision;

static void
apply_orphan(void *work_state)
{
	PaymentDecision *decision = work_state;

	decision->answer = apply(decision->order, decision->payment, decision->now);
	ot_write_payment(decision->payment);
	write_order_of(decision->payment, decision->order, decision->now);
	ot_payment_event(decision->order, decision->payment, decision->answer.outcome, decision->now);
}

static PaymentAnswer
decide(Work work, PaymentDecision *decision)
{
	Order	   *order = decision->order;
	Order		order_before;
	Payment		payment_before = *decision->payment;

	if (order == NULL || (!ot_is_closed(order) && !ot_is_due(order, decision->now)))
	{
		work(decision);
		return decision->answer;
	}
	order_before = *order;
	if (!ot_follow_unless_refused(work, decision))
	{
		*order = order_before;
		*decision->payment = payment_before;
		decision->payment->cannot_reopen = true;
		work(decision);
	}
	return decision->answer;
}

PaymentAnswer
ot_payment_apply(Order *order, Payment *orphan, TimestampTz now)
{
	PaymentDecision decision = {order, orphan, now};

	return decide(apply_orphan, &decision);
}

/* record_payment */

static bool
is_same_payment(const Payment *reported, const Payment *known)
{
	bool		same_order = strcmp(reported->order_id, known->order_id) == 0;

	if (!same_order && known->told_order_id != NULL)
		same_order = strcmp(reported->order_id, known->told_order_id) == 0;
	return same_order && reported->funds.paid == known->funds.paid && strcmp(reported->currency, known->currency) == 0;
}

/* Which attempt brought it may be said in a repeat only. The order is read again: it may have been changed in memory. */
static void
name_attempt(const Payment *known, const char *attempt_ref)
{
	Order	   *order = ot_store_lock_order(known->order_id);
	Payment    *payment = ot_store_lock_payment(known);

	if (payment == NULL || payment->attempt_ref != NULL)
		return;
	ot_payment_name_attempt(payment, attempt_ref);
	if (order != NULL)			/* an orphan's attempt is captured when it finds its order */
		ot_attempts_capture(order, payment, GetCurrentTimestamp());
	ot_write_payment(payment);
	if (order != NULL && order->unwritten)
		ot_write_order(order);
}

static PaymentAnswer
recorded_before(const Payment *reported, const Payment *known)
{
	if (!is_same_payment(reported, known))
		ereport(ERROR,
				(errcode(OT_PAYMENT_DIFFERS),
				 errmsg("payment \"%s\" of gateway \"%s\" is recorded with other terms",
						known->payment_ref, known->gateway),
				 errdetail("It is recorded for order \"%s\" with %lld %s, "
						   "and reported now for order \"%s\" with %lld %s.",
						   known->order_id, (long long) known->funds.paid, known->currency,
						   reported->order_id, (long long) reported->funds.paid, reported->currency),
				 errhint("Two payments share a number, or the gateway contradicts itself: "
						 "keep the message, and alert the operator.")));
	if (reported->attempt_ref != NULL && known->attempt_ref == NULL && strcmp(reported->order_id, known->order_id) == 0)
		name_attempt(known, reported->attempt_ref);
	return ot_payment_answer("duplicate", ot_store_find_order(known->order_id), known, ot_refund_of(known));
}

/*
 * The payment was there when it was to be written. A call that looked before and found nothing has written other rows
 * by now, which must not stay: at the same moment another call reported the same number.
 */
static PaymentAnswer
recorded_meanwhile(Order *order, const Payment *reported, bool looked_before)
{
	Payment    *known = ot_store_find_payment(reported->gateway, reported->payment_ref);

	if (order != NULL)
		ot_give_up_order(order);
	if (known == NULL)
		ot_row_not_written();
	if (looked_before && is_same_payment(reported, known))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent recording of payment \"%s\" of gateway \"%s\"",
						reported->payment_ref, reported->gateway),
				 errhint("Run the whole transaction again.")));
	return recorded_before(reported, known);
}

/*
 * The common case: writing the payment shows as well whether it was recorded before, and until then nothing but memory
 * has changed. Anything else writes other rows first, so it looks first.
 */
static bool
will_be_applied_whole(const Order *order, const Payment *reported, TimestampTz now)
{
	return order != NULL && ot_order_is_open(order) && !ot_is_due(order, now) &&
		strcmp(order->currency, reported->currency) == 0 &&
		reported->funds.paid <= ot_money_subtract(order->amount, ot_kept(&order->funds)) &&
		ot_funds_can_join(order, reported);
}

static PaymentAnswer
keep_as_orphan(Payment *payment)
{
	ot_payment_become(payment, PAYMENT_ORPHAN);
	return ot_payment_answer("orphan", NULL, payment, NULL);
}

static void
record_reported(void *work_state)
{
	PaymentDecision *decision = work_state;
	Order	   *order = decision->order;
	Payment    *reported = decision->payment;
	char	   *named = reported->attempt_ref;

	decision->answer = order != NULL ? apply(order, reported, decision->now) : keep_as_orphan(reported);
	if (!ot_insert_payment(reported))
	{
		reported->attempt_ref = named;	/* a repeat names what its caller names */
		decision->answer = recorded_meanwhile(order, reported, decision->looked_before);
		return;
	}
	if (order != NULL)
		write_order_of(reported, order, decision->now);
	ot_payment_event(order, reported, decision->answer.outcome, decision->now);
}

PaymentAnswer
ot_payment_record(Payment *reported)
{
	/*
	 * An order that is not there may be created at this moment: the second of the two calls sees what the first one
	 * did.
	 */
	Order	   *order = ot_lock_order_or_id(reported->order_id);
	TimestampTz now = GetCurrentTimestamp();
	bool		look = !will_be_applied_whole(order, reported, now) || !ot_store_insert_payment_finds_duplicate();
	Payment    *known = look ? ot_store_find_payment(reported->gateway, reported->payment_ref) : NULL;
	PaymentDecision decision = {order, reported, now, look};

	if (known != NULL)
		return recorded_before(reported, known);
	reported->received_at = now;
	return decide(record_reported, &decision);
}
