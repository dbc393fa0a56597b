/*
 * refund.c
 *    The life of a refund: from an obligation to money that is back. Refund states change in this file only.
 *
 *    (owe, request)                       claim
 *         |                 +---------------------------------+
 *         v                 |                                 v
 *      pending ------------>+                             processing
 *         ^                 ^                                 |
 *         | retry           |         failed, unknown,        |
 *         |                 +---- submitted, (pending) <------+  complete, lease lapsed
 *         |                            |                      |
 *  needs_attention <-------------------+----------------------+  rejected, too many attempts, too long submitted
 *         |      any open state
 *         |           | succeeded (from anyone, at any time), settle (by hand, from needs_attention)
 *         |           v
 *         |       succeeded ----+
 *         +---------------------+--> reversed, and a new refund owes the money
 *                                    (also from an open state that was never handed out, when record_refund replaces it)
 *
 * Invariants:
 *  1. The money of an open refund is in refund_pending of its payment (and of its order, if the payment counts there),
 *     whatever the state. Only succeeded moves it to refunded; leaving succeeded moves it back.
 *  2. A refund_ref is never sent for a second obligation, and the amount of an obligation never grows.
 *  3. No refund row vanishes. What takes its place is named in replaced_by.
 *  4. What the gateway says in contradiction to a settled row changes no row; it leaves a conflict.
 *  5. Locks: order, payment, the gateway's number for the refund (advisory), refund, in this order, wherever money moves;
 *     the number and the refund where only its state does.
 *  6. Times and the decision come after the last lock.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "conflict.h"
#include "errors.h"
#include "event.h"
#include "lock.h"
#include "refund.h"
#include "rules.h"
#include "store.h"

#define KEY_BYTES 16			/* 128 random bits: no two databases ever make the same key */
#define MAX_ERROR_BYTES 2000

/* Problems that can be told in two ways have one wording: equal conflicts are noted once. */
#define MORE_THAN_ASKED "the gateway returned more than it was asked for"
#define MORE_THAN_LEFT "the gateway returned more than this payment has left"
#define LESS_THAN_RECORDED "the gateway returned less than recorded"
#define TWO_NUMBERS "the gateway returned it under two numbers"
#define OWED_ANEW "reversed and owed anew, and the gateway returned it"

/* Everything that a report of returned money touches, locked. */
typedef struct LockedRefund
{
	Locked		money;
	Refund	   *refund;
	Refund	   *bearer;			/* the refund that bears the reported number already, or NULL */
} LockedRefund;

static char *
random_key(const char *prefix)
{
	unsigned char bytes[KEY_BYTES];
	int			length = strlen(prefix);
	char	   *key = palloc(length + 2 * KEY_BYTES + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes for a refund key")));
	memcpy(key, prefix, length);
	hex_encode((const char *) bytes, KEY_BYTES, key + length);
	key[length + 2 * KEY_BYTES] = '\0';
	return key;
}

static void
refund_event(const Refund *refund, const char *type, TimestampTz now)
{
	ot_event(refund->order_id, type, ot_refund_payload(refund), now);
}

static void
write_refund(const Refund *refund, const char *event_type, TimestampTz now)
{
	ot_store_update_refund(refund);
	refund_event(refund, event_type, now);
}

static RefundAnswer
answer(const char *outcome, const Refund *refund)
{
	RefundAnswer result = {outcome, refund->state, refund->next_attempt_at, refund->refund_ref};

	return result;
}

static void
no_such_refund(const char *refund_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_REFUND),
			 errmsg("no such refund"),
			 errdetail("There is no refund with refund_ref \"%s\".", refund_ref),
			 errhint("Give the refund_ref that claim_refunds() or order_timeout.refunds shows.")));
}

static void
wrong_state(const Refund *refund, const char *hint)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("the refund's state does not allow this"),
			 errdetail("Refund \"%s\" is %s.", refund->refund_ref, ot_refund_states[refund->state]),
			 errhint("%s", hint)));
}

/* Rows. */

