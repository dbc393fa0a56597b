/*
 * settle.c
 *    How an order is created, paid and closed. Order states change in this file only.
 *
 *             create                 take_pending: the sum reaches the amount
 *               |      (amount 0) +--------------------------------------------> paid
 *               v                 |                                               ^ ^
 *            pending -------------+                                               | |
 *               |  |                                                              | |
 *               |  +-- close, by expire_order, the sweeper, or a payment  --> expired |
 *               |      that finds it due under late_rule at_deadline      |  (reopen, |
 *               |                                                         |   accept) |
 *               +----- close, by cancel_order ----------------------> cancelled ------+
 *                                                                              (accept)
 *
 * Invariants:
 *  1. A state is read under the row's lock and changed under the same lock; the clock is read after the lock is held.
 *  2. A closed order keeps nothing: what it was paid is owed back, given back, or held.
 *  3. Each call writes the order row once, so that its CHECKs see the end of the transition and nothing in between.
 *  4. A payment is written together with what became of it; nothing that a gateway told us is dropped.
 *  5. Locks: order, then payments, then refunds. Who finds no order to lock meets the others at its order_id, and only
 *     then locks any row.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "refund.h"
#include "rules.h"
#include "settle.h"
#include "store.h"

static OrderAnswer
answer(const char *outcome, const Order *order)
{
	OrderAnswer result = {outcome, order};

	return result;
}

static PayAnswer
pay_answer(const char *outcome, const Order *order, const Payment *payment, const Refund *refund)
{
	PayAnswer	result = {outcome, order, payment->disposition, NULL, 0};

	if (refund != NULL)
	{
		result.refund_ref = refund->refund_ref;
		result.refund_amount = refund->asked;
	}
	return result;
}

static Order *
lock_order(const char *order_id)
{
	Order	   *order = ot_store_lock_order(order_id);

	if (order == NULL)
		ot_no_such_order(order_id);
	return order;
}

static Payload *
order_payload(const Order *order)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "state", ot_order_states[order->state]);
	ot_payload_int(payload, "amount", order->amount);
	ot_payload_text(payload, "currency", order->currency);
	ot_payload_int(payload, "paid", order->funds.paid);
	ot_payload_int(payload, "refund_pending", order->funds.refund_pending);
	ot_payload_time(payload, "expires_at", order->expires_at);
	ot_payload_text(payload, "reason", order->close_reason);
	return payload;
}

/* Closing. */

/* Everything kept is owed back, each payment's part to itself. Writes payments and refunds; the caller writes the order. */
static void
close_order(Order *order, OrderState state, const char *reason, TimestampTz now)
{
	RefundReason why = state == ORDER_EXPIRED ? REASON_EXPIRED : REASON_CANCELLED;
	List	   *payments = ot_kept(&order->funds) > 0 ? ot_store_lock_payments(order->order_id) : NIL;
	ListCell   *cell;

	Assert(order->state == ORDER_PENDING);
	foreach(cell, payments)
	{
		Payment    *payment = lfirst(cell);
		int64		kept = ot_kept(&payment->funds);

		if (!ot_counts_for_order(payment) || kept == 0)
			continue;
		ot_refund_owe(order, payment, BUCKET_KEPT, kept, why, now);
		ot_store_update_payment(payment);
	}
	order->state = state;
	order->settled_at = now;
	order->close_reason = reason ? pstrdup(reason) : NULL;
}

static Event *
closed_event(const Order *order, TimestampTz now)
{
	return ot_event_make(order->order_id, order->state == ORDER_EXPIRED ? "order.expired" : "order.cancelled",
						 order_payload(order), now);
}

static void
expire_in_memory(Order *order, TimestampTz now)
{
	close_order(order, ORDER_EXPIRED, "deadline", now);
}

/*
 * An order with payments is locked before they are. NULL when somebody else is at work on it, or was after it had been
 * found: now would lie before what he did.
 */
static Order *
take_for_expiry(Order *found, TimestampTz now)
{
	Order	   *order = found;

	if (ot_kept(&found->funds) > 0)
		order = ot_store_lock_order_if_free(found->order_id);
	return order != NULL && ot_is_due(order, now) && order->funds.paid == found->funds.paid ? order : NULL;
}

