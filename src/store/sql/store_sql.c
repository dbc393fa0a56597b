/*
 * store_sql.c
 *    The SQL store: rows by kept plans, one statement an operation. The statements that are alike for all tables are put
 *    together from the tables' descriptions when they are first used.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "errors.h"
#include "store_sql.h"
#include "store_statement.h"

typedef struct TableStatements
{
	Statement	find;
	Statement	lock;
	Statement	lock_if_free;
	Statement	insert;
	Statement	insert_new;
	Statement	insert_many;
	Statement	update;
	Statement	update_without_terms;
	Statement	update_many;
} TableStatements;

static TableStatements statements[OT_TABLES];

/* Text. */

/* Identity columns number themselves. */
static bool
is_inserted(const TableSpec *spec, int column)
{
	return !spec->columns[column].generated && (column > 0 || spec->key_columns > 0);
}

static void
append_names(StringInfo sql, const TableSpec *spec)
{
	const char *comma = "";

	for (int i = 0; i < spec->column_count; i++)
	{
		if (!is_inserted(spec, i))
			continue;
		appendStringInfo(sql, "%s%s", comma, spec->columns[i].name);
		comma = ", ";
	}
}

static void
append_parameters(StringInfo sql, const TableSpec *spec)
{
	const char *comma = "";

	for (int i = 0; i < spec->column_count; i++)
	{
		if (!is_inserted(spec, i))
			continue;
		appendStringInfo(sql, "%s$%d", comma, i + 1);
		comma = ", ";
	}
}

/* WHERE orders.order_id = $1, or of two key columns both. */
static void
append_where_key(StringInfo sql, const TableSpec *spec)
{
	for (int i = 0; i < spec->key_columns; i++)
		appendStringInfo(sql, " %s %s.%s" SQL_EQ "$%d", i == 0 ? "WHERE" : "AND", spec->name, spec->columns[i].name, i + 1);
}

/* The version that the row has after a write, as an answer. */
static void
append_returning(StringInfo sql, const TableSpec *spec)
{
	if (spec->versioned)
		appendStringInfo(sql, " RETURNING %s.ctid", spec->name);
}

static void
append_insert(StringInfo sql, const TableSpec *spec)
{
	appendStringInfo(sql, "INSERT INTO order_timeout.%s (", spec->name);
	append_names(sql, spec);
	appendStringInfoString(sql, ") ");
}

static void
append_values(StringInfo sql, const TableSpec *spec)
{
	append_insert(sql, spec);
	appendStringInfoString(sql, "VALUES (");
	append_parameters(sql, spec);
	appendStringInfoChar(sql, ')');
}

static void
append_insert_one(StringInfo sql, const TableSpec *spec)
{
	append_values(sql, spec);
	append_returning(sql, spec);
}

static void
append_unless_there(StringInfo sql, const TableSpec *spec)
{
	appendStringInfoString(sql, " ON CONFLICT (");
	for (int i = 0; i < spec->key_columns; i++)
		appendStringInfo(sql, "%s%s", i == 0 ? "" : ", ", spec->columns[i].name);
	appendStringInfoString(sql, ") DO NOTHING");
}

/* A locked row that has changed since can only have been changed by us: then nothing is to be seen any more where it was. */
static void
append_update_of(StringInfo sql, const TableSpec *spec, bool with_terms)
{
	const char *comma = "";

	appendStringInfo(sql, "UPDATE order_timeout.%s SET ", spec->name);
	for (int i = 0; i < spec->column_count; i++)
	{
		if (spec->columns[i].fixed || spec->columns[i].generated || (spec->columns[i].terms && !with_terms))
			continue;
		appendStringInfo(sql, "%s%s = $%d", comma, spec->columns[i].name, i + 1);
		comma = ", ";
	}
	append_where_key(sql, spec);
	appendStringInfo(sql, " AND %s.ctid" SQL_EQ "$%d", spec->name, spec->column_count + 1);
	append_returning(sql, spec);
}

static void
append_update(StringInfo sql, const TableSpec *spec)
{
	append_update_of(sql, spec, true);
}

static void
append_update_without_terms(StringInfo sql, const TableSpec *spec)
{
	append_update_of(sql, spec, false);
}

/* Which columns a statement for many rows gets, as an array each: all that are inserted, or what closing changes. */
static bool
is_given_for_many(const TableSpec *spec, int column, bool update)
{
	return update ? spec->columns[column].closes : is_inserted(spec, column);
}

