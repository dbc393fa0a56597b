/*
 * conflict.c
 *    What a gateway says in contradiction to what is recorded: money may have gone twice, or the buyer may have nothing.
 *    Nothing is overwritten; the operator looks.
 */
#include "postgres.h"

#include "conflict.h"
#include "event.h"
#include "store.h"

static const char *const problems[] = {
	[PROBLEM_OTHER_REFUND] = "the gateway's refund is recorded as another refund",
	[PROBLEM_OTHER_PAYMENT] = "the gateway's refund is recorded for another payment",
	[PROBLEM_MORE_THAN_ASKED] = "the gateway returned more than it was asked for",
	[PROBLEM_MORE_THAN_LEFT] = "the gateway returned more than this payment has left",
	[PROBLEM_LESS_THAN_RECORDED] = "the gateway returned less than recorded",
	[PROBLEM_TWO_NUMBERS] = "the gateway returned it under two numbers",
	[PROBLEM_SETTLED_BY_HAND] = "settled by hand, and the gateway returned it too",
	[PROBLEM_OWED_AGAIN] = "reversed and owed anew, and the gateway returned it",
	[PROBLEM_FAILED_AFTER_ALL] = "succeeded, and the gateway reports that it failed after all",
	[PROBLEM_COUNTED_ONCE] = "reported with and without a number, counted once",
	[PROBLEM_MAYBE_COUNTED_TWICE] = "may be one of several refunds of the same amount, counted as one more",
	[PROBLEM_OTHER_ORDERS_ATTEMPT] = "the payment names an attempt to pay another order",
};

static bool
is_about_attempt(const Conflict *conflict)
{
	return strcmp(conflict->problem, problems[PROBLEM_OTHER_ORDERS_ATTEMPT]) == 0;
}

static void
add_event(const Payment *payment, const Conflict *conflict, TimestampTz now)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "refund_ref", conflict->refund_ref);
	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_text(payload, "gateway_refund_ref", conflict->gateway_refund_ref);
	ot_payload_int(payload, "amount", conflict->amount);
	ot_payload_text(payload, "currency", payment->currency);
	ot_payload_text(payload, "problem", conflict->problem);
	ot_event(payment->order_id, is_about_attempt(conflict) ? "payment.conflict" : "refund.conflict", payload, now);
}

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* That money may be counted once or twice is shown next to what else is wrong with it. */
static bool
is_about_counting(const Conflict *conflict)
{
	return same(conflict->problem, problems[PROBLEM_COUNTED_ONCE]) ||
		same(conflict->problem, problems[PROBLEM_MAYBE_COUNTED_TWICE]);
}

static bool
is_of_one_kind(const Conflict *a, const Conflict *b)
{
	return a->is_failure == b->is_failure && is_about_counting(a) == is_about_counting(b);
}

/* A report about a refund of ours may leave the number out. */
static bool
may_be_same_number(const Conflict *a, const Conflict *b)
{
	if (a->refund_ref != NULL && (a->gateway_refund_ref == NULL || b->gateway_refund_ref == NULL))
		return true;
	return same(a->gateway_refund_ref, b->gateway_refund_ref);
}

/* The same report about the same refund is one conflict, whatever it contradicts by now; that it failed is one as well. */
static bool
is_noted(const Payment *payment, const Conflict *conflict)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_conflicts(payment))
	{
		const Conflict *noted = lfirst(cell);

		if (!same(noted->refund_ref, conflict->refund_ref) || !is_of_one_kind(noted, conflict))
			continue;
		if (conflict->is_failure || (may_be_same_number(noted, conflict) && noted->reported == conflict->reported))
			return true;
	}
	return false;
}

