/*
 * store_statement.c
 *    Runs the SQL store's statements: the one place that talks to SPI, and the one place that acts as the
 *    extension's owner.
 *
 * A statement is planned and its rights are checked as the owner. It is carried out as the caller: then nothing is
 * checked any more, and what runs besides the statement (triggers that users put on our tables) runs with the rights
 * of the caller. The executor's own steps are where the one ends and the other begins, so its hooks switch the role.
 *
 * The role is back before control leaves this file. An error inside the statement needs no handler for that: aborting
 * the (sub)transaction restores the role that it began with, and it never begins as the owner, since nothing in here
 * commits.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "errors.h"
#include "extension_version.h"
#include "rows.h"
#include "store_statement.h"

#define FETCH_AT_ONCE 1000

typedef struct Role
{
	Oid			user;
	int			security_context;
} Role;

/* The owner of our tables, looked up each time: it can change, and the lookup is two cache hits. */
static Oid
find_owner(void)
{
	Oid			namespace = get_namespace_oid("order_timeout", true);
	Oid			orders = OidIsValid(namespace) ? get_relname_relid("orders", namespace) : InvalidOid;
	HeapTuple	tuple = OidIsValid(orders) ? SearchSysCache1(RELOID, ObjectIdGetDatum(orders)) : NULL;
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

bool
ot_owner_exists(void)
{
	return OidIsValid(find_owner());
}

static Role
become_owner(void)
{
	Oid			owner = find_owner();
	Role		caller;

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the tables of extension \"order_timeout\" are not there"),
				 errhint("Run CREATE EXTENSION order_timeout; in this database.")));
	GetUserIdAndSecContext(&caller.user, &caller.security_context);
	SetUserIdAndSecContext(owner, caller.security_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	return caller;
}

static void
become_caller(Role caller)
{
	SetUserIdAndSecContext(caller.user, caller.security_context);
}

/* The role to carry the current statement out with; NULL while none of ours is about to be. */
static Role *carried_out_for = NULL;

static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;

/* Triggers may not change the role, or ours would be lost when it is switched back. */
static Role
step_down(void)
{
	Role		owner;

	GetUserIdAndSecContext(&owner.user, &owner.security_context);
	SetUserIdAndSecContext(carried_out_for->user, carried_out_for->security_context | SECURITY_LOCAL_USERID_CHANGE);
	return owner;
}

static void
run_as_caller(QueryDesc *query, ScanDirection direction, uint64 count OT_EXECUTE_ONCE_PARAMETER)
{
	Role	   *role = carried_out_for;
	Role		owner;

	if (role != NULL)
		owner = step_down();
	carried_out_for = NULL;		/* what triggers run is not ours */
	if (previous_run)
		previous_run(query, direction, count OT_EXECUTE_ONCE);
	else
		standard_ExecutorRun(query, direction, count OT_EXECUTE_ONCE);
	carried_out_for = role;
	if (role != NULL)
		become_caller(owner);
}

static void
finish_as_caller(QueryDesc *query)
{
	Role	   *role = carried_out_for;
	Role		owner;

	if (role != NULL)
		owner = step_down();
	carried_out_for = NULL;
	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
	carried_out_for = role;
	if (role != NULL)
		become_caller(owner);
}

void
ot_statement_init(void)
{
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = run_as_caller;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_as_caller;
}

/* Statements. */

static bool
reads_versions(const Statement *statement)
{
	return ot_tables[statement->rows_of].versioned && !statement->as_stored;
}

static const char *
text_of(const Statement *statement)
{
	const TableSpec *spec = &ot_tables[statement->rows_of];
	StringInfoData sql;

	if (statement->rows_of == TABLE_NONE)
		return statement->sql;
	initStringInfo(&sql);
	for (int i = 0; i < spec->column_count; i++)
		if (statement->as_stored || spec->columns[i].kind != COLUMN_JSONB)
			appendStringInfo(&sql, "%s %s.%s", i == 0 ? "SELECT" : ",", spec->name, spec->columns[i].name);
	if (reads_versions(statement))
		appendStringInfo(&sql, ", %s.ctid, %s.xmin", spec->name, spec->name);
	appendStringInfo(&sql, " FROM order_timeout.%s %s", spec->name, statement->sql);
	return sql.data;
}

static SPIPlanPtr
prepare(Statement *statement, Args *args)
{
	SPIPlanPtr	plan;

	if (statement->plan != NULL)
		return statement->plan;
	ot_require_same_version();
	plan = SPI_prepare(text_of(statement), args->count, args->types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
	if (statement->once)
		return plan;
	SPI_keepplan(plan);
	statement->plan = plan;
	return plan;
}

/* SPI marks a NULL with a letter. */
static void
mark_nulls(const Args *args, char *marks)
{
	for (int i = 0; i < args->count; i++)
		marks[i] = args->nulls[i] ? 'n' : ' ';
}

static int
run_plan(const Statement *statement, SPIPlanPtr plan, Args *args)
{
	char		nulls[OT_MAX_ARGS];

	mark_nulls(args, nulls);
	if (statement->snapshot == SNAPSHOT_LATEST)
		return SPI_execute_snapshot(plan, args->values, nulls,
									GetLatestSnapshot(), InvalidSnapshot, true, false, 0);
	return SPI_execute_plan(plan, args->values, nulls, statement->snapshot == SNAPSHOT_OF_CALLER, 0);
}

static int
execute_as_owner(Statement *statement, Args *args)
{
	Role		caller = become_owner();
	SPIPlanPtr	plan = prepare(statement, args);
	volatile int result = 0;

	carried_out_for = &caller;
	PG_TRY();
	{
		result = run_plan(statement, plan, args);
	}
	PG_FINALLY();
	{
		carried_out_for = NULL;
	}
	PG_END_TRY();
	become_caller(caller);
	return result;
}

/* Leaves SPI connected, so that the caller can read SPI_tuptable, and calls SPI_finish. */
static void
execute(Statement *statement, Args *args)
{
	int			result;

	SPI_connect();
	if (statement->as_caller)
		result = run_plan(statement, prepare(statement, args), args);
	else
		result = execute_as_owner(statement, args);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql, SPI_result_code_string(result));
}

