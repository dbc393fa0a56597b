/*
 * sweep.c
 *    Closes what is due, reminds of what will be, takes back what workers abandoned, heals what could not be seen.
 *
 * sweep() is a loop of steps, each its own transaction:
 *
 *    close a batch of due orders, oldest deadline first --> once a second: orphans --> leases and its own row --> reminders
 *         ^                                                                                                       |
 *         +---- at once after a full batch, else when the next deadline, reminders or poll_interval come <--------+
 *
 * Invariants:
 *  1. A step closes at most batch_size orders, fewer if they take long; what it locks it locks with SKIP LOCKED, so that
 *     it never waits for a payment, and several sweeps share the work.
 *  2. While it waits it has just committed: no snapshot, no lock, nothing half done.
 *  3. A batch runs in a subtransaction. If it fails, it is halved until those that fail are found; these are set aside with
 *     the reason, to be tried later, and the others are closed. So it is, one by one, for leases and submitted refunds.
 *  4. Errors that are about the session or the server (cancel, shutdown, full disk) are not blamed on an order, see
 *     subtransaction.c.
 *
 * Looking for due orders starts at the last deadline seen and not at the beginning of the index: there the dead
 * entries of all that was closed lie until they are vacuumed, which under an old snapshot may take hours. What is
 * below that bound (an order locked by a payment that then failed, or created by a transaction that committed late)
 * is found by a pass over the whole index, once a second or less often when that is slow.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event_totals.h"
#include "follow.h"
#include "link.h"
#include "order_close.h"
#include "orphan.h"
#include "progress.h"
#include "refund_claim.h"
#include "remind.h"
#include "rules.h"
#include "run.h"
#include "set_aside.h"
#include "store.h"
#include "subtransaction.h"
#include "sweep.h"
#include "unwritten.h"
#include "void_claim.h"

#define HEARTBEAT_EVERY    (5 * USECS_PER_SEC)
#define KEEP_RUNS_FOR      (7 * USECS_PER_DAY)
#define FIRST_BATCH        16	/* how long an order takes is not known yet: a user's triggers may be slow */
#define GROWTH             4
#define LONGEST_BATCH      USECS_PER_SEC
#define LONGEST_REMINDERS  (100 * INT64CONST(1000)) /* what falls due meanwhile waits for them */
#define SAME_FAILURES      3
#define LOOK_NO_FURTHER    100000	/* orders at most, for one whose linked row is free */
#define COUNT_NO_FURTHER   1000000	/* a fraction of a second, and some hundredths of the time that closing them takes */

/* What a full batch needs is fetched from the system once, not again for each batch. */
#define KEPT_MEMORY        0, 4 * 1024 * 1024, ALLOCSET_DEFAULT_MAXSIZE

typedef struct Sweep
{
	SweepRun	run;
	bool		procedure;		/* its transactions are its own */
	int			max_batch_size; /* what the caller allows */
	int			batch_size;		/* of the next batch: what fits into the time */
	int64		end;			/* by ot_ticks() */
	TimestampTz from;			/* no deadline below it is expected */
	TimestampTz looked_at;		/* the last look for due orders */
	bool		more;			/* the last batch was full */
	Progress	progress;		/* of the full batches that follow each other */
	int64		counted;		/* so many of it had been done or were due when they were counted */
	Reminders	reminders;
	int			reminders_size; /* of their next batch */
} Sweep;

/* One attempt at closing; order_ids outlives its failure. */
typedef struct Batch
{
	TimestampTz from;
	int			size;			/* at most so many */
	bool		following;		/* all rows are written: what fails now is a hook or a linked table */
	List	   *candidates;		/* or of these order_ids size ones from first on */
	int			first;
	List	   *orders;			/* what was found, and whose linked rows are free */
	bool		full;			/* there may be more */
	TimestampTz last;			/* the last deadline that was found */
	List	   *closed;			/* those of them that no other transaction took first */
	TimestampTz now;
} Batch;