Refund *
ot_refund_make(const Payment *payment, int64 amount, RefundReason reason, TimestampTz now)
{
	Refund	   *refund = palloc0(sizeof(Refund));

	refund->refund_ref = random_key("rf_");
	refund->order_id = payment->order_id;
	refund->gateway = payment->gateway;
	refund->payment_ref = payment->payment_ref;
	refund->amount = refund->asked = amount;
	refund->currency = payment->currency;
	refund->reason = reason;
	refund->state = REFUND_PENDING;
	refund->next_attempt_at = now;
	refund->leased_until = refund->handed_out_at = refund->submitted_at = refund->returned_at = OT_NO_TIME;
	refund->attention_at = refund->settled_at = OT_NO_TIME;
	refund->created_at = now;
	return refund;
}

Refund *
ot_refund_insert(Refund *refund)
{
	ot_store_insert_refund(refund);
	refund_event(refund, "refund.created", refund->created_at);
	return refund;
}

Refund *
ot_refund_owe(Order *order, Payment *payment, Bucket from, int64 amount, RefundReason reason, TimestampTz now)
{
	ot_funds_move(order, payment, from, BUCKET_REFUND_PENDING, amount);
	return ot_refund_insert(ot_refund_make(payment, amount, reason, now));
}

Refund *
ot_refund_of(const Payment *payment)
{
	ListCell   *cell;

	foreach(cell, ot_store_find_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (refund->reason != REASON_REQUESTED && refund->reason != REASON_EXTERNAL &&
			refund->reason != REASON_CHARGEBACK && refund->reason != REASON_REVERSED)
			return refund;
	}
	return NULL;
}

/* States. Each of these changes the row in memory; the caller writes it. */

static void
end_lease(Refund *refund)
{
	refund->lease_token = NULL;
	refund->leased_until = OT_NO_TIME;
	refund->worker = NULL;
	refund->next_attempt_at = OT_NO_TIME;
}

static void
become_needs_attention(Refund *refund, TimestampTz now)
{
	end_lease(refund);
	refund->state = REFUND_NEEDS_ATTENTION;
	refund->attention_at = now;
}

static void
become_due(Refund *refund, RefundState state, TimestampTz next_attempt_at)
{
	end_lease(refund);
	refund->state = state;
	refund->attention_at = OT_NO_TIME;
	refund->next_attempt_at = next_attempt_at;
}

static void
become_settled(Refund *refund, RefundState state, TimestampTz now)
{
	end_lease(refund);
	refund->state = state;
	refund->attention_at = OT_NO_TIME;
	refund->settled_at = now;
}

static void
become_succeeded(Refund *refund, TimestampTz now)
{
	become_settled(refund, REFUND_SUCCEEDED, now);
	refund->returned_at = now;
}

/* An attempt ended without an end of the refund: true if there may be another one. */
static bool
use_up_attempt(Refund *refund, const Policy *policy, TimestampTz now)
{
	refund->attempts++;
	if (refund->attempts < policy->refund_max_attempts)
		return true;
	become_needs_attention(refund, now);
	return false;
}

/* Locks. */

static Refund *
find_refund(const char *refund_ref)
{
	Refund	   *refund = ot_store_find_refund(refund_ref);

	if (refund == NULL)
		no_such_refund(refund_ref);
	return refund;
}

static Refund *
lock_refund(const Refund *found)
{
	Refund	   *refund = ot_store_lock_refund(found);

	if (refund == NULL)
		no_such_refund(found->refund_ref);
	return refund;
}

static Refund *
find_bearer(const char *gateway, const char *gateway_refund_ref)
{
	return gateway_refund_ref ? ot_store_lock_gateway_refund_ref(gateway, gateway_refund_ref) : NULL;
}

/* A refund's gateway and payment never change, so they may be read before anything is locked. */
static LockedRefund
lock_refund_and_money(const char *refund_ref, const char *gateway_refund_ref)
{
	Refund	   *found = find_refund(refund_ref);
	LockedRefund locked;

	locked.money = ot_lock_payment(found->gateway, found->payment_ref);
	locked.bearer = find_bearer(found->gateway, gateway_refund_ref);
	locked.refund = lock_refund(found);
	return locked;
}

