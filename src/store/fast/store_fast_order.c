/*
 * store_fast_order.c
 *    The fast store: orders, and the policies they follow.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "errors.h"
#include "store_fast_rows.h"
#include "store_row.h"

/* The row with that key becomes the present one. */
static bool
find(FastTable *table, const char *key)
{
	FastKey		equal = {1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key)};

	ot_fast_look(table, 0, &equal, 1);
	return ot_fast_next(table);
}

static Order *
read_order(FastTable *orders)
{
	Order	   *order = ot_fast_read(orders, ot_read_order);

	order->version = ot_fast_version(orders);
	return order;
}

Order *
ot_fast_find_order(const char *order_id)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	Order	   *order = find(orders, order_id) ? read_order(orders) : NULL;

	ot_fast_end(orders);
	return order;
}

Order *
ot_fast_lock_order(const char *order_id, LockWaitPolicy wait_policy)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	bool		locked = find(orders, order_id) && ot_fast_lock(orders, wait_policy);
	Order	   *order = locked ? read_order(orders) : NULL;

	ot_fast_end(orders);
	return order;
}

/*
 * The lock on the table is held by now, so whoever deletes the policy has committed, or waits. Who creates the same order
 * waits at its order_id, so no other row with this key can be on its way.
 */
bool
ot_fast_insert_order(const Order *order)
{
	FastTable  *orders;
	Args		args = {0};

	if (ot_fast_find_policy(order->policy) == NULL)
		return false;
	orders = ot_fast_begin(FAST_ORDERS);
	ot_order_args(&args, order);
	ot_arg_jsonb(&args, order->metadata);
	ot_fast_insert(orders, &args);
	ot_fast_end(orders);
	return true;
}

/* A version after the one that was read can only be our own. That it cannot be written is an error. */
static void
update_locked(FastTable *orders, const Order *order)
{
	Args		args = {0};

	if (!ot_fast_fetch(orders, &order->version) && !find(orders, order->order_id))
		ot_row_not_written();
	ot_order_args(&args, order);
	ot_fast_update(orders, &args);
}

void
ot_fast_update_order(const Order *order)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);

	update_locked(orders, order);
	ot_fast_end(orders);
}

/* Due orders. */

static int
compare_ids(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static bool
contains(const List *sorted_ids, const char *order_id)
{
	int			low = 0;
	int			high = list_length(sorted_ids);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(list_nth(sorted_ids, middle), order_id);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static void
look_for_deadlines(FastTable *orders, TimestampTz from, TimestampTz to)
{
	FastKey		between[] = {
		{1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from)},
		{1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(to)}
	};

	ot_fast_look(orders, ORDERS_DUE, between, lengthof(between));
}

/*
 * Who sweeps alone does not lock what nobody has ever touched: ot_fast_update_due finds out whether somebody came in
 * between. Everything else is locked here, because a row that another transaction holds is no use, however old its
 * deadline is; and several sweeps that all took the same rows would not share the work.
 */
static Order *
take_due(FastTable *orders, TimestampTz from, TimestampTz now, const List *set_aside, bool alone)
{
	Order	   *order;

	if (set_aside != NIL && contains(set_aside, read_order(orders)->order_id))
		return NULL;
	if (!(alone && ot_fast_is_untouched(orders)) && !ot_fast_lock(orders, LockWaitSkip))
		return NULL;
	order = read_order(orders);
	if (order->state != ORDER_PENDING || order->expires_at < from || order->expires_at > now)
		return NULL;			/* the latest version is another one than the index led to */
	return order;
}

List *
ot_fast_find_due(TimestampTz from, TimestampTz now, int limit, List *set_aside, bool alone)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	List	   *due = NIL;

	list_sort(set_aside, compare_ids);
	look_for_deadlines(orders, from, now);
	while (list_length(due) < limit && ot_fast_next(orders))
	{
		Order	   *order = take_due(orders, from, now, set_aside, alone);

		if (order != NULL)
			due = ot_fast_append(orders, due, order);
	}
	ot_fast_end(orders);
	return due;
}

static bool
update_due(FastTable *orders, const Order *order)
{
	Args		args = {0};

	if (order->version.locked)
	{
		update_locked(orders, order);
		return true;
	}
	ot_order_args(&args, order);
	return ot_fast_fetch(orders, &order->version) && ot_fast_is_untouched(orders) &&
		ot_fast_update_if_free(orders, &args);
}

List *
ot_fast_update_due(List *due)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	List	   *updated = NIL;
	ListCell   *cell;

	foreach(cell, due)
		if (update_due(orders, lfirst(cell)))
			updated = ot_fast_append(orders, updated, lfirst(cell));
	ot_fast_end(orders);
	return updated;
}

TimestampTz
ot_fast_next_deadline(TimestampTz from, List *set_aside)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	TimestampTz deadline = OT_NO_TIME;

	list_sort(set_aside, compare_ids);
	look_for_deadlines(orders, from, DT_NOEND);
	while (deadline == OT_NO_TIME && ot_fast_next(orders))
	{
		Order	   *order = ot_fast_read(orders, ot_read_order);

		if (!contains(set_aside, order->order_id))
			deadline = order->expires_at;
	}
	ot_fast_end(orders);
	return deadline;
}

/* Policies. */

Policy *
ot_fast_find_policy(const char *policy)
{
	FastTable  *policies = ot_fast_begin(FAST_POLICIES);
	Policy	   *row = find(policies, policy) ? ot_fast_read(policies, ot_read_policy) : NULL;

	ot_fast_end(policies);
	return row;
}