List *
ot_orders_expire(List *due, TimestampTz now)
{
	List	   *orders = NIL;
	List	   *events = NIL;
	ListCell   *cell;

	foreach(cell, due)
	{
		Order	   *order = take_for_expiry(lfirst(cell), now);

		if (order == NULL)
			continue;
		expire_in_memory(order, now);
		orders = lappend(orders, order);
	}
	if (orders == NIL)
		return NIL;
	orders = ot_store_update_due(orders);
	foreach(cell, orders)
		events = lappend(events, closed_event(lfirst(cell), now));
	if (events != NIL)
		ot_store_add_events(events);
	return orders;
}

OrderAnswer
ot_order_expire(const char *order_id)
{
	Order	   *order = ot_store_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order == NULL)
		return answer("not_found", NULL);
	if (order->state == ORDER_PAID)
		return answer("already_paid", order);
	if (ot_is_closed(order))
		return answer("already_closed", order);
	if (!ot_is_due(order, now))
		return answer("not_due", order);
	expire_in_memory(order, now);
	ot_store_update_order(order);
	ot_store_add_event(closed_event(order, now));
	return answer("expired", order);
}

OrderAnswer
ot_order_cancel(const char *order_id, const char *reason)
{
	Order	   *order = lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	switch (order->state)
	{
		case ORDER_PAID:
			return answer("already_paid", order);
		case ORDER_CANCELLED:
			return answer("already_closed", order);
		case ORDER_PENDING:
			close_order(order, ORDER_CANCELLED, reason, now);
			break;
		case ORDER_EXPIRED:		/* its money is settled; settled_at stays the moment of closing */
			order->state = ORDER_CANCELLED;
			order->close_reason = reason ? pstrdup(reason) : NULL;
			break;
	}
	ot_store_update_order(order);
	ot_store_add_event(closed_event(order, now));
	return answer("cancelled", order);
}

static void
not_in_future(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the deadline must lie in the future")));
}

OrderAnswer
ot_order_extend(const char *order_id, TimestampTz expires_at)
{
	Order	   *order = lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return answer("already_paid", order);
	if (ot_is_closed(order))
		return answer("already_closed", order);
	if (expires_at == order->expires_at)
		return answer("unchanged", order);	/* also when it is told again after that time */
	if (expires_at <= now)
		not_in_future();
	if (expires_at < order->expires_at)
		return answer("unchanged", order);
	order->expires_at = expires_at;
	ot_store_update_order(order);
	ot_event(order_id, "order.extended", order_payload(order), now);
	return answer("extended", order);
}

/* Paying. Each of these decides about one payment in one state of its order; the caller writes both. */

static PayAnswer
take_wrong_currency(const Order *order, Payment *payment, TimestampTz now)
{
	payment->disposition = PAYMENT_WRONG_CURRENCY;
	return pay_answer("wrong_currency", order, payment,
					  ot_refund_owe(NULL, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_WRONG_CURRENCY, now));
}

/* What the order keeps beyond its amount goes back to the payment that brought it. */
static Refund *
owe_surplus(Order *order, Payment *payment, TimestampTz now)
{
	int64		surplus = ot_money_subtract(ot_kept(&order->funds), order->amount);

	return surplus > 0 ? ot_refund_owe(order, payment, BUCKET_KEPT, surplus, REASON_SURPLUS, now) : NULL;
}

static PayAnswer
take_pending(Order *order, Payment *payment, TimestampTz now)
{
	payment->disposition = PAYMENT_APPLIED;
	ot_funds_join(order, payment);
	if (ot_kept(&order->funds) < order->amount)
		return pay_answer("partial", order, payment, NULL);
	order->state = ORDER_PAID;
	order->settled_at = now;
	return pay_answer("paid", order, payment, owe_surplus(order, payment, now));
}

static PayAnswer
take_paid(Order *order, Payment *payment, TimestampTz now)
{
	payment->disposition = PAYMENT_SURPLUS;
	ot_funds_join(order, payment);
	return pay_answer("surplus", order, payment,
					  ot_refund_owe(order, payment, BUCKET_KEPT, ot_kept(&payment->funds), REASON_SURPLUS, now));
}

