/*
 * send.c
 *    send_refunds: refunds without a worker. It claims those whose policy names a refund_handler, and calls that.
 *
 *     none is due: wait
 *        |     ^
 *        v     |
 *    lease one refund --commit--> call its handler --+-- answered ----------> record that ----+
 *        ^                                           +-- failed, nonsense --> "unknown" ------+
 *        |                                           +-- it has none now ---> "deferred" -----+
 *        |                                           |                                        |
 *        +---------------- lapses <-- ended in midst +                                        |
 *        +-------------------------------------------commit-----------------------------------+
 *
 * Invariants:
 *  1. The lease is committed before the handler is called. Whatever ends the call (a cancel, statement_timeout, a crash),
 *     the lease lapses, and the refund is handed out again: with the same key, and with the action "query".
 *  2. What is recorded is what complete_refund records of a worker's report with this lease.
 *  3. What the handler wrote and what is recorded of its answer are committed together, or neither is.
 *  4. While the handler runs no row of ours is locked: neither a payment nor a closing waits for a gateway.
 *  5. The handler runs as the caller. No role is switched to, before or after.
 *  6. While it waits it has just committed: no snapshot, no lock, nothing half done.
 *
 * Looking for due refunds starts at the last one found, because refunds that wait for workers may be in the way. What is
 * below that bound (another session's rollback, a transaction that committed late, a new handler) is found by a look at
 * all that is due, once a second or less often when that is slow.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "check.h"
#include "follow.h"
#include "lease.h"
#include "refund_claim.h"
#include "refund_report.h"
#include "run.h"
#include "send.h"
#include "store.h"
#include "unwritten.h"

#define REFUND_HANDLER  "refund_handler"
#define LOOK_EVERY      USECS_PER_SEC
#define FULL_LOOK_SHARE 20		/* a look at all that is due takes at most this part of the time */

typedef struct Sending
{
	const char *worker;
	TimestampTz from;			/* nothing of ours is expected to be due before it */
	int64		full_look_due;	/* by ot_ticks(), as the next one */
	int64		slowest;		/* of the refunds so far */
} Sending;

typedef struct Delivery
{
	const ClaimedRefund *claimed;
	const char *handler;		/* NULL: its policy names none any more */
	RefundReport report;
	RefundAnswer answer;
} Delivery;

/* Recording. */

static void
set_report(Delivery *delivery, RefundResult result, const char *error)
{
	const Refund *refund = delivery->claimed->refund;

	delivery->report = (RefundReport)
	{
		.refund_ref = refund->refund_ref, .result = result,
			.lease_token = refund->lease.token, .error = error
	};
}

static void
record(void *work_state)
{
	Delivery   *delivery = work_state;

	ot_set_reports_money();
	delivery->answer = ot_refund_complete(&delivery->report);
	ot_follow();
}

/* What the handler answered. */

/* By the same rules as arguments of complete_refund. What is wrong with it, or NULL; then it is the report. */
static const char *
read_answer(Delivery *delivery, List *answers)
{
	const HandlerAnswer *answer = answers == NIL ? NULL : linitial(answers);
	const char *problem = NULL;
	int			result;

	if (list_length(answers) != 1)
		return psprintf("it answered %d rows", list_length(answers));
	if (answer->result == NULL)
		return "it answered no result";
	result = ot_word_find(ot_refund_results, answer->result);
	if (result < 0)
		return psprintf("it answered \"%s\", which is no result of complete_refund", answer->result);
	if (answer->gateway_refund_ref != NULL)
		problem = ot_id_problem(answer->gateway_refund_ref);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid gateway_refund_ref: %s", answer->result, problem);
	if (answer->has_amount)
		problem = ot_amount_problem(answer->refunded_amount, 1);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid refunded_amount: %s", answer->result, problem);
	set_report(delivery, result, answer->error);
	delivery->report.gateway_refund_ref = answer->gateway_refund_ref;
	delivery->report.refunded_amount = answer->refunded_amount;
	return NULL;
}

static void
call_and_record(void *work_state)
{
	Delivery   *delivery = work_state;
	List	   *answers = ot_store_call_refund_handler(delivery->handler, delivery->claimed->refund, delivery->claimed->action);
	const char *problem = read_answer(delivery, answers);

	if (problem != NULL)
		set_report(delivery, RESULT_UNKNOWN, psprintf("%s: %s", delivery->handler, problem));
	record(delivery);
}

