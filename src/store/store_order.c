/*
 * store_order.c
 *    The SQL store: orders, and the policies they follow.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "store.h"
#include "store_fast_rows.h"
#include "store_row.h"
#include "store_statement.h"

#define ORDER_COLUMNS \
	"o.order_id, o.policy, o.state, o.amount, o.currency, o.paid, o.refunded, o.refund_pending, o.held, " \
	"o.expires_at, o.created_at, o.settled_at, o.close_reason"

/* Set aside orders wait for their own time. A subplan and not a join, so that the deadline's index gives the order. */
#define NOT_SET_ASIDE(now) \
	"NOT (o.order_id" EQ "ANY (SELECT s.order_id FROM order_timeout.set_aside s WHERE s.retry_at" GT now "))"

bool
ot_store_exists(void)
{
	AcceptInvalidationMessages();
	return ot_owner_exists();
}

/* DROP EXTENSION locks the extension before its tables, table after table: so does whoever works with all of them. */
bool
ot_store_hold(void)
{
	Oid			extension = get_extension_oid("order_timeout", true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid("order_timeout", true) == extension && ot_store_exists();
}

void
ot_store_lock_order_id(const char *order_id)
{
	ot_advisory_lock(order_id);
}

static Order *
order_by_id(Statement *statement, const char *order_id)
{
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run_one(statement, &args, ot_read_order);
}

static Order *
locked(Order *order)
{
	if (order != NULL)
		order->version.locked = true;
	return order;
}

Order *
ot_store_find_order(const char *order_id)
{
	static Statement find = {"SELECT " ORDER_COLUMNS " FROM order_timeout.orders o WHERE o.order_id" EQ "$1"};

	if (ot_fast_serves(FAST_ORDERS))
		return ot_fast_find_order(order_id);
	return order_by_id(&find, order_id);
}

Order *
ot_store_lock_order(const char *order_id)
{
	static Statement lock = {"SELECT " ORDER_COLUMNS " FROM order_timeout.orders o WHERE o.order_id" EQ "$1 "
	"FOR NO KEY UPDATE"};

	if (ot_fast_serves(FAST_ORDERS))
		return ot_fast_lock_order(order_id, LockWaitBlock);
	return locked(order_by_id(&lock, order_id));
}

Order *
ot_store_lock_order_if_free(const char *order_id)
{
	static Statement lock = {"SELECT " ORDER_COLUMNS " FROM order_timeout.orders o WHERE o.order_id" EQ "$1 "
	"FOR NO KEY UPDATE SKIP LOCKED"};

	if (ot_fast_serves(FAST_ORDERS))
		return ot_fast_lock_order(order_id, LockWaitSkip);
	return locked(order_by_id(&lock, order_id));
}

/*
 * The policy is read in the statement that inserts: its snapshot is taken when the lock on orders is held already,
 * and who deletes a policy takes a lock that conflicts with that one. A transaction's snapshot may be older, so
 * above READ COMMITTED the policy's row is locked instead, which raises 40001 if it has gone.
 */
bool
ot_store_insert_order(const Order *order)
{
#define INSERT_ORDER(policy_lock) \
	"WITH p AS MATERIALIZED (SELECT p.policy FROM order_timeout.policies p WHERE p.policy" EQ "$2" policy_lock ") " \
	"INSERT INTO order_timeout.orders (order_id, policy, state, amount, currency, paid, refunded, refund_pending, held, " \
	"expires_at, created_at, settled_at, close_reason, metadata) " \
	"SELECT $1, p.policy, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM p ON CONFLICT (order_id) DO NOTHING"
	static Statement insert = {INSERT_ORDER("")};
	static Statement insert_in_old_snapshot = {INSERT_ORDER(" FOR KEY SHARE")};
	Args		args = {0};

	if (ot_fast_serves(FAST_ORDERS) && ot_fast_serves(FAST_POLICIES))
		return ot_fast_insert_order(order);
	ot_order_args(&args, order);
	ot_arg_jsonb(&args, order->metadata);
	return ot_run(IsolationUsesXactSnapshot() ? &insert_in_old_snapshot : &insert, &args) == 1;
}

void
ot_store_update_order(const Order *order)
{
	static Statement update = {"UPDATE order_timeout.orders o SET state = $3, paid = $6, refunded = $7, refund_pending = $8, "
		"held = $9, expires_at = $10, settled_at = $12, close_reason = $13 WHERE o.order_id" EQ "$1"};
	Args		args = {0};

	if (ot_fast_serves(FAST_ORDERS))
	{
		ot_fast_update_order(order);
		return;
	}
	ot_order_args(&args, order);
	ot_run_write(&update, &args);
}

/* One statement for a batch. Deadlines stay as they are. */
static void
update_orders(List *orders)
{
	static Statement update = {"UPDATE order_timeout.orders o SET state = n.state, paid = n.paid, refunded = n.refunded, "
		"refund_pending = n.refund_pending, held = n.held, settled_at = n.settled_at, close_reason = n.close_reason "
		"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)) "
		"AS n (order_id, state, paid, refunded, refund_pending, held, settled_at, close_reason) "
	"WHERE o.order_id" EQ "n.order_id"};
	enum
	{
		ID, STATE, PAID, REFUNDED, REFUND_PENDING_SUM, HELD_SUM, SETTLED_AT, CLOSE_REASON, COLUMNS
	};
	static const Oid types[COLUMNS] = {TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID};
	int			count = list_length(orders);
	Datum	   *values[COLUMNS];
	bool	   *no_reason = palloc0(count * sizeof(bool));
	Args		args = {0};

	for (int i = 0; i < COLUMNS; i++)
		values[i] = palloc(count * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		Order	   *order = list_nth(orders, i);

		values[ID][i] = CStringGetTextDatum(order->order_id);
		values[STATE][i] = CStringGetTextDatum(ot_order_states[order->state]);
		values[PAID][i] = Int64GetDatum(order->funds.paid);
		values[REFUNDED][i] = Int64GetDatum(order->funds.refunded);
		values[REFUND_PENDING_SUM][i] = Int64GetDatum(order->funds.refund_pending);
		values[HELD_SUM][i] = Int64GetDatum(order->funds.held);
		values[SETTLED_AT][i] = TimestampTzGetDatum(order->settled_at);
		no_reason[i] = order->close_reason == NULL;
		values[CLOSE_REASON][i] = no_reason[i] ? (Datum) 0 : CStringGetTextDatum(order->close_reason);
	}
	for (int i = 0; i < COLUMNS; i++)
		ot_arg_array(&args, types[i], values[i], i == CLOSE_REASON ? no_reason : NULL, count);
	if (ot_run(&update, &args) != count)
		elog(ERROR, "locked orders are not there any more");
}

/* No order has this id. */
#define SWEEPING "\001sweeping"

static void *
read_order_id(Columns *columns)
{
	return ot_column_text(columns);
}

static List *
set_aside_at(TimestampTz now)
{
	static Statement find = {"SELECT s.order_id FROM order_timeout.set_aside s WHERE s.retry_at" GT "$1"};
	Args		args = {0};

	ot_arg_time(&args, now);
	return ot_run_list(&find, &args, read_order_id);
}

List *
ot_store_find_due(TimestampTz from, TimestampTz now, int limit)
{
	static Statement lock = {"SELECT " ORDER_COLUMNS " FROM order_timeout.orders o "
		"WHERE o.settled_at IS NULL AND o.expires_at" GE "$1 AND o.expires_at" LE "$2 AND " NOT_SET_ASIDE("$2")
	" ORDER BY o.expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"};
	Args		args = {0};
	List	   *due;
	ListCell   *cell;

	if (ot_fast_serves(FAST_ORDERS))
	{
		List	   *set_aside = set_aside_at(now);
		bool		alone = ot_try_advisory_lock(SWEEPING);

		if (ot_fast_serves(FAST_ORDERS))	/* what the SQL in between ran is not known */
			return ot_fast_find_due(from, now, limit, set_aside, alone);
	}
	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	due = ot_run_list(&lock, &args, ot_read_order);
	foreach(cell, due)
		locked(lfirst(cell));
	return due;
}

/* A trigger may have chosen the other store since they were found: SQL writes over whatever is there. */
static void
require_locked(List *orders)
{
	ListCell   *cell;

	foreach(cell, orders)
		if (!((Order *) lfirst(cell))->version.locked)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("order_timeout.store was changed while orders were being closed")));
}

