/*
 * refund_succeed.c
 *    A refund whose money went back, as a worker or the gateway reports it.
 *
 * The same money may have been reported before, by record_refund: under the number that is reported now, or, where no
 * number is reported, as money of that payment and amount since a worker first had the refund. It is counted once. The row
 * that record_refund wrote gives back what it took, and the number becomes the refund's own.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "conflict.h"
#include "event.h"
#include "lease.h"
#include "money.h"
#include "orphan.h"
#include "refund_external.h"
#include "refund_owe.h"
#include "refund_lease.h"
#include "refund_state.h"
#include "refund_succeed.h"
#include "rules.h"
#include "store.h"
#include "write.h"

/* One report of success, while it is recorded. */
typedef struct Success
{
	const LockedRefund *locked;
	const RefundReport *report;
	List	   *conflicts;		/* about the payment */
	const char *number;			/* reported, or found to be meant */
	int64		returned;
	bool		inferred;		/* from an earlier report under that number; this one does not say how much */
	int64		missing;		/* what an earlier report under that number said beyond this one */
	int			meant;			/* how many reports without our number may be about this money */
	TimestampTz now;
} Success;

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

static bool
note(const Success *success, Problem problem, const char *number, int64 amount)
{
	const Refund *refund = success->locked->refund;
	Contradiction contradiction = {problem, refund->refund_ref, number, success->returned, amount, REASON_REQUESTED};

	if (number == NULL)
		contradiction.gateway_refund_ref = refund->gateway_refund_ref;

	return ot_conflict_note(success->locked->money.payment, &contradiction, success->now);
}

/* What was reported before and was ours all along. */

static const char *
was_ours(const Success *success)
{
	return psprintf("it was refund %s", success->locked->refund->refund_ref);
}

/* The row that record_refund wrote gives way, and with it ends what was said of its excess. */
static void
take_over(Success *success, Refund *external)
{
	const LockedRefund *locked = success->locked;

	success->number = external->gateway_refund_ref;
	(void) ot_external_give_back(&locked->money, external, locked->refund, was_ours(success), success->now);
	ot_conflicts_end_of(success->conflicts, external->refund_ref, was_ours(success), success->now);
}

/* A row of record_refund under the number that is reported now. */
static Refund *
external_of_number(const LockedRefund *locked)
{
	Refund	   *external = locked->same_number;

	return number_is_taken(locked) && ot_is_external(external) && external->state == REFUND_SUCCEEDED &&
		strcmp(external->payment_ref, locked->refund->payment_ref) == 0 ? external : NULL;
}

static bool
may_be_meant(const Success *success, int64 reported, TimestampTz reported_at)
{
	const Refund *refund = success->locked->refund;

	return reported == success->returned && refund->handed_out_at != OT_NO_TIME && reported_at >= refund->handed_out_at;
}

/* Rows of record_refund that may be this money; none can be where nothing of the payment went back yet. */
static List *
meant_rows(const Success *success)
{
	const Payment *payment = success->locked->money.payment;
	List	   *rows = NIL;
	ListCell   *cell;

	if (payment->funds.refunded == 0)
		return NIL;
	foreach(cell, ot_store_lock_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (refund->state == REFUND_SUCCEEDED && refund->reason == REASON_EXTERNAL && refund->gateway_refund_ref != NULL &&
			may_be_meant(success, refund->asked, refund->created_at))
			rows = lappend(rows, refund);
	}
	return rows;
}

/* Reports that did not fit at all. */
static List *
meant_conflicts(const Success *success)
{
	List	   *found = NIL;
	ListCell   *cell;

	foreach(cell, success->conflicts)
	{
		Conflict   *conflict = lfirst(cell);

		if (ot_conflict_is_open_report(conflict) && conflict->reason != NULL && strcmp(conflict->reason, "external") == 0 &&
			may_be_meant(success, conflict->reported, conflict->created_at))
			found = lappend(found, conflict);
	}
	return found;
}

static void
take_over_conflict(Success *success, Conflict *conflict)
{
	success->number = conflict->gateway_refund_ref;
	ot_conflict_end(conflict, was_ours(success), success->now);
}

/* No number was reported, and none is known. */
static void
find_number(Success *success)
{
	List	   *rows = meant_rows(success);
	List	   *conflicts = meant_conflicts(success);

	success->meant = list_length(rows) + list_length(conflicts);
	if (success->meant != 1)
		return;
	if (rows != NIL)
		take_over(success, linitial(rows));
	else
		take_over_conflict(success, linitial(conflicts));
}

/* The gateway said before how much went back under that number: this report may leave it out, or say less. */
static void
compare_amounts(Success *success, int64 before)
{
	success->inferred = success->report->refunded_amount == 0;
	if (success->inferred)
		success->returned = before;
	success->missing = Max(ot_money_subtract(before, success->returned), 0);
}

