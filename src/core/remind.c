/*
 * remind.c
 *    The sweeper's reminders: one event order.due_soon for each deadline, remind_before of the order's policy before it.
 *
 * Only pending orders are reminded: the buyer of an authorized one has done their part, and a closing one's time is over.
 * orders.reminded_of is the deadline that was reminded of. Nothing follows a reminder, neither hooks nor linked rows.
 *
 * Each policy has a window: the orders that fall due between now and remind_before from now. A look starts where the last
 * one ended, so that it passes over no order that was reminded already. What is below that bound (an order that was locked,
 * that was created or moved into the window, or whose reminder failed) is found by a full look, from now on; that takes its
 * time when there are many, so it is done less often the slower it is.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event.h"
#include "order_state.h"
#include "remind.h"
#include "rules.h"
#include "run.h"
#include "store.h"
#include "subtransaction.h"
#include "write.h"

typedef struct Window
{
	const char *policy;
	TimestampTz from;			/* no order below it is expected to need a reminder */
} Window;

/* One attempt; what was found outlives its failure. */
typedef struct Batch
{
	const Policy *policy;
	TimestampTz from;
	TimestampTz until;
	int			limit;
	List	   *found;
	int64		found_at;		/* by ot_ticks() */
	const char *order_id;		/* of one that is tried again, alone */
	int			reminded;
} Batch;

static Event *
due_soon_event(const Order *order, TimestampTz now)
{
	Payload    *payload = ot_order_payload(order);

	ot_payload_time(payload, "closes_at", order->closes_at);
	return ot_event_make(order->order_id, "order.due_soon", payload, now);
}

/* Answers with how many needed it. */
static int
write_reminders(List *orders, const Policy *policy)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *events = NIL;
	ListCell   *cell;

	foreach(cell, orders)
	{
		Order	   *order = lfirst(cell);

		if (!ot_reminder_is_due(order, policy, now))
			continue;
		ot_order_note_reminder(order);
		ot_write_order(order);
		events = lappend(events, due_soon_event(order, now));
	}
	if (events != NIL)
		ot_events_add(events);
	return list_length(events);
}

static void
remind_batch(void *work_state)
{
	Batch	   *batch = work_state;

	batch->found = ot_store_lock_due_soon(batch->policy->policy, batch->from, batch->until, batch->limit);
	batch->found_at = ot_ticks();
	batch->reminded = write_reminders(batch->found, batch->policy);
}

/* Locked again, because the subtransaction in which it was found is gone. */
static void
remind_one(void *work_state)
{
	Batch	   *batch = work_state;
	Order	   *order = ot_store_lock_order_if_free(batch->order_id);

	batch->reminded = order == NULL ? 0 : write_reminders(list_make1(order), batch->policy);
}

/* One that fails is left for the next full look. */
static void
remind_each(Reminders *reminders, Batch *batch)
{
	int			reminded = 0;
	ListCell   *cell;

	foreach(cell, batch->found)
	{
		Failure		failure;

		CHECK_FOR_INTERRUPTS();
		if (ot_ticks() >= reminders->end)
			break;
		batch->order_id = ((Order *) lfirst(cell))->order_id;
		if (ot_try(remind_one, batch, reminders->procedure, &failure))
			reminded += batch->reminded;
		else
			reminders->last_error = failure.text;
	}
	batch->reminded = reminded;
}

/* A batch in which no order could be reminded is not found again and again. */
static TimestampTz
next_from(const Batch *batch)
{
	TimestampTz last;

	if (list_length(batch->found) < batch->limit)
		return batch->until - OT_LOOK_SLACK;
	last = ((Order *) llast(batch->found))->closes_at;
	return batch->reminded > 0 ? last : last + 1;
}

static int
remind_in(Reminders *reminders, Window *window, int limit)
{
	Batch		batch = {.policy = ot_store_find_policy(window->policy), .limit = limit};
	TimestampTz now = GetCurrentTimestamp();
	Failure		failure;

	if (batch.policy == NULL || batch.policy->remind_before == 0)
		return 0;
	batch.from = Max(window->from, now);
	batch.until = now + batch.policy->remind_before;
	if (!ot_try(remind_batch, &batch, reminders->procedure, &failure))
	{
		if (batch.found == NIL)
			ReThrowError(failure.error);	/* looking for them failed, so it is none of theirs */
		remind_each(reminders, &batch);
	}
	window->from = next_from(&batch);
	reminders->took += ot_ticks() - batch.found_at;
	return list_length(batch.found);
}

static void
begin_full_look(Reminders *reminders)
{
	List	   *policies = ot_store_find_policies();
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext previous;
	ListCell   *cell;

	MemoryContextReset(reminders->context);
	previous = MemoryContextSwitchTo(reminders->context);
	reminders->windows = NIL;
	foreach(cell, policies)
	{
		const Policy *policy = lfirst(cell);
		Window	   *window;

		if (policy->remind_before == 0)
			continue;
		window = palloc(sizeof(Window));
		window->policy = pstrdup(policy->policy);
		window->from = now;
		reminders->windows = lappend(reminders->windows, window);
	}
	MemoryContextSwitchTo(previous);
	reminders->in_full_look = true;
	reminders->full_look_took = 0;
}

void
ot_reminders_begin(Reminders *reminders, int64 end, bool procedure)
{
	memset(reminders, 0, sizeof(Reminders));
	reminders->procedure = procedure;
	reminders->end = end;
	reminders->context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout reminders", ALLOCSET_SMALL_SIZES);
}

int
ot_remind(Reminders *reminders, int limit)
{
	int64		started = ot_ticks();
	int			left = limit;
	ListCell   *cell;

	reminders->took = 0;
	reminders->last_error = NULL;
	if (!reminders->in_full_look && started >= reminders->next_full_look)
	{
		begin_full_look(reminders);
		reminders->full_look_began = started;
	}
	foreach(cell, reminders->windows)
	{
		left -= remind_in(reminders, lfirst(cell), left);
		if (left == 0)
			break;
	}
	reminders->full = left == 0;
	reminders->next_look = reminders->full ? started : started + OT_PASS_EVERY;
	reminders->full_look_took += ot_ticks() - started;
	if (reminders->in_full_look && !reminders->full)
	{
		reminders->in_full_look = false;
		reminders->next_full_look = ot_run_next_pass(reminders->full_look_began, reminders->full_look_took);
	}
	return limit - left;
}
