/*
 * attempt_state.c
 *    The states of an attempt to pay, and the steps between them. Attempt states change in this file only.
 *
 *    begin_attempt
 *         |
 *         v     authorize_attempt
 *       open ---------------------> authorized
 *         |                             |
 *         +--------------+--------------+
 *                        |
 *                        +--> captured: a payment of it is recorded
 *                        +--> failed, cancelled, expired: end_attempt
 *                        +--> expired: its order is closed or paid, and it cannot be voided
 *                        +--> captured, with attention_at: complete_void reported paid, and no payment of it is recorded
 *                        +--> voided: complete_void
 *                        +--> needs_attention: its void was tried too often, or rejected
 *                                  |
 *                                  +--> any of these, and what it was before, by retry_void
 *
 *    A void is due (next_attempt_at) once its order is closing, closed, or paid by another one. It is leased to workers as
 *    refunds are. What was authorised and captured in part only can be voided too: the rest of it.
 *
 * Invariants:
 *  1. An attempt is no money. It changes no sum; only a payment does, and money that comes is recorded whatever became of
 *     its attempt.
 *  2. It is settled once nothing more can be asked of it; only then is no void due, and none is leased.
 *  3. What a gateway says of it after its end changes its state only if it means that money may come: paid, authorised.
 *  4. Locks: linked row, order, attempts, payments, refunds. A worker's lease changes the attempt alone.
 */
#include "postgres.h"

#include "attempt_state.h"
#include "lease.h"
#include "money.h"
#include "rules.h"
#include "unwritten.h"

bool
ot_attempt_is_live(const Attempt *attempt)
{
	return attempt->state == ATTEMPT_OPEN || attempt->state == ATTEMPT_AUTHORIZED || attempt->state == ATTEMPT_NEEDS_ATTENTION;
}

bool
ot_attempt_may_pay(const Attempt *attempt)
{
	return (attempt->state == ATTEMPT_OPEN || attempt->state == ATTEMPT_AUTHORIZED) && attempt->next_attempt_at == OT_NO_TIME;
}

bool
ot_attempt_has_rest(const Attempt *attempt)
{
	return attempt->covers && attempt->state == ATTEMPT_CAPTURED && attempt->captured < attempt->authorized;
}

bool
ot_attempt_is_reported_paid(const Attempt *attempt)
{
	return attempt->state == ATTEMPT_CAPTURED && attempt->attention_at != OT_NO_TIME;
}

/* What was captured in part may still end: its order is authorised by the rest. */
bool
ot_attempt_is_over(const Attempt *attempt)
{
	return attempt->settled_at != OT_NO_TIME || ot_attempt_is_reported_paid(attempt);
}

int64
ot_attempt_rest(const Attempt *attempt)
{
	return attempt->authorized > 0 ? attempt->authorized - attempt->captured : 0;
}

