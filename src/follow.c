/*
 * follow.c
 *    What follows a change of an order's state: the row of a linked table, then the hooks of the order's policy.
 *
 *                    +-- a closing: row, on_close, in the caller's transaction; an error is the caller's
 *    state changed --+              (a row of a link with on_failure => 'retry' is left for the sweeper instead)
 *                    +-- a payment: row, on_close, on_paid, on_reopen, each in a subtransaction
 *                             |
 *                             +-- failed --> follow_ups --> the sweeper tries again --> done, gone
 *                                                |                  ^     |
 *                                                |                  +-----+ failed: a longer wait
 *                                                +-- resolve_follow_up: a person did it --> gone
 *
 * Invariants:
 *  1. It is the last step of a call, after all that the call writes itself: what a hook reads is the end of the transition,
 *     and a hook may call any function of ours.
 *  2. A hook's effects and the state that it follows are committed together, or neither is; of a payment, the follow-up that
 *     stands for the hook is committed instead.
 *  3. Money is never refused because of what follows it.
 *  4. The hooks of one order are done in the order of what they follow: while one waits, later ones wait behind it. Only
 *     a reopening can come after another hook, because a pending order has had none.
 *  5. A follow-up is tried under the lock of its order, and is gone with the same commit that makes its effects visible.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt.h"
#include "event.h"
#include "follow.h"
#include "link.h"
#include "store.h"

#define WAITS_BEHIND "it waits for an older follow-up of this order"

static bool
has_changed(const Order *order, FollowKind kind)
{
	return (order->changes & (1 << kind)) != 0;
}

/* Whether it only follows a table in shadow mode: then nothing may come of it. */
static bool
is_rehearsal(const Order *order)
{
	ListCell   *cell;

	foreach(cell, ot_store_shadow_prefixes())
		if (strncmp(order->order_id, lfirst(cell), strlen(lfirst(cell))) == 0)
			return true;
	return false;
}

static const char *
hook_of(const Order *order, FollowKind kind)
{
	const char *hook = has_changed(order, kind) ? ot_store_find_hook(order->policy, kind) : NULL;

	return hook == NULL || is_rehearsal(order) ? NULL : hook;
}

/* What is left for the sweeper. */

static Payload *
follow_up_payload(const FollowUp *follow_up)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "kind", ot_follow_kinds[follow_up->kind]);
	ot_payload_text(payload, "sqlstate", follow_up->sqlstate);
	ot_payload_text(payload, "error", follow_up->error);
	ot_payload_int(payload, "failures", follow_up->failures);
	ot_payload_time(payload, "retry_at", follow_up->retry_at);
	return payload;
}

static void
leave_for_sweeper(const Order *order, FollowKind kind, int failures, const char *sqlstate, const char *error)
{
	TimestampTz now = GetCurrentTimestamp();
	FollowUp	follow_up = {0, order->order_id, kind, now, failures, now, sqlstate, error};

	if (failures > 0)
		follow_up.retry_at += ot_retry_wait(failures);
	ot_store_add_follow_up(&follow_up);
	ot_event(order->order_id, "order.follow_up", follow_up_payload(&follow_up), now);
}

/* Closings. */

typedef struct Rows
{
	const Link *link;
	List	   *orders;
	bool		wait;
} Rows;

static void
write_rows(void *work_state)
{
	Rows	   *rows = work_state;

	ot_link_write(rows->link, rows->orders, rows->wait);
}

/* If not all of them can be written, each that can is. */
static void
write_or_leave(const Link *link, List *orders, bool wait)
{
	Rows		all = {link, orders, wait};
	Failure		failure;
	ListCell   *cell;

	if (ot_attempt(write_rows, &all, &failure))
		return;
	foreach(cell, orders)
	{
		Rows		one = {link, list_make1(lfirst(cell)), wait};

		if (!ot_attempt(write_rows, &one, &failure))
			leave_for_sweeper(lfirst(cell), FOLLOW_ROW, 1, failure.sqlstate, failure.message);
	}
}

typedef struct HookCall
{
	const char *hook;
	List	   *orders;
} HookCall;

static HookCall *
call_of(List **calls, const char *hook)
{
	HookCall   *call;
	ListCell   *cell;

	foreach(cell, *calls)
	{
		call = lfirst(cell);
		if (strcmp(call->hook, hook) == 0)
			return call;
	}
	call = palloc(sizeof(HookCall));
	call->hook = hook;
	call->orders = NIL;
	*calls = lappend(*calls, call);
	return call;
}

/* Calls each function once, with all the orders whose policies name it. */
static void
call_close_hooks(List *orders)
{
	List	   *calls = NIL;
	ListCell   *cell;

	foreach(cell, orders)
	{
		Order	   *order = lfirst(cell);
		const char *hook = hook_of(order, FOLLOW_CLOSED);
		HookCall   *call;

		if (hook == NULL)
			continue;
		call = call_of(&calls, hook);
		call->orders = lappend(call->orders, order);
	}
	foreach(cell, calls)
	{
		HookCall   *call = lfirst(cell);

		ot_store_call_hook(call->hook, call->orders);
	}
}