bool
ot_conflict_note(const Payment *payment, const Contradiction *contradiction, TimestampTz now)
{
	Conflict	conflict = {0};

	conflict.order_id = payment->order_id;
	conflict.gateway = payment->gateway;
	conflict.payment_ref = payment->payment_ref;
	conflict.refund_ref = contradiction->refund_ref;
	conflict.gateway_refund_ref = contradiction->gateway_refund_ref;
	conflict.amount = contradiction->amount;
	conflict.problem = problems[contradiction->problem];
	conflict.created_at = now;
	conflict.reported = contradiction->reported;
	conflict.is_failure = contradiction->problem == PROBLEM_FAILED_AFTER_ALL;
	conflict.counted_once = contradiction->problem == PROBLEM_COUNTED_ONCE ? contradiction->reported : 0;
	if (contradiction->reason != REASON_REQUESTED)
		conflict.reason = ot_refund_reasons[contradiction->reason];
	if (is_noted(payment, &conflict))
		return false;
	ot_store_add_conflict(&conflict);
	add_event(payment, &conflict, now);
	return true;
}

List *
ot_conflicts_of(const Payment *payment)
{
	return ot_store_find_conflicts(payment);
}

static bool
has_number(const Conflict *conflict, const char *gateway_refund_ref)
{
	return conflict->gateway_refund_ref != NULL && strcmp(conflict->gateway_refund_ref, gateway_refund_ref) == 0;
}

bool
ot_conflicts_have(List *conflicts, const char *gateway_refund_ref, int64 reported, bool by_record_refund)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		const Conflict *conflict = lfirst(cell);

		if (!conflict->is_failure && conflict->reported == reported && has_number(conflict, gateway_refund_ref) &&
			(conflict->reason != NULL || !by_record_refund))
			return true;
	}
	return false;
}

bool
ot_conflicts_have_success(List *conflicts, const char *refund_ref, int64 reported)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		const Conflict *conflict = lfirst(cell);

		if (!conflict->is_failure && conflict->reported == reported && conflict->gateway_refund_ref == NULL &&
			same(conflict->refund_ref, refund_ref))
			return true;
	}
	return false;
}

Conflict *
ot_conflict_with_other_amount(List *conflicts, const char *gateway_refund_ref, int64 reported)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		Conflict   *conflict = lfirst(cell);

		if (conflict->reason != NULL && conflict->refund_ref == NULL && conflict->reported != reported &&
			has_number(conflict, gateway_refund_ref))
			return conflict;
	}
	return NULL;
}

bool
ot_conflict_is_open_report(const Conflict *conflict)
{
	return conflict->resolved_at == OT_NO_TIME && conflict->refund_ref == NULL && conflict->gateway_refund_ref != NULL;
}

Conflict *
ot_conflict_of_number(List *conflicts, const char *gateway_refund_ref)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		Conflict   *conflict = lfirst(cell);

		if (ot_conflict_is_open_report(conflict) && has_number(conflict, gateway_refund_ref))
			return conflict;
	}
	return NULL;
}

void
ot_conflict_end(Conflict *conflict, const char *note, TimestampTz now)
{
	Payload    *payload = ot_payload();

	conflict->resolved_at = now;
	ot_store_resolve_conflict(conflict, note);
	ot_payload_int(payload, "conflict_id", conflict->conflict_id);
	ot_payload_text(payload, "note", note);
	ot_effect(conflict->order_id, "conflict.resolved", payload, now);
}

void
ot_conflicts_end_of(List *conflicts, const char *refund_ref, const char *note, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		Conflict   *conflict = lfirst(cell);

		if (conflict->resolved_at == OT_NO_TIME && conflict->refund_ref != NULL && strcmp(conflict->refund_ref, refund_ref) == 0)
			ot_conflict_end(conflict, note, now);
	}
}

void
ot_conflicts_end_with_number(List *conflicts, const char *gateway_refund_ref, const char *note, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, conflicts)
	{
		Conflict   *conflict = lfirst(cell);

		if (conflict->resolved_at == OT_NO_TIME && conflict->amount > 0 && has_number(conflict, gateway_refund_ref))
			ot_conflict_end(conflict, note, now);
	}
}