static bool
same_refund(const Refund *a, const Refund *b)
{
	return strcmp(a->refund_ref, b->refund_ref) == 0;
}

/* Whether another refund bears the reported number: then the report is about that money. */
static bool
number_is_taken(const LockedRefund *locked)
{
	return locked->bearer != NULL && !same_refund(locked->bearer, locked->refund);
}

/* claim_refunds, and leases */

void
ot_refund_take_back(Refund *refund, const Policy *policy, TimestampTz now)
{
	refund->last_error = "the worker's lease lapsed; what the gateway did is not known";
	if (use_up_attempt(refund, policy, now))
		become_due(refund, REFUND_UNKNOWN, now);
	write_refund(refund, "refund.lease_lapsed", now);
}

static bool
is_overlong(const Refund *refund, const Policy *policy, TimestampTz now)
{
	return refund->state == REFUND_SUBMITTED && refund->submitted_at <= ot_submitted_limit(policy, now);
}

void
ot_refund_stop_waiting(Refund *refund, TimestampTz now)
{
	refund->last_error = "the gateway took it and has not said the end within refund_settle_within";
	become_needs_attention(refund, now);
	write_refund(refund, "refund.needs_attention", now);
}

static ClaimedRefund *
hand_out(Refund *refund, const Payment *payment, const char *worker, TimestampTz leased_until, TimestampTz now)
{
	ClaimedRefund *claimed = palloc(sizeof(ClaimedRefund));

	claimed->refund = refund;
	claimed->payment_amount = payment->funds.paid;
	claimed->action = refund->handed_out_at == OT_NO_TIME ? "submit" : "query";

	refund->state = REFUND_PROCESSING;
	refund->worker = pstrdup(worker);
	refund->lease_token = random_key("");
	refund->leased_until = refund->next_attempt_at = leased_until;
	if (refund->handed_out_at == OT_NO_TIME)
		refund->handed_out_at = now;
	ot_store_update_refund(refund);
	return claimed;
}

static void
tell_claimed(List *claimed, TimestampTz now)
{
	List	   *events = NIL;
	ListCell   *cell;

	foreach(cell, claimed)
	{
		Refund	   *refund = ((ClaimedRefund *) lfirst(cell))->refund;

		events = lappend(events, ot_event_make(refund->order_id, "refund.claimed", ot_refund_payload(refund), now));
	}
	if (events != NIL)
		ot_store_add_events(events);
}

/* NULL if it needs attention instead. */
static ClaimedRefund *
claim_one(Refund *refund, const char *worker, int64 lease, TimestampTz now)
{
	Policy	   *policy = ot_store_find_policy_of(refund->order_id);
	Payment    *payment = ot_store_find_payment(refund->gateway, refund->payment_ref);

	if (payment == NULL)
	{
		/* No function of ours leaves a refund so; one such row must not keep all workers from all others. */
		refund->last_error = "its payment is not there";
		become_needs_attention(refund, now);
		write_refund(refund, "refund.needs_attention", now);
		return NULL;
	}
	if (refund->state == REFUND_PROCESSING)
		ot_refund_take_back(refund, policy, now);
	else if (is_overlong(refund, policy, now))
		ot_refund_stop_waiting(refund, now);
	if (refund->state == REFUND_NEEDS_ATTENTION)
		return NULL;
	return hand_out(refund, payment, worker, now + (lease > 0 ? lease : policy->refund_lease), now);
}

List *
ot_refund_claim(const char *worker, int max_refunds, int64 lease, const char *gateway)
{
	TimestampTz asked_at = GetCurrentTimestamp();
	List	   *claimed = NIL;
	List	   *due;

	/*
	 * What turned out to need attention is no reason to send a worker away with less than it asked for. Due is what was
	 * due when it asked: a lease of a moment must not make it due for the same call again.
	 */
	while (list_length(claimed) < max_refunds &&
		   (due = ot_store_lock_due_refunds(asked_at, gateway, max_refunds - list_length(claimed))) != NIL)
	{
		TimestampTz now = GetCurrentTimestamp();
		List	   *some = NIL;
		ListCell   *cell;

		foreach(cell, due)
		{
			ClaimedRefund *claim = claim_one(lfirst(cell), worker, lease, now);

			if (claim != NULL)
				some = lappend(some, claim);
		}
		tell_claimed(some, now);
		claimed = list_concat(claimed, some);
	}
	return claimed;
}

