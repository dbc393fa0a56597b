/*
 * accept.c
 *    What the operator accepts after all: late money (accept_payment, resolve_held), or less than the amount (accept_short).
 *
 * Late money can be taken as long as it is surely here: it is held, or a refund owes it that no gateway can have (a
 * clear one). Then the refund ends, and nobody owes the money. A refund that is out stays as it is; its money may be
 * with the buyer.
 *
 * Locks: order, payments, refunds. A worker that claims a refund at the same moment either has it, and then it is out,
 * or passes over it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "accept.h"
#include "errors.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "order_state.h"
#include "payment.h"
#include "refund_owe.h"
#include "refund_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* What of a payment can be taken. */
typedef struct Source
{
	Payment    *payment;
	List	   *refunds;		/* clear ones, locked */
	int64		amount;			/* what these owe, and what is held */
} Source;

static Source *
held_of(Payment *payment)
{
	Source	   *source = palloc0(sizeof(Source));

	source->payment = payment;
	source->amount = payment->funds.held;
	return source;
}

static Source *
held_or_owed_of(Payment *payment)
{
	Source	   *source = held_of(payment);
	ListCell   *cell;

	if (payment->funds.refund_pending == 0)
		return source;
	foreach(cell, ot_store_lock_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (!ot_is_open(refund) || !ot_refund_is_clear(refund))
			continue;
		source->refunds = lappend(source->refunds, refund);
		source->amount = ot_money_add(source->amount, refund->amount);
	}
	return source;
}

static bool
same_payment(const Payment *a, const Payment *b)
{
	return strcmp(a->gateway, b->gateway) == 0 && strcmp(a->payment_ref, b->payment_ref) == 0;
}

/* The chosen payment's first, then those of the order's other payments, oldest first. */
static List *
all_sources(const Order *order, Payment *chosen, Source *(*source_of) (Payment *))
{
	List	   *sources = list_make1(source_of(chosen));
	ListCell   *cell;

	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *other = lfirst(cell);

		if (ot_counts_for_order(other) && !same_payment(other, chosen))
			sources = lappend(sources, source_of(other));
	}
	return sources;
}

static int64
sum_of(List *sources)
{
	int64		sum = 0;
	ListCell   *cell;

	foreach(cell, sources)
		sum = ot_money_add(sum, ((Source *) lfirst(cell))->amount);
	return sum;
}

/* For the moment all of it is kept. */
static void
take_back(Order *order, const Source *source, TimestampTz now)
{
	Payment    *payment = source->payment;
	ListCell   *cell;

	ot_funds_move(order, payment, BUCKET_HELD, BUCKET_KEPT, payment->funds.held);
	foreach(cell, source->refunds)
	{
		Refund	   *refund = lfirst(cell);

		ot_funds_move(order, payment, BUCKET_REFUND_PENDING, BUCKET_KEPT, refund->amount);
		ot_refund_become_withdrawn(refund, now);
		ot_write_refund_and_effect(refund, "refund.withdrawn", now);
	}
}

static void
accepted_event(const Payment *payment, const char *note, TimestampTz now)
{
	Payload    *payload = ot_payment_payload(payment);

	ot_payload_text(payload, "note", note);
	ot_event(payment->order_id, "payment.accepted", payload, now);
}

/* Uses what is needed of a payment, and gives back the rest. Answers how much was used. */
static int64
take(Order *order, const Source *source, int64 needed, const char *note, TimestampTz now)
{
	Payment    *payment = source->payment;
	int64		used = Min(source->amount, needed);

	take_back(order, source, now);
	ot_payment_become(payment, used > 0 ? PAYMENT_APPLIED : PAYMENT_SURPLUS);
	if (used > 0)
		payment->accepted_at = now;
	if (used < source->amount)
		ot_refund_owe(order, payment, BUCKET_KEPT, ot_money_subtract(source->amount, used), REASON_SURPLUS, now);
	ot_write_payment(payment);
	accepted_event(payment, note, now);
	return used;
}

