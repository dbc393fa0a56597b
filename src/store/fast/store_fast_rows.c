/*
 * store_fast_rows.c
 *    The fast store: rows found by an index, locked in their latest version, written with their index entries.
 *
 * What one function does lies between ot_fast_begin and ot_fast_end.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "errors.h"
#include "rules.h"
#include "store_fast.h"
#include "store_fast_choice.h"
#include "store_fast_rows.h"

/* As much of a batch as its memory is fetched from the system once, and not again for each batch. */
#define INSERT_AT_ONCE 100

/* Rows by their key. */

static FastKey
key_equal(int column, const char *value)
{
	FastKey		key = {column, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(value)};

	return key;
}

/* The row with that key becomes the current one. */
static bool
look_for(FastTable *table, const char *const *key)
{
	FastKey		keys[OT_MAX_KEY_COLUMNS];
	int			count = table->spec->key_columns;

	for (int i = 0; i < count; i++)
		keys[i] = key_equal(i + 1, key[i]);
	ot_fast_look(table, KEY_INDEX, keys, count);
	return ot_fast_next(table);
}

static void *
fast_find(TableName name, const char *const *key)
{
	FastTable  *table = ot_fast_begin(name);
	void	   *row = look_for(table, key) ? ot_fast_read(table) : NULL;

	ot_fast_end(table);
	return row;
}

/* Where it was seen, or where its latest version is that can be seen. */
static bool
look_again(FastTable *table, const char *const *key, const RowVersion *seen)
{
	return (seen != NULL && ot_fast_fetch(table, seen)) || look_for(table, key);
}

/* The version that is locked in the end may have got another key while we waited: then it is not the row that was asked for. */
static void *
fast_lock(TableName name, const char *const *key, const RowVersion *seen, LockWaitPolicy wait_policy)
{
	FastTable  *table = ot_fast_begin(name);
	bool		locked = look_again(table, key, seen) && ot_fast_lock(table, wait_policy);
	void	   *row = locked ? ot_fast_read(table) : NULL;

	ot_fast_end(table);
	return row != NULL && ot_row_has_key(name, row, key) ? row : NULL;
}

/* A version after the one that was read can only be our own: a trigger on another table made a call about this row. */
static void
update_locked(FastTable *table, void *row, const Args *args)
{
	RowVersion *version = ot_row_version(table->name, row);

	if (!ot_fast_fetch(table, version))
		ot_row_not_written();
	ot_fast_update(table, args);
	ot_fast_set_written(table, version);
}

static void
fast_update(TableName name, void *row)
{
	FastTable  *table = ot_fast_begin(name);
	Args		args = {0};

	ot_row_changes(&args, name, row);
	update_locked(table, row, &args);
	ot_fast_end(table);
}

/* New rows. */

static void
row_args(Args *args, FastTable *table, const void *row)
{
	ot_row_args(args, table->name, row);
	if (table->spec->key_columns == 0)
		args->values[0] = Int64GetDatum(ot_fast_next_identity(table));
}

static void
fast_insert(TableName name, void *row)
{
	FastTable  *table = ot_fast_begin(name);
	Args		args = {0};

	row_args(&args, table, row);
	ot_fast_insert(table, &args);
	if (table->spec->versioned)
		ot_fast_set_written(table, ot_row_version(name, row));
	ot_fast_end(table);
}

static bool
fast_insert_new(TableName name, void *row)
{
	FastTable  *table = ot_fast_begin(name);
	Args		args = {0};
	bool		inserted;

	row_args(&args, table, row);
	inserted = ot_fast_insert_new(table, &args);
	if (inserted && table->spec->versioned)
		ot_fast_set_written(table, ot_row_version(name, row));
	ot_fast_end(table);
	return inserted;
}

/* The arguments are not cleared: for what no column fills that would cost more than the columns do. */
static void
insert_some(TableName name, List *rows, int first)
{
	FastTable  *table = ot_fast_begin(name);
	int			count = Min(list_length(rows) - first, INSERT_AT_ONCE);
	Args	   *args = palloc(count * sizeof(Args));

	for (int i = 0; i < count; i++)
	{
		args[i].count = 0;
		row_args(&args[i], table, list_nth(rows, first + i));
	}
	ot_fast_insert_many(table, args, count);
	ot_fast_end(table);
}

static void
fast_insert_many(TableName name, List *rows)
{
	for (int first = 0; first < list_length(rows); first += INSERT_AT_ONCE)
		insert_some(name, rows, first);
}

/* Orders. */

/*
 * The lock on the table is held by now, so a transaction that deletes the policy has committed, or waits. Another one that
 * creates the same order may be one of those that create many, which hold no lock of its order_id.
 */
static bool
fast_insert_order(Order *order)
{
	const char *policy = order->policy;

	if (fast_find(TABLE_POLICIES, &policy) == NULL)
		return false;
	return fast_insert_new(TABLE_ORDERS, order);
}

