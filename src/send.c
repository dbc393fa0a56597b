/*
 * send.c
 *    Refunds without a worker: hands due refunds to the functions that their policies name.
 *
 *    claim one --commit--> call its function, record what it answers --commit--+
 *      ^   |                                                                   |
 *      |   | none is due                                                       |
 *      |   v                                                                   |
 *      |  wait until the next one is, or for poll_interval                     |
 *      +---+-------------------------------------------------------------------+
 *
 * Invariants:
 *  1. A refund is handed out, and that is committed, before its function is called. Whatever ends the call (an error, a
 *     cancel, a crash), the lease lapses and the refund is handed out again, with the same key and the action "query".
 *  2. What the function wrote and what is recorded of the refund are committed together, or neither is.
 *  3. Only what the function answered is recorded as an answer of the gateway's. An error, or an answer that cannot be
 *     understood, is "unknown": the money may have moved. "unknown" uses up an attempt and waits, so nothing is called
 *     again at once, and what never ends well is shown to a person.
 *  4. While the function runs, no row of ours is locked: neither a payment nor a closing waits for a gateway.
 *  5. While it waits it has just committed: no snapshot, no lock, nothing half done.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "check.h"
#include "refund.h"
#include "run.h"
#include "send.h"
#include "store.h"

#define LOOK_SHARE 20			/* looking takes at most this part of the time: refunds that wait for workers are in the way */
#define LOOK_WITHIN USECS_PER_MINUTE	/* however long it takes */

typedef struct Sending
{
	const char *worker;
	const char *gateway;
	int64		poll_interval;
	int64		slowest;		/* of the calls so far, in microseconds */
} Sending;

/* What the function answered. */

