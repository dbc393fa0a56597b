/*
 * refund_external.c
 *    Money that went back without us: by the gateway's dashboard or a chargeback.
 *
 * It takes the place of refunds that the gateway surely does not have, then comes out of what is kept, then of what is
 * held. The row says how much came from where, because a report may turn out to be one of our own refunds, and a
 * chargeback may be won: then each part goes back to where it came from, as far as the order still is what it was.
 */
#include "postgres.h"

#include "conflict.h"
#include "decide.h"
#include "event.h"
#include "money.h"
#include "order_attempts.h"
#include "order_close.h"
#include "order_state.h"
#include "payment.h"
#include "refund_external.h"
#include "refund_owe.h"
#include "refund_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* Taking. */

/* What the refund still owes after that gets a refund of its own. */
static void
replace_refund(const Locked *money, Refund *refund, const Refund *external, int64 part, TimestampTz now)
{
	Refund	   *rest = NULL;

	ot_funds_move(money->order, money->payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, part);
	if (part < refund->amount)
		rest = ot_refund_make_rest(refund, money->payment, refund->amount - part, now);
	ot_refund_become_reversed(refund, external, now);
	ot_write_refund_and_effect(refund, "refund.reversed", now);
	if (rest != NULL)
		ot_refund_insert(rest);
}

/* These three take what they find, up to an amount, and answer the rest. */

static int64
take_from_refunds(const Locked *money, const Refund *external, List *refunds, bool handed_out, int64 amount, TimestampTz now)
{
	int64		left = amount;
	ListCell   *cell;

	foreach(cell, refunds)
	{
		Refund	   *refund = lfirst(cell);
		int64		part = Min(left, refund->amount);

		if (left == 0 || !ot_is_open(refund) || !ot_refund_is_clear(refund) ||
			(refund->handed_out_at != OT_NO_TIME) != handed_out)
			continue;
		replace_refund(money, refund, external, part, now);
		left -= part;
	}
	return left;
}

/* What its gateway promised may not be enough for an authorized order any more. */
static void
lose_promise(Order *order, TimestampTz now)
{
	ot_attempts_let_go(order);
	if (order->state == ORDER_PENDING)
		ot_effect(order->order_id, "order.changed", ot_order_payload(order), now);
}

static int64
take_from_kept(const Locked *money, Refund *external, int64 amount, TimestampTz now)
{
	external->from_kept = Min(amount, ot_kept(&money->payment->funds));
	ot_funds_move(money->order, money->payment, BUCKET_KEPT, BUCKET_REFUNDED, external->from_kept);
	if (money->order != NULL && money->order->state == ORDER_AUTHORIZED && ot_counts_for_order(money->payment))
		lose_promise(money->order, now);
	return amount - external->from_kept;
}

/* Nothing is left that the operator could decide about: then it is a late or a part payment like any other. */
static int64
take_from_held(const Locked *money, Refund *external, int64 amount)
{
	Payment    *payment = money->payment;

	external->from_held = Min(amount, payment->funds.held);
	ot_funds_move(money->order, payment, BUCKET_HELD, BUCKET_REFUNDED, external->from_held);
	if (external->from_held > 0 && payment->disposition == PAYMENT_HELD && payment->funds.held == 0)
		ot_payment_become(payment, ot_is_late(payment) ? PAYMENT_LATE : PAYMENT_APPLIED);
	return amount - external->from_held;
}

/* Those that no worker ever had come first. */
static int64
take(const Locked *money, Refund *external, bool from_refunds, TimestampTz now)
{
	int64		left = external->amount;

	if (from_refunds)
	{
		List	   *refunds = ot_store_lock_refunds(money->payment);

		left = take_from_refunds(money, external, refunds, false, left, now);
		left = take_from_refunds(money, external, refunds, true, left, now);
	}
	left = take_from_kept(money, external, left, now);
	return take_from_held(money, external, left);
}

