/*
 * store_order.c
 *    Orders.
 */
#include "postgres.h"

#include "access/xact.h"

#include "advisory_lock.h"
#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

/* No order has this id. */
#define SWEEPING "\001sweeping"

/*
 * Who creates an order and who found none wait for each other on its order_id. A transaction that creates many orders (a
 * COPY into a linked table) would fill the server's lock table, so from the MANY_ORDERS'th on it holds one lock for all of
 * them, in a mode that does not keep other creators out, but those who found no order.
 */
#define CREATING "\001creating" /* no order has this id */
#define CREATES_MANY ShareLock
#define FOUND_NONE RowExclusiveLock
#define MANY_ORDERS 64

void
ot_store_lock_order_id(const char *order_id)
{
	ot_advisory_lock(order_id);
	ot_advisory_lock_as(CREATING, FOUND_NONE);
}

void
ot_store_lock_new_order_id(const char *order_id)
{
	static TimestampTz transaction = 0;
	static int	orders = 0;

	if (transaction != GetCurrentTransactionStartTimestamp())
		orders = 0;
	transaction = GetCurrentTransactionStartTimestamp();
	if (++orders < MANY_ORDERS)
		ot_advisory_lock(order_id);
	else
		ot_advisory_lock_as(CREATING, CREATES_MANY);
}

Order *
ot_store_find_order(const char *order_id)
{
	return ot_store_of(TABLE_ORDERS)->find(TABLE_ORDERS, &order_id);
}

Order *
ot_store_lock_order(const char *order_id)
{
	return ot_store_of(TABLE_ORDERS)->lock(TABLE_ORDERS, &order_id, NULL, LockWaitBlock);
}

Order *
ot_store_lock_order_if_free(const char *order_id)
{
	return ot_store_of(TABLE_ORDERS)->lock(TABLE_ORDERS, &order_id, NULL, LockWaitSkip);
}

bool
ot_store_insert_order(Order *order)
{
	return ot_store_insert_new_order(order);
}

void
ot_store_update_order(Order *order)
{
	ot_store_of(TABLE_ORDERS)->update(TABLE_ORDERS, order);
}

static void *
read_order_id(Columns *columns)
{
	return ot_column_text(columns);
}

/* For the fast store; the SQL store has them in its own statement. */
static List *
set_aside_at(TimestampTz now)
{
	static Statement find = {"SELECT s.order_id FROM order_timeout.set_aside s WHERE s.retry_at" SQL_GT "$1"};
	Args		args = {0};

	ot_arg_time(&args, now);
	return ot_run_list(&find, &args, read_order_id);
}

List *
ot_store_find_due(TimestampTz from, TimestampTz now, int limit)
{
	List	   *set_aside = NIL;
	bool		alone = false;

	if (ot_store_is_fast(ot_store_of(TABLE_ORDERS)))
	{
		set_aside = set_aside_at(now);
		alone = ot_try_advisory_lock(SWEEPING);
	}
	return ot_store_of(TABLE_ORDERS)->find_due_orders(from, now, limit, set_aside, alone);
}

/* By SQL in both stores: it reads the index, and few pages of the table after a VACUUM. */
int64
ot_store_count_due(TimestampTz from, TimestampTz now, int limit)
{
	static Statement count = {"SELECT pg_catalog.count(*) FROM (SELECT FROM order_timeout.orders "
		"WHERE orders.settled_at IS NULL AND orders.closes_at" SQL_GE "$1 AND orders.closes_at" SQL_LE "$2 "
	"ORDER BY orders.closes_at LIMIT $3) due"};
	int			settings = ot_store_begin_walk();
	Args		args = {0};
	int64		due;

	ot_arg_time(&args, from);
	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	due = *(int64 *) ot_run_one(&count, &args, ot_read_int8);
	ot_store_end_walk(settings);
	return due;
}

List *
ot_store_update_due(List *orders)
{
	return ot_store_of(TABLE_ORDERS)->update_due_orders(orders);
}

TimestampTz
ot_store_next_deadline(TimestampTz from, TimestampTz now)
{
	List	   *set_aside = NIL;

	if (ot_store_is_fast(ot_store_of(TABLE_ORDERS)))
		set_aside = set_aside_at(now);
	return ot_store_of(TABLE_ORDERS)->next_deadline(from, now, set_aside);
}

/* By SQL in both stores: a reminder is no hurry. */
List *
ot_store_lock_due_soon(const char *policy, TimestampTz from, TimestampTz until, int limit)
{
	static Statement lock = {"WHERE orders.settled_at IS NULL AND orders.closes_at" SQL_GE "$1 AND orders.closes_at" SQL_LE "$2 "
		"AND orders.state" SQL_EQ "'pending' AND orders.policy" SQL_EQ "$3 "
		"AND (orders.reminded_of IS NULL OR orders.reminded_of" SQL_NE "orders.expires_at) "
		"ORDER BY orders.closes_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED",
	.rows_of = TABLE_ORDERS};
	Args		args = {0};

	ot_arg_time(&args, from);
	ot_arg_time(&args, until);
	ot_arg_text(&args, policy);
	ot_arg_int4(&args, limit);
	return ot_run_rows(&lock, &args);
}
