/*
 * payment.c
 *    record_payment, and what a payment does to its order: one function for each state that it may find the order in.
 *
 * How the states change stands in order_state.c, and the invariants too.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "follow.h"
#include "money.h"
#include "order_close.h"
#include "order_state.h"
#include "payment.h"
#include "refund_owe.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* Each of these decides about one payment in one state of its order, in memory; the caller writes both rows. */

static PaymentAnswer
apply_wrong_currency(const Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_WRONG_CURRENCY);
	return ot_payment_answer("wrong_currency", order, payment,
							 ot_refund_owe(NULL, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_WRONG_CURRENCY, now));
}

/* Its order's sums would leave bigint. It is recorded all the same, since it is real money, and stays out of them. */
static PaymentAnswer
apply_uncounted(const Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_UNCOUNTED);
	return ot_payment_answer("surplus", order, payment,
							 ot_refund_owe(NULL, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_SURPLUS, now));
}

/* What the order keeps beyond its amount goes back to the payment that brought it. */
static Refund *
owe_surplus(Order *order, Payment *payment, TimestampTz now)
{
	int64		surplus = ot_money_subtract(ot_kept(&order->funds), order->amount);

	return surplus > 0 ? ot_refund_owe(order, payment, BUCKET_KEPT, surplus, REASON_SURPLUS, now) : NULL;
}

/* Some policies take an order for paid that lacks a little; they are read only where that decides. */
bool
ot_payment_is_enough(const Order *order)
{
	int64		lacks = ot_money_subtract(order->amount, ot_kept(&order->funds));

	return lacks <= 0 || lacks <= ot_store_find_policy_of(order->order_id)->short_tolerance;
}

static PaymentAnswer
apply_to_pending(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_APPLIED);
	ot_funds_join(order, payment);
	if (!ot_payment_is_enough(order))
		return ot_payment_answer("partial", order, payment, NULL);
	ot_order_become_paid(order, now);
	return ot_payment_answer("paid", order, payment, owe_surplus(order, payment, now));
}

static PaymentAnswer
apply_to_paid(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_SURPLUS);
	ot_funds_join(order, payment);
	return ot_payment_answer("surplus", order, payment,
							 ot_refund_owe(order, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_SURPLUS, now));
}

static PaymentAnswer
hold(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_HELD);
	ot_funds_join(order, payment);
	ot_funds_hold(order, payment, now);
	return ot_payment_answer("held", order, payment, NULL);
}

static PaymentAnswer
reopen(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_APPLIED);
	ot_funds_join(order, payment);
	ot_order_become_paid(order, now);
	return ot_payment_answer("reopened", order, payment, owe_surplus(order, payment, now));
}

static PaymentAnswer
give_back_late(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_LATE);
	ot_funds_join(order, payment);
	return ot_payment_answer("late", order, payment,
							 ot_refund_owe(order, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_LATE, now));
}

static PaymentAnswer
apply_to_closed(Order *order, Payment *payment, const Policy *policy, TimestampTz now)
{
	OnLate		on_late;

	payment->late_reason = ot_late_reason(order, payment);
	on_late = ot_on_late(policy, payment);
	if (on_late == ON_LATE_HOLD)
		return hold(order, payment, now);
	if (on_late == ON_LATE_REOPEN && !payment->cannot_reopen && order->state == ORDER_EXPIRED &&
		ot_kept(&payment->funds) >= order->amount)
		return reopen(order, payment, now);
	return give_back_late(order, payment, now);
}

/* The policy is read only where it decides: after the deadline, or when money is missing. */
static PaymentAnswer
apply(Order *order, Payment *payment, TimestampTz now)
{
	Policy	   *policy = NULL;

	if (strcmp(order->currency, payment->currency) != 0)
		return apply_wrong_currency(order, payment, now);
	if (!ot_funds_can_join(order, payment))
		return apply_uncounted(order, payment, now);
	if (ot_is_closed(order) || ot_is_due(order, now))
		policy = ot_store_find_policy_of(order->order_id);
	if (ot_is_due(order, now) && policy->late_rule == LATE_AT_DEADLINE)
		ot_order_expire_for_payment(order, now);
	if (order->state == ORDER_PENDING)
		return apply_to_pending(order, payment, now);
	if (order->state == ORDER_PAID)
		return apply_to_paid(order, payment, now);
	return apply_to_closed(order, payment, policy, now);
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
	ot_write_money(decision->order, decision->payment);
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
	return order != NULL && order->state == ORDER_PENDING && !ot_is_due(order, now) &&
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

	decision->answer = order != NULL ? apply(order, reported, decision->now) : keep_as_orphan(reported);
	if (!ot_insert_payment(reported))
	{
		decision->answer = recorded_meanwhile(order, reported, decision->looked_before);
		return;
	}
	if (order != NULL && ot_counts_for_order(reported))
		ot_write_order(order);
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