/* The run outlives the memory of its steps, so the text is copied into it. */
static void
note_error(SweepRun *run, const char *error)
{
	strlcpy(run->last_error, error, pg_mbcliplen(error, strlen(error), sizeof(run->last_error) - 1) + 1);
}

/* Not in sweep_once: its transaction is the caller's, and deferred triggers wait for the end of that. */
static bool
attempt(Sweep *sweep, Work work, void *work_state, Failure *failure)
{
	if (ot_try(work, work_state, sweep->procedure, failure))
		return true;
	note_error(&sweep->run, failure->text);
	ot_progress_add(&sweep->progress, 0);
	return false;
}

/* Closing. */

/* What fails before the linked rows are locked is blamed on all that was found. */
static void
find_due(Batch *batch, int limit)
{
	batch->orders = NIL;
	batch->orders = ot_store_find_due(batch->from, GetCurrentTimestamp(), limit);
	batch->full = list_length(batch->orders) == limit;
	if (batch->orders != NIL)
		batch->last = ((Order *) llast(batch->orders))->closes_at;
	batch->orders = ot_link_lock_if_free(batch->orders);
}

/* One transaction of the shop's may keep the rows of a whole batch and more busy: the others are behind them. */
static void
find_free(Batch *batch)
{
	int			limit = batch->size;

	find_due(batch, limit);
	while (batch->orders == NIL && batch->full && limit < LOOK_NO_FURTHER)
	{
		CHECK_FOR_INTERRUPTS();
		limit = Min(limit * GROWTH, LOOK_NO_FURTHER);
		find_due(batch, limit);
	}
	if (batch->orders == NIL && batch->full)
		batch->last++;
	if (list_length(batch->orders) <= batch->size)
		return;
	batch->orders = list_truncate(batch->orders, batch->size);
	batch->last = ((Order *) llast(batch->orders))->closes_at;
	batch->full = true;
}

static void
close_due(void *work_state)
{
	Batch	   *batch = work_state;

	find_free(batch);
	batch->now = GetCurrentTimestamp();
	batch->closed = ot_orders_expire(batch->orders, batch->now);
	ot_follow();
}

/* Locked again, because the subtransaction in which they were found is gone. */
static void
close_again(void *work_state)
{
	Batch	   *batch = work_state;
	ListCell   *cell;

	batch->orders = NIL;
	for_each_from(cell, batch->candidates, batch->first)
	{
		Order	   *order = ot_store_lock_order_if_free(lfirst(cell));

		if (order != NULL)
			batch->orders = lappend(batch->orders, order);
		if (foreach_current_index(cell) + 1 == batch->first + batch->size)
			break;
	}
	batch->orders = ot_link_lock_if_free(batch->orders);
	batch->now = GetCurrentTimestamp();
	batch->closed = ot_orders_expire(batch->orders, batch->now);
	batch->following = true;
	ot_follow();
	batch->following = false;
}

static void
count_closed(SweepRun *run, const Batch *batch)
{
	ListCell   *cell;

	foreach(cell, batch->closed)
	{
		const Order *order = lfirst(cell);

		run->expired += order->state == ORDER_EXPIRED;
		if (order->state == ORDER_EXPIRED && order->left_state != ORDER_CLOSING)	/* that one waited for its voids */
			run->max_lag = Max(run->max_lag, batch->now - order->closes_at);
	}
}

/* What failed for single orders of a batch. */
typedef struct Failures
{
	int			sqlerrcode;		/* of the last one */
	int			in_a_row;		/* with this code */
	Failure		last;
} Failures;

static void
set_aside(Sweep *sweep, const char *order_id, const Failure *failure)
{
	if (ot_store_lock_order_if_free(order_id) == NULL)
		return;					/* another sweep may be about to close it */
	ot_set_order_aside(order_id, failure);
	sweep->run.failed++;
}

static void
count_failure(Failures *failures, const Failure *failure)
{
	int			sqlerrcode = failure->error->sqlerrcode;

	failures->in_a_row = failures->sqlerrcode == sqlerrcode ? failures->in_a_row + 1 : 1;
	failures->sqlerrcode = sqlerrcode;
	failures->last = *failure;
}