Recorded
ot_external_record(const Locked *money, const External *external, TimestampTz now)
{
	Refund	   *refund = ot_refund_make(money->payment, external->amount, external->reason, now);
	Recorded	recorded = {refund, take(money, refund, external->from_refunds, now)};

	if (recorded.left == external->amount)
	{
		ot_give_up_refund(refund);
		recorded.refund = NULL;
		return recorded;
	}
	refund->gateway_refund_ref = external->number ? pstrdup(external->number) : NULL;
	refund->amount = external->amount - recorded.left;	/* asked stays what was reported */
	ot_refund_become_succeeded(refund, now);
	ot_insert_refund(refund);
	ot_refund_event(refund, "refund.recorded", now);
	return recorded;
}

int64
ot_external_room(const Payment *payment)
{
	return ot_money_add(ot_kept(&payment->funds), payment->funds.held);
}

static void
stop(Refund *refund, const char *why, TimestampTz now)
{
	ot_refund_stop(refund, why, now);
	ot_write_refund_and_effect(refund, "refund.stopped", now);
}

void
ot_external_stop_out(const Locked *money, int64 amount, bool all, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_refunds(money->payment))
	{
		Refund	   *refund = lfirst(cell);

		if (ot_is_open(refund) && !ot_refund_is_clear(refund) && !ot_refund_is_stopped(refund) &&
			(refund->amount == amount || all))
			stop(refund, "the gateway reported money that went back, which may be this refund", now);
	}
}

void
ot_external_stop_open(const Locked *money, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_refunds(money->payment))
	{
		Refund	   *refund = lfirst(cell);

		if (ot_is_open(refund) && !ot_refund_is_stopped(refund))
			stop(refund, "the gateway returned money of this payment that may be what this refund owes", now);
	}
}

/* Giving back. */

/* Of money that an order keeps again, its payment is one that was applied. */
static Refund *
keep(const Locked *money, int64 amount, TimestampTz now)
{
	Refund	   *surplus;

	ot_funds_move(money->order, money->payment, BUCKET_REFUNDED, BUCKET_KEPT, amount);
	surplus = ot_refund_owe_surplus(money->order, money->payment, now);
	if (ot_kept(&money->payment->funds) > 0)
		ot_payment_become(money->payment, PAYMENT_APPLIED);
	return surplus;
}

/* As if it came now: it may be what the order lacks, or nearly. */
static Refund *
keep_for_pending(const Locked *money, int64 amount, TimestampTz now)
{
	Order	   *order = money->order;
	Refund	   *surplus;

	ot_funds_move(order, money->payment, BUCKET_REFUNDED, BUCKET_KEPT, amount);
	if (!ot_payment_is_enough(order))
		return NULL;
	ot_order_become_paid(order, now);
	surplus = ot_refund_owe_surplus(money->order, money->payment, now);
	ot_payment_event(order, money->payment, "paid", now);
	return surplus;
}

/*
 * Under at_deadline a pending order past its deadline is closed before anything comes to it; an orphan's order, when the
 * orphan joins. Closing wrote the payment.
 */
static void
close_if_due(const Locked *money, TimestampTz now)
{
	Order	   *order = money->order;

	if (order == NULL || !ot_counts_for_order(money->payment) || !ot_is_due(order, now) ||
		!ot_closes_first(order, ot_store_find_policy(order->policy), now))
		return;
	ot_order_expire_for_payment(order, now);
	*money->payment = *ot_store_lock_payment(money->payment);
}

/* Reported by record_refund, and counted nowhere: by rows other than this one. */
static bool
is_something_uncounted(const Payment *payment, const Refund *external)
{
	ListCell   *cell;

	foreach(cell, ot_conflicts_of(payment))
	{
		const Conflict *conflict = lfirst(cell);

		if (conflict->resolved_at == OT_NO_TIME && conflict->amount > 0 &&
			(conflict->refund_ref == NULL || strcmp(conflict->refund_ref, external->refund_ref) != 0))
			return true;
	}
	return false;
}