static PayAnswer
take_closed(Order *order, Payment *payment, const Policy *policy, TimestampTz now)
{
	int64		kept = ot_kept(&payment->funds);

	payment->late_reason = ot_late_reason(order, payment);
	if (policy->on_late == ON_LATE_HOLD)
	{
		payment->disposition = PAYMENT_HELD;
		payment->held_at = now;
		ot_funds_join(order, payment);
		ot_funds_move(order, payment, BUCKET_KEPT, BUCKET_HELD, kept);
		return pay_answer("held", order, payment, NULL);
	}
	if (policy->on_late == ON_LATE_REOPEN && order->state == ORDER_EXPIRED && kept >= order->amount)
	{
		payment->disposition = PAYMENT_APPLIED;
		ot_funds_join(order, payment);
		order->state = ORDER_PAID;
		order->settled_at = now;
		order->close_reason = NULL;
		return pay_answer("reopened", order, payment, owe_surplus(order, payment, now));
	}
	payment->disposition = PAYMENT_LATE;
	ot_funds_join(order, payment);
	return pay_answer("late", order, payment, ot_refund_owe(order, payment, BUCKET_KEPT, kept, REASON_LATE, now));
}

/* The policy is read only where it decides: after the deadline. */
static PayAnswer
take(Order *order, Payment *payment, TimestampTz now)
{
	Policy	   *policy = NULL;

	if (strcmp(order->currency, payment->currency) != 0)
		return take_wrong_currency(order, payment, now);
	if (ot_is_closed(order) || ot_is_due(order, now))
		policy = ot_store_find_policy_of(order->order_id);
	if (ot_is_due(order, now) && policy->late_rule == LATE_AT_DEADLINE)
	{
		expire_in_memory(order, now);
		ot_store_add_event(closed_event(order, now));
	}
	if (order->state == ORDER_PENDING)
		return take_pending(order, payment, now);
	if (order->state == ORDER_PAID)
		return take_paid(order, payment, now);
	return take_closed(order, payment, policy, now);
}

/* What moved the order is told as the order's event, with the payment that did it; one shape for each type. */
static void
payment_event(const Order *order, const Payment *payment, const char *outcome, TimestampTz now)
{
	Payload    *payload;

	if (strcmp(outcome, "paid") != 0 && strcmp(outcome, "reopened") != 0)
	{
		ot_event(payment->order_id, psprintf("payment.%s", outcome), ot_payment_payload(payment), now);
		return;
	}
	payload = order_payload(order);
	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_int(payload, "payment_amount", payment->funds.paid);
	ot_payload_text(payload, "late_reason", payment->late_reason);
	ot_event(order->order_id, psprintf("order.%s", outcome), payload, now);
}

PayAnswer
ot_payment_apply(Order *order, Payment *orphan, TimestampTz now)
{
	PayAnswer	result = take(order, orphan, now);

	ot_store_update_payment(orphan);
	if (ot_counts_for_order(orphan))
		ot_store_update_order(order);
	payment_event(order, orphan, result.outcome, now);
	return result;
}

/* record_payment */

static bool
is_same_payment(const Payment *told, const Payment *known)
{
	bool		same_order = strcmp(told->order_id, known->order_id) == 0 ||
		(known->told_order_id != NULL && strcmp(told->order_id, known->told_order_id) == 0);

	return same_order && told->funds.paid == known->funds.paid && strcmp(told->currency, known->currency) == 0;
}

static PayAnswer
known_already(const Payment *told, const Payment *known)
{
	if (!is_same_payment(told, known))
		ereport(ERROR,
				(errcode(OT_PAYMENT_DIFFERS),
				 errmsg("this payment is recorded with other terms"),
				 errdetail("Payment \"%s\" of gateway \"%s\" is recorded for order \"%s\" with %lld %s, and told now for order \"%s\" with %lld %s.",
						   known->payment_ref, known->gateway,
						   known->order_id, (long long) known->funds.paid, known->currency,
						   told->order_id, (long long) told->funds.paid, told->currency),
				 errhint("Alert someone: either two payments share a number, or the gateway's messages contradict each other.")));
	return pay_answer("duplicate", ot_store_find_order(known->order_id), known, ot_refund_of(known));
}

/*
 * It was there when it was to be written. Who looked before and found nothing has written other rows by now, which must
 * not stay: the same number was told for another order in this moment.
 */