uint64
ot_run(Statement *statement, Args *args)
{
	uint64		processed;

	execute(statement, args);
	processed = SPI_processed;
	SPI_finish();
	return processed;
}

void
ot_run_write(Statement *statement, Args *args)
{
	if (ot_run(statement, args) != 1)
		ot_row_not_written();
}

void *
ot_run_returning(Statement *statement, Args *args, RowReader read)
{
	void	   *answer = ot_run_one(statement, args, read);

	if (answer == NULL)
		ot_row_not_written();
	return answer;
}

bool
ot_run_versioned(Statement *statement, Args *args, RowVersion *version)
{
	bool		written;

	execute(statement, args);
	written = SPI_processed > 0;
	if (written)
	{
		bool		isnull;
		Datum		tid = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		version->tid = *(ItemPointer) DatumGetPointer(tid);
		version->xmin = GetCurrentTransactionId();
		version->locked = true;
	}
	SPI_finish();
	return written;
}

/* Makes the columns of row i of the result readable; a row of the same shape as the last one reuses its arrays. */
static void
read_columns(Columns *columns, uint64 i)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;

	if (columns->values == NULL)
	{
		columns->values = palloc(desc->natts * sizeof(Datum));
		columns->nulls = palloc(desc->natts * sizeof(bool));
	}
	heap_deform_tuple(SPI_tuptable->vals[i], desc, columns->values, columns->nulls);
	columns->next = 0;
	columns->desc = desc;
}

static void *
read_row(const Statement *statement, Columns *columns, RowReader read)
{
	void	   *row;

	columns->without_jsonb = !statement->as_stored;
	row = read != NULL ? read(columns) : ot_row_read(statement->rows_of, columns);
	if (reads_versions(statement))
	{
		RowVersion *version = ot_row_version(statement->rows_of, row);

		version->tid = ot_column_tid(columns);
		version->xmin = ot_column_xid(columns);
	}
	return row;
}

List *
ot_run_list(Statement *statement, Args *args, RowReader read)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Columns		columns = {0};
	List	   *rows = NIL;

	execute(statement, args);
	MemoryContextSwitchTo(caller_context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		read_columns(&columns, i);
		rows = lappend(rows, read_row(statement, &columns, read));
	}
	SPI_finish();
	return rows;
}

void *
ot_run_one(Statement *statement, Args *args, RowReader read)
{
	MemoryContext caller_context = CurrentMemoryContext;
	void	   *row = NULL;

	execute(statement, args);
	MemoryContextSwitchTo(caller_context);
	if (SPI_processed > 0)
	{
		Columns		columns = {0};

		read_columns(&columns, 0);
		row = read_row(statement, &columns, read);
	}
	SPI_finish();
	return row;
}

List *
ot_run_rows(Statement *statement, Args *args)
{
	return ot_run_list(statement, args, NULL);
}

void *
ot_run_row(Statement *statement, Args *args)
{
	return ot_run_one(statement, args, NULL);
}

void *
ot_read_int8(Columns *columns)
{
	int64	   *number = palloc(sizeof(int64));

	*number = ot_column_int8(columns);
	return number;
}

static void
visit_rows(RowVisitor visit, void *state, MemoryContext row_context)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext previous = MemoryContextSwitchTo(row_context);
		Columns		columns = {0};

		read_columns(&columns, i);
		visit(&columns, state);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(row_context);
	}
}

/* Answers with the caller. */
static Role
become_role_of(const Statement *statement)
{
	Role		caller;

	if (!statement->as_caller)
		return become_owner();
	GetUserIdAndSecContext(&caller.user, &caller.security_context);
	return caller;
}

void
ot_run_cursor(Statement *statement, Args *args, RowVisitor visit, void *state)
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout row", ALLOCSET_DEFAULT_SIZES);
	char		nulls[OT_MAX_ARGS];
	Portal		portal;
	Role		caller;

	SPI_connect();
	caller = become_role_of(statement);
	mark_nulls(args, nulls);
	portal = SPI_cursor_open(NULL, prepare(statement, args), args->values, nulls,
							 statement->snapshot == SNAPSHOT_OF_CALLER);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_AT_ONCE);
		become_caller(caller);
		if (SPI_processed == 0)
			break;
		visit_rows(visit, state, row_context);
		SPI_freetuptable(SPI_tuptable);
		caller = become_role_of(statement);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextDelete(row_context);
}

/* Procedures. */

/*
 * The transactions between two commits are the procedure's own. At READ COMMITTED a race is settled by a look at the
 * row; at the levels above, which a database may have for its default, it would end the procedure. Set before the
 * transaction's first snapshot.
 */
static void
start_own_transaction(void)
{
	Assert(!FirstSnapshotSet);
	XactIsoLevel = XACT_READ_COMMITTED;
}

void
ot_procedure_begin(void)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	start_own_transaction();
}

void
ot_procedure_commit(void)
{
	SPI_commit();
	start_own_transaction();
}

void
ot_procedure_end(void)
{
	SPI_finish();
}
