/*
 * refund_state.c
 *    The states of a refund, from an obligation to money that is back, and the steps between them. Refund states change
 *    in this file only.
 *
 *    (owe, request)                     claim
 *         |                 +---------------------------------+
 *         v                 |                                 v
 *      pending ------------>+                             processing
 *         ^                 ^                                 |
 *         | retry           |         failed, unknown,        |
 *         |                 +---- submitted, (pending) <------+  complete, lease lapsed
 *         |                            |                      |
 *  needs_attention <-------------------+----------------------+  rejected, too many attempts, too long submitted, stopped
 *         |      any open state
 *         |           | succeeded (from anyone, at any time), settle (by hand, from needs_attention)
 *         |           v
 *         |       succeeded ----+
 *         +---------------------+--> reversed, and another refund owes the money
 *                                    (also from a clear one, when record_refund takes its place; withdrawn: nothing does)
 *
 * An open refund is clear when the gateway surely does not have it: it was never handed out, or failed since. Else it is
 * out: leased (lease), or maybe_sent. Only a clear one may be replaced without the operator.
 *
 * Invariants:
 *  1. The money of an open refund is in refund_pending of its payment (and of its order, if the payment counts there),
 *     whatever the state. Only succeeded moves it to refunded; leaving succeeded moves it back.
 *  2. A refund_ref is never sent for a second obligation, and the amount of an obligation never grows.
 *  3. No refund row vanishes. What takes its place is named in replaced_by; withdrawn says that nothing does.
 *  4. A report that contradicts a settled row changes no row; it leaves a conflict.
 *  5. Locks: order, payment, the gateway's number for the refund (advisory), refund, in this order, wherever money moves;
 *     the number and the refund where only its state does.
 *  6. Times and the decision come after the last lock.
 *  7. What may have gone back is never sent again by itself: a refund that may be the one that was reported stops.
 */
#include "postgres.h"

#include "lease.h"
#include "refund_state.h"
#include "rules.h"
#include "unwritten.h"

#define OT_STOPPED "stopped: "

static void
set_state(Refund *refund, RefundState state)
{
	refund->state = state;
	ot_row_changed(&refund->unwritten, refund->order_id);
}

/* Most steps end a lease. Unless the step knows better, the gateway may have what was leased until then. */
static void
leave(Refund *refund)
{
	if (refund->lease.token != NULL)
		refund->maybe_sent = true;
	ot_lease_end(&refund->lease);
	refund->next_attempt_at = OT_NO_TIME;
	refund->attention_at = OT_NO_TIME;
}

static void
become_due(Refund *refund, RefundState state, TimestampTz next_attempt_at)
{
	leave(refund);
	set_state(refund, state);
	refund->next_attempt_at = next_attempt_at;
}

static void
become_settled(Refund *refund, RefundState state, TimestampTz now)
{
	leave(refund);
	set_state(refund, state);
	refund->maybe_sent = false;
	refund->settled_at = now;
}

/* The gateway does not have it, or no longer. */
static void
become_clear(Refund *refund)
{
	refund->maybe_sent = false;
	refund->submitted_at = OT_NO_TIME;
}

void
ot_refund_become_pending(Refund *refund, TimestampTz next_attempt_at)
{
	become_due(refund, REFUND_PENDING, next_attempt_at);
}

void
ot_refund_become_processing(Refund *refund, const char *worker, TimestampTz leased_until, TimestampTz now)
{
	Assert(ot_is_open(refund) && refund->state != REFUND_NEEDS_ATTENTION);

	set_state(refund, REFUND_PROCESSING);
	ot_lease_begin(&refund->lease, worker, leased_until);
	refund->next_attempt_at = leased_until;
	if (refund->handed_out_at == OT_NO_TIME)
		refund->handed_out_at = now;
}

/* The gateway has it, or had it when it was last asked. That uses up no attempt, but may not last forever. */
void
ot_refund_become_submitted(Refund *refund, const Policy *policy, TimestampTz now)
{
	if (refund->submitted_at == OT_NO_TIME)
		refund->submitted_at = now;
	become_due(refund, REFUND_SUBMITTED, ot_next_query(policy, refund->submitted_at, now));
	refund->maybe_sent = true;
	if (ot_is_overlong(refund, policy, now))
		ot_refund_become_needs_attention(refund, now);
}

/* An attempt ended without an end of the refund: true if there may be another one. */
static bool
use_up_attempt(Refund *refund, const Policy *policy, TimestampTz now)
{
	refund->attempts++;
	if (refund->attempts < policy->refund_max_attempts)
		return true;
	ot_refund_become_needs_attention(refund, now);
	return false;
}