/* ROWS FROM (unnest($1), ...) AS n (order_id, ...) */
static void
append_many(StringInfo sql, const TableSpec *spec, bool update)
{
	int			parameter = 0;
	StringInfoData names;

	initStringInfo(&names);
	appendStringInfoString(sql, " FROM ROWS FROM (");
	for (int i = 0; i < spec->column_count; i++)
	{
		if (!is_given_for_many(spec, i, update))
			continue;
		appendStringInfo(sql, "%spg_catalog.unnest($%d)", parameter == 0 ? "" : ", ", parameter + 1);
		appendStringInfo(&names, "%s%s", parameter == 0 ? "" : ", ", spec->columns[i].name);
		parameter++;
	}
	if (update)
	{
		appendStringInfo(sql, ", pg_catalog.unnest($%d)", parameter + 1);
		appendStringInfoString(&names, ", tid");
	}
	appendStringInfo(sql, ") AS n (%s)", names.data);
}

static void
append_insert_many(StringInfo sql, const TableSpec *spec)
{
	append_insert(sql, spec);
	appendStringInfoString(sql, "SELECT n.*");
	append_many(sql, spec, false);
}

/* The places are enough to find locked rows, see append_update; each further column would cost time for every row. */
static void
append_update_many(StringInfo sql, const TableSpec *spec)
{
	const char *comma = "";

	appendStringInfo(sql, "UPDATE order_timeout.%s SET ", spec->name);
	for (int i = 0; i < spec->column_count; i++)
	{
		if (!is_given_for_many(spec, i, true))
			continue;
		appendStringInfo(sql, "%s%s = n.%s", comma, spec->columns[i].name, spec->columns[i].name);
		comma = ", ";
	}
	append_many(sql, spec, true);
	appendStringInfo(sql, " WHERE %s.ctid" SQL_EQ "n.tid", spec->name);
}

/* What a statement that reads rows has after SELECT ... FROM: the key, and how they are locked. */
static void
append_by_key(StringInfo sql, const TableSpec *spec, const char *lock)
{
	append_where_key(sql, spec);
	appendStringInfoString(sql, lock);
}

static void
append_find(StringInfo sql, const TableSpec *spec)
{
	append_by_key(sql, spec, "");
}

static void
append_lock(StringInfo sql, const TableSpec *spec)
{
	append_by_key(sql, spec, " FOR NO KEY UPDATE");
}

static void
append_lock_if_free(StringInfo sql, const TableSpec *spec)
{
	append_by_key(sql, spec, " FOR NO KEY UPDATE SKIP LOCKED");
}

static void
append_insert_new(StringInfo sql, const TableSpec *spec)
{
	append_values(sql, spec);
	append_unless_there(sql, spec);
	append_returning(sql, spec);
}

/* The policy is read in the statement that inserts, see insert_order. */
static void
append_insert_order(StringInfo sql, const TableSpec *spec, const char *policy_lock)
{
	appendStringInfo(sql, "WITH p AS MATERIALIZED (SELECT FROM order_timeout.policies WHERE policies.policy" SQL_EQ "$2%s) ",
					 policy_lock);
	append_insert(sql, spec);
	appendStringInfoString(sql, "SELECT ");
	append_parameters(sql, spec);
	appendStringInfoString(sql, " FROM p");
	append_unless_there(sql, spec);
	append_returning(sql, spec);
}

static void
append_insert_order_now(StringInfo sql, const TableSpec *spec)
{
	append_insert_order(sql, spec, "");
}

static void
append_insert_order_in_old_snapshot(StringInfo sql, const TableSpec *spec)
{
	append_insert_order(sql, spec, " FOR KEY SHARE");
}

typedef void (*TextMaker) (StringInfo sql, const TableSpec *spec);

/* The statement with its text, which is made once and stays. */
static Statement *
with_text(Statement *statement, TableName table, TextMaker append)
{
	StringInfoData sql;

	if (statement->sql != NULL)
		return statement;
	initStringInfo(&sql);
	append(&sql, &ot_tables[table]);
	statement->sql = MemoryContextStrdup(TopMemoryContext, sql.data);
	pfree(sql.data);
	return statement;
}

static Statement *
reading(Statement *statement, TableName table, TextMaker append)
{
	statement->rows_of = table;
	return with_text(statement, table, append);
}

/* Rows by their key. */

static void
key_args(Args *args, TableName table, const char *const *key)
{
	for (int i = 0; i < ot_tables[table].key_columns; i++)
		ot_arg_text(args, key[i]);
}

static void *
sql_find(TableName table, const char *const *key)
{
	Statement  *find = &statements[table].find;
	Args		args = {0};

	find->as_stored = true;
	key_args(&args, table, key);
	return ot_run_row(reading(find, table, append_find), &args);
}

/* What is locked stays the latest version until we write. */
static void *
mark_locked(TableName table, void *row)
{
	if (row != NULL && ot_tables[table].versioned)
		ot_row_version(table, row)->locked = true;
	return row;
}

