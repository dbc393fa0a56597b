/*
 * send.c
 *    send_refunds: refunds and voids without a worker. It claims those whose policy names a handler, and calls that.
 *
 *     none is due: wait
 *        |     ^
 *        v     |
 *    lease one -------commit----> call its handler --+-- answered ----------> record that ----+
 *        ^                                           +-- failed, nonsense --> "unknown" ------+
 *        |                                           +-- it has none now ---> "deferred" -----+
 *        |                                           |                                        |
 *        +---------------- lapses <-- ended in midst +                                        |
 *        +-------------------------------------------commit-----------------------------------+
 *
 * Invariants:
 *  1. The lease is committed before the handler is called. Whatever ends the call (a cancel, statement_timeout, a crash),
 *     the lease lapses, and it is handed out again: with the same key, and with the action "query".
 *  2. What is recorded is what complete_refund or complete_void records of a worker's report with this lease.
 *  3. What the handler wrote and what is recorded of its answer are committed together, or neither is.
 *  4. While the handler runs no row of ours is locked: neither a payment nor a closing waits for a gateway.
 *  5. The handler runs as the caller. No role is switched to, before or after.
 *  6. While it waits it has just committed: no snapshot, no lock, nothing half done.
 *  7. A refund and a void take turns while both are due: neither kind keeps the other one waiting for longer than a call.
 *
 * Looking for what is due starts at the last one found, because what waits for workers may be in the way. What is below that
 * bound (another session's rollback, a transaction that committed late, a new handler) is found by a look at all that is
 * due, once a second or less often when that is slow.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "check.h"
#include "follow.h"
#include "lease.h"
#include "refund_claim.h"
#include "refund_report.h"
#include "run.h"
#include "send.h"
#include "store.h"
#include "subtransaction.h"
#include "unwritten.h"
#include "void_claim.h"
#include "void_report.h"

#define LOOK_EVERY      USECS_PER_SEC
#define FULL_LOOK_SHARE 20		/* a look at all that is due takes at most this part of the time */

typedef struct Kind Kind;

typedef struct Delivery
{
	const Kind *kind;
	const void *claimed;		/* ClaimedRefund or ClaimedVoid */
	const char *order_id;
	const char *name;			/* for people */
	const char *handler;		/* NULL: its policy names none any more */
	HandlerAnswer answer;		/* what is recorded */
	const char *outcome;
} Delivery;

struct Kind
{
	const char *hook;
	const char *complete_name;	/* the function that a worker would report by */
	const char *const *results;
	bool		(*claim) (Delivery *delivery, const char *worker, List *policies, TimestampTz *from);
	bool		(*is_ours) (const Delivery *delivery);
	List	   *(*call) (const Delivery *delivery);
	const char *(*complete) (const Delivery *delivery);
};

/* Refunds. */

static const Refund *
refund_of(const Delivery *delivery)
{
	return ((const ClaimedRefund *) delivery->claimed)->refund;
}

static bool
claim_refund(Delivery *delivery, const char *worker, List *policies, TimestampTz *from)
{
	delivery->claimed = ot_refund_claim_next(worker, policies, from);
	if (delivery->claimed == NULL)
		return false;
	delivery->order_id = refund_of(delivery)->order_id;
	delivery->name = psprintf("refund \"%s\"", refund_of(delivery)->refund_ref);
	return true;
}

static bool
refund_is_ours(const Delivery *delivery)
{
	Refund	   *refund = ot_store_find_refund(refund_of(delivery)->refund_ref);

	return refund != NULL && refund->state == REFUND_PROCESSING &&
		ot_lease_is_current(&refund->lease, refund_of(delivery)->lease.token);
}

static List *
call_refund_handler(const Delivery *delivery)
{
	return ot_store_call_refund_handler(delivery->handler, refund_of(delivery),
										((const ClaimedRefund *) delivery->claimed)->action);
}