/* The attempt that ended unknown was used up then. */
void
ot_refund_become_failed(Refund *refund, const Policy *policy, TimestampTz now)
{
	if (refund->state == REFUND_UNKNOWN || use_up_attempt(refund, policy, now))
		become_due(refund, REFUND_FAILED, ot_next_attempt(policy, refund->attempts, now));
	become_clear(refund);
}

void
ot_refund_become_unknown(Refund *refund, const Policy *policy, TimestampTz now)
{
	if (use_up_attempt(refund, policy, now))
		become_due(refund, REFUND_UNKNOWN, ot_next_attempt(policy, refund->attempts, now));
	refund->maybe_sent = true;
}

/* The lease lapsed: an attempt that ended unknown. The next worker asks the gateway at once. */
void
ot_refund_lapse(Refund *refund, const Policy *policy, TimestampTz now)
{
	if (use_up_attempt(refund, policy, now))
		become_due(refund, REFUND_UNKNOWN, now);
}

/* Not tried: what the gateway has already stays there, anything else is pending again. */
void
ot_refund_defer(Refund *refund, const Policy *policy, TimestampTz now)
{
	bool		maybe_sent = refund->maybe_sent;

	if (refund->submitted_at != OT_NO_TIME)
		ot_refund_become_submitted(refund, policy, now);
	else
		ot_refund_become_pending(refund, ot_next_attempt(policy, refund->attempts, now));
	refund->maybe_sent = maybe_sent;
}

void
ot_refund_reject(Refund *refund, TimestampTz now)
{
	refund->attempts++;
	ot_refund_become_needs_attention(refund, now);
	become_clear(refund);
}

/*
 * Nothing is sent until the operator decides. A worker that has it keeps its lease, for what it will report. One that needs
 * attention already is marked: the operator must not send it again as if nothing had been reported.
 */
void
ot_refund_stop(Refund *refund, const char *why, TimestampTz now)
{
	Assert(ot_is_open(refund) && !ot_refund_is_stopped(refund));

	if (refund->state != REFUND_NEEDS_ATTENTION)
		refund->attention_at = now;
	else if (refund->last_error != NULL)
		why = psprintf("%s; reported before: %s", why, refund->last_error);
	set_state(refund, REFUND_NEEDS_ATTENTION);
	refund->next_attempt_at = OT_NO_TIME;
	refund->last_error = psprintf(OT_STOPPED "%s", why);
}

/* The view attention looks for the same word. */
bool
ot_refund_is_stopped(const Refund *refund)
{
	return refund->state == REFUND_NEEDS_ATTENTION && refund->last_error != NULL &&
		strncmp(refund->last_error, OT_STOPPED, strlen(OT_STOPPED)) == 0;
}

/* What is reported of a refund that the operator must decide about anyway: it stays there, and may be clear or out now. */
void
ot_refund_note_result(Refund *refund, RefundResult result)
{
	bool		maybe_sent = refund->maybe_sent;

	Assert(refund->state == REFUND_NEEDS_ATTENTION);

	ot_lease_end(&refund->lease);
	set_state(refund, REFUND_NEEDS_ATTENTION);
	refund->attempts += result != RESULT_DEFERRED && result != RESULT_SUBMITTED;
	if (result == RESULT_FAILED || result == RESULT_REJECTED)
		become_clear(refund);
	else
		refund->maybe_sent = maybe_sent || result != RESULT_DEFERRED;
}

/*
 * The operator decided that it is tried again, with its key, as if it had never been tried: then the reason why it was
 * stopped is none any more.
 */
void
ot_refund_retry_from_start(Refund *refund, TimestampTz now)
{
	if (ot_refund_is_stopped(refund))
		refund->last_error = NULL;
	refund->attempts = 0;
	refund->submitted_at = OT_NO_TIME;
	ot_refund_become_pending(refund, now);
}

void
ot_refund_become_needs_attention(Refund *refund, TimestampTz now)
{
	Assert(ot_is_open(refund));

	leave(refund);
	set_state(refund, REFUND_NEEDS_ATTENTION);
	refund->attention_at = now;
}

void
ot_refund_become_succeeded(Refund *refund, TimestampTz now)
{
	Assert(ot_is_open(refund));

	become_settled(refund, REFUND_SUCCEEDED, now);
	refund->returned_at = now;
}

/* NULL if no single refund stands for its money now. */
void
ot_refund_become_reversed(Refund *refund, const Refund *replaced_by, TimestampTz now)
{
	Assert(refund->state != REFUND_REVERSED);

	become_settled(refund, REFUND_REVERSED, now);
	refund->replaced_by = replaced_by != NULL ? replaced_by->refund_ref : NULL;
}

/* Nobody owes the money any more, so nothing takes its place. */
void
ot_refund_become_withdrawn(Refund *refund, TimestampTz now)
{
	Assert(ot_is_open(refund) && ot_refund_is_clear(refund));

	become_settled(refund, REFUND_REVERSED, now);
	refund->withdrawn = true;
}