/* One refund. */

/* Since the commit it may have ended (a webhook), or this session slept for longer than the lease. */
static bool
is_ours(const Refund *claimed)
{
	Refund	   *refund = ot_store_find_refund(claimed->refund_ref);

	return refund != NULL && refund->state == REFUND_PROCESSING && ot_lease_is_current(&refund->lease, claimed->lease.token);
}

static bool
send_and_record(Delivery *delivery, Failure *failure)
{
	if (delivery->handler == NULL)
		set_report(delivery, RESULT_DEFERRED, "its policy has no refund_handler any more");
	else if (ot_attempt_handler(call_and_record, delivery, failure))
		return true;
	else
		set_report(delivery, RESULT_UNKNOWN, failure->text);
	return ot_attempt(record, delivery, true, failure);
}

static void
deliver(const ClaimedRefund *claimed)
{
	const Refund *refund = claimed->refund;
	Delivery	delivery = {.claimed = claimed};
	Failure		failure;

	if (!is_ours(refund))
		return;
	delivery.handler = ot_store_find_hook(ot_store_find_policy_of(refund->order_id)->policy, REFUND_HANDLER);
	if (!send_and_record(&delivery, &failure))
		ereport(WARNING,
				(errmsg("the end of an attempt at refund \"%s\" could not be recorded", refund->refund_ref),
				 errdetail("%s", failure.text),
				 errhint("It is tried again when its lease has lapsed.")));
	else if (delivery.handler != NULL && strcmp(delivery.answer.outcome, "stale") == 0)
		ereport(WARNING,
				(errmsg("the refund_handler %s answered about refund \"%s\" after the lease had lapsed", delivery.handler,
						refund->refund_ref),
				 errhint("Set the policy's refund_lease to more than the handler's timeout.")));
}

/* The procedure. */

/* NULL if none is due. */
static ClaimedRefund *
claim_next(Sending *sending)
{
	int64		started = ot_ticks();
	bool		full_look = started >= sending->full_look_due;
	List	   *policies = ot_store_find_policies_with(REFUND_HANDLER);
	ClaimedRefund *claimed;

	if (policies == NIL)
		return NULL;
	if (full_look)
		sending->from = DT_NOBEGIN;
	claimed = ot_refund_claim_next(sending->worker, policies, &sending->from);
	if (full_look)
		sending->full_look_due = started + Max(LOOK_EVERY, (ot_ticks() - started) * FULL_LOOK_SHARE);
	return claimed;
}

/* One refund, or a wait; false if the extension is gone. */
static bool
step(Sending *sending, int64 end)
{
	int64		started = ot_ticks();
	ClaimedRefund *claimed;

	if (!ot_store_hold())
		return false;
	claimed = claim_next(sending);
	ot_store_commit();
	if (claimed == NULL)
	{
		ot_run_wait(GetCurrentTimestamp() + LOOK_EVERY, end);
		return true;
	}
	if (!ot_store_hold())
		return false;
	deliver(claimed);
	ot_store_commit();
	sending->slowest = Max(sending->slowest, ot_ticks() - started);
	return true;
}

/* A call that statement_timeout would most likely cancel is not begun: it would be an attempt for nothing. */
void
ot_send(int64 run_for)
{
	int64		last_moment = ot_run_last_moment();
	int64		end = Min(ot_ticks() + run_for, last_moment);
	Sending		sending = {.worker = psprintf("send_refunds %d", MyProcPid)};
	MemoryContext step_context;
	bool		is_there = true;

	ot_store_begin_procedure();
	step_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout send_refunds", ALLOCSET_DEFAULT_SIZES);
	while (is_there && ot_ticks() < end && ot_ticks() + sending.slowest < last_moment)
	{
		MemoryContext previous = MemoryContextSwitchTo(step_context);

		CHECK_FOR_INTERRUPTS();
		is_there = step(&sending, end);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(step_context);
	}
	if (!is_there)
		ereport(WARNING, (errmsg("send_refunds ends: extension \"order_timeout\" was dropped")));
	ot_store_end_procedure();
}