/*
 * Finds those that fail by halving. A hook or a linked table that fails for three of them in the same way most likely fails
 * for all: the rest is set aside untried. A trigger on our tables that raises keeps back only the orders it raises for.
 */
static void
close_halves(Sweep *sweep, List *order_ids, int first, int size, Failures *failures)
{
	Batch		batch = {.candidates = order_ids, .first = first, .size = size};
	const char *order_id = list_nth(order_ids, first);
	Failure		failure;

	CHECK_FOR_INTERRUPTS();
	if (failures->in_a_row >= SAME_FAILURES)
	{
		for (int i = first; i < first + size; i++)
			set_aside(sweep, list_nth(order_ids, i), &failures->last);
	}
	else if (attempt(sweep, close_again, &batch, &failure))
		count_closed(&sweep->run, &batch);
	else if (size == 1)
	{
		set_aside(sweep, order_id, &failure);
		if (batch.following)
			count_failure(failures, &failure);
	}
	else
	{
		close_halves(sweep, order_ids, first, size / 2, failures);
		close_halves(sweep, order_ids, first + size / 2, size - size / 2, failures);
	}
}

static void
close_what_can_be_closed(Sweep *sweep, List *orders)
{
	Failures	failures = {0};
	List	   *order_ids = NIL;
	ListCell   *cell;

	foreach(cell, orders)
		order_ids = lappend(order_ids, ((Order *) lfirst(cell))->order_id);
	if (list_length(order_ids) == 1)
		close_halves(sweep, order_ids, 0, 1, &failures);
	else
	{
		int			half = list_length(order_ids) / 2;

		close_halves(sweep, order_ids, 0, half, &failures);
		close_halves(sweep, order_ids, half, list_length(order_ids) - half, &failures);
	}
}

/*
 * A batch is to be over well before the run is, or statement_timeout would roll it back again and again; and its locks
 * are not to keep payments waiting for long.
 */
static int
next_batch_size(const Sweep *sweep, int size, int done, int64 took, int64 longest)
{
	int64		each;
	int64		time;

	if (done == 0)
		return size;
	each = Max(took / done, 1);
	time = Min(Max(sweep->end - ot_ticks(), 0) / 2, longest);
	return Max(Min(Min(time / each, size * (int64) GROWTH), sweep->max_batch_size), 1);
}

/*
 * After a full batch, for example after an outage: how much there is. It is counted before the next batch locks anything, along
 * the index, and again when that much is done, for then more has fallen due, or there was more than is counted at once.
 */
static void
count_due(Sweep *sweep)
{
	Progress   *progress = &sweep->progress;
	int64		due;

	if (!sweep->more || progress->done < sweep->counted)
		return;
	due = ot_store_count_due(sweep->from, GetCurrentTimestamp(), COUNT_NO_FURTHER);
	if (due == 0)
		return;
	if (progress->work == WORK_NONE)
		ot_progress_begin(progress, WORK_SWEEP, OT_TOTAL_UNKNOWN);
	sweep->counted = progress->done + due;
	ot_progress_expect(progress, due < COUNT_NO_FURTHER ? sweep->counted : OT_TOTAL_UNKNOWN);
}

static void
report_progress(Sweep *sweep, int done)
{
	ot_progress_add(&sweep->progress, done);
	if (sweep->more)
		return;
	ot_progress_end(&sweep->progress);
	sweep->counted = 0;
}

/* Closes one batch, and remembers where the next look may start. */
static void
close_batch(Sweep *sweep, bool full_pass)
{
	Batch		batch = {.from = full_pass ? DT_NOBEGIN : sweep->from, .size = sweep->batch_size};
	Failure		failure;
	int64		started = ot_ticks();

	batch.now = GetCurrentTimestamp();
	if (attempt(sweep, close_due, &batch, &failure))
		count_closed(&sweep->run, &batch);
	else if (batch.orders == NIL)
		ReThrowError(failure.error);	/* looking for them failed, so it is none of theirs */
	else
		close_what_can_be_closed(sweep, batch.orders);
	sweep->run.batches += batch.orders != NIL;
	sweep->looked_at = batch.now;
	sweep->more = batch.full;
	sweep->from = batch.now - OT_LOOK_SLACK;
	sweep->run.behind = 0;
	if (sweep->more)
	{
		sweep->from = batch.last;
		sweep->run.behind = batch.now - sweep->from;
	}
	report_progress(sweep, list_length(batch.orders));
	if (sweep->procedure)
		sweep->batch_size = next_batch_size(sweep, sweep->batch_size, list_length(batch.orders), ot_ticks() - started, LONGEST_BATCH);
}

