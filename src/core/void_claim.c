/*
 * void_claim.c
 *    claim_voids: voids handed out to workers, and taken back from them; send_refunds is a worker too.
 *
 * A lease says who has a void until when. It changes neither the order nor its money, so the attempt alone is locked. One
 * that cannot be handed out must not keep all workers from all others: it is left out.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt_state.h"
#include "event.h"
#include "set_aside.h"
#include "store.h"
#include "void_claim.h"
#include "write.h"

#define MAX_SKIPPED 1000		/* in a call: what fails for so many fails for all */

typedef struct Claim
{
	WorkBatch	batch;			/* first */
	const char *worker;
	int64		lease;			/* 0: the policy's */
	const char *gateway;
	TimestampTz asked_at;
	List	   *claimed;		/* of all batches */
	List	   *policies;		/* of send_refunds: whose voids, and due since when */
	TimestampTz from;
} Claim;

void
ot_void_take_back(Attempt *attempt, const Policy *policy, TimestampTz now)
{
	attempt->last_error = "the worker's lease lapsed; what the gateway did is not known";
	ot_attempt_void_lapse(attempt, policy, now);
	ot_write_attempt(attempt);
	ot_event(attempt->order_id, "void.lease_lapsed", ot_attempt_payload(attempt), now);
}

static ClaimedVoid *
hand_out(Attempt *attempt, const char *worker, TimestampTz leased_until, TimestampTz now)
{
	ClaimedVoid *claimed = palloc(sizeof(ClaimedVoid));

	claimed->attempt = attempt;
	claimed->amount = ot_attempt_rest(attempt);
	claimed->action = attempt->handed_out_at == OT_NO_TIME ? "submit" : "query";
	ot_attempt_hand_out(attempt, worker, leased_until, now);
	ot_write_attempt(attempt);
	ot_event(attempt->order_id, "void.claimed", ot_attempt_payload(attempt), now);
	return claimed;
}

/* NULL if it needs attention instead. */
static ClaimedVoid *
claim_one(Attempt *attempt, const Policy *policy, const Claim *claim, TimestampTz now)
{
	int64		lease = claim->lease > 0 ? claim->lease : policy->refund_lease;

	if (attempt->lease.token != NULL)
		ot_void_take_back(attempt, policy, now);
	if (attempt->state == ATTEMPT_NEEDS_ATTENTION)
		return NULL;
	return hand_out(attempt, claim->worker, now + lease, now);
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
		Attempt    *attempt = lfirst(cell);
		ClaimedVoid *one;

		policy = ot_store_find_next_policy(attempt->order_id, policy);
		one = claim_one(attempt, policy, claim, now);
		if (one != NULL)
			claimed = lappend(claimed, one);
	}
	claim->claimed = list_concat(claim->claimed, claimed);
}

/* Due is what was due when the worker asked, as for refunds. */
static List *
lock_due(WorkBatch *batch, int limit)
{
	Claim	   *claim = (Claim *) batch;

	return ot_store_lock_due_voids(claim->asked_at, claim->gateway, limit, batch->skipped);
}

static List *
lock_next(WorkBatch *batch, int limit)
{
	Claim	   *claim = (Claim *) batch;
	Attempt    *attempt = ot_store_lock_next_void(claim->from, claim->asked_at, claim->policies, batch->skipped);

	return attempt == NULL ? NIL : list_make1(attempt);
}

/* What turned out to need attention, or failed, is no reason to send a worker away with less than it asked for. */
List *
ot_void_claim(const char *worker, int max_voids, int64 lease, const char *gateway)
{
	Claim		claim = {.batch = {.of_voids = true, .lock = lock_due, .work = claim_each}, .worker = worker, .lease = lease,
	.gateway = gateway, .asked_at = GetCurrentTimestamp()};
	int			limit;
	int			found;

	do
	{
		limit = max_voids - list_length(claim.claimed);
		found = ot_batch_work(&claim.batch, limit);
	} while (found == limit && list_length(claim.claimed) < max_voids && list_length(claim.batch.skipped) < MAX_SKIPPED);
	return claim.claimed;
}

ClaimedVoid *
ot_void_claim_next(const char *worker, List *policies, TimestampTz *from)
{
	Claim		claim = {.batch = {.of_voids = true, .lock = lock_next, .work = claim_each, .fire_deferred = true},
	.worker = worker, .asked_at = GetCurrentTimestamp(), .policies = policies, .from = *from};
	int			found;

	do
	{
		found = ot_batch_work(&claim.batch, 1);
	} while (found > 0 && claim.claimed == NIL && list_length(claim.batch.skipped) < MAX_SKIPPED);
	*from = found > 0 ? claim.batch.first_due_at : claim.asked_at;
	return claim.claimed != NIL ? linitial(claim.claimed) : NULL;
}