static int
compare_ids(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static bool
contains(const List *sorted_ids, const char *id)
{
	int			low = 0;
	int			high = list_length(sorted_ids);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(list_nth(sorted_ids, middle), id);

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
 * A sweeper that is alone does not lock what was never touched: fast_update_due_orders finds out whether another
 * transaction came in between. Everything else is locked here, because a row that another transaction holds is no use,
 * however old its deadline is; and several sweeps that all took the same rows would not share the work.
 */
static Order *
take_due(FastTable *orders, TimestampTz from, TimestampTz now, const List *set_aside, bool alone)
{
	Order	   *order;

	if (set_aside != NIL && contains(set_aside, ((Order *) ot_fast_read(orders))->order_id))
		return NULL;
	if (!(alone && ot_fast_is_untouched(orders)) && !ot_fast_lock(orders, LockWaitSkip))
		return NULL;
	order = ot_fast_read(orders);
	if (!ot_is_due(order, now) || order->closes_at < from)
		return NULL;			/* the latest version is another one than the index led to */
	return order;
}

static List *
fast_find_due_orders(TimestampTz from, TimestampTz now, int limit, List *set_aside, bool alone)
{
	FastTable  *orders = ot_fast_begin(TABLE_ORDERS);
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
update_due(FastTable *orders, Order *order)
{
	Args		args = {0};

	ot_row_changes(&args, TABLE_ORDERS, order);
	if (order->version.locked)
	{
		update_locked(orders, order, &args);
		return true;
	}
	return ot_fast_fetch(orders, &order->version) && ot_fast_is_untouched(orders) &&
		ot_fast_update_if_free(orders, &args);
}

static List *
fast_update_due_orders(List *due)
{
	FastTable  *orders = ot_fast_begin(TABLE_ORDERS);
	List	   *updated = NIL;
	ListCell   *cell;

	foreach(cell, due)
	{
		if (update_due(orders, lfirst(cell)))
			updated = ot_fast_append(orders, updated, lfirst(cell));
	}
	ot_fast_end(orders);
	return updated;
}

static TimestampTz
fast_next_deadline(TimestampTz from, TimestampTz now, List *set_aside)
{
	FastTable  *orders = ot_fast_begin(TABLE_ORDERS);
	TimestampTz deadline = OT_NO_TIME;

	list_sort(set_aside, compare_ids);
	look_for_deadlines(orders, from, DT_NOEND);
	while (deadline == OT_NO_TIME && ot_fast_next(orders))
	{
		Order	   *order = ot_fast_read(orders);

		if (!contains(set_aside, order->order_id))
			deadline = order->closes_at;
	}
	ot_fast_end(orders);
	return deadline;
}

/* Payments. */

/* Oldest first. */
static int
compare_age(const ListCell *a, const ListCell *b)
{
	const Payment *one = lfirst(a);
	const Payment *other = lfirst(b);
	int			order = strcmp(one->gateway, other->gateway);

	if (one->received_at != other->received_at)
		return one->received_at < other->received_at ? -1 : 1;
	return order != 0 ? order : strcmp(one->payment_ref, other->payment_ref);
}

/* A transaction that may change an order's payments holds the order, so the order of locking is no matter. */
static List *
fast_lock_payments_of_order(const char *order_id)
{
	FastTable  *payments = ot_fast_begin(TABLE_PAYMENTS);
	FastKey		key = key_equal(1, order_id);
	List	   *locked = NIL;

	ot_fast_look(payments, PAYMENTS_ORDER, &key, 1);
	while (ot_fast_next(payments))
	{
		Payment    *payment;

		if (!ot_fast_lock(payments, LockWaitBlock))
			continue;
		payment = ot_fast_read(payments);
		if (strcmp(payment->order_id, order_id) == 0)
			locked = ot_fast_append(payments, locked, payment);
	}
	ot_fast_end(payments);
	list_sort(locked, compare_age);
	return locked;
}

/* Refunds. */

static Refund *
fast_find_gateway_refund(const char *gateway, const char *gateway_refund_ref)
{
	FastTable  *refunds = ot_fast_begin(TABLE_REFUNDS);
	FastKey		keys[] = {key_equal(1, gateway_refund_ref), key_equal(2, gateway)};
	Refund	   *refund;

	ot_fast_look(refunds, REFUNDS_GATEWAY_REFUND, keys, lengthof(keys));
	refund = ot_fast_next(refunds) ? ot_fast_read(refunds) : NULL;
	ot_fast_end(refunds);
	return refund;
}

/* Whether the locked row is still due: its latest version may not be the one that the index led to. */
static bool
is_due(const Refund *refund, TimestampTz now)
{
	return refund->settled_at == OT_NO_TIME && refund->next_attempt_at != OT_NO_TIME && refund->next_attempt_at <= now;
}

static List *
fast_lock_due_refunds(TimestampTz now, const char *gateway, int limit, List *set_aside)
{
	FastTable  *refunds = ot_fast_begin(TABLE_REFUNDS);
	FastKey		keys[2] = {{1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(now)}};
	List	   *due = NIL;

	list_sort(set_aside, compare_ids);
	if (gateway != NULL)
		keys[1] = key_equal(2, gateway);
	ot_fast_look(refunds, REFUNDS_OPEN, keys, gateway != NULL ? 2 : 1);
	while (list_length(due) < limit && ot_fast_next(refunds))
	{
		Refund	   *refund;

		if (set_aside != NIL && contains(set_aside, ((Refund *) ot_fast_read(refunds))->refund_ref))
			continue;
		if (!ot_fast_lock(refunds, LockWaitSkip))
			continue;
		refund = ot_fast_read(refunds);
		if (is_due(refund, now))
			due = ot_fast_append(refunds, due, refund);
	}
	ot_fast_end(refunds);
	return due;
}

const RowStore ot_fast_store = {
	.find = fast_find,
	.lock = fast_lock,
	.insert = fast_insert,
	.insert_many = fast_insert_many,
	.insert_new = fast_insert_new,
	.insert_finds_duplicate = ot_fast_has_own_checks_only,
	.update = fast_update,
	.insert_order = fast_insert_order,
	.find_due_orders = fast_find_due_orders,
	.update_due_orders = fast_update_due_orders,
	.next_deadline = fast_next_deadline,
	.lock_payments_of_order = fast_lock_payments_of_order,
	.find_gateway_refund = fast_find_gateway_refund,
	.lock_due_refunds = fast_lock_due_refunds
};