bool
ot_follow_may_close(const Order *order)
{
	ListCell   *cell;

	foreach(cell, ot_store_links())
	{
		const Link *link = lfirst(cell);

		if (!link->retry_failed && ot_link_is_for(link, order->order_id) && !ot_link_take(link, order))
			return false;
	}
	return true;
}

/* The rows first, so that a hook finds them as they will be. */
void
ot_follow_closing(List *orders, bool wait)
{
	ListCell   *cell;

	if (orders == NIL || !ot_store_follows())
		return;
	foreach(cell, ot_store_links())
	{
		const Link *link = lfirst(cell);

		if (link->retry_failed)
			write_or_leave(link, orders, wait);
		else
			ot_link_write(link, orders, wait);
	}
	call_close_hooks(orders);
}

/* Payments. */

typedef struct Step
{
	const Order *order;
	FollowKind	kind;
	bool		wait;			/* for a row that somebody else holds */
} Step;

static void
take_step(void *work_state)
{
	Step	   *step = work_state;
	List	   *orders = list_make1(unconstify(Order *, step->order));
	const char *hook;
	ListCell   *cell;

	if (step->kind == FOLLOW_ROW)
	{
		foreach(cell, ot_store_links())
			ot_link_write(lfirst(cell), orders, step->wait);
		return;
	}
	hook = ot_store_find_hook(step->order->policy, step->kind);
	if (hook != NULL)
		ot_store_call_hook(hook, orders);
}

static bool
is_linked(const Order *order)
{
	ListCell   *cell;

	foreach(cell, ot_store_links())
		if (ot_link_is_for(lfirst(cell), order->order_id))
			return true;
	return false;
}

static bool
has_step(const Order *order, FollowKind kind)
{
	if (kind == FOLLOW_ROW)
		return has_changed(order, kind) && is_linked(order);
	return hook_of(order, kind) != NULL;
}

/* Whether it is done; if not, it is left for the sweeper. */
static bool
step_or_leave(const Order *order, FollowKind kind, bool wait)
{
	Step		step = {order, kind, wait};
	Failure		failure;

	if (!has_step(order, kind) || ot_attempt_within_timeout(take_step, &step, &failure))
		return true;
	leave_for_sweeper(order, kind, 1, failure.sqlstate, failure.message);
	return failure.error->sqlerrcode != ERRCODE_QUERY_CANCELED && kind == FOLLOW_ROW;
}

/*
 * The row, then the hooks. A hook must not overtake one that failed; and after a statement_timeout, which is what was
 * cancelled here, nothing would end the next one.
 */
void
ot_follow_payment(Order *order, bool wait)
{
	bool		go_on;

	if (order == NULL || order->changes == 0 || !ot_store_follows())
		return;
	go_on = step_or_leave(order, FOLLOW_ROW, wait);
	if (has_step(order, FOLLOW_REOPENED) && ot_store_has_hook_waiting(order->order_id))
		go_on = false;
	for (FollowKind kind = 0; kind < OT_HOOKS; kind++)
	{
		if (go_on)
			go_on = step_or_leave(order, kind, wait);
		else if (has_step(order, kind))
			leave_for_sweeper(order, kind, 0, "00000", WAITS_BEHIND);
	}
}

/* Again. */

List *
ot_follow_find_due(TimestampTz now, int limit)
{
	return ot_store_due_follow_ups(now, limit);
}

bool
ot_follow_again(const FollowUp *follow_up)
{
	Order	   *order = ot_store_lock_order_if_free(follow_up->order_id);
	Step		step = {order, follow_up->kind, false};

	if (order == NULL || !ot_store_lock_follow_up_if_free(follow_up->follow_up_id))
		return false;
	ot_store_delete_follow_up(follow_up->follow_up_id);
	ot_event(order->order_id, "order.followed_up", follow_up_payload(follow_up), GetCurrentTimestamp());
	take_step(&step);
	return true;
}

void
ot_follow_failed(const FollowUp *follow_up, const char *sqlstate, const char *error)
{
	FollowUp	again = *follow_up;

	if (!ot_store_lock_follow_up_if_free(follow_up->follow_up_id))
		return;
	again.failures++;
	again.retry_at = GetCurrentTimestamp() + ot_retry_wait(again.failures);
	again.sqlstate = sqlstate;
	again.error = error;
	ot_store_update_follow_up(&again);
}

bool
ot_follow_resolve(int64 follow_up_id)
{
	FollowUp   *follow_up = ot_store_delete_follow_up(follow_up_id);

	if (follow_up == NULL)
		return false;
	ot_event(follow_up->order_id, "order.follow_up_resolved", follow_up_payload(follow_up), GetCurrentTimestamp());
	return true;
}