/* complete_refund, succeeded */

/* Why a report contradicts what is recorded, or NULL. */
static const char *
contradiction(const LockedRefund *locked, const RefundReport *report)
{
	const Refund *refund = locked->refund;

	if (number_is_taken(locked))
		return "the gateway's refund is recorded as another refund";
	if (ot_is_open(refund))
		return NULL;
	if (report->refunded_amount > refund->amount)
		return MORE_THAN_ASKED;
	if (report->refunded_amount != 0 && report->refunded_amount < refund->amount)
		return LESS_THAN_RECORDED;
	if (report->gateway_refund_ref != NULL && refund->gateway_refund_ref != NULL && locked->bearer == NULL)
		return TWO_NUMBERS;
	if (refund->by_hand)
		return "settled by hand, and the gateway returned it too";

	/* Told again is what was recorded before it was reversed, and nothing else: only the number can show that. */
	if (refund->state == REFUND_REVERSED && (refund->returned_at == OT_NO_TIME || locked->bearer == NULL))
		return OWED_ANEW;
	return NULL;
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

static RefundAnswer
succeed(LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Refund	   *refund = locked->refund;
	Locked	   *money = &locked->money;
	int64		returned = report->refunded_amount != 0 ? report->refunded_amount : refund->amount;
	int64		too_much = Max(ot_money_subtract(returned, refund->amount), 0);
	const char *number = report->gateway_refund_ref;
	bool		two_numbers = number != NULL && refund->gateway_refund_ref != NULL &&
		strcmp(number, refund->gateway_refund_ref) != 0;

	if (returned < refund->amount)
		split_off_rest(locked, returned, now);
	if (number != NULL && refund->gateway_refund_ref == NULL)
		refund->gateway_refund_ref = pstrdup(number);
	refund->last_error = NULL;
	become_succeeded(refund, now);
	ot_funds_move(money->order, money->payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, refund->amount);
	write_refund(refund, "refund.succeeded", now);
	ot_write_money(money);
	if (refund->gateway_refund_ref != NULL)
		ot_store_resolve_conflicts_of(refund, now);
	if (too_much > 0)
		ot_conflict_note(money->payment, refund->refund_ref, number, too_much, MORE_THAN_ASKED, now);
	if (two_numbers)
		ot_conflict_note(money->payment, refund->refund_ref, number, returned, TWO_NUMBERS, now);
	return answer(too_much > 0 || two_numbers ? "conflict" : "recorded", refund);
}

/*
 * A webhook told our own refund as somebody else's before the worker reported it: record_refund took its money out of
 * what the order kept, and it would be counted twice. The external row gives its money back and stands reversed.
 * Only where it took from kept money alone; what it replaced otherwise cannot be told apart any more.
 */
static bool
external_gives_way(LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Refund	   *external = locked->bearer;
	Locked	   *money = &locked->money;
	int64		returned = report->refunded_amount != 0 ? report->refunded_amount : locked->refund->amount;
	ListCell   *cell;

	if (!number_is_taken(locked) || !ot_is_open(locked->refund) ||
		external->state != REFUND_SUCCEEDED || external->reason != REASON_EXTERNAL || external->asked != returned ||
		strcmp(external->payment_ref, money->payment->payment_ref) != 0 ||
		money->order == NULL || money->order->state != ORDER_PAID || money->payment->disposition != PAYMENT_APPLIED)
		return false;
	foreach(cell, ot_store_lock_refunds(money->payment))
	{
		Refund	   *other = lfirst(cell);

		if (other->replaced_by != NULL && same_refund(external, other) == false &&
			strcmp(other->replaced_by, external->refund_ref) == 0)
			return false;
	}
	ot_funds_move(money->order, money->payment, BUCKET_REFUNDED, BUCKET_KEPT, external->amount);
	external->gateway_refund_ref = NULL;
	external->returned_at = OT_NO_TIME;
	external->replaced_by = locked->refund->refund_ref;
	become_settled(external, REFUND_REVERSED, now);
	write_refund(external, "refund.reversed", now);
	return true;
}

static RefundAnswer
complete_succeeded(const RefundReport *report)
{
	LockedRefund locked = lock_refund_and_money(report->refund_ref, report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;
	const char *problem;

	if (external_gives_way(&locked, report, now))
		return succeed(&locked, report, now);
	problem = contradiction(&locked, report);
	if (problem != NULL)
	{
		int64		said = report->refunded_amount != 0 ? report->refunded_amount : refund->amount;

		if (strcmp(problem, MORE_THAN_ASKED) == 0)
			said = ot_money_subtract(said, refund->amount);
		ot_conflict_note(locked.money.payment, refund->refund_ref, report->gateway_refund_ref, said, problem, now);
		return answer("conflict", refund);
	}
	if (ot_is_open(refund))
		return succeed(&locked, report, now);

	/* Told again. A number that was missing so far keeps record_refund from counting the same money twice. */
	if (refund->gateway_refund_ref == NULL && report->gateway_refund_ref != NULL)
	{
		refund->gateway_refund_ref = pstrdup(report->gateway_refund_ref);
		ot_store_update_refund(refund);
	}
	return answer("duplicate", refund);
}

/* complete_refund, everything else */

static void
note_report(Refund *refund, const RefundReport *report, const Refund *bearer)
{
	if (report->error != NULL)
		refund->last_error = pnstrdup(report->error, pg_mbcliplen(report->error, strlen(report->error), MAX_ERROR_BYTES));
	if (refund->gateway_refund_ref == NULL && report->gateway_refund_ref != NULL && bearer == NULL)
		refund->gateway_refund_ref = pstrdup(report->gateway_refund_ref);
}

/* The gateway has it, or had it when it was last asked. */
static void
become_submitted(Refund *refund, const Policy *policy, TimestampTz now)
{
	if (refund->submitted_at == OT_NO_TIME)
		refund->submitted_at = now;
	become_due(refund, REFUND_SUBMITTED, ot_next_query(policy, refund->submitted_at, now));
	if (is_overlong(refund, policy, now))
		become_needs_attention(refund, now);
}

static void
become_reported(Refund *refund, RefundResult result, const Policy *policy, TimestampTz now)
{
	switch (result)
	{
		case RESULT_FAILED:
			refund->submitted_at = OT_NO_TIME;
			if (use_up_attempt(refund, policy, now))
				become_due(refund, REFUND_FAILED, ot_next_attempt(policy, refund->attempts, now));
			break;
		case RESULT_UNKNOWN:
			if (use_up_attempt(refund, policy, now))
				become_due(refund, REFUND_UNKNOWN, ot_next_attempt(policy, refund->attempts, now));
			break;
		case RESULT_SUBMITTED:
			become_submitted(refund, policy, now);
			break;
		case RESULT_DEFERRED:
			if (refund->submitted_at != OT_NO_TIME)
				become_submitted(refund, policy, now);
			else
				become_due(refund, REFUND_PENDING, ot_next_attempt(policy, refund->attempts, now));
			break;
		case RESULT_REJECTED:
			refund->attempts++;
			become_needs_attention(refund, now);
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

RefundAnswer
ot_refund_complete(RefundReport *report)
{
	Refund	   *bearer;
	Refund	   *refund;
	TimestampTz now;

	if (report->result == RESULT_SUCCEEDED)
		return complete_succeeded(report);

	refund = find_refund(report->refund_ref);
	bearer = find_bearer(refund->gateway, report->gateway_refund_ref);
	refund = lock_refund(refund);
	now = GetCurrentTimestamp();
	if (!ot_is_open(refund))
		return answer("ignored", refund);
	if (!may_report(refund, report))
		return answer("stale", refund);
	note_report(refund, report, bearer);
	become_reported(refund, report->result, ot_store_find_policy_of(refund->order_id), now);
	write_refund(refund, psprintf("refund.%s", ot_refund_results[report->result]), now);
	return answer("recorded", refund);
}

/* retry_refund, settle_refund, reverse_refund: what a person decides */

RefundAnswer
ot_refund_retry(const char *refund_ref)
{
	Refund	   *refund = lock_refund(find_refund(refund_ref));
	TimestampTz now = GetCurrentTimestamp();

	if (!ot_is_open(refund))
		wrong_state(refund, "Only a refund that is still owed can be tried again.");
	if (refund->state != REFUND_NEEDS_ATTENTION)
		return answer("already_due", refund);
	refund->attempts = 0;
	refund->submitted_at = OT_NO_TIME;
	become_due(refund, REFUND_PENDING, now);
	write_refund(refund, "refund.retried", now);
	return answer("retried", refund);
}

RefundAnswer
ot_refund_settle(const char *refund_ref, const char *note)
{
	LockedRefund locked = lock_refund_and_money(refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;

	if (refund->by_hand && refund->state == REFUND_SUCCEEDED)
		return answer("already_settled", refund);
	if (refund->state != REFUND_NEEDS_ATTENTION)
		wrong_state(refund, "Only a refund that needs attention can be settled by hand.");
	refund->by_hand = true;
	refund->note = pstrdup(note);
	become_succeeded(refund, now);
	ot_funds_move(locked.money.order, locked.money.payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, refund->amount);
	write_refund(refund, "refund.settled", now);
	ot_write_money(&locked.money);
	return answer("settled", refund);
}

RefundAnswer
ot_refund_reverse(const char *refund_ref, const char *reason)
{
	LockedRefund locked = lock_refund_and_money(refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;
	bool		came_back = refund->state == REFUND_SUCCEEDED;
	Refund	   *anew;
	RefundAnswer result;

	if (refund->state == REFUND_REVERSED)
	{
		result = answer("already_reversed", refund);
		result.refund_ref = refund->replaced_by;
		return result;
	}
	if (!came_back && refund->state != REFUND_NEEDS_ATTENTION)
		wrong_state(refund, "Only a refund that succeeded or needs attention can be reversed.");

	anew = ot_refund_make(locked.money.payment, refund->amount, REASON_REVERSED, now);
	anew->note = pstrdup(reason);
	if (came_back)
	{
		become_needs_attention(anew, now);
		ot_funds_move(locked.money.order, locked.money.payment, BUCKET_REFUNDED, BUCKET_REFUND_PENDING, refund->amount);
		ot_write_money(&locked.money);
	}
	ot_refund_insert(anew);
	refund->replaced_by = anew->refund_ref;
	become_settled(refund, REFUND_REVERSED, now);
	write_refund(refund, "refund.reversed", now);
	result = answer("reversed", refund);
	result.refund_ref = anew->refund_ref;
	return result;
}

/* record_refund */

/* Takes from a refund that no worker ever had; what it still owes after that gets a refund of its own. */
static void
replace_refund(Locked *money, Refund *refund, const Refund *external, int64 part, TimestampTz now)
{
	ot_funds_move(money->order, money->payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, part);
	if (part < refund->amount)
	{
		Refund	   *rest = ot_refund_make(money->payment, refund->amount - part, refund->reason, now);

		rest->note = psprintf("rest of %s", refund->refund_ref);
		if (refund->state == REFUND_NEEDS_ATTENTION)
			become_needs_attention(rest, now);
		ot_refund_insert(rest);
	}
	refund->replaced_by = external->refund_ref;
	become_settled(refund, REFUND_REVERSED, now);
	write_refund(refund, "refund.reversed", now);
}

/* Finds the money in refunds that were never handed out, then in what is kept, then in what is held; answers the rest. */
static int64
take_returned(Locked *money, const Refund *external, int64 amount, TimestampTz now)
{
	Payment    *payment = money->payment;
	int64		left = amount;
	int64		part;
	ListCell   *cell;

	foreach(cell, ot_store_lock_refunds(payment))
	{
		Refund	   *refund = lfirst(cell);

		if (left == 0 || !ot_is_open(refund) || refund->handed_out_at != OT_NO_TIME)
			continue;
		part = Min(left, refund->amount);
		replace_refund(money, refund, external, part, now);
		left -= part;
	}
	part = Min(left, ot_kept(&payment->funds));
	ot_funds_move(money->order, payment, BUCKET_KEPT, BUCKET_REFUNDED, part);
	left -= part;
	part = Min(left, payment->funds.held);
	ot_funds_move(money->order, payment, BUCKET_HELD, BUCKET_REFUNDED, part);
	if (payment->disposition == PAYMENT_HELD && payment->funds.held == 0)
		payment->disposition = PAYMENT_LATE;
	return left - part;
}

/* The gateway's number is known: a repeat, the end of a refund of ours, or a contradiction. */
static RefundAnswer
record_known(LockedRefund *locked, const char *gateway_refund_ref, int64 amount, TimestampTz now)
{
	Refund	   *known = locked->refund;
	RefundReport report = {known->refund_ref, RESULT_SUCCEEDED, NULL, gateway_refund_ref, NULL, amount};
	const char *problem;

	if (strcmp(known->payment_ref, locked->money.payment->payment_ref) != 0)
		problem = "the gateway's refund is recorded for another payment";
	else if (ot_is_open(known))
		return succeed(locked, &report, now);
	else if (known->returned_at == OT_NO_TIME)
		problem = OWED_ANEW;
	else if (known->amount == amount)
		return answer("duplicate", known);
	else
		problem = amount > known->amount ? MORE_THAN_LEFT : LESS_THAN_RECORDED;
	ot_conflict_note(locked->money.payment, known->refund_ref, gateway_refund_ref,
					 strcmp(problem, MORE_THAN_LEFT) == 0 ? ot_money_subtract(amount, known->amount) : amount,
					 problem, now);
	return answer("conflict", known);
}

/* Nothing of it is recorded. */
static RefundAnswer
record_nothing(void)
{
	RefundAnswer result = {"conflict", REFUND_SUCCEEDED, OT_NO_TIME, NULL};

	return result;
}

static RefundAnswer
record_new(Locked *money, const char *gateway_refund_ref, int64 amount, RefundReason reason, TimestampTz now)
{
	Refund	   *external = ot_refund_make(money->payment, amount, reason, now);
	int64		left = take_returned(money, external, amount, now);

	if (left > 0)
		ot_conflict_note(money->payment, left < amount ? external->refund_ref : NULL, gateway_refund_ref, left,
						 MORE_THAN_LEFT, now);
	if (left == amount)
		return record_nothing();
	external->gateway_refund_ref = pstrdup(gateway_refund_ref);
	external->amount = external->asked = amount - left;
	become_succeeded(external, now);
	ot_store_insert_refund(external);
	refund_event(external, "refund.recorded", now);
	ot_write_money(money);
	return answer(left > 0 ? "conflict" : "recorded", external);
}

RefundAnswer
ot_refund_record(const char *gateway, const char *payment_ref, const char *gateway_refund_ref,
				 int64 amount, RefundReason reason)
{
	LockedRefund locked;
	TimestampTz now;

	locked.money = ot_lock_payment(gateway, payment_ref);
	locked.bearer = locked.refund = ot_store_lock_gateway_refund_ref(gateway, gateway_refund_ref);
	if (locked.refund != NULL && strcmp(locked.refund->payment_ref, payment_ref) == 0)
		locked.refund = lock_refund(locked.refund);
	now = GetCurrentTimestamp();
	if (locked.refund != NULL)
		return record_known(&locked, gateway_refund_ref, amount, now);
	if (ot_store_has_conflict(locked.money.payment, gateway_refund_ref, amount))
		return record_nothing();
	return record_new(&locked.money, gateway_refund_ref, amount, reason, now);
}
