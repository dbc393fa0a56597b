/*
 * refund_record.c
 *    record_refund: money that already went back without us, by the gateway's dashboard or a chargeback.
 *
 * The gateway's number makes it safe to repeat. A report under a new number may still be about money that is recorded: a
 * refund of ours that succeeded without a number. Then it is counted once, and the operator sees that.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "conflict.h"
#include "errors.h"
#include "lock.h"
#include "money.h"
#include "refund_external.h"
#include "refund_record.h"
#include "refund_succeed.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static void
require_currency(const ExternalReport *report, const Payment *payment)
{
	if (report->currency == NULL || strcmp(report->currency, payment->currency) == 0)
		return;
	ereport(ERROR,
			(errcode(OT_PAYMENT_DIFFERS),
			 errmsg("payment \"%s\" of gateway \"%s\" is in %s, not in %s",
					payment->payment_ref, payment->gateway, payment->currency, report->currency),
			 errdetail("Refund \"%s\" of it is reported with %lld %s.",
					   report->gateway_refund_ref, (long long) report->amount, report->currency),
			 errhint("Report the amount in the payment's currency, as the gateway's message has it.")));
}

/* refund: what of the report is recorded, or NULL. */
static RefundAnswer
answer(const char *outcome, const Refund *refund)
{
	RefundAnswer nothing = {outcome, REFUND_SUCCEEDED, OT_NO_TIME, NULL};

	return refund != NULL ? ot_refund_answer(outcome, refund) : nothing;
}

static RefundAnswer
note(const Payment *payment, const ExternalReport *report, Problem problem, const Refund *refund, int64 amount, TimestampTz now)
{
	Contradiction contradiction = {problem, refund ? refund->refund_ref : NULL, report->gateway_refund_ref, report->amount,
	amount, report->reason};

	ot_conflict_note(payment, &contradiction, now);
	return answer("conflict", refund);
}

/* The number is new. */

/* Also of one that returned more than it was asked for: the excess has a row of its own. */
static bool
is_of_amount(const Refund *refund, List *conflicts, int64 amount)
{
	return refund->amount == amount ||
		(!refund->by_hand && refund->amount < amount && ot_conflicts_have_success(conflicts, refund->refund_ref, amount));
}

/* Refunds of ours that succeeded with that amount, and nobody said under which number. */
static List *
without_number(const Payment *payment, List *conflicts, int64 amount)
{
	List	   *found = NIL;
	ListCell   *cell;

	if (payment->funds.refunded == 0)
		return NIL;
	foreach(cell, ot_store_lock_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (refund->state == REFUND_SUCCEEDED && !ot_is_external(refund) && refund->gateway_refund_ref == NULL &&
			is_of_amount(refund, conflicts, amount))
			found = lappend(found, refund);
	}
	return found;
}

static RefundAnswer
count_once(const Payment *payment, const ExternalReport *report, Refund *ours, TimestampTz now)
{
	ours->gateway_refund_ref = pstrdup(report->gateway_refund_ref);
	ot_write_refund(ours);
	return note(payment, report, PROBLEM_COUNTED_ONCE, ours, 0, now);
}

static RefundAnswer
record_own(const Locked *money, const ExternalReport *report, bool maybe_ours, List *conflicts, TimestampTz now)
{
	External	external = {report->gateway_refund_ref, report->amount, report->reason, true};
	Recorded	recorded = ot_external_record(money, &external, now);

	ot_external_stop_out(money, report->amount, report->reason == REASON_CHARGEBACK || recorded.left > 0, now);
	if (recorded.refund != NULL)
	{
		ot_write_money(money->order, money->payment);
		ot_conflicts_end_with_number(conflicts, report->gateway_refund_ref,
									 psprintf("recorded as refund %s", recorded.refund->refund_ref), now);
	}
	if (recorded.left > 0)
		return note(money->payment, report, PROBLEM_MORE_THAN_LEFT, recorded.refund, recorded.left, now);
	if (maybe_ours)
		return note(money->payment, report, PROBLEM_MAYBE_COUNTED_TWICE, recorded.refund, 0, now);
	return answer("recorded", recorded.refund);
}

/* Nothing could be recorded of what was reported under that number before, with another amount. */
static RefundAnswer
contradict_conflict(const Locked *money, const ExternalReport *report, const Conflict *before, TimestampTz now)
{
	int64		more = ot_money_subtract(report->amount, before->reported);

	if (more > 0)
		ot_external_stop_open(money, now);
	return note(money->payment, report, more > 0 ? PROBLEM_MORE_THAN_LEFT : PROBLEM_LESS_THAN_RECORDED, NULL, Max(more, 0), now);
}