/* Reminders. */

static int
remind(Sweep *sweep, int limit)
{
	int			found = ot_remind(&sweep->reminders, limit);

	if (sweep->reminders.last_error != NULL)
		note_error(&sweep->run, sweep->reminders.last_error);
	return found;
}

/* Leases and orphans. */

typedef struct Leases
{
	WorkBatch	batch;			/* first */
	int64		returned;
} Leases;

/*
 * How long is too long is decided here, by policy: SQL counts calendar months where we count 30 days, so it only
 * compares.
 */
static List *
submitted_limits(TimestampTz now)
{
	List	   *limits = NIL;
	ListCell   *cell;

	foreach(cell, ot_store_find_policies())
	{
		const Policy *policy = lfirst(cell);
		SubmittedLimit *limit = palloc(sizeof(SubmittedLimit));

		limit->policy = policy->policy;
		limit->submitted_before = ot_submitted_limit(policy, now);
		limits = lappend(limits, limit);
	}
	return limits;
}

static List *
lock_overlong(WorkBatch *batch, int limit)
{
	TimestampTz now = GetCurrentTimestamp();

	return ot_store_lock_submitted_refunds(submitted_limits(now), now, limit);
}

static void
stop_waiting(WorkBatch *batch)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, batch->found)
		ot_refund_stop_waiting(lfirst(cell), now);
}

static List *
lock_lapsed(WorkBatch *batch, int limit)
{
	return ot_store_lock_lapsed_refunds(GetCurrentTimestamp(), limit);
}

static void
take_back(WorkBatch *batch)
{
	Leases	   *leases = (Leases *) batch;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, batch->found)
	{
		Refund	   *refund = lfirst(cell);

		ot_refund_take_back(refund, ot_store_find_policy_of(refund->order_id), now);
	}
	leases->returned += list_length(batch->found);
}

static List *
lock_lapsed_voids(WorkBatch *batch, int limit)
{
	return ot_store_lock_lapsed_voids(GetCurrentTimestamp(), limit, batch->skipped);
}

static void
take_voids_back(WorkBatch *batch)
{
	Leases	   *leases = (Leases *) batch;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, batch->found)
	{
		Attempt    *attempt = lfirst(cell);

		ot_void_take_back(attempt, ot_store_find_policy_of(attempt->order_id), now);
	}
	leases->returned += list_length(batch->found);
}

static void
work_on_batch(Sweep *sweep, WorkBatch *batch)
{
	batch->fire_deferred = sweep->procedure;
	ot_batch_work(batch, sweep->max_batch_size);
	if (batch->last_error != NULL)
		note_error(&sweep->run, batch->last_error);
}

static void
take_leases_back(Sweep *sweep)
{
	Leases		refunds = {.batch = {.lock = lock_lapsed, .work = take_back}};
	Leases		voids = {.batch = {.of_voids = true, .lock = lock_lapsed_voids, .work = take_voids_back}};

	work_on_batch(sweep, &refunds.batch);
	work_on_batch(sweep, &voids.batch);
	sweep->run.leases_returned += refunds.returned + voids.returned;
}

/* Looks at every open refund, so not every second. */
static void
stop_waiting_for_gateways(Sweep *sweep)
{
	WorkBatch	batch = {.lock = lock_overlong, .work = stop_waiting};

	work_on_batch(sweep, &batch);
}

typedef struct Orphan
{
	const Payment *payment;
	bool		may_give_back;
	bool		settled;
} Orphan;