static void *
sql_lock(TableName table, const char *const *key, const RowVersion *seen, LockWaitPolicy wait_policy)
{
	Statement  *lock;
	Args		args = {0};

	if (wait_policy == LockWaitBlock)
		lock = reading(&statements[table].lock, table, append_lock);
	else
		lock = reading(&statements[table].lock_if_free, table, append_lock_if_free);
	key_args(&args, table, key);
	return mark_locked(table, ot_run_row(lock, &args));
}

static void
write_row(Statement *statement, Args *args, TableName table, void *row)
{
	if (!ot_tables[table].versioned)
		ot_run_write(statement, args);
	else if (!ot_run_versioned(statement, args, ot_row_version(table, row)))
		ot_row_not_written();
}

static void
sql_insert(TableName table, void *row)
{
	Args		args = {0};

	ot_row_args(&args, table, row);
	write_row(with_text(&statements[table].insert, table, append_insert_one), &args, table, row);
}

static bool
sql_insert_new(TableName table, void *row)
{
	Args		args = {0};

	ot_row_args(&args, table, row);
	return ot_run_versioned(with_text(&statements[table].insert_new, table, append_insert_new), &args,
							ot_row_version(table, row));
}

static bool
sql_insert_finds_duplicate(TableName table)
{
	return false;				/* triggers fire, and CHECKs are asked, before ON CONFLICT finds out */
}

static Statement *
update_of(TableName table, const void *row)
{
	if (table == TABLE_ORDERS && !((const Order *) row)->terms_changed)
		return with_text(&statements[table].update_without_terms, table, append_update_without_terms);
	return with_text(&statements[table].update, table, append_update);
}

static void
sql_update(TableName table, void *row)
{
	Args		args = {0};

	ot_row_args(&args, table, row);
	ot_row_place_arg(&args, table, row);
	write_row(update_of(table, row), &args, table, row);
}

/* Many rows. */

/* A column of all rows as an array; the one after the last is where they are stored. */
static void
array_arg(Args *args, TableName table, List *rows, int column)
{
	const TableSpec *spec = &ot_tables[table];
	bool		is_place = column == spec->column_count;
	int			count = list_length(rows);
	Datum	   *values = palloc(count * sizeof(Datum));
	bool	   *nulls = palloc(count * sizeof(bool));

	for (int i = 0; i < count; i++)
	{
		Args		one;

		one.count = 0;
		if (is_place)
			ot_row_place_arg(&one, table, list_nth(rows, i));
		else
			ot_row_column_arg(&one, table, list_nth(rows, i), column);
		values[i] = one.values[0];
		nulls[i] = one.nulls[0];
	}
	ot_arg_array(args, is_place ? TIDOID : ot_column_type(&spec->columns[column]), values, nulls, count);
}

static void
run_for_many(Statement *statement, TableName table, List *rows, bool update)
{
	const TableSpec *spec = &ot_tables[table];
	Args		args = {0};

	for (int i = 0; i < spec->column_count; i++)
		if (is_given_for_many(spec, i, update))
			array_arg(&args, table, rows, i);
	if (update)
		array_arg(&args, table, rows, spec->column_count);
	if (ot_run(statement, &args) != list_length(rows))
		ot_row_not_written();
}

static void
sql_insert_many(TableName table, List *rows)
{
	run_for_many(with_text(&statements[table].insert_many, table, append_insert_many), table, rows, false);
}

/* Orders. */

/*
 * The policy is read in the statement that inserts: its snapshot is taken when the lock on orders is held already,
 * and deleting a policy takes a lock that conflicts with that one. A transaction's snapshot may be older, so
 * above READ COMMITTED the policy's row is locked instead, which raises 40001 if it has gone.
 */
static bool
sql_insert_order(Order *order)
{
	static Statement insert;
	static Statement insert_in_old_snapshot;
	Args		args = {0};

	ot_row_args(&args, TABLE_ORDERS, order);
	if (IsolationUsesXactSnapshot())
		with_text(&insert_in_old_snapshot, TABLE_ORDERS, append_insert_order_in_old_snapshot);
	else
		with_text(&insert, TABLE_ORDERS, append_insert_order_now);
	return ot_run_versioned(IsolationUsesXactSnapshot() ? &insert_in_old_snapshot : &insert, &args, &order->version);
}

/* Set aside orders wait for their own time. A subplan and not a join, so that the deadline's index gives the order. */
#define NOT_SET_ASIDE(now) \
	"NOT (orders.order_id" SQL_EQ "ANY (SELECT s.order_id FROM order_timeout.set_aside s WHERE s.retry_at" SQL_GT now "))"

static List *
sql_find_due_orders(TimestampTz from, TimestampTz now, int limit, List *set_aside, bool alone)
{
	static Statement lock = {"WHERE orders.settled_at IS NULL AND orders.closes_at" SQL_GE "$1 AND orders.closes_at" SQL_LE "$2 "
		"AND " NOT_SET_ASIDE("$2") " ORDER BY orders.closes_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
	.rows_of = TABLE_ORDERS};
	Args		args = {0};
	List	   *due;
	ListCell   *cell;

	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	due = ot_run_rows(&lock, &args);
	foreach(cell, due)
		mark_locked(TABLE_ORDERS, lfirst(cell));
	return due;
}

