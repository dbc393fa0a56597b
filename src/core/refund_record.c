/*
 * refund_record.c
 *    record_refund: money that already went back without us, by the gateway's dashboard or a chargeback.
 *
 * It replaces refunds that no worker ever had, then comes out of what is kept, then of what is held. The gateway's
 * number of the refund makes it safe to repeat.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "conflict.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "refund_owe.h"
#include "refund_record.h"
#include "refund_report.h"
#include "refund_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static Refund *
rest_of(const Refund *refund, const Payment *payment, int64 amount, TimestampTz now)
{
	Refund	   *rest = ot_refund_make(payment, amount, refund->reason, now);

	rest->note = psprintf("rest of %s", refund->refund_ref);
	if (refund->state == REFUND_NEEDS_ATTENTION)
		ot_refund_become_needs_attention(rest, now);
	return rest;
}

/* Takes from a refund that no worker ever had; what it still owes after that gets a refund of its own. */
static void
replace_refund(const Locked *money, Refund *refund, const Refund *external, int64 part, TimestampTz now)
{
	ot_funds_move(money->order, money->payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, part);
	if (part < refund->amount)
		ot_refund_insert(rest_of(refund, money->payment, refund->amount - part, now));
	ot_refund_become_reversed(refund, external, now);
	ot_write_refund_and_event(refund, "refund.reversed", now);
}

/* These three take what they find, up to an amount, and answer the rest. */

static int64
take_from_refunds(const Locked *money, const Refund *external, int64 amount, TimestampTz now)
{
	int64		left = amount;
	ListCell   *cell;

	foreach(cell, ot_store_lock_refunds(money->payment))
	{
		Refund	   *refund = lfirst(cell);
		int64		part = Min(left, refund->amount);

		if (left == 0 || !ot_is_open(refund) || refund->handed_out_at != OT_NO_TIME)
			continue;
		replace_refund(money, refund, external, part, now);
		left -= part;
	}
	return left;
}

static int64
take_from_kept(const Locked *money, int64 amount)
{
	int64		part = Min(amount, ot_kept(&money->payment->funds));

	ot_funds_move(money->order, money->payment, BUCKET_KEPT, BUCKET_REFUNDED, part);
	return amount - part;
}

/* Nothing is left that a person could decide about: then it is a late or a part payment like any other. */
static int64
take_from_held(const Locked *money, int64 amount)
{
	Payment    *payment = money->payment;
	int64		part = Min(amount, payment->funds.held);

	ot_funds_move(money->order, payment, BUCKET_HELD, BUCKET_REFUNDED, part);
	if (part > 0 && payment->disposition == PAYMENT_HELD && payment->funds.held == 0)
		ot_payment_become(payment, ot_is_late(payment) ? PAYMENT_LATE : PAYMENT_APPLIED);
	return amount - part;
}

/* Nothing of it is recorded. */
static RefundAnswer
record_nothing(void)
{
	RefundAnswer answer = {"conflict", REFUND_SUCCEEDED, OT_NO_TIME, NULL};

	return answer;
}

static RefundAnswer
record_new(const Locked *money, const char *gateway_refund_ref, int64 amount, RefundReason reason, TimestampTz now)
{
	Refund	   *external = ot_refund_make(money->payment, amount, reason, now);
	int64		left = take_from_held(money, take_from_kept(money, take_from_refunds(money, external, amount, now)));

	if (left > 0)
		ot_conflict_note(money->payment, left < amount ? external->refund_ref : NULL, gateway_refund_ref, left,
						 PROBLEM_MORE_THAN_LEFT, now);
	if (left == amount)
	{
		ot_give_up_refund(external);
		return record_nothing();
	}
	external->gateway_refund_ref = pstrdup(gateway_refund_ref);
	external->amount = external->asked = amount - left;
	ot_refund_become_succeeded(external, now);
	ot_insert_refund(external);
	ot_refund_event(external, "refund.recorded", now);
	ot_write_money(money->order, money->payment);
	return ot_refund_answer(left > 0 ? "conflict" : "recorded", external);
}

/* The gateway's number is known: a repeat, the end of a refund of ours, or a contradiction. */
static RefundAnswer
record_known(const LockedRefund *locked, const char *gateway_refund_ref, int64 amount, TimestampTz now)
{
	const Payment *payment = locked->money.payment;
	Refund	   *known = locked->refund;
	RefundReport report = {known->refund_ref, RESULT_SUCCEEDED, NULL, gateway_refund_ref, NULL, amount};
	Problem		problem = PROBLEM_LESS_THAN_RECORDED;
	int64		disputed = amount;

	if (strcmp(known->payment_ref, payment->payment_ref) != 0)
		problem = PROBLEM_OTHER_PAYMENT;
	else if (ot_is_open(known))
		return ot_refund_succeed(locked, &report, now);
	else if (known->returned_at == OT_NO_TIME)
		problem = PROBLEM_OWED_AGAIN;
	else if (known->amount == amount)
		return ot_refund_answer("duplicate", known);
	else if (known->amount < amount)
	{
		problem = PROBLEM_MORE_THAN_LEFT;
		disputed = ot_money_subtract(amount, known->amount);
	}
	ot_conflict_note(payment, known->refund_ref, gateway_refund_ref, disputed, problem, now);
	return ot_refund_answer("conflict", known);
}

RefundAnswer
ot_refund_record(const char *gateway, const char *payment_ref, const char *gateway_refund_ref,
				 int64 amount, RefundReason reason)
{
	LockedRefund locked = ot_lock_number_and_money(gateway, payment_ref, gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();

	if (locked.refund != NULL)
		return record_known(&locked, gateway_refund_ref, amount, now);
	if (ot_store_has_conflict(locked.money.payment, gateway_refund_ref, amount))
		return record_nothing();
	return record_new(&locked.money, gateway_refund_ref, amount, reason, now);
}
