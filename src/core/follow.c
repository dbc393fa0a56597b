/*
 * follow.c
 *    What follows a change of an order's state: its attempts, the row of a linked table, then the hooks of its policy.
 *
 *                         calls of a person or a program, the sweeper's closing:
 *                     +-- linked row, close_hook, reopen_hook, paid_hook; an error is the caller's, the sweeper sets the
 *    state changed ---+   order aside
 *                     +-- reports of money: each step in a subtransaction
 *                             |
 *                             +-- failed --> follow_ups --> the sweeper tries again --> done, gone
 *                                                |                  ^     |
 *                                                |                  +-----+ failed: a longer wait
 *                                                +-- resolve_link: done by hand --> gone
 *
 * Invariants:
 *  1. It is the last step of a call, after all that the call writes itself: a hook reads the end of the transition, and
 *     may call any function of ours.
 *  2. A hook's effects are committed together with the state that it follows, or neither is. After a report of money, the
 *     row in follow_ups that stands for the hook is committed instead.
 *  3. Money is never refused because of what follows it.
 *  4. The hooks of one order are called in the order of what they follow: while one waits, later ones wait behind it.
 *  5. A linked row that the shop has moved on by itself, or that is missing, is not an error: it is left as it is and shown.
 *  6. A follow-up is tried under the lock of its order, and is gone with the same commit that makes its effects visible.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "event.h"
#include "follow.h"
#include "link.h"
#include "lock.h"
#include "order_attempts.h"
#include "rules.h"
#include "store.h"
#include "unwritten.h"

#define WAITS_BEHIND "it waits for an older hook of this order"

static const char *
hook_of(const Order *order, FollowKind kind)
{
	if ((order->follows & (1 << kind)) == 0)
		return NULL;
	return ot_store_find_hook(order->policy, ot_follow_kinds[kind]);
}

/* What is left for the sweeper. */

static void
write_event(const FollowUp *follow_up, const char *type, const char *note, TimestampTz now)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "kind", ot_follow_kinds[follow_up->kind]);
	ot_payload_text(payload, "sqlstate", follow_up->sqlstate);
	ot_payload_text(payload, "error", follow_up->error);
	ot_payload_int(payload, "failures", follow_up->failures);
	ot_payload_text(payload, "note", note);
	ot_event(follow_up->order_id, type, payload, now);
}

static List *
ids_of(List *orders)
{
	List	   *order_ids = NIL;
	ListCell   *cell;

	foreach(cell, orders)
		order_ids = lappend(order_ids, ((Order *) lfirst(cell))->order_id);
	return order_ids;
}

/*
 * A row that was not written before still has a word of the state that the order left then. Answers with the open orders whose
 * rows were noted in the state that they left now: for terms, most often, and these a change of state does not mend.
 */
static List *
recall_kept_links(List *orders)
{
	List	   *noted = NIL;
	ListCell   *kept;
	ListCell   *cell;

	if (ot_store_links() == NIL || !ot_store_has_follow_ups())
		return NIL;
	foreach(kept, ot_store_take_kept_links(ids_of(orders)))
	{
		const FollowUp *follow_up = lfirst(kept);

		foreach(cell, orders)
		{
			Order	   *order = lfirst(cell);

			if (strcmp(order->order_id, follow_up->order_id) != 0)
				continue;
			if (ot_order_is_open(order) && order->left_state == follow_up->left_state)
				noted = lappend(noted, order);
			order->left_state = follow_up->left_state;
		}
	}
	return noted;
}

static void
leave_for_sweeper(Order *order, FollowKind kind, int failures, const char *sqlstate, const char *error)
{
	TimestampTz now = GetCurrentTimestamp();
	FollowUp	follow_up = {0, order->order_id, kind, order->left_state, now, failures, now, sqlstate, error};

	if (kind == FOLLOW_LINK)
	{
		(void) recall_kept_links(list_make1(order));
		follow_up.left_state = order->left_state;
	}
	if (failures > 0)
		follow_up.retry_at += ot_retry_wait(failures);
	ot_store_add_follow_up(&follow_up);
	write_event(&follow_up, "order.follow_up_failed", NULL, now);
}

static void
leave_failed(Order *order, FollowKind kind, const Failure *failure)
{
	const char *message = failure->error->message ? failure->error->message : "unknown error";

	leave_for_sweeper(order, kind, 1, pstrdup(unpack_sql_state(failure->error->sqlerrcode)), ot_cut_text(message));
}

/* The order_ids of those whose hooks wait. */
static List *
find_hooks_waiting(List *orders)
{
	return ot_store_has_follow_ups() ? ot_store_find_hooks_waiting(ids_of(orders)) : NIL;
}