/* A trigger may have chosen the other store since they were found: SQL writes over whatever is there. */
static void
require_locked(List *orders)
{
	ListCell   *cell;

	foreach(cell, orders)
	{
		if (!((Order *) lfirst(cell))->version.locked)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("order_timeout.store was changed while orders were being closed"),
					 errdetail("Order \"%s\" was locked by the other store.", ((Order *) lfirst(cell))->order_id),
					 errhint("Remove SET order_timeout.store from the triggers on these tables, then call again.")));
	}
}

static List *
sql_update_due_orders(List *orders)
{
	require_locked(orders);
	run_for_many(with_text(&statements[TABLE_ORDERS].update_many, TABLE_ORDERS, append_update_many), TABLE_ORDERS, orders, true);
	return orders;
}

static void *
read_deadline(Columns *columns)
{
	TimestampTz *deadline = palloc(sizeof(TimestampTz));

	*deadline = ot_column_time(columns);
	return deadline;
}

static TimestampTz
sql_next_deadline(TimestampTz from, TimestampTz now, List *set_aside)
{
	static Statement next = {"SELECT orders.closes_at FROM order_timeout.orders "
		"WHERE orders.settled_at IS NULL AND orders.closes_at" SQL_GE "$1 AND " NOT_SET_ASIDE("$2")
	" ORDER BY orders.closes_at LIMIT 1"};
	Args		args = {0};
	TimestampTz *deadline;

	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	deadline = ot_run_one(&next, &args, read_deadline);
	return deadline == NULL ? OT_NO_TIME : *deadline;
}

/* Payments and refunds. */

static List *
sql_lock_payments_of_order(const char *order_id)
{
	static Statement lock = {"WHERE payments.order_id" SQL_EQ "$1 "
		"ORDER BY payments.received_at, payments.gateway, payments.payment_ref FOR NO KEY UPDATE",
	.rows_of = TABLE_PAYMENTS};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run_rows(&lock, &args);
}

#define BY_GATEWAY_REFUND_REF "WHERE refunds.gateway" SQL_EQ "$1 AND refunds.gateway_refund_ref" SQL_EQ "$2"

static Refund *
sql_find_gateway_refund(const char *gateway, const char *gateway_refund_ref)
{
	static Statement find = {BY_GATEWAY_REFUND_REF, .rows_of = TABLE_REFUNDS};
	static Statement find_latest = {"SELECT FROM order_timeout.refunds " BY_GATEWAY_REFUND_REF, SNAPSHOT_LATEST};
	Args		args = {0};
	Refund	   *refund;

	ot_arg_text(&args, gateway);
	ot_arg_text(&args, gateway_refund_ref);
	refund = ot_run_row(&find, &args);

	/* The unique index would say so too, but with an error after which no caller tries again. */
	if (refund == NULL && IsolationUsesXactSnapshot() && ot_run(&find_latest, &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent recording of refund \"%s\" of gateway \"%s\"",
						gateway_refund_ref, gateway),
				 errhint("Run the whole transaction again.")));
	return refund;
}

/* In the order of the index, in which the fast store finds them: refunds of one closing are due in the same microsecond. */
static List *
sql_lock_due_refunds(TimestampTz now, const char *gateway, int limit, List *set_aside)
{
	static Statement lock = {"WHERE refunds.settled_at IS NULL AND refunds.next_attempt_at" SQL_LE "$1 "
		"AND ($2 IS NULL OR refunds.gateway" SQL_EQ "$2) AND NOT (refunds.refund_ref" SQL_EQ "ANY ($4)) "
		"ORDER BY refunds.next_attempt_at, refunds.gateway, refunds.ctid LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
	.rows_of = TABLE_REFUNDS};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_text(&args, gateway);
	ot_arg_int4(&args, limit);
	ot_arg_texts(&args, set_aside);
	return ot_run_rows(&lock, &args);
}

const RowStore ot_sql_store = {
	.find = sql_find,
	.lock = sql_lock,
	.insert = sql_insert,
	.insert_many = sql_insert_many,
	.insert_new = sql_insert_new,
	.insert_finds_duplicate = sql_insert_finds_duplicate,
	.update = sql_update,
	.insert_order = sql_insert_order,
	.find_due_orders = sql_find_due_orders,
	.update_due_orders = sql_update_due_orders,
	.next_deadline = sql_next_deadline,
	.lock_payments_of_order = sql_lock_payments_of_order,
	.find_gateway_refund = sql_find_gateway_refund,
	.lock_due_refunds = sql_lock_due_refunds
};