/* What is known of the reported number already: how much it was, unless this report says so itself. */
static void
find_reported(Success *success)
{
	const RefundReport *report = success->report;
	Refund	   *external = external_of_number(success->locked);
	Conflict   *conflict = report->gateway_refund_ref != NULL
	? ot_conflict_of_number(success->conflicts, report->gateway_refund_ref) : NULL;

	if (external != NULL || conflict != NULL)
		compare_amounts(success, external != NULL ? external->asked : conflict->reported);
	if (external != NULL)
		take_over(success, external);
	else if (conflict != NULL)
		take_over_conflict(success, conflict);
	else if (report->gateway_refund_ref == NULL && success->locked->refund->gateway_refund_ref == NULL)
		find_number(success);
}

static Success
begin(const LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Success		success = {locked, report, ot_conflicts_of(locked->money.payment), report->gateway_refund_ref};

	success.returned = report->refunded_amount != 0 ? report->refunded_amount : locked->refund->amount;
	success.now = now;
	return success;
}

/* Recording it. */

/*
 * The gateway returned less: the row stands for what went back, a new refund for the rest. It is not sent by itself where
 * this one was not, nor where the report itself may have meant the whole amount.
 */
static void
split_off_rest(const Success *success)
{
	Refund	   *refund = success->locked->refund;
	Refund	   *rest = ot_refund_make_rest(refund, success->locked->money.payment,
										   ot_money_subtract(refund->amount, success->returned), success->now);

	if (success->inferred && !ot_refund_is_stopped(rest))
		ot_refund_stop(rest, "the gateway may have returned this as well", success->now);
	refund->amount = success->returned;
	ot_refund_insert(rest);
}

/* The gateway returned more: that is money that went back without us. Answers what of it is counted nowhere. */
static int64
book_excess(const Success *success, int64 excess)
{
	const Locked *money = &success->locked->money;
	External	external = {NULL, excess, REASON_EXTERNAL, true};
	Recorded	recorded;

	if (excess == 0)
		return 0;
	recorded = ot_external_record(money, &external, success->now);
	ot_external_stop_out(money, excess, recorded.left > 0, success->now);
	return recorded.left;
}

/* What is counted nowhere may be what another refund owes. */
static void
stop_if_uncounted(const Success *success, int64 left, bool two_numbers)
{
	if (left > 0 || two_numbers || success->missing > 0)
		ot_external_stop_open(&success->locked->money, success->now);
}

static RefundAnswer
answer_success(const Success *success, int64 excess, int64 left, bool two_numbers, bool less)
{
	const char *number = success->number;
	bool		contradicts = excess > 0 || two_numbers || less || success->meant > 0;

	if (excess > 0)
		(void) note(success, PROBLEM_MORE_THAN_ASKED, number, left);
	if (two_numbers)
		(void) note(success, PROBLEM_TWO_NUMBERS, number, success->returned);
	if (success->meant == 1)
		(void) note(success, PROBLEM_COUNTED_ONCE, number, 0);
	if (success->meant > 1)
		(void) note(success, PROBLEM_MAYBE_COUNTED_TWICE, number, 0);
	if (less)
		(void) note(success, PROBLEM_LESS_THAN_RECORDED, number, success->missing);
	return ot_refund_answer(contradicts ? "conflict" : "recorded", success->locked->refund);
}

RefundAnswer
ot_refund_succeed(const LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Success		success = begin(locked, report, now);
	Refund	   *refund = locked->refund;
	Locked		money = locked->money;
	int64		excess;
	int64		left;
	bool		two_numbers;
	bool		less;
	int			held_from = ot_events_hold();

	find_reported(&success);
	excess = Max(ot_money_subtract(success.returned, refund->amount), 0);
	less = success.missing > 0 || (success.inferred && success.returned < refund->amount);
	if (success.returned < refund->amount)
		split_off_rest(&success);
	if (refund->gateway_refund_ref == NULL && success.number != NULL)
		refund->gateway_refund_ref = pstrdup(success.number);
	two_numbers = success.number != NULL && strcmp(success.number, refund->gateway_refund_ref) != 0;
	refund->last_error = NULL;
	ot_refund_become_succeeded(refund, now);
	ot_funds_move(money.order, money.payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, refund->amount);
	ot_events_release(held_from);
	ot_write_refund_and_event(refund, "refund.succeeded", now);
	left = book_excess(&success, excess);	/* after that write: this refund is none that it may take from */
	stop_if_uncounted(&success, left, two_numbers);
	ot_write_money(money.order, money.payment);
	ot_orphan_join(&money, now);
	return answer_success(&success, excess, left, two_numbers, less);
}

/* A report about a refund that is at its end. */