static const char *
complete_refund(const Delivery *delivery)
{
	const HandlerAnswer *answer = &delivery->answer;
	RefundReport report = {.refund_ref = refund_of(delivery)->refund_ref,
		.result = ot_word_find(ot_refund_results, answer->result),
		.lease_token = refund_of(delivery)->lease.token, .gateway_refund_ref = answer->gateway_refund_ref,
	.error = answer->error, .refunded_amount = answer->refunded_amount};

	return ot_refund_complete(&report).outcome;
}

/* Voids. */

static const Attempt *
attempt_of(const Delivery *delivery)
{
	return ((const ClaimedVoid *) delivery->claimed)->attempt;
}

static bool
claim_void(Delivery *delivery, const char *worker, List *policies, TimestampTz *from)
{
	delivery->claimed = ot_void_claim_next(worker, policies, from);
	if (delivery->claimed == NULL)
		return false;
	delivery->order_id = attempt_of(delivery)->order_id;
	delivery->name = psprintf("the void of attempt \"%s\" of gateway \"%s\"", attempt_of(delivery)->attempt_ref,
							  attempt_of(delivery)->gateway);
	return true;
}

static bool
void_is_ours(const Delivery *delivery)
{
	Attempt    *attempt = ot_store_find_attempt(attempt_of(delivery)->gateway, attempt_of(delivery)->attempt_ref);

	return attempt != NULL && ot_lease_is_current(&attempt->lease, attempt_of(delivery)->lease.token);
}

static List *
call_void_handler(const Delivery *delivery)
{
	const ClaimedVoid *claimed = delivery->claimed;

	return ot_store_call_void_handler(delivery->handler, claimed->attempt, claimed->amount, claimed->action);
}

static const char *
complete_void(const Delivery *delivery)
{
	VoidReport	report = {.gateway = attempt_of(delivery)->gateway, .attempt_ref = attempt_of(delivery)->attempt_ref,
		.result = ot_word_find(ot_void_results, delivery->answer.result),
	.lease_token = attempt_of(delivery)->lease.token, .error = delivery->answer.error};

	return ot_void_complete(&report).outcome;
}

static const Kind kinds[] = {
	{"refund_handler", "complete_refund", ot_refund_results, claim_refund, refund_is_ours, call_refund_handler, complete_refund},
	{"void_handler", "complete_void", ot_void_results, claim_void, void_is_ours, call_void_handler, complete_void},
};

/* What the handler answered. */

static void
set_answer(Delivery *delivery, const char *result, const char *error)
{
	delivery->answer = (HandlerAnswer)
	{
		.result = result, .error = error
	};
}

/* By the same rules as arguments of complete_refund and complete_void. What is wrong with it, or NULL; then it is taken. */
static const char *
read_answer(Delivery *delivery, List *answers)
{
	const HandlerAnswer *answer = answers == NIL ? NULL : linitial(answers);
	const char *problem = NULL;

	if (list_length(answers) != 1)
		return psprintf("it answered %d rows", list_length(answers));
	if (answer->result == NULL)
		return "it answered no result";
	if (ot_word_find(delivery->kind->results, answer->result) < 0)
		return psprintf("it answered \"%s\", which is no result of %s", answer->result, delivery->kind->complete_name);
	if (answer->gateway_refund_ref != NULL)
		problem = ot_id_problem(answer->gateway_refund_ref);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid gateway_refund_ref: %s", answer->result, problem);
	if (answer->has_amount)
		problem = ot_amount_problem(answer->refunded_amount, 1);
	if (problem != NULL)
		return psprintf("it answered \"%s\" with an invalid refunded_amount: %s", answer->result, problem);
	delivery->answer = *answer;
	return NULL;
}

/* One of them. */

static void
record(void *work_state)
{
	Delivery   *delivery = work_state;

	ot_set_reports_money();
	delivery->outcome = delivery->kind->complete(delivery);
	ot_follow();
}

static void
call_and_record(void *work_state)
{
	Delivery   *delivery = work_state;
	const char *problem = read_answer(delivery, delivery->kind->call(delivery));

	if (problem != NULL)
		set_answer(delivery, "unknown", psprintf("%s: %s", delivery->handler, problem));
	record(delivery);
}