static void
set_state(Attempt *attempt, AttemptState state)
{
	attempt->state = state;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

/* No void is due any more, nobody has it, and the operator need not look. */
static void
leave_void(Attempt *attempt)
{
	ot_lease_end(&attempt->lease);
	attempt->next_attempt_at = attempt->attention_at = OT_NO_TIME;
}

void
ot_attempt_begin(Attempt *attempt, TimestampTz now)
{
	set_state(attempt, ATTEMPT_OPEN);
	leave_void(attempt);
	attempt->valid_until = attempt->handed_out_at = attempt->settled_at = OT_NO_TIME;
	attempt->created_at = now;
}

/* The gateway promised it, whatever it is good for. */
void
ot_attempt_note_authorization(Attempt *attempt, const Authorization *authorization)
{
	attempt->authorized = authorization->amount;
	attempt->currency = pstrdup(authorization->currency);
	attempt->valid_until = authorization->valid_until;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

/* Also one that had ended: then its void is due, which the caller sees to. */
void
ot_attempt_become_authorized(Attempt *attempt, const Authorization *authorization, bool covers)
{
	Assert(attempt->state != ATTEMPT_CAPTURED);

	ot_attempt_note_authorization(attempt, authorization);
	if (attempt->state != ATTEMPT_NEEDS_ATTENTION)
		set_state(attempt, ATTEMPT_AUTHORIZED);
	attempt->covers = covers;
	attempt->settled_at = OT_NO_TIME;
}

/* From any state: money that came is no matter of opinion. */
void
ot_attempt_become_captured(Attempt *attempt, int64 amount, TimestampTz now)
{
	set_state(attempt, ATTEMPT_CAPTURED);
	leave_void(attempt);
	if (!ot_money_accumulate(&attempt->captured, amount))
		attempt->captured = PG_INT64_MAX;	/* all that it promised, and more: no reason to refuse money */
	attempt->settled_at = now;
}

/* Its order is authorised by it, and not paid yet. */
void
ot_attempt_may_capture_more(Attempt *attempt)
{
	Assert(ot_attempt_has_rest(attempt));

	attempt->settled_at = OT_NO_TIME;
}

/* It brings nothing more. What was captured stays so: only the rest has ended. */
void
ot_attempt_end(Attempt *attempt, AttemptState state, TimestampTz now)
{
	Assert(attempt->settled_at == OT_NO_TIME);

	set_state(attempt, attempt->captured > 0 && state != ATTEMPT_VOIDED ? ATTEMPT_CAPTURED : state);
	leave_void(attempt);
	attempt->settled_at = now;
}

/* A worker is to ask the gateway for its end. */
void
ot_attempt_void(Attempt *attempt, TimestampTz now)
{
	Assert(attempt->can_void);

	attempt->next_attempt_at = now;
	attempt->settled_at = OT_NO_TIME;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

/* Its void, which is tried as refunds are. */

void
ot_attempt_hand_out(Attempt *attempt, const char *worker, TimestampTz leased_until, TimestampTz now)
{
	Assert(attempt->next_attempt_at != OT_NO_TIME);

	ot_lease_begin(&attempt->lease, worker, leased_until);
	attempt->next_attempt_at = leased_until;
	if (attempt->handed_out_at == OT_NO_TIME)
		attempt->handed_out_at = now;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

static void
become_needs_attention(Attempt *attempt, TimestampTz now)
{
	leave_void(attempt);
	set_state(attempt, ATTEMPT_NEEDS_ATTENTION);
	attempt->attention_at = now;
}

static void
become_due(Attempt *attempt, TimestampTz next_attempt_at)
{
	leave_void(attempt);
	attempt->next_attempt_at = next_attempt_at;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

/* A try ended without an end: there is another one, or the operator must decide. */
static void
use_up_try(Attempt *attempt, const Policy *policy, TimestampTz next_attempt_at, TimestampTz now)
{
	if (attempt->attempts < policy->refund_max_attempts)
		become_due(attempt, next_attempt_at);
	else
		become_needs_attention(attempt, now);
}

/* The try that ended unknown, of which the gateway now reports the end, was counted then. */
void
ot_attempt_void_failed(Attempt *attempt, const Policy *policy, TimestampTz now)
{
	attempt->attempts += attempt->lease.token != NULL;
	use_up_try(attempt, policy, ot_next_attempt(policy, attempt->attempts, now), now);
	attempt->maybe_sent = false;
}

void
ot_attempt_void_unknown(Attempt *attempt, const Policy *policy, TimestampTz now)
{
	attempt->attempts++;
	use_up_try(attempt, policy, ot_next_attempt(policy, attempt->attempts, now), now);
	attempt->maybe_sent = true;
}

/* The lease lapsed. The next worker asks the gateway at once. */
void
ot_attempt_void_lapse(Attempt *attempt, const Policy *policy, TimestampTz now)
{
	attempt->attempts++;
	use_up_try(attempt, policy, now, now);
	attempt->maybe_sent = true;
}

/* Not tried. */
void
ot_attempt_void_defer(Attempt *attempt, const Policy *policy, TimestampTz now)
{
	become_due(attempt, ot_next_attempt(policy, attempt->attempts, now));
}

void
ot_attempt_void_reject(Attempt *attempt, TimestampTz now)
{
	attempt->attempts += attempt->lease.token != NULL;
	become_needs_attention(attempt, now);
	attempt->maybe_sent = false;
}

/* A failure of one that the operator must decide about anyway. */
void
ot_attempt_void_note_failure(Attempt *attempt)
{
	Assert(attempt->state == ATTEMPT_NEEDS_ATTENTION);

	attempt->attempts++;
	attempt->maybe_sent = false;
	ot_row_changed(&attempt->unwritten, attempt->order_id);
}

/* The gateway says so, whatever we know; the operator looks until the payment is recorded. */
void
ot_attempt_become_reported_paid(Attempt *attempt, TimestampTz now)
{
	leave_void(attempt);
	set_state(attempt, ATTEMPT_CAPTURED);
	attempt->attention_at = now;
	attempt->settled_at = OT_NO_TIME;
}

/* The operator decided that it is tried again, as if it had never been tried. */
void
ot_attempt_retry_void(Attempt *attempt, TimestampTz now)
{
	AttemptState before = attempt->authorized > 0 ? ATTEMPT_AUTHORIZED : ATTEMPT_OPEN;

	Assert(attempt->state == ATTEMPT_NEEDS_ATTENTION);

	set_state(attempt, attempt->captured > 0 ? ATTEMPT_CAPTURED : before);
	attempt->attempts = 0;
	become_due(attempt, now);
}
