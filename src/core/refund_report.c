/*
 * refund_report.c
 *    complete_refund: what a worker or the gateway reports about a refund. Success is recorded in refund_succeed.c.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "conflict.h"
#include "event.h"
#include "lease.h"
#include "refund_report.h"
#include "refund_state.h"
#include "refund_succeed.h"
#include "rules.h"
#include "store.h"
#include "write.h"

#define MAX_ERROR_BYTES 2000
#define SINCE "; reported since: "

static bool
is_failure(const RefundReport *report)
{
	return report->result == RESULT_FAILED || report->result == RESULT_REJECTED;
}

static char *
cut(const char *text, int bytes)
{
	return pnstrdup(text, pg_mbcliplen(text, strlen(text), bytes));
}

/* Why a refund was stopped is what the operator must not overlook: it stays in front of what is reported since. */
static const char *
reason_of_stop(const Refund *refund)
{
	const char *since;

	if (!ot_refund_is_stopped(refund))
		return "";
	since = strstr(refund->last_error, SINCE);
	return psprintf("%s" SINCE, cut(refund->last_error, Min(since ? since - refund->last_error : MAX_ERROR_BYTES,
															MAX_ERROR_BYTES / 2)));
}

static void
note_error(Refund *refund, const char *error, const char *failed_number)
{
	const char *reason = reason_of_stop(refund);
	const char *number = failed_number ? psprintf(" (gateway_refund_ref %s)", failed_number) : "";
	int			room = MAX_ERROR_BYTES - strlen(reason) - strlen(number);

	refund->last_error = psprintf("%s%s%s", reason, cut(error, room), number);
}

/* A number that came with a failure stands for an attempt that is over: it is for people, and binds nobody. */
static void
note_report(const LockedRefund *locked, const RefundReport *report)
{
	Refund	   *refund = locked->refund;
	const char *number = report->gateway_refund_ref;
	const char *failed_number = is_failure(report) ? number : NULL;

	if (report->error != NULL || failed_number != NULL)
		note_error(refund, report->error ? report->error : "failed", failed_number);
	if (number != NULL && !is_failure(report) && locked->same_number == NULL && refund->gateway_refund_ref == NULL)
		refund->gateway_refund_ref = pstrdup(number);
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

/* A lease that lapsed runs until the refund is taken back; one of a stopped refund is not taken back, and ends by itself. */
static bool
is_leased(const Refund *refund, TimestampTz now)
{
	return refund->lease.token != NULL && (refund->state == REFUND_PROCESSING || refund->lease.until > now);
}

/*
 * The worker that has it may report anything. A failure that the gateway itself reports is taken while no worker has it and
 * the gateway may, but not by a token of a lease that another one came after: that attempt is not the last one.
 */
static bool
may_report(const Refund *refund, const RefundReport *report, TimestampTz now)
{
	if (ot_lease_is_current(&refund->lease, report->lease_token))
		return true;
	if (is_leased(refund, now) || !is_failure(report) || ot_lease_is_outdated(&refund->lease, report->lease_token))
		return false;
	return refund->state == REFUND_SUBMITTED || refund->state == REFUND_UNKNOWN ||
		(refund->state == REFUND_NEEDS_ATTENTION && refund->handed_out_at != OT_NO_TIME);
}

/* The buyer's account was closed, say, and the money came back to the gateway: the buyer may have nothing. */
static RefundAnswer
fail_after_end(const LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	const Refund *refund = locked->refund;
	Contradiction contradiction = {PROBLEM_FAILED_AFTER_ALL, refund->refund_ref, report->gateway_refund_ref, refund->amount, 0,
	REASON_REQUESTED};

	if (refund->state != REFUND_SUCCEEDED || refund->by_hand)
		return ot_refund_answer("ignored", refund);
	ot_conflict_note(locked->money.payment, &contradiction, now);
	return ot_refund_answer("conflict", refund);
}

static RefundAnswer
record_report(const LockedRefund *locked, const RefundReport *report, TimestampTz now)
{
	Refund	   *refund = locked->refund;

	if (ot_lease_is_current(&refund->lease, report->lease_token))
		ot_lease_remember(&refund->lease, ot_refund_report_line(report));
	note_report(locked, report);
	if (refund->state == REFUND_NEEDS_ATTENTION)
		ot_refund_note_result(refund, report->result);
	else
		become_reported(refund, report->result, now);
	if (report->lease_token == NULL)
		ot_lease_remember_gateway(&refund->lease, ot_refund_report_line(report));	/* after the line of the lease that
																					 * it ended */
	ot_write_refund_and_event(refund, psprintf("refund.%s", ot_refund_results[report->result]), now);
	return ot_refund_answer("recorded", refund);
}

/* A failure without a token is the gateway's word, not a worker's about its attempt: it may contradict a success. */
static RefundAnswer
complete_attempt(const RefundReport *report)
{
	bool		from_gateway = report->lease_token == NULL && is_failure(report);
	LockedRefund locked = from_gateway ? ot_lock_refund_and_money(report->refund_ref, NULL)
	: ot_lock_refund(report->refund_ref, is_failure(report) ? NULL : report->gateway_refund_ref);
	TimestampTz now = GetCurrentTimestamp();
	Refund	   *refund = locked.refund;

	if (ot_refund_was_reported(refund, report))
		return ot_refund_answer("duplicate", refund);
	if (!ot_is_open(refund))
		return from_gateway ? fail_after_end(&locked, report, now) : ot_refund_answer("ignored", refund);
	if (from_gateway && ot_lease_gateway_repeats(&refund->lease, ot_refund_report_line(report)))
		return ot_refund_answer("duplicate", refund);
	if (!may_report(refund, report, now))
		return ot_refund_answer("stale", refund);
	return record_report(&locked, report, now);
}

RefundAnswer
ot_refund_complete(const RefundReport *report)
{
	return report->result == RESULT_SUCCEEDED ? ot_refund_complete_succeeded(report) : complete_attempt(report);
}