List *
ot_store_update_due(List *orders)
{
	if (ot_fast_serves(FAST_ORDERS))
		return ot_fast_update_due(orders);
	require_locked(orders);
	update_orders(orders);
	return orders;
}

static void *
read_deadline(Columns *columns)
{
	TimestampTz *deadline = palloc(sizeof(TimestampTz));

	*deadline = ot_column_time(columns);
	return deadline;
}

TimestampTz
ot_store_next_deadline(TimestampTz from, TimestampTz now)
{
	static Statement next = {"SELECT o.expires_at FROM order_timeout.orders o "
		"WHERE o.settled_at IS NULL AND o.expires_at" GE "$1 AND " NOT_SET_ASIDE("$2") " ORDER BY o.expires_at LIMIT 1"};
	Args		args = {0};
	TimestampTz *deadline;

	if (ot_fast_serves(FAST_ORDERS))
	{
		List	   *set_aside = set_aside_at(now);

		if (ot_fast_serves(FAST_ORDERS))
			return ot_fast_next_deadline(from, set_aside);
	}
	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	deadline = ot_run_one(&next, &args, read_deadline);
	return deadline == NULL ? OT_NO_TIME : *deadline;
}

/* Policies. */

#define POLICY_COLUMNS \
	"p.policy, p.pay_within, p.late_rule, p.on_late, p.refund_max_attempts, p.refund_backoff, p.refund_backoff_max, " \
	"p.refund_jitter, p.refund_lease, p.refund_settle_within, p.orphan_after"