static void
settle_orphan(void *work_state)
{
	Orphan	   *orphan = work_state;

	ot_set_reports_money();
	orphan->settled = ot_orphan_settle(orphan->payment, orphan->may_give_back);
	ot_follow();
}

static void
settle_each(Sweep *sweep, List *payments, bool may_give_back)
{
	ListCell   *cell;

	foreach(cell, payments)
	{
		Orphan		orphan = {lfirst(cell), may_give_back, false};
		Failure		failure;

		if (sweep->procedure && ot_ticks() >= sweep->end)
			break;
		if (attempt(sweep, settle_orphan, &orphan, &failure) && orphan.settled)
			sweep->run.orphans_settled++;
	}
}

static void
settle_orphans(Sweep *sweep)
{
	Policy	   *policy = ot_store_find_policy("default");

	settle_each(sweep, ot_store_stray_orphans(sweep->max_batch_size), false);
	if (policy != NULL && policy->orphan_after > 0)
		settle_each(sweep, ot_store_old_orphans(GetCurrentTimestamp() - policy->orphan_after, sweep->max_batch_size), true);
}

/* What was to follow payments and failed. */

static void
follow_again(void *work_state)
{
	ot_follow_again(work_state);
}

static void
follow_up_each(Sweep *sweep)
{
	ListCell   *cell;

	foreach(cell, ot_follow_find_due(GetCurrentTimestamp(), sweep->max_batch_size))
	{
		FollowUp   *follow_up = lfirst(cell);
		Failure		failure;

		if (sweep->procedure && ot_ticks() >= sweep->end)
			break;
		CHECK_FOR_INTERRUPTS();
		if (!attempt(sweep, follow_again, follow_up, &failure))
			ot_follow_failed_again(follow_up, &failure);
	}
}

/*
 * Totals for the view metrics. The rest of the work is not to wait for them: counting an event takes a tenth of the time in
 * which an order is closed, and sweep_once has no pass once a second.
 */
#define COUNTED_IN_A_PASS 10000
#define COUNTED_AT_ONCE   1000

static void
count_events(void *max_events)
{
	ot_count_events(*(int *) max_events);
}

static void
keep_totals(Sweep *sweep, int max_events)
{
	Failure		failure;

	attempt(sweep, count_events, &max_events, &failure);
}

/* Orders and payments before refunds, as everywhere. */
SweepRun
ot_sweep_once(int batch_size)
{
	Sweep		sweep = {.max_batch_size = batch_size, .batch_size = batch_size};

	ot_reminders_begin(&sweep.reminders, PG_INT64_MAX, false);
	ot_store_clear_set_aside();
	settle_orphans(&sweep);
	follow_up_each(&sweep);
	close_batch(&sweep, true);
	remind(&sweep, batch_size);
	take_leases_back(&sweep);
	stop_waiting_for_gateways(&sweep);
	keep_totals(&sweep, COUNTED_AT_ONCE);
	return sweep.run;
}

/* The procedure. */

/* When to look again: at the next deadline, but never later than poll_interval, because a nearer one may be created. */
static TimestampTz
next_look(const Sweep *sweep, int64 poll_interval)
{
	TimestampTz poll = GetCurrentTimestamp() + poll_interval;
	TimestampTz deadline = ot_store_next_deadline(sweep->looked_at, GetCurrentTimestamp());

	return deadline == OT_NO_TIME ? poll : Min(deadline, poll);
}

static void
write_run(SweepRun *run)
{
	run->active_at = GetCurrentTimestamp();
	ot_store_update_sweep(run);
}

/* False if the extension was dropped meanwhile; the loop says so and ends. */
static bool
next_step(void)
{
	ot_store_commit();
	return ot_store_hold();
}

/* Its row shows that it lives; a sign of life in the future would not. */
static bool
is_heartbeat_due(const SweepRun *run)
{
	int64		silent = GetCurrentTimestamp() - run->active_at;

	return silent < 0 || silent >= (run->batches > 0 ? OT_PASS_EVERY : HEARTBEAT_EVERY);
}