void
ot_follow_note(Order *order, const char *why)
{
	order->left_state = order->state;
	leave_for_sweeper(order, FOLLOW_LINK, 1, pstrdup(unpack_sql_state(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION)), ot_cut_text(why));
}

/* Linked rows. */

static void
write_links(List *orders)
{
	ListCell   *cell;

	foreach(cell, ot_link_write(orders))
	{
		const LinkProblem *problem = lfirst(cell);

		leave_for_sweeper(problem->order, FOLLOW_LINK, 1, pstrdup(unpack_sql_state(problem->sqlerrcode)),
						  ot_cut_text(problem->why));
	}
}

static void
follow_link(List *orders)
{
	List	   *noted = recall_kept_links(orders);
	ListCell   *cell;

	write_links(orders);
	foreach(cell, noted)
	{
		Order	   *order = lfirst(cell);

		order->left_state = order->state;
	}
	write_links(noted);
}

/* After a report of money. */

typedef struct Step
{
	Order	   *order;
	FollowKind	kind;
} Step;

static void
call_hook(const Order *order, FollowKind kind)
{
	const char *function_name = ot_store_find_hook(order->policy, ot_follow_kinds[kind]);

	if (function_name != NULL)
		ot_store_call_hook(function_name, list_make1(order->order_id));
}

static void
take_step(void *work_state)
{
	Step	   *step = work_state;

	if (step->kind == FOLLOW_LINK)
		follow_link(list_make1(step->order));
	else
		call_hook(step->order, step->kind);
}

/* Its error means that reopening is refused, so it is not caught here. */
static void
call_hook_that_may_refuse(const Order *order, bool *refused)
{
	*refused = true;
	call_hook(order, FOLLOW_REOPEN_HOOK);
	*refused = false;
}

/* Whether the next hook may be called. */
static bool
step_or_leave(Order *order, FollowKind kind)
{
	Step		step = {order, kind};
	bool	   *refused = ot_reopening_refused();
	Failure		failure;

	if (refused != NULL && kind == FOLLOW_REOPEN_HOOK)
	{
		call_hook_that_may_refuse(order, refused);
		return true;
	}
	if (ot_try_after_report(take_step, &step, &failure))
		return true;
	leave_failed(order, kind, &failure);
	return false;
}

static void
leave_or_call_hooks(Order *order, bool go_on)
{
	for (FollowKind kind = FOLLOW_CLOSE_HOOK; kind < OT_FOLLOW_KINDS; kind++)
	{
		if (hook_of(order, kind) == NULL)
			continue;
		if (go_on)
			go_on = step_or_leave(order, kind);
		else
			leave_for_sweeper(order, kind, 0, "00000", WAITS_BEHIND);
	}
}

static void
follow_report(Order *order)
{
	if (ot_store_links() != NIL)
		(void) step_or_leave(order, FOLLOW_LINK);
	leave_or_call_hooks(order, find_hooks_waiting(list_make1(order)) == NIL);
}

/* After all other calls: each function is called once, with all the orders whose policies name it. */

typedef struct HookCall
{
	const char *function_name;
	List	   *order_ids;
} HookCall;

static HookCall *
call_of(List **calls, const char *function_name)
{
	HookCall   *call;
	ListCell   *cell;

	foreach(cell, *calls)
	{
		call = lfirst(cell);
		if (strcmp(call->function_name, function_name) == 0)
			return call;
	}
	call = palloc(sizeof(HookCall));
	call->function_name = function_name;
	call->order_ids = NIL;
	*calls = lappend(*calls, call);
	return call;
}

static void
call_hooks(List *orders, FollowKind kind)
{
	List	   *calls = NIL;
	ListCell   *cell;

	foreach(cell, orders)
	{
		const Order *order = lfirst(cell);
		const char *function_name = hook_of(order, kind);

		if (function_name != NULL)
		{
			HookCall   *call = call_of(&calls, function_name);

			call->order_ids = lappend(call->order_ids, order->order_id);
		}
	}
	foreach(cell, calls)
	{
		HookCall   *call = lfirst(cell);

		ot_store_call_hook(call->function_name, call->order_ids);
	}
}

static bool
is_among(List *order_ids, const char *order_id)
{
	ListCell   *cell;

	foreach(cell, order_ids)
	{
		if (strcmp(lfirst(cell), order_id) == 0)
			return true;
	}
	return false;
}

/* Of those with a hook that waits, later ones wait behind it. Answers with the others. */
static List *
leave_those_that_wait(List *orders)
{
	List	   *waiting = find_hooks_waiting(orders);
	List	   *others = NIL;
	ListCell   *cell;

	if (waiting == NIL)
		return orders;
	foreach(cell, orders)
	{
		Order	   *order = lfirst(cell);

		if (is_among(waiting, order->order_id))
			leave_or_call_hooks(order, false);
		else
			others = lappend(others, order);
	}
	return others;
}

