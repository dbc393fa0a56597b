/*
 * refund_report.c
 *    complete_refund: what a worker or the gateway reports about a refund.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "conflict.h"
#include "event.h"
#include "money.h"
#include "refund_owe.h"
#include "refund_report.h"
#include "refund_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

#define MAX_ERROR_BYTES 2000

/* succeeded */

static bool
same_refund(const Refund *a, const Refund *b)
{
	return strcmp(a->refund_ref, b->refund_ref) == 0;
}

/* Whether another refund has the reported number: then the report is about that money. */
static bool
number_is_taken(const LockedRefund *locked)
{
	return locked->same_number != NULL && !same_refund(locked->same_number, locked->refund);
}

static int64
returned_amount(const RefundReport *report, const Refund *refund)
{
	return report->refunded_amount != 0 ? report->refunded_amount : refund->amount;
}

/* Why a report contradicts what is recorded. */
static Problem
contradiction(const LockedRefund *locked, const RefundReport *report)
{
	const Refund *refund = locked->refund;
	int64		returned = returned_amount(report, refund);

	if (number_is_taken(locked))
		return PROBLEM_OTHER_REFUND;
	if (ot_is_open(refund))
		return NO_PROBLEM;
	if (returned > refund->amount)
		return PROBLEM_MORE_THAN_ASKED;
	if (returned < refund->amount)
		return PROBLEM_LESS_THAN_RECORDED;
	if (report->gateway_refund_ref != NULL && refund->gateway_refund_ref != NULL && locked->same_number == NULL)
		return PROBLEM_TWO_NUMBERS;
	if (refund->by_hand)
		return PROBLEM_SETTLED_BY_HAND;

	/* A repeat is what was recorded before it was reversed, and nothing else: only the number can show that. */
	if (refund->state == REFUND_REVERSED && (refund->returned_at == OT_NO_TIME || locked->same_number == NULL))
		return PROBLEM_OWED_AGAIN;
	return NO_PROBLEM;
}

static RefundAnswer
note_contradiction(const LockedRefund *locked, const RefundReport *report, Problem problem, TimestampTz now)
{
	const Refund *refund = locked->refund;
	int64		amount = returned_amount(report, refund);

	if (problem == PROBLEM_MORE_THAN_ASKED)
		amount = ot_money_subtract(amount, refund->amount);
	ot_conflict_note(locked->money.payment, refund->refund_ref, report->gateway_refund_ref, amount, problem, now);
	return ot_refund_answer("conflict", refund);
}

/* The gateway returned less: the row stands for what went back, a new refund for the rest. */
static void
split_off_rest(const LockedRefund *locked, int64 returned, TimestampTz now)
{
	Refund	   *refund = locked->refund;
	Refund	   *rest = ot_refund_make(locked->money.payment, ot_money_subtract(refund->amount, returned), refund->reason, now);

	rest->note = psprintf("rest of %s", refund->refund_ref);
	refund->amount = returned;
	ot_refund_insert(rest);
}

static void
note_number(Refund *refund, const char *number)
{
	if (number != NULL && refund->gateway_refund_ref == NULL)
		refund->gateway_refund_ref = pstrdup(number);
}

RefundAnswer
ot_refund_succeed(const LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Refund	   *refund = locked->refund;
	Locked		money = locked->money;
	const char *number = report->gateway_refund_ref;
	int64		returned = returned_amount(report, refund);
	int64		too_much = Max(ot_money_subtract(returned, refund->amount), 0);
	bool		two_numbers;

	if (returned < refund->amount)
		split_off_rest(locked, returned, now);
	note_number(refund, number);
	two_numbers = number != NULL && strcmp(number, refund->gateway_refund_ref) != 0;
	refund->last_error = NULL;
	ot_refund_become_succeeded(refund, now);
	ot_funds_move(money.order, money.payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, refund->amount);
	ot_write_refund_and_event(refund, "refund.succeeded", now);
	ot_write_money(money.order, money.payment);
	if (refund->gateway_refund_ref != NULL)
		ot_store_resolve_conflicts_of(refund, now);
	if (too_much > 0)
		ot_conflict_note(money.payment, refund->refund_ref, number, too_much, PROBLEM_MORE_THAN_ASKED, now);
	if (two_numbers)
		ot_conflict_note(money.payment, refund->refund_ref, number, returned, PROBLEM_TWO_NUMBERS, now);
	return ot_refund_answer(too_much > 0 || two_numbers ? "conflict" : "recorded", refund);
}

/* Whether record_refund replaced refunds with this one. */
static bool
replaced_others(const Refund *external, const Payment *payment)
{
	ListCell   *cell;

	foreach(cell, ot_store_lock_refunds(payment))
	{
		Refund	   *other = lfirst(cell);

		if (other->replaced_by != NULL && !same_refund(external, other) &&
			strcmp(other->replaced_by, external->refund_ref) == 0)
			return true;
	}
	return false;
}