static bool
send_and_record(Delivery *delivery, Failure *failure)
{
	if (delivery->handler == NULL)
		set_answer(delivery, "deferred", psprintf("its policy has no %s any more", delivery->kind->hook));
	else if (ot_try_handler(call_and_record, delivery, failure))
		return true;
	else
		set_answer(delivery, "unknown", failure->text);
	return ot_try(record, delivery, true, failure);
}

/* Since the commit it may have ended (a webhook), or this session slept for longer than the lease. */
static void
deliver(Delivery *delivery)
{
	Failure		failure;

	if (!delivery->kind->is_ours(delivery))
		return;
	delivery->handler = ot_store_find_hook(ot_store_find_policy_of(delivery->order_id)->policy, delivery->kind->hook);
	if (!send_and_record(delivery, &failure))
		ereport(WARNING,
				(errmsg("the result of %s could not be recorded", delivery->name),
				 errdetail("%s", failure.text),
				 errhint("It is tried again when its lease has lapsed.")));
	else if (delivery->handler != NULL && strcmp(delivery->outcome, "stale") == 0)
		ereport(WARNING,
				(errmsg("the %s %s answered about %s after the lease had lapsed", delivery->kind->hook, delivery->handler,
						delivery->name),
				 errhint("Set the policy's refund_lease to more than the handler's timeout.")));
}

/* The procedure. */

typedef struct Search
{
	TimestampTz from;			/* nothing of ours is expected to be due before it */
	int64		full_look_due;	/* by ot_ticks(), as the next one */
} Search;

typedef struct Sending
{
	const char *worker;
	Search		searches[lengthof(kinds)];
	int			turn;			/* the kind that is looked for next */
	int			in_vain;		/* looks since the last delivery */
	int64		slowest;		/* of the deliveries so far */
} Sending;

/* False if nothing of the kind whose turn it is is due. */
static bool
claim_next(Sending *sending, Delivery *delivery)
{
	Search	   *search = &sending->searches[sending->turn];
	const Kind *kind = &kinds[sending->turn];
	int64		started = ot_ticks();
	bool		full_look = started >= search->full_look_due;
	List	   *policies = ot_store_find_policies_with(kind->hook);
	bool		found;

	sending->turn = (sending->turn + 1) % lengthof(kinds);
	*delivery = (Delivery)
	{
		.kind = kind
	};
	if (policies == NIL)
		return false;
	if (full_look)
		search->from = DT_NOBEGIN;
	found = kind->claim(delivery, sending->worker, policies, &search->from);
	if (full_look)
		search->full_look_due = started + Max(LOOK_EVERY, (ot_ticks() - started) * FULL_LOOK_SHARE);
	return found;
}

/*
 * One delivery, or a wait once nothing of any kind is due; false if the extension is gone. A transaction looks for one kind
 * only: the user's deferred triggers that a claim has fired stay immediate until its end.
 */
static bool
step(Sending *sending, int64 end)
{
	int64		started = ot_ticks();
	Delivery	delivery;
	bool		found;

	if (!ot_store_hold())
		return false;
	found = claim_next(sending, &delivery);
	ot_store_commit();
	sending->in_vain = found ? 0 : sending->in_vain + 1;
	if (!found && sending->in_vain % lengthof(kinds) == 0)
		ot_run_wait(GetCurrentTimestamp() + LOOK_EVERY, end);
	if (!found)
		return true;
	if (!ot_store_hold())
		return false;
	deliver(&delivery);
	ot_store_commit();
	sending->slowest = Max(sending->slowest, ot_ticks() - started);
	return true;
}

/*
 * A call that statement_timeout would most likely cancel is not begun: it would be an attempt for nothing. Which kind comes
 * first is left to chance: runs that have time for one delivery only must not all be for the same kind.
 */
void
ot_send(int64 run_for)
{
	int64		last_moment = ot_run_last_moment();
	int64		end = Min(ot_ticks() + run_for, last_moment);
	Sending		sending = {.worker = psprintf("send_refunds %d", MyProcPid), .turn = ot_ticks() % lengthof(kinds)};
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
