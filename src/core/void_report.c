/*
 * void_report.c
 *    complete_void: what a worker or the gateway reports about the end of an attempt; retry_void.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "attempt_end.h"
#include "attempt_state.h"
#include "errors.h"
#include "event.h"
#include "lease.h"
#include "store.h"
#include "void_report.h"
#include "write.h"

#define MAX_ERROR_BYTES 2000

static VoidAnswer
answer(const char *outcome, const Attempt *attempt)
{
	return (VoidAnswer)
	{
		outcome, attempt
	};
}

static bool
is_failure(const VoidReport *report)
{
	return report->result == VOID_FAILED || report->result == VOID_REJECTED;
}

static const char *
line_of(const VoidReport *report)
{
	return psprintf("%s\t\n", ot_void_results[report->result]);
}

static const char *
event_of(const VoidReport *report)
{
	return psprintf("void.%s", ot_void_results[report->result]);
}

/* A report that is recorded: how its lease ended, and what the gateway said. */
static void
note_report(Attempt *attempt, const VoidReport *report)
{
	if (ot_lease_is_current(&attempt->lease, report->lease_token))
		ot_lease_remember(&attempt->lease, line_of(report));
	if (report->error != NULL)
		attempt->last_error = pnstrdup(report->error, pg_mbcliplen(report->error, strlen(report->error), MAX_ERROR_BYTES));
}

/* The gateway's truth, from anyone. */

static VoidAnswer
complete_voided(LockedAttempt *locked, const VoidReport *report, TimestampTz now)
{
	Attempt    *attempt = locked->attempt;

	if (attempt->state == ATTEMPT_VOIDED)
		return answer("duplicate", attempt);
	if (ot_attempt_is_over(attempt))
		return answer("ignored", attempt);
	note_report(attempt, report);
	ot_attempt_end(attempt, ATTEMPT_VOIDED, now);
	ot_attempt_ended(locked, event_of(report), now);
	return answer("recorded", attempt);
}

/* Whatever it was before: money may come, and the order waits for it as long as it waits for attempts. */
static VoidAnswer
complete_paid(LockedAttempt *locked, const VoidReport *report, TimestampTz now)
{
	Attempt    *attempt = locked->attempt;

	if (attempt->state == ATTEMPT_CAPTURED && attempt->next_attempt_at == OT_NO_TIME)
		return answer("duplicate", attempt);
	note_report(attempt, report);
	ot_attempt_become_reported_paid(attempt, now);
	ot_write_attempt(attempt);
	ot_event(attempt->order_id, event_of(report), ot_attempt_payload(attempt), now);
	return answer("recorded", attempt);
}

/* What became of one try. */

/*
 * As for refunds: the worker that has it may report anything. A failure that the gateway itself reports is taken while no
 * worker has it and the gateway may, but not by a token of a lease that another one came after.
 */
static bool
may_report(const Attempt *attempt, const VoidReport *report)
{
	if (ot_lease_is_current(&attempt->lease, report->lease_token))
		return true;
	if (attempt->lease.token != NULL || !is_failure(report) || ot_lease_is_outdated(&attempt->lease, report->lease_token))
		return false;
	return attempt->maybe_sent || (attempt->state == ATTEMPT_NEEDS_ATTENTION && attempt->handed_out_at != OT_NO_TIME);
}

static void
become_reported(Attempt *attempt, VoidResult result, TimestampTz now)
{
	const Policy *policy = ot_store_find_policy_of(attempt->order_id);

	switch (result)
	{
		case VOID_FAILED:
			ot_attempt_void_failed(attempt, policy, now);
			break;
		case VOID_UNKNOWN:
			ot_attempt_void_unknown(attempt, policy, now);
			break;
		case VOID_DEFERRED:
			ot_attempt_void_defer(attempt, policy, now);
			break;
		case VOID_REJECTED:
			ot_attempt_void_reject(attempt, now);
			break;
		case VOID_VOIDED:
		case VOID_PAID:
			elog(ERROR, "an end is not handled here");
	}
}

static VoidAnswer
complete_try(LockedAttempt *locked, const VoidReport *report, TimestampTz now)
{
	Attempt    *attempt = locked->attempt;

	if (ot_attempt_is_over(attempt))
		return answer("ignored", attempt);
	if (report->lease_token == NULL && is_failure(report) && ot_lease_gateway_repeats(&attempt->lease, line_of(report)))
		return answer("duplicate", attempt);
	if (!may_report(attempt, report))
		return answer("stale", attempt);
	note_report(attempt, report);
	if (attempt->state == ATTEMPT_NEEDS_ATTENTION)
		ot_attempt_void_note_failure(attempt);
	else
		become_reported(attempt, report->result, now);
	if (report->lease_token == NULL)
		ot_lease_remember_gateway(&attempt->lease, line_of(report));	/* after the line of the lease that it ended */
	ot_write_attempt(attempt);
	ot_event(attempt->order_id, event_of(report), ot_attempt_payload(attempt), now);
	return answer("recorded", attempt);
}

VoidAnswer
ot_void_complete(const VoidReport *report)
{
	LockedAttempt locked = ot_lock_attempt(report->gateway, report->attempt_ref);
	TimestampTz now = GetCurrentTimestamp();

	if (ot_lease_ended_with(&locked.attempt->lease, report->lease_token, line_of(report)))
		return answer("duplicate", locked.attempt);
	if (report->result == VOID_VOIDED)
		return complete_voided(&locked, report, now);
	if (report->result == VOID_PAID)
		return complete_paid(&locked, report, now);
	return complete_try(&locked, report, now);
}

/* The operator. */

static void
wrong_state(const Attempt *attempt)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("cannot retry the void of attempt \"%s\" of gateway \"%s\" in state \"%s\"",
					attempt->attempt_ref, attempt->gateway, ot_attempt_states[attempt->state]),
			 errdetail("Only a void that needs attention can be tried again."),
			 errhint("Look at the attempt's row in order_timeout.attempts: no void of it is due.")));
}

VoidAnswer
ot_void_retry(const char *gateway, const char *attempt_ref)
{
	Attempt    *attempt = ot_lock_attempt(gateway, attempt_ref).attempt;
	TimestampTz now = GetCurrentTimestamp();

	if (attempt->next_attempt_at != OT_NO_TIME)
		return answer("already_due", attempt);
	if (attempt->state != ATTEMPT_NEEDS_ATTENTION)
	{
		if (ot_store_has_attempt_event(attempt, "void.retried"))
			return answer("already_due", attempt);	/* a call repeated after what it led to */
		wrong_state(attempt);
	}
	ot_attempt_retry_void(attempt, now);
	ot_write_attempt(attempt);
	ot_event(attempt->order_id, "void.retried", ot_attempt_payload(attempt), now);
	return answer("retried", attempt);
}