/*
 * A webhook reported our own refund as somebody else's before the worker reported it: record_refund took its money out
 * of what the order kept, and it would be counted twice. So that external row gives its money back. Only where it took
 * from kept money alone: of what it replaced otherwise nobody can say any more which part it was.
 */
static bool
external_must_give_way(const LockedRefund *locked, const RefundReport *report)
{
	const Refund *external = locked->same_number;
	const Locked *money = &locked->money;

	return number_is_taken(locked) && ot_is_open(locked->refund) &&
		external->state == REFUND_SUCCEEDED && external->reason == REASON_EXTERNAL &&
		external->asked == returned_amount(report, locked->refund) &&
		strcmp(external->payment_ref, money->payment->payment_ref) == 0 &&
		money->order != NULL && money->order->state == ORDER_PAID && money->payment->disposition == PAYMENT_APPLIED &&
		!replaced_others(external, money->payment);
}

static void
give_way(const LockedRefund *locked, TimestampTz now)
{
	Refund	   *external = locked->same_number;

	ot_funds_move(locked->money.order, locked->money.payment, BUCKET_REFUNDED, BUCKET_KEPT, external->amount);
	external->gateway_refund_ref = NULL;
	external->returned_at = OT_NO_TIME;
	ot_refund_become_reversed(external, locked->refund, now);
	ot_write_refund_and_event(external, "refund.reversed", now);
}

static RefundAnswer
complete_succeeded(const RefundReport *report)
{
	LockedRefund locked = ot_lock_refund_and_money(report->refund_ref, report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;
	Problem		problem = NO_PROBLEM;

	if (external_must_give_way(&locked, report))
		give_way(&locked, now);
	else
		problem = contradiction(&locked, report);
	if (problem != NO_PROBLEM)
		return note_contradiction(&locked, report, problem, now);
	if (ot_is_open(refund))
		return ot_refund_succeed(&locked, report, now);

	/* A repeat. A number that was missing so far keeps record_refund from counting the same money twice. */
	if (refund->gateway_refund_ref == NULL && report->gateway_refund_ref != NULL)
	{
		note_number(refund, report->gateway_refund_ref);
		ot_write_refund(refund);
	}
	return ot_refund_answer("duplicate", refund);
}

/* Everything else that may be reported */

static void
note_report(const LockedRefund *locked, const RefundReport *report)
{
	const char *error = report->error;

	if (error != NULL)
		locked->refund->last_error = pnstrdup(error, pg_mbcliplen(error, strlen(error), MAX_ERROR_BYTES));
	if (locked->same_number == NULL)
		note_number(locked->refund, report->gateway_refund_ref);
}

static void
become_reported(Refund *refund, RefundResult result, TimestampTz now)
{
	Policy	   *policy = ot_store_find_policy_of(refund->order_id);

	switch (result)
	{
		case RESULT_FAILED:
			ot_refund_become_failed(refund, policy, now);
			break;
		case RESULT_UNKNOWN:
			ot_refund_become_unknown(refund, policy, now);
			break;
		case RESULT_SUBMITTED:
			ot_refund_become_submitted(refund, policy, now);
			break;
		case RESULT_DEFERRED:
			ot_refund_defer(refund, policy, now);
			break;
		case RESULT_REJECTED:
			ot_refund_reject(refund, now);
			break;
		case RESULT_SUCCEEDED:
			elog(ERROR, "succeeded is not handled here");
	}
}

/* A lapsed lease is current until the refund is taken back or handed to another: then the token is another one. */
static bool
may_report(const Refund *refund, const RefundReport *report)
{
	if (refund->state == REFUND_SUBMITTED)
		return report->result == RESULT_FAILED || report->result == RESULT_REJECTED;
	return refund->state == REFUND_PROCESSING && report->lease_token != NULL &&
		strcmp(refund->lease_token, report->lease_token) == 0;
}

static RefundAnswer
complete_attempt(const RefundReport *report)
{
	LockedRefund locked = ot_lock_refund(report->refund_ref, report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;

	if (!ot_is_open(refund))
		return ot_refund_answer("ignored", refund);
	if (!may_report(refund, report))
		return ot_refund_answer("stale", refund);
	note_report(&locked, report);
	become_reported(refund, report->result, now);
	ot_write_refund_and_event(refund, psprintf("refund.%s", ot_refund_results[report->result]), now);
	return ot_refund_answer("recorded", refund);
}

RefundAnswer
ot_refund_complete(const RefundReport *report)
{
	return report->result == RESULT_SUCCEEDED ? complete_succeeded(report) : complete_attempt(report);
}