static RefundAnswer
record_new(const Locked *money, const ExternalReport *report, List *conflicts, TimestampTz now)
{
	List	   *ours = report->reason == REASON_EXTERNAL ? without_number(money->payment, conflicts, report->amount) : NIL;
	Conflict   *other = ot_conflict_with_other_amount(conflicts, report->gateway_refund_ref, report->amount);

	require_currency(report, money->payment);
	if (other != NULL)
		return contradict_conflict(money, report, other, now);
	if (list_length(ours) == 1)
		return count_once(money->payment, report, linitial(ours), now);
	return record_own(money, report, ours != NIL, conflicts, now);
}

/* The number is known: a repeat, the end of a refund of ours, or a contradiction. */

static int64
reported_before(const Refund *known)
{
	return ot_is_external(known) ? known->asked : known->amount;
}

static bool
is_same_payment(const Refund *known, const ExternalReport *report)
{
	return strcmp(known->payment_ref, report->payment_ref) == 0;
}

/* Whether a row of ours with that amount gave way to the refund, which has the number since then. */
static bool
gave_way_to(const Refund *known, const Payment *payment, int64 amount)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_refunds(payment))
	{
		const Refund *external = lfirst(cell);

		if (ot_is_external(external) && external->asked == amount && external->replaced_by != NULL &&
			strcmp(external->replaced_by, known->refund_ref) == 0)
			return true;
	}
	return false;
}

/*
 * Also of one that was reversed since: what the statement says was right then. But what was paid out by hand, the gateway
 * did not return.
 */
static bool
is_repeat(const LockedRefund *locked, const ExternalReport *report)
{
	const Refund *known = locked->refund;

	if (known == NULL || !is_same_payment(known, report) || known->returned_at == OT_NO_TIME || known->by_hand)
		return false;
	return reported_before(known) == report->amount || gave_way_to(known, locked->money.payment, report->amount);
}

static RefundAnswer
contradict(const LockedRefund *locked, const ExternalReport *report, TimestampTz now)
{
	const Payment *payment = locked->money.payment;
	const Refund *known = locked->refund;
	int64		before = reported_before(known);

	if (is_same_payment(known, report) && known->returned_at != OT_NO_TIME && !known->by_hand && report->amount < before)
		return note(payment, report, PROBLEM_LESS_THAN_RECORDED, known, 0, now);
	ot_external_stop_open(&locked->money, now);
	if (!is_same_payment(known, report))
		return note(payment, report, PROBLEM_OTHER_PAYMENT, known, report->amount, now);
	if (known->by_hand)
		return note(payment, report, PROBLEM_SETTLED_BY_HAND, known, report->amount, now);
	if (known->returned_at == OT_NO_TIME)
		return note(payment, report, PROBLEM_OWED_AGAIN, known, report->amount, now);
	return note(payment, report, PROBLEM_MORE_THAN_LEFT, known, ot_money_subtract(report->amount, before), now);
}

static RefundAnswer
record_known(const LockedRefund *locked, const ExternalReport *report, TimestampTz now)
{
	Refund	   *known = locked->refund;
	RefundReport success = {known->refund_ref, RESULT_SUCCEEDED, NULL, report->gateway_refund_ref, NULL, report->amount};

	require_currency(report, locked->money.payment);
	if (is_same_payment(known, report) && ot_is_open(known))
		return ot_refund_succeed(locked, &success, now);
	return contradict(locked, report, now);
}

RefundAnswer
ot_refund_record(const ExternalReport *report)
{
	LockedRefund locked = ot_lock_number_and_money(report->gateway, report->payment_ref, report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();

	List	   *conflicts = ot_conflicts_of(locked.money.payment);

	/* Reported again after a conflict: nothing is noted or stopped once more. */
	if (ot_conflicts_have(conflicts, report->gateway_refund_ref, report->amount, true))
		return answer("conflict", locked.refund);
	if (is_repeat(&locked, report))
		return answer("duplicate", locked.refund);
	if (ot_conflicts_have(conflicts, report->gateway_refund_ref, report->amount, false))
		return answer("conflict", locked.refund);
	if (locked.refund != NULL)
		return record_known(&locked, report, now);
	return record_new(&locked.money, report, conflicts, now);
}