static PayAnswer
known_after_all(const Payment *told, bool looked_before)
{
	Payment    *known = ot_store_find_payment(told->gateway, told->payment_ref);

	if (known == NULL)
		ot_row_not_written();
	if (looked_before && is_same_payment(told, known))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a payment recorded at the same moment")));
	return known_already(told, known);
}

/*
 * The common case: writing the payment tells as well whether it was recorded before, and until then nothing but memory
 * has changed. Anything else writes other rows first, so it looks first.
 */
static bool
will_be_applied_whole(const Order *order, const Payment *told, TimestampTz now)
{
	int64		sum = order != NULL ? order->funds.paid : 0;

	return order != NULL && order->state == ORDER_PENDING && !ot_is_due(order, now) &&
		strcmp(order->currency, told->currency) == 0 &&
		told->funds.paid <= ot_money_subtract(order->amount, ot_kept(&order->funds)) &&
		ot_money_accumulate(&sum, told->funds.paid);
}

PayAnswer
ot_payment_record(Payment *told)
{
	Order	   *order = ot_store_lock_order(told->order_id);
	Payment    *known = NULL;
	PayAnswer	result;
	TimestampTz now;
	bool		look;

	if (order == NULL)
	{
		/* It may be created in this very moment: whoever comes second here sees what the first one did. */
		ot_store_lock_order_id(told->order_id);
		order = ot_store_lock_order(told->order_id);
	}
	now = GetCurrentTimestamp();
	look = !will_be_applied_whole(order, told, now) || !ot_store_insert_payment_finds_duplicate();
	if (look)
		known = ot_store_find_payment(told->gateway, told->payment_ref);
	if (known != NULL)
		return known_already(told, known);

	told->received_at = now;
	if (order != NULL)
		result = take(order, told, now);
	else
	{
		told->disposition = PAYMENT_ORPHAN;
		result = pay_answer("orphan", NULL, told, NULL);
	}
	if (!ot_store_insert_payment(told))
		return known_after_all(told, look);
	if (order != NULL && ot_counts_for_order(told))
		ot_store_update_order(order);
	payment_event(order, told, result.outcome, now);
	return result;
}

/* create_order */

static OrderAnswer
created_before(const Order *order, const OrderTerms *terms)
{
	if (order->amount != terms->amount || strcmp(order->currency, terms->currency) != 0 ||
		strcmp(order->policy, terms->policy) != 0)
		ereport(ERROR,
				(errcode(OT_ORDER_DIFFERS),
				 errmsg("an order with this id and other terms exists"),
				 errdetail("Order \"%s\" is for %lld %s under policy \"%s\".",
						   order->order_id, (long long) order->amount, order->currency, order->policy),
				 errhint("Use another order_id, or repeat the call with the same amount, currency and policy.")));
	return answer("exists", order);
}

static void
no_such_policy(const char *policy)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_POLICY),
			 errmsg("no such policy"),
			 errdetail("There is no policy \"%s\".", policy),
			 errhint("Policies are rows of order_timeout.policies.")));
}

static TimestampTz
deadline_of(const OrderTerms *terms, const Policy *policy, TimestampTz now)
{
	const Interval *within = terms->expires_in ? terms->expires_in : policy->pay_within;
	TimestampTz deadline = terms->expires_at;

	if (deadline == OT_NO_TIME)
		deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														   TimestampTzGetDatum(now), IntervalPGetDatum(within)));
	if (deadline <= now)
		not_in_future();
	return deadline;
}

static Order *
make_order(const OrderTerms *terms, const Policy *policy, TimestampTz now)
{
	Order	   *order = palloc0(sizeof(Order));

	order->order_id = pstrdup(terms->order_id);
	order->policy = policy->policy;
	order->amount = terms->amount;
	order->currency = pstrdup(terms->currency);
	order->expires_at = deadline_of(terms, policy, now);
	order->created_at = now;
	order->state = terms->amount == 0 ? ORDER_PAID : ORDER_PENDING;
	order->settled_at = terms->amount == 0 ? now : OT_NO_TIME;
	order->metadata = terms->metadata;
	return order;
}

/* Payments that came before their order, oldest first. */
static void
apply_orphans(Order *order, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *payment = lfirst(cell);

		if (payment->disposition == PAYMENT_ORPHAN && ot_kept(&payment->funds) > 0)
			ot_payment_apply(order, payment, now);
	}
}

