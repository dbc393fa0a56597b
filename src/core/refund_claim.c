/*
 * refund_claim.c
 *    claim_refunds: refunds handed out to workers, and taken back from them; send_refunds is a worker too.
 *
 * A lease says who has a refund until when. It moves no money, so neither payment nor order is locked. One refund that
 * cannot be handed out must not keep all workers from all others: it is set aside.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "event.h"
#include "refund_claim.h"
#include "refund_state.h"
#include "rules.h"
#include "set_aside.h"
#include "store.h"
#include "write.h"

typedef struct Claim
{
	WorkBatch	batch;			/* first */
	const char *worker;
	int64		lease;			/* 0: the policy's */
	const char *gateway;
	TimestampTz asked_at;
	List	   *claimed;		/* of all batches */
	List	   *policies;		/* of send_refunds: whose refunds, and due since when */
	TimestampTz from;
} Claim;

void
ot_refund_take_back(Refund *refund, const Policy *policy, TimestampTz now)
{
	refund->last_error = "the worker's lease lapsed; what the gateway did is not known";
	ot_refund_lapse(refund, policy, now);
	ot_write_refund_and_event(refund, "refund.lease_lapsed", now);
}

void
ot_refund_stop_waiting(Refund *refund, TimestampTz now)
{
	refund->last_error = "the gateway took it and has not said the end within refund_settle_within";
	ot_refund_become_needs_attention(refund, now);
	ot_write_refund_and_event(refund, "refund.needs_attention", now);
}

static ClaimedRefund *
hand_out(Refund *refund, const Payment *payment, const char *worker, TimestampTz leased_until, TimestampTz now)
{
	ClaimedRefund *claimed = palloc(sizeof(ClaimedRefund));

	claimed->refund = refund;
	claimed->payment_amount = payment->funds.paid;
	claimed->action = refund->handed_out_at == OT_NO_TIME ? "submit" : "query";
	ot_refund_become_processing(refund, worker, leased_until, now);
	ot_write_refund(refund);
	return claimed;
}

static void
add_claimed_events(List *claimed, TimestampTz now)
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

/* No function of ours leaves a refund so; one such row must not keep all workers from all others. */
static void
report_missing_payment(Refund *refund, TimestampTz now)
{
	refund->last_error = "its payment is not there";
	ot_refund_become_needs_attention(refund, now);
	ot_write_refund_and_event(refund, "refund.needs_attention", now);
}

/* NULL if it needs attention instead. */
static ClaimedRefund *
claim_one(Refund *refund, const Policy *policy, const Claim *claim, TimestampTz now)
{
	int64		lease = claim->lease > 0 ? claim->lease : policy->refund_lease;
	Payment    *payment = ot_store_find_payment(refund->gateway, refund->payment_ref);

	if (payment == NULL)
		report_missing_payment(refund, now);
	else if (refund->state == REFUND_PROCESSING)
		ot_refund_take_back(refund, policy, now);
	else if (ot_is_overlong(refund, policy, now))
		ot_refund_stop_waiting(refund, now);
	if (refund->state == REFUND_NEEDS_ATTENTION)
		return NULL;
	return hand_out(refund, payment, claim->worker, now + lease, now);
}

/* Due is what was due when the worker asked: a lease of a moment must not make it due for the same call again. */
static List *
lock_due(WorkBatch *batch, int limit)
{
	Claim	   *claim = (Claim *) batch;

	return ot_store_lock_due_refunds(claim->asked_at, claim->gateway, limit);
}

static List *
lock_next(WorkBatch *batch, int limit)
{
	Claim	   *claim = (Claim *) batch;
	Refund	   *refund = ot_store_lock_next_refund(claim->from, claim->asked_at, claim->policies);

	return refund == NULL ? NIL : list_make1(refund);
}

static void
claim_each(WorkBatch *batch)
{
	Claim	   *claim = (Claim *) batch;
	TimestampTz now = GetCurrentTimestamp();
	Policy	   *policy = NULL;
	List	   *claimed = NIL;
	ListCell   *cell;

	foreach(cell, batch->found)
	{
		Refund	   *refund = lfirst(cell);
		ClaimedRefund *one;

		policy = ot_store_find_next_policy(refund->order_id, policy);
		one = claim_one(refund, policy, claim, now);
		if (one != NULL)
			claimed = lappend(claimed, one);
	}
	add_claimed_events(claimed, now);
	claim->claimed = list_concat(claim->claimed, claimed);
}

/* What turned out to need attention, or is set aside, is no reason to send a worker away with less than it asked for. */
List *
ot_refund_claim(const char *worker, int max_refunds, int64 lease, const char *gateway)
{
	Claim		claim = {.batch = {.lock = lock_due, .work = claim_each}, .worker = worker, .lease = lease,
	.gateway = gateway, .asked_at = GetCurrentTimestamp()};
	int			limit;
	int			found;

	do
	{
		limit = max_refunds - list_length(claim.claimed);
		found = ot_batch_work(&claim.batch, limit);
	} while (found == limit && list_length(claim.claimed) < max_refunds);
	return claim.claimed;
}

ClaimedRefund *
ot_refund_claim_next(const char *worker, List *policies, TimestampTz *from)
{
	Claim		claim = {.batch = {.lock = lock_next, .work = claim_each, .fire_deferred = true}, .worker = worker,
	.asked_at = GetCurrentTimestamp(), .policies = policies, .from = *from};
	int			found;

	do
	{
		found = ot_batch_work(&claim.batch, 1);
	} while (found > 0 && claim.claimed == NIL);
	*from = found > 0 ? claim.batch.first_due_at : claim.asked_at;
	return found > 0 ? linitial(claim.claimed) : NULL;
}