/* Once a second or so: everything that is not bound to a deadline. Answers when the next one is due, by ot_ticks(). */
static int64
full_pass(Sweep *sweep)
{
	int64		started = ot_ticks();

	close_batch(sweep, true);
	if (!next_step())
		return started;
	settle_orphans(sweep);
	if (!next_step())
		return started;
	follow_up_each(sweep);
	if (!next_step())
		return started;
	keep_totals(sweep, COUNTED_IN_A_PASS);
	if (!next_step())
		return started;
	take_leases_back(sweep);
	ot_store_clear_set_aside();
	if (is_heartbeat_due(&sweep->run))
		write_run(&sweep->run);
	return ot_run_next_pass(started, ot_ticks() - started);
}

/* In a transaction of its own, so that what was closed is not locked for longer. */
static void
remind_if_due(Sweep *sweep)
{
	int			found;

	if (ot_ticks() < sweep->reminders.next_look || !next_step())
		return;
	found = remind(sweep, sweep->reminders_size);
	sweep->reminders_size = next_batch_size(sweep, sweep->reminders_size, found, sweep->reminders.took, LONGEST_REMINDERS);
}

/* Until something is due; a reminder may be before that. */
static void
wait_for_work(const Sweep *sweep, TimestampTz look)
{
	const Reminders *reminders = &sweep->reminders;

	if (!sweep->more && !reminders->full)
		ot_run_wait(look, reminders->windows == NIL ? sweep->end : Min(sweep->end, reminders->next_look));
}

/* The clock of the day went back: deadlines that lie between now and the last look are below its bound. */
static bool
clock_went_back(const Sweep *sweep)
{
	return GetCurrentTimestamp() < sweep->looked_at;
}

/* What only needs a look now and then is done at the end of a run, after all that is due. */
static void
end_run(Sweep *sweep)
{
	if (!ot_store_hold())
	{
		ereport(WARNING, (errmsg("sweep ends: extension \"order_timeout\" was dropped")));
		return;
	}
	stop_waiting_for_gateways(sweep);
	sweep->run.ended_at = GetCurrentTimestamp();
	write_run(&sweep->run);
	ot_store_commit();
}

void
ot_sweep(int64 run_for, int batch_size, int64 poll_interval)
{
	Sweep		sweep = {.procedure = true, .max_batch_size = batch_size, .batch_size = Min(batch_size, FIRST_BATCH),
	.looked_at = OT_NO_TIME, .reminders_size = Min(batch_size, FIRST_BATCH)};
	int64		pass_due = 0;
	TimestampTz look = OT_NO_TIME;
	MemoryContext step_context;
	int64		last_event;

	sweep.end = Min(ot_ticks() + run_for, ot_run_last_moment());
	ot_store_begin_procedure();
	ot_reminders_begin(&sweep.reminders, sweep.end, true);
	step_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout sweep", KEPT_MEMORY);
	last_event = ot_store_mark_events().id; /* before the clock: an event that reads it later has a higher id */
	sweep.run.started_at = sweep.run.active_at = GetCurrentTimestamp();
	sweep.run.sweep_id = ot_store_begin_sweep(sweep.run.started_at, last_event, sweep.run.started_at - KEEP_RUNS_FOR);
	sweep.run.ended_at = OT_NO_TIME;
	ot_store_commit();
	while (ot_ticks() < sweep.end)
	{
		MemoryContext previous = MemoryContextSwitchTo(step_context);

		CHECK_FOR_INTERRUPTS();
		if (!ot_store_hold())
			break;
		count_due(&sweep);
		if (ot_ticks() >= pass_due || clock_went_back(&sweep))
			pass_due = full_pass(&sweep);
		else
			close_batch(&sweep, false);
		remind_if_due(&sweep);
		if (!sweep.more && ot_store_exists())
			look = next_look(&sweep, poll_interval);
		ot_store_commit();
		MemoryContextSwitchTo(previous);
		MemoryContextReset(step_context);
		wait_for_work(&sweep, look);
	}
	ot_progress_end(&sweep.progress);
	end_run(&sweep);
	ot_store_end_procedure();
}