/* What is wrong with it, or NULL; then it is in amount. */
static const char *
read_amount(const char *text, int64 *amount)
{
	char	   *end;

	errno = 0;
	*amount = strtoi64(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return psprintf("\"%s\" is not a bigint", text);
	return ot_amount_problem(*amount, 1);
}

/* The same rules as for the arguments of complete_refund. Answers what is wrong, or NULL; then it is in report. */
static const char *
read_answers(List *answers, RefundReport *report)
{
	const SendAnswer *answer;
	const char *problem = NULL;
	int			result;

	if (list_length(answers) != 1)
		return psprintf("it answered %d rows", list_length(answers));
	answer = linitial(answers);
	if (answer->result == NULL)
		return "it answered no result";
	result = ot_word_find(ot_refund_results, answer->result);
	if (result < 0)
		return psprintf("it answered the result \"%s\", which complete_refund does not know", answer->result);
	if (answer->gateway_refund_ref != NULL)
		problem = ot_id_problem(answer->gateway_refund_ref);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid gateway_refund_ref: %s", answer->result, problem);
	if (answer->refunded_amount != NULL)
		problem = read_amount(answer->refunded_amount, &report->refunded_amount);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid refunded_amount: %s", answer->result, problem);
	report->result = result;
	report->gateway_refund_ref = answer->gateway_refund_ref;
	report->error = answer->error;
	return NULL;
}

/* One refund. */

typedef struct Delivery
{
	const ClaimedRefund *claimed;
	const char *sender;			/* the function */
	const char *error;			/* why the end is not known */
	RefundAnswer answer;
} Delivery;

static RefundReport
report_of(const Delivery *delivery, RefundResult result, const char *error)
{
	const Refund *refund = delivery->claimed->refund;
	RefundReport report = {.refund_ref = refund->refund_ref, .lease_token = refund->lease_token};

	report.result = result;
	report.error = error;
	return report;
}

/* Reports what the function answers; it may have reported it itself, then ours changes nothing. */
static void
call_and_complete(void *work_state)
{
	Delivery   *delivery = work_state;
	RefundReport report = report_of(delivery, RESULT_UNKNOWN, NULL);
	List	   *answers = ot_store_call_sender(delivery->sender, delivery->claimed->refund, delivery->claimed->action);
	const char *problem = read_answers(answers, &report);

	if (problem != NULL)
		report = report_of(delivery, RESULT_UNKNOWN, psprintf("%s: %s", delivery->sender, problem));
	delivery->answer = ot_refund_complete(&report);
}

static void
complete_unknown(void *work_state)
{
	Delivery   *delivery = work_state;
	RefundReport report = report_of(delivery, RESULT_UNKNOWN, delivery->error);

	delivery->answer = ot_refund_complete(&report);
}

/* Its policy names no function any more: for a worker, then, and no attempt is used up. */
static void
give_back(void *work_state)
{
	Delivery   *delivery = work_state;
	RefundReport report = report_of(delivery, RESULT_DEFERRED, NULL);

	delivery->answer = ot_refund_complete(&report);
}

/* Between the commit and now it may have ended (a webhook), or this session slept for longer than the lease. */
static bool
is_ours(const Refund *claimed)
{
	Refund	   *refund = ot_store_find_refund(claimed->refund_ref);

	return refund != NULL && refund->state == REFUND_PROCESSING &&
		strcmp(refund->lease_token, claimed->lease_token) == 0;
}

static void
warn_of_lapsed_lease(const Delivery *delivery)
{
	const Refund *refund = delivery->claimed->refund;

	if (strcmp(delivery->answer.outcome, "stale") == 0 && GetCurrentTimestamp() >= refund->leased_until)
		ereport(WARNING,
				(errmsg("%s answered after the lease had lapsed", delivery->sender),
				 errdetail("Refund \"%s\" was handed to another session meanwhile.", refund->refund_ref),
				 errhint("Let the policy's refund_lease be longer than the function takes.")));
}

/* What cannot even be recorded as unknown is left to its lease. */
static void
deliver(const ClaimedRefund *claimed)
{
	Delivery	delivery = {.claimed = claimed};
	Failure		failure;
	bool		done;

	if (!is_ours(claimed->refund))
		return;
	delivery.sender = ot_store_find_sender(claimed->refund->order_id);
	done = ot_attempt_whole(delivery.sender != NULL ? call_and_complete : give_back, &delivery, &failure);
	if (!done)
	{
		delivery.error = failure.text;
		done = ot_attempt_whole(complete_unknown, &delivery, &failure);
	}
	if (done)
		warn_of_lapsed_lease(&delivery);
	else
		ereport(WARNING,
				(errmsg("the end of an attempt at refund \"%s\" could not be recorded", claimed->refund->refund_ref),
				 errdetail("%s", failure.text),
				 errhint("It is tried again when its lease has lapsed.")));
}

/* The procedure. */

/* Looks again when the next one is due, but never later than poll_interval, because a nearer one may be created. */
static TimestampTz
next_look(const Sending *sending, TimestampTz looked_at)
{
	TimestampTz next = ot_store_next_sendable(looked_at, sending->gateway);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz poll = now + sending->poll_interval;
	TimestampTz earliest = now + Min((now - looked_at) * LOOK_SHARE, LOOK_WITHIN);

	return Max(next == OT_NO_TIME ? poll : Min(next, poll), earliest);
}

/* Does what there is to do for one refund, or says in look when there may be one; false if the extension is gone. */
static bool
step(Sending *sending, TimestampTz *look)
{
	TimestampTz started = GetCurrentTimestamp();
	ClaimedRefund *claimed;

	*look = OT_NO_TIME;
	if (!ot_store_hold())
		return false;
	claimed = ot_refund_claim_to_send(sending->worker, sending->gateway);
	if (claimed == NULL)
		*look = next_look(sending, started);
	ot_store_commit();
	if (claimed == NULL)
		return true;
	if (!ot_store_hold())
		return false;
	deliver(claimed);
	ot_store_commit();
	sending->slowest = Max(sending->slowest, GetCurrentTimestamp() - started);
	return true;
}

/* A call that statement_timeout would cancel is not begun: it would be an attempt for nothing. */
void
ot_send_refunds(int64 run_for, int64 poll_interval, const char *gateway)
{
	Sending		sending = {.gateway = gateway, .poll_interval = poll_interval};
	TimestampTz end = ot_run_end(run_for);
	MemoryContext step_context;

	sending.worker = psprintf("send_refunds %d", MyProcPid);
	ot_store_begin_procedure();
	step_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout send_refunds", ALLOCSET_DEFAULT_SIZES);
	while (GetCurrentTimestamp() < end && ot_run_has_time_for(sending.slowest))
	{
		MemoryContext previous = MemoryContextSwitchTo(step_context);
		TimestampTz look;

		CHECK_FOR_INTERRUPTS();
		if (!step(&sending, &look))
		{
			ereport(WARNING, (errmsg("send_refunds ends: extension \"order_timeout\" was dropped")));
			break;
		}
		MemoryContextSwitchTo(previous);
		MemoryContextReset(step_context);
		if (look != OT_NO_TIME)
			ot_run_wait_until(Min(look, end));
	}
	ot_store_end_procedure();
}