OrderAnswer
ot_order_create(const OrderTerms *terms)
{
	Order	   *order;
	Policy	   *policy;
	TimestampTz now;

	ot_store_lock_order_id(terms->order_id);
	order = ot_store_find_order(terms->order_id);
	if (order != NULL)
		return created_before(order, terms);
	policy = ot_store_find_policy(terms->policy);
	if (policy == NULL)
		no_such_policy(terms->policy);
	now = GetCurrentTimestamp();
	order = make_order(terms, policy, now);
	if (!ot_store_insert_order(order))
	{
		if (ot_store_find_policy(terms->policy) == NULL)
			no_such_policy(terms->policy);
		ot_row_not_written();
	}
	ot_event(order->order_id, "order.created", order_payload(order), now);
	if (order->state == ORDER_PAID)
		ot_event(order->order_id, "order.paid", order_payload(order), now);
	apply_orphans(order, now);
	return answer("created", order);
}

/* resolve_held */

static void
release_held(Order *order, Payment *payment, int64 needed, TimestampTz now)
{
	int64		held = payment->funds.held;
	int64		used = Min(held, needed);

	ot_funds_move(order, payment, BUCKET_HELD, BUCKET_KEPT, used);
	payment->disposition = used > 0 ? PAYMENT_APPLIED : PAYMENT_SURPLUS;
	if (used < held)
		ot_refund_owe(order, payment, BUCKET_HELD, held - used, REASON_SURPLUS, now);
	ot_store_update_payment(payment);
	ot_event(order->order_id, "payment.accepted", ot_payment_payload(payment), now);
}

/* The chosen payment first, then what else of the order is held, oldest first: what is not needed goes back. */
static const char *
accept_held(Order *order, Payment *chosen, TimestampTz now)
{
	List	   *held = list_make1(chosen);
	int64		total = chosen->funds.held;
	int64		needed = order->amount;
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *other = lfirst(cell);

		if (other->disposition != PAYMENT_HELD ||
			(strcmp(other->gateway, chosen->gateway) == 0 && strcmp(other->payment_ref, chosen->payment_ref) == 0))
			continue;
		held = lappend(held, other);
		total = ot_money_add(total, other->funds.held);
	}
	if (total < order->amount)
		return "short";
	foreach(cell, held)
	{
		Payment    *payment = lfirst(cell);
		int64		brought = Min(payment->funds.held, needed);

		release_held(order, payment, needed, now);
		needed -= brought;
	}
	order->state = ORDER_PAID;
	order->settled_at = now;
	order->close_reason = NULL;
	ot_store_update_order(order);
	payment_event(order, chosen, "reopened", now);
	return "accepted";
}

static void
give_back_held(Order *order, Payment *payment, Disposition disposition, TimestampTz now)
{
	RefundReason reason = disposition == PAYMENT_SURPLUS ? REASON_SURPLUS : REASON_LATE;

	ot_refund_owe(order, payment, BUCKET_HELD, payment->funds.held, reason, now);
	payment->disposition = disposition;
	ot_store_update_payment(payment);
	ot_store_update_order(order);
	ot_event(order->order_id, "payment.given_back", ot_payment_payload(payment), now);
}

OrderAnswer
ot_payment_resolve_held(const char *gateway, const char *payment_ref, Decision decision)
{
	Locked		locked = ot_lock_payment(gateway, payment_ref);
	Order	   *order = locked.order;
	Payment    *payment = locked.payment;
	TimestampTz now = GetCurrentTimestamp();

	if (payment->held_at == OT_NO_TIME)
		ereport(ERROR,
				(errcode(OT_WRONG_STATE),
				 errmsg("this payment was never held"),
				 errdetail("Its disposition is %s.", ot_dispositions[payment->disposition])));
	if (order == NULL)
		ot_no_such_order(payment->order_id);
	if (payment->disposition != PAYMENT_HELD)
		return answer("already_resolved", order);
	if (decision == DECISION_REFUND)
	{
		give_back_held(order, payment, PAYMENT_LATE, now);
		return answer("refunded", order);
	}
	if (order->state == ORDER_PAID)
	{
		give_back_held(order, payment, PAYMENT_SURPLUS, now);
		return answer("surplus", order);
	}
	return answer(accept_held(order, payment, now), order);
}