/* What is not needed: held money waits for nothing any more and goes back, what is owed already stays owed. */
static void
leave(Order *order, const Source *source, TimestampTz now)
{
	Source	   *held = held_of(source->payment);

	if (held->amount > 0)
		take(order, held, 0, NULL, now);
}

static const char *
accept_sources(Order *order, List *sources, const char *note)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		needed = ot_money_subtract(order->amount, ot_kept(&order->funds));
	const char *outcome = ot_is_closed(order) ? "reopened" : "paid";
	ListCell   *cell;

	if (sum_of(sources) < needed)
		return "short";
	foreach(cell, sources)
	{
		Source	   *source = lfirst(cell);

		if (source->amount == 0)
			continue;
		if (needed > 0)
			needed -= take(order, source, needed, note, now);
		else
			leave(order, source, now);
	}
	ot_order_become_paid(order, now);
	ot_write_order(order);
	ot_payment_event(order, ((Source *) linitial(sources))->payment, outcome, now);
	return "accepted";
}

const char *
ot_held_accept(Order *order, Payment *payment)
{
	return accept_sources(order, all_sources(order, payment, held_of), NULL);
}

/* accept_payment */

/* A late payment that counts for its order was taken, by a policy, or by the operator in a version that did not note it. */
static bool
was_accepted(const Payment *payment)
{
	return payment->accepted_at != OT_NO_TIME || (ot_is_late(payment) && payment->disposition == PAYMENT_APPLIED);
}

static bool
was_owed_by_closing(const Payment *payment)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_refunds(payment))
	{
		RefundReason reason = ((Refund *) lfirst(cell))->reason;

		if (reason == REASON_EXPIRED || reason == REASON_CANCELLED)
			return true;
	}
	return false;
}

static void
check_acceptable(const Payment *payment)
{
	if (ot_is_late(payment) || payment->held_at != OT_NO_TIME || was_owed_by_closing(payment))
		return;
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("payment \"%s\" of gateway \"%s\" was never late, held, or owed because its order closed",
					payment->payment_ref, payment->gateway),
			 errdetail("It belongs to order \"%s\", its disposition is \"%s\".",
					   payment->order_id, ot_dispositions[payment->disposition]),
			 errhint("Call accept_short() for an order that was paid in part, assign_orphan() for a payment without an order.")));
}

OrderAnswer
ot_payment_accept(const char *gateway, const char *payment_ref, const char *note)
{
	Locked		locked = ot_lock_payment(gateway, payment_ref);
	Order	   *order = locked.order;
	List	   *sources;

	if (was_accepted(locked.payment))
		return ot_order_answer("already_accepted", order);
	check_acceptable(locked.payment);
	if (order == NULL)
		ot_no_such_order(locked.payment->order_id);
	if (order->state == ORDER_PAID)
		return ot_order_answer("surplus", order);
	sources = all_sources(order, locked.payment, held_or_owed_of);
	if (((Source *) linitial(sources))->amount == 0)
		return ot_order_answer("too_late", order);
	return ot_order_answer(accept_sources(order, sources, note), order);
}

/* accept_short */

static void
nothing_paid(const Order *order)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("order \"%s\" keeps no money to be accepted", order->order_id),
			 errdetail("Its state is \"%s\".", ot_order_states[order->state]),
			 errhint("Create an order with amount 0 for what costs nothing.")));
}

static void
accepted_short_event(const Order *order, const char *note, TimestampTz now)
{
	Payload    *payload = ot_order_payload(order);

	ot_payload_text(payload, "note", note);
	ot_event(order->order_id, "order.accepted_short", payload, now);
}

OrderAnswer
ot_order_accept_short(const char *order_id, const char *note)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_is_closed(order))
		return ot_order_answer("already_closed", order);
	if (ot_kept(&order->funds) == 0)
		nothing_paid(order);
	ot_order_become_paid(order, now);
	ot_write_order(order);
	ot_event(order_id, "order.paid", ot_order_payload(order), now);
	accepted_short_event(order, note, now);
	return ot_order_answer("accepted", order);
}