/* Why a report contradicts what is recorded. */
static Problem
contradiction(const Success *success)
{
	const Refund *refund = success->locked->refund;
	const char *number = success->report->gateway_refund_ref;

	if (number_is_taken(success->locked))
		return PROBLEM_OTHER_REFUND;
	if (refund->by_hand)
		return PROBLEM_SETTLED_BY_HAND;

	/* A repeat is what was recorded before it was reversed, and nothing else: only the number can show that. */
	if (refund->state == REFUND_REVERSED && (refund->returned_at == OT_NO_TIME || success->locked->same_number == NULL))
		return PROBLEM_OWED_AGAIN;
	if (number != NULL && refund->gateway_refund_ref != NULL && success->locked->same_number == NULL)
		return PROBLEM_TWO_NUMBERS;
	if (success->returned > refund->amount)
		return PROBLEM_MORE_THAN_ASKED;
	return success->returned < refund->amount ? PROBLEM_LESS_THAN_RECORDED : NO_PROBLEM;
}

/* An earlier report of record_refund about the same number, of which something did not fit and is not resolved yet. */
static Conflict *
open_report(const Success *success)
{
	const char *number = success->report->gateway_refund_ref;

	return number != NULL ? ot_conflict_of_number(success->conflicts, number) : NULL;
}

/* What of the report is counted nowhere: not with this refund, nor with the one that has its number. */
static int64
uncounted(const Success *success, Problem problem)
{
	const LockedRefund *locked = success->locked;
	int64		counted = 0;

	if (problem == PROBLEM_OTHER_REFUND && locked->same_number->returned_at != OT_NO_TIME)
		counted = ot_is_external(locked->same_number) ? locked->same_number->asked : locked->same_number->amount;
	if (problem == PROBLEM_OWED_AGAIN && open_report(success) != NULL)
		counted = open_report(success)->reported;
	if (problem == PROBLEM_MORE_THAN_ASKED || problem == PROBLEM_LESS_THAN_RECORDED)
		counted = locked->refund->amount;
	return Max(ot_money_subtract(success->returned, counted), 0);
}

static RefundAnswer
contradict(const Success *success, Problem problem)
{
	const LockedRefund *locked = success->locked;
	Refund	   *refund = locked->refund;
	int64		amount = uncounted(success, problem);

	if (!note(success, problem, success->report->gateway_refund_ref, amount))
		return ot_refund_answer("conflict", refund);
	if (ot_is_open(refund) && !ot_refund_is_stopped(refund))
	{
		ot_refund_stop(refund, "the gateway reported success under the number of another refund", success->now);
		ot_write_refund_and_event(refund, "refund.stopped", success->now);
	}

	/* Of a reversed one, what took its place, a rest of it, or what is owed again since. */
	if (amount > 0 || (refund->state == REFUND_REVERSED && problem != PROBLEM_LESS_THAN_RECORDED))
		ot_external_stop_open(&locked->money, success->now);
	return ot_refund_answer("conflict", refund);
}

/* Whether that row of record_refund is this refund, which succeeded without a number. */
static bool
is_number_of(const Refund *external, const Success *success)
{
	const Refund *refund = success->locked->refund;

	return refund->state == REFUND_SUCCEEDED && refund->gateway_refund_ref == NULL && !refund->by_hand &&
		external->reason == REASON_EXTERNAL && external->asked == refund->amount && success->returned == refund->amount;
}

/* It succeeded without a number. record_refund recorded the same money under one, which is reported now. */
static RefundAnswer
take_number_over(Success *success, Refund *external)
{
	Refund	   *refund = success->locked->refund;
	Locked		money = success->locked->money;

	take_over(success, external);
	refund->gateway_refund_ref = pstrdup(success->number);
	ot_write_refund(refund);
	ot_write_money(money.order, money.payment);
	ot_orphan_join(&money, success->now);
	return ot_refund_answer("duplicate", refund);
}

static RefundAnswer
repeat(const Success *success)
{
	Refund	   *refund = success->locked->refund;
	const char *number = success->report->gateway_refund_ref;

	/* A number that was missing so far keeps record_refund from counting the same money twice. */
	if (refund->gateway_refund_ref == NULL && number != NULL)
	{
		refund->gateway_refund_ref = pstrdup(number);
		ot_write_refund(refund);
	}
	return ot_refund_answer("duplicate", refund);
}

RefundAnswer
ot_refund_complete_succeeded(const RefundReport *report)
{
	LockedRefund locked = ot_lock_refund_and_money(report->refund_ref, report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;
	Refund	   *external = external_of_number(&locked);
	Success		success;
	Problem		problem;

	if (ot_refund_was_reported(refund, report))
		return ot_refund_answer("duplicate", refund);
	if (ot_lease_is_current(&refund->lease, report->lease_token))
		ot_lease_remember(&refund->lease, ot_refund_report_line(report));
	if (ot_is_open(refund) && (!number_is_taken(&locked) || external != NULL))
		return ot_refund_succeed(&locked, report, now);
	success = begin(&locked, report, now);
	if (external != NULL && is_number_of(external, &success))
		return take_number_over(&success, external);
	problem = contradiction(&success);
	return problem != NO_PROBLEM ? contradict(&success, problem) : repeat(&success);
}