static void
follow_orders(List *orders)
{
	bool	   *refused = ot_reopening_refused();
	List	   *free_orders;

	if (ot_store_links() != NIL)
		follow_link(orders);
	free_orders = leave_those_that_wait(orders);
	call_hooks(free_orders, FOLLOW_CLOSE_HOOK);
	if (refused != NULL)
		*refused = true;
	call_hooks(free_orders, FOLLOW_REOPEN_HOOK);
	if (refused != NULL)
		*refused = false;
	call_hooks(free_orders, FOLLOW_PAID_HOOK);
}

void
ot_follow(void)
{
	List	   *orders = ot_take_moved();
	ListCell   *cell;

	foreach(cell, orders)
		ot_attempts_follow(lfirst(cell));
	ot_events_end();
	if (orders == NIL || !ot_store_follows())
		return;
	if (!ot_reports_money())
	{
		follow_orders(orders);
		return;
	}
	foreach(cell, orders)
		follow_report(lfirst(cell));
}

/* Reopening. */

typedef struct Reopening
{
	Work		work;
	void	   *work_state;
	bool		reports_money;
	bool		refused;
} Reopening;

static void
work_and_follow(void *work_state)
{
	Reopening  *reopening = work_state;

	if (reopening->reports_money)
		ot_set_reports_money();
	ot_set_reopening_refused(&reopening->refused);
	reopening->work(reopening->work_state);
	ot_follow();
}

bool
ot_follow_unless_refused(Work work, void *work_state)
{
	Reopening	reopening = {work, work_state, ot_reports_money(), false};
	Failure		failure;

	if (ot_store_find_hook(NULL, ot_follow_kinds[FOLLOW_REOPEN_HOOK]) == NULL)
	{
		work(work_state);
		return true;
	}
	if (ot_try_after_report(work_and_follow, &reopening, &failure))
		return true;
	if (!reopening.refused)
		ReThrowError(failure.error);
	return false;
}

/* Again. */

List *
ot_follow_find_due(TimestampTz now, int limit)
{
	return ot_store_has_follow_ups() ? ot_store_find_due_follow_ups(now, limit) : NIL;
}

static void
end_follow_up(const FollowUp *follow_up, const char *type, const char *note)
{
	ot_store_delete_follow_up(follow_up->follow_up_id);
	write_event(follow_up, type, note, GetCurrentTimestamp());
}

static void
note_failure(const FollowUp *follow_up, int sqlerrcode, const char *message)
{
	FollowUp	again = *follow_up;

	again.failures++;
	again.retry_at = GetCurrentTimestamp() + ot_retry_wait(again.failures);
	again.sqlstate = pstrdup(unpack_sql_state(sqlerrcode));
	again.error = ot_cut_text(message);
	ot_store_update_follow_up(&again);
}

static void
write_link_again(const FollowUp *follow_up, Order *order)
{
	List	   *problems;

	order->left_state = follow_up->left_state;
	problems = ot_link_write(list_make1(order));
	if (problems == NIL)
		end_follow_up(follow_up, "order.followed_up", NULL);
	else
	{
		const LinkProblem *problem = linitial(problems);

		note_failure(follow_up, problem->sqlerrcode, problem->why);
	}
}

void
ot_follow_again(const FollowUp *follow_up)
{
	Order	   *order = ot_store_find_order(follow_up->order_id);

	if (order == NULL || ot_link_lock_if_free(list_make1(order)) == NIL)
		return;
	order = ot_store_lock_order_if_free(follow_up->order_id);
	if (order == NULL || !ot_store_lock_follow_up_if_free(follow_up->follow_up_id))
		return;
	if (follow_up->kind == FOLLOW_LINK)
	{
		write_link_again(follow_up, order);
		return;
	}
	end_follow_up(follow_up, "order.followed_up", NULL);
	call_hook(order, follow_up->kind);
}

void
ot_follow_failed_again(const FollowUp *follow_up, const Failure *failure)
{
	const char *message = failure->error->message ? failure->error->message : "unknown error";

	if (ot_store_lock_follow_up_if_free(follow_up->follow_up_id))
		note_failure(follow_up, failure->error->sqlerrcode, message);
}

bool
ot_follow_give_up(const char *order_id, bool link, const char *note)
{
	bool		found = false;
	ListCell   *cell;

	(void) ot_lock_order(order_id);
	foreach(cell, ot_store_find_follow_ups(order_id))
	{
		FollowUp   *follow_up = lfirst(cell);

		if ((follow_up->kind == FOLLOW_LINK) != link)
			continue;
		end_follow_up(follow_up, "order.follow_up_resolved", note);
		found = true;
	}
	return found;
}