/* A refund stands for all that was taken from refunds: of what one of them was requested for, the rest is surplus at most. */
static bool
took_from_request(const Payment *payment, const Refund *external)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_refunds(payment))
	{
		const Refund *taken = lfirst(cell);

		if (taken->replaced_by != NULL && strcmp(taken->replaced_by, external->refund_ref) == 0 &&
			ot_refund_is_of_request(taken))
			return true;
	}
	return false;
}

static Refund *
owe_again(const Locked *money, int64 amount, const Refund *external, const char *note, bool needs_person, TimestampTz now)
{
	Refund	   *refund;

	if (amount == 0)
		return NULL;
	refund = ot_refund_make(money->payment, amount, REASON_REVERSED, now);
	refund->note = note ? pstrdup(note) : NULL;
	refund->was_requested = took_from_request(money->payment, external);
	if (needs_person)
		ot_refund_become_needs_attention(refund, now);
	if (is_something_uncounted(money->payment, external))	/* there is room for it now, so it may be this */
		ot_refund_stop(refund, "the gateway returned money of this payment that may be what this refund owes", now);
	ot_funds_move(money->order, money->payment, BUCKET_REFUNDED, BUCKET_REFUND_PENDING, amount);
	ot_refund_insert(refund);
	return refund;
}

static void
hold_again(const Locked *money, int64 amount)
{
	if (amount == 0)
		return;
	ot_funds_move(money->order, money->payment, BUCKET_REFUNDED, BUCKET_HELD, amount);
	ot_payment_become(money->payment, PAYMENT_HELD);
}

/* Where the parts go that did not come from refunds: a paid or pending order keeps them, an orphan has them again. */
static Refund *
keep_again(const Locked *money, int64 amount, TimestampTz now)
{
	if (amount == 0)
		return NULL;
	if (money->payment->disposition == PAYMENT_ORPHAN)
	{
		ot_funds_move(NULL, money->payment, BUCKET_REFUNDED, BUCKET_KEPT, amount);
		return NULL;
	}
	if (ot_order_is_open(money->order))
		return keep_for_pending(money, amount, now);
	if (money->payment->funds.held > 0)
	{
		hold_again(money, amount);	/* a person is to decide about the rest of the payment, and so about this */
		return NULL;
	}
	return keep(money, amount, now);
}

static bool
can_keep(const Locked *money)
{
	if (money->payment->disposition == PAYMENT_ORPHAN)
		return true;
	return ot_counts_for_order(money->payment) && !ot_is_closed(money->order);
}

Refund *
ot_external_give_back(const Locked *money, Refund *external, const Refund *ours, const char *note, TimestampTz now)
{
	int64		from_refunds = external->amount - external->from_kept - external->from_held;
	bool		is_paid = money->order != NULL && money->order->state == ORDER_PAID;
	int64		kept = external->from_kept + (is_paid ? external->from_held : 0);
	bool		needs_person;
	int			held_from;
	Refund	   *owed;
	Refund	   *surplus = NULL;

	close_if_due(money, now);
	held_from = ot_events_hold();
	needs_person = ours == NULL && !(money->order != NULL && ot_counts_for_order(money->payment) && !ot_is_closed(money->order));
	owed = owe_again(money, from_refunds + (can_keep(money) ? 0 : kept), external, note, needs_person, now);
	if (!is_paid)
		hold_again(money, external->from_held);
	if (can_keep(money))
		surplus = keep_again(money, kept, now);
	if (ours != NULL)
	{
		external->gateway_refund_ref = NULL;	/* ours has it from now on */
		external->returned_at = OT_NO_TIME;
	}
	if (owed == NULL)
		owed = surplus;
	ot_refund_become_reversed(external, ours != NULL ? ours : owed, now);
	ot_events_release(held_from);
	ot_write_refund_and_event(external, "refund.reversed", now);
	return owed;
}