Policy *
ot_store_find_policy(const char *policy)
{
	static Statement find = {"SELECT " POLICY_COLUMNS " FROM order_timeout.policies p WHERE p.policy" EQ "$1"};
	Args		args = {0};

	if (ot_fast_serves(FAST_POLICIES))
		return ot_fast_find_policy(policy);
	ot_arg_text(&args, policy);
	return ot_run_one(&find, &args, ot_read_policy);
}

Policy *
ot_store_find_policy_of(const char *order_id)
{
	static Statement find = {"SELECT " POLICY_COLUMNS " FROM order_timeout.policies p WHERE p.policy" EQ
		"COALESCE((SELECT o.policy FROM order_timeout.orders o WHERE o.order_id" EQ "$1), 'default')"};
	Args		args = {0};
	Policy	   *policy;

	if (ot_fast_serves(FAST_ORDERS) && ot_fast_serves(FAST_POLICIES))
	{
		Order	   *order = ot_fast_find_order(order_id);

		policy = ot_fast_find_policy(order != NULL ? order->policy : "default");
	}
	else
	{
		ot_arg_text(&args, order_id);
		policy = ot_run_one(&find, &args, ot_read_policy);
	}
	if (policy == NULL)
		elog(ERROR, "the policy of order \"%s\" is not there", order_id);
	return policy;
}

bool
ot_store_policy_in_use(const char *policy)
{
	static Statement find = {"SELECT o.order_id FROM order_timeout.orders o WHERE o.policy" EQ "$1 LIMIT 1", SNAPSHOT_LATEST};
	Args		args = {0};

	ot_arg_text(&args, policy);
	return ot_run(&find, &args) > 0;
}
