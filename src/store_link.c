/*
 * store_link.c
 *    The SQL store: links, and the rows of linked tables. What is read and written there is the user's, so it is done as
 *    the caller, with his rights and under his row security.
 *
 * Keys go into the statements as text and are cast to the type of the table's column, so that its own index finds them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "store.h"
#include "store_statement.h"

/* Those that every change of a state runs; their plans are kept with the link. */
struct LinkStatements
{
	Statement	write;
	Statement	write_free;
};

/* Links. */

static void
forget_plans(void *statements)
{
	ot_forget_plan(&((struct LinkStatements *) statements)->write);
	ot_forget_plan(&((struct LinkStatements *) statements)->write_free);
}

/* $1 keys, $2 words of the state; what stands there already is left alone, because it may be a later word. */
static char *
rows_to_write(const Link *link)
{
	const char *status = quote_identifier(link->status_column);

	return psprintf("r.%s" EQ "ANY (CAST($1 AS %s[])) AND (r.%s IS NULL OR CAST(r.%s AS pg_catalog.text)" NE "ALL ($2))",
					quote_identifier(link->key_column), link->key_type, status, status);
}

static void
build_statements(Link *link)
{
	struct LinkStatements *statements = palloc0(sizeof(struct LinkStatements));
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	const char *key = quote_identifier(link->key_column);
	char	   *set = psprintf("SET %s = CAST(($2)[1] AS %s)", quote_identifier(link->status_column), link->status_type);
	char	   *rows = rows_to_write(link);

	statements->write.sql = psprintf("UPDATE %s r %s WHERE %s RETURNING CAST(r.%s AS pg_catalog.text)",
									 link->table_name, set, rows, key);
	statements->write_free.sql = psprintf("WITH free AS MATERIALIZED (SELECT r.%s AS k FROM %s r WHERE %s FOR NO KEY UPDATE SKIP LOCKED) "
										  "UPDATE %s r %s FROM free WHERE r.%s" EQ "free.k RETURNING CAST(r.%s AS pg_catalog.text)",
										  key, link->table_name, rows, link->table_name, set, key, key);
	statements->write.as_caller = statements->write_free.as_caller = true;
	link->statements = statements;
	callback->func = forget_plans;
	callback->arg = statements;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

static void *
read_link(Columns *columns)
{
	Link	   *link = palloc0(sizeof(Link));

	link->table_name = ot_column_text(columns);
	link->key_column = ot_column_text(columns);
	link->key_type = ot_column_text(columns);
	link->status_column = ot_column_text(columns);
	link->status_type = ot_column_text(columns);
	for (int i = 0; i < lengthof(link->words); i++)
		link->words[i] = ot_column_texts(columns);
	link->amount_column = ot_column_text(columns);
	link->amount_is_major = ot_column_bool(columns);
	link->currency_column = ot_column_text(columns);
	link->currency = ot_column_text(columns);
	link->deadline_column = ot_column_text(columns);
	link->created_column = ot_column_text(columns);
	link->policy = ot_column_text(columns);
	link->prefix = ot_column_text(columns);
	link->track = ot_column_bool(columns);
	link->shadow = ot_column_bool(columns);
	link->ignore_missing = ot_column_bool(columns);
	link->retry_failed = ot_column_bool(columns);
	link->note_contradictions = ot_column_bool(columns);
	link->backfilled_to = ot_column_text(columns);
	build_statements(link);
	return link;
}

List *
ot_find_links(void)
{
#define WORDS_OF(state) "ARRAY(SELECT pg_catalog.jsonb_array_elements_text(l.states OPERATOR(pg_catalog.->) '" state "'))"
	static Statement find = {"SELECT l.table_name, l.key_column, l.key_type, l.status_column, l.status_type, "
		WORDS_OF("pending") ", " WORDS_OF("paid") ", " WORDS_OF("expired") ", " WORDS_OF("cancelled") ", "
		"l.amount_column, l.amount_is_major, l.currency_column, l.currency, l.deadline_column, l.created_column, l.policy, "
		"l.prefix, l.track, l.shadow, l.on_missing" EQ "'ignore', l.on_failure" EQ "'retry', l.on_contradiction" EQ "'note', "
	"l.backfilled_to FROM order_timeout.links l ORDER BY l.table_name", SNAPSHOT_LATEST};
	Args		none = {0};

	return ot_run_list(&find, &none, read_link);
}

const Link *
ot_store_find_link(const char *table_name)
{
	ListCell   *cell;

	foreach(cell, ot_store_links())
		if (strcmp(((Link *) lfirst(cell))->table_name, table_name) == 0)
			return lfirst(cell);
	return NULL;
}

const Link *
ot_store_find_link_of(Oid table)
{
	ListCell   *cell;

	foreach(cell, ot_store_links())
	{
		Datum		name = CStringGetTextDatum(((Link *) lfirst(cell))->table_name);
		LOCAL_FCINFO(call, 1);
		Datum		found;

		InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
		call->args[0].value = name;
		call->args[0].isnull = false;
		found = to_regclass(call);
		if (!call->isnull && DatumGetObjectId(found) == table)
			return lfirst(cell);
	}
	return NULL;
}

void
ot_store_update_backfill(const Link *link, const char *to, int64 created, TimestampTz ended)
{
	static Statement update = {"UPDATE order_timeout.links l SET backfilled_to = $2, backfilled = l.backfilled" PLUS "$3, "
	"backfill_ended = COALESCE($4, l.backfill_ended) WHERE l.table_name" EQ "$1"};
	Args		args = {0};

	ot_arg_text(&args, link->table_name);
	ot_arg_text(&args, to);
	ot_arg_int8(&args, created);
	ot_arg_time(&args, ended);
	ot_run(&update, &args);
}

/* Rows. */

/* A column or a table that was renamed or dropped shows here first. */
static void
say_which_link(void *link)
{
	int			code = geterrcode();

	errcontext("table %s, which is linked to order_timeout", ((const Link *) link)->table_name);
	if (code == ERRCODE_UNDEFINED_TABLE || code == ERRCODE_UNDEFINED_COLUMN || code == ERRCODE_DATATYPE_MISMATCH ||
		code == ERRCODE_INVALID_SCHEMA_NAME || code == ERRCODE_UNDEFINED_OBJECT)
		errhint("Tell how the table looks now with order_timeout.link_table(), or end the link with order_timeout.unlink_table().");
}

static List *
run_on_rows(const Link *link, Statement *statement, Args *args, RowReader read)
{
	ErrorContextCallback context = {error_context_stack, say_which_link, unconstify(Link *, link)};
	List	   *rows;

	error_context_stack = &context;
	rows = ot_run_list(statement, args, read);
	error_context_stack = context.previous;
	return rows;
}

static void *
read_key(Columns *columns)
{
	return ot_column_text(columns);
}

List *
ot_store_write_linked(const Link *link, OrderState state, List *keys, bool wait)
{
	Statement  *statement = wait ? &link->statements->write : &link->statements->write_free;
	Args		args = {0};

	ot_arg_texts(&args, keys);
	ot_arg_texts(&args, link->words[state]);
	return run_on_rows(link, statement, &args, read_key);
}

static void *
read_key_and_status(Columns *columns)
{
	LinkedRow  *row = palloc0(sizeof(LinkedRow));

	row->key = ot_column_text(columns);
	row->status = ot_column_text(columns);
	return row;
}

List *
ot_store_find_linked(const Link *link, List *keys)
{
	const char *key = quote_identifier(link->key_column);
	Statement	find = {.as_caller = true, .once = true};
	Args		args = {0};

	find.sql = psprintf("SELECT CAST(r.%s AS pg_catalog.text), CAST(r.%s AS pg_catalog.text) FROM %s r WHERE r.%s" EQ "ANY (CAST($1 AS %s[]))",
						key, quote_identifier(link->status_column), link->table_name, key, link->key_type);
	ot_arg_texts(&args, keys);
	return run_on_rows(link, &find, &args, read_key_and_status);
}

static List *
lock_linked(const Link *link, List *keys, const char *if_held)
{
	const char *key = quote_identifier(link->key_column);
	Statement	lock = {.as_caller = true, .once = true};
	Args		args = {0};

	lock.sql = psprintf("SELECT CAST(r.%s AS pg_catalog.text) FROM %s r WHERE r.%s" EQ "ANY (CAST($1 AS %s[])) FOR NO KEY UPDATE %s",
						key, link->table_name, key, link->key_type, if_held);
	ot_arg_texts(&args, keys);
	return run_on_rows(link, &lock, &args, read_key);
}

List *
ot_store_lock_linked_if_free(const Link *link, List *keys)
{
	return lock_linked(link, keys, "SKIP LOCKED");
}

void
ot_store_lock_linked_now(const Link *link, List *keys)
{
	(void) lock_linked(link, keys, "NOWAIT");
}

/* The columns that a row's order is made of, by their names, because a partition may have them in another order. */

static int
column_number(const Link *link, TupleDesc desc, const char *column)
{
	int			number = SPI_fnumber(desc, column);

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("linked table %s has no column \"%s\"", link->table_name, column),
				 errhint("Tell how the table looks now with order_timeout.link_table(), or end the link with order_timeout.unlink_table().")));
	return number;
}

static char *
text_of(const Link *link, HeapTuple tuple, TupleDesc desc, const char *column)
{
	return column == NULL ? NULL : SPI_getvalue(tuple, desc, column_number(link, desc, column));
}

static TimestampTz
time_of(const Link *link, HeapTuple tuple, TupleDesc desc, const char *column)
{
	int			number = column == NULL ? 0 : column_number(link, desc, column);
	bool		isnull = true;
	Datum		value = number > 0 ? SPI_getbinval(tuple, desc, number, &isnull) : (Datum) 0;

	if (isnull)
		return OT_NO_TIME;
	if (SPI_gettypeid(desc, number) == TIMESTAMPOID)
		value = DirectFunctionCall1(timestamp_timestamptz, value);
	else if (SPI_gettypeid(desc, number) != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of linked table %s is not a timestamp any more", column, link->table_name)));
	return DatumGetTimestampTz(value);
}

LinkedRow *
ot_store_read_linked(const Link *link, HeapTuple tuple, TupleDesc desc)
{
	LinkedRow  *row = palloc0(sizeof(LinkedRow));

	row->key = text_of(link, tuple, desc, link->key_column);
	row->status = text_of(link, tuple, desc, link->status_column);
	row->amount = text_of(link, tuple, desc, link->amount_column);
	row->currency = link->currency_column != NULL ? text_of(link, tuple, desc, link->currency_column) : link->currency;
	row->deadline = time_of(link, tuple, desc, link->deadline_column);
	row->created = time_of(link, tuple, desc, link->created_column);
	return row;
}

/* An expression or a NULL where the link names no such column. */
static void
append_column(StringInfo sql, const char *column, const char *type)
{
	if (column == NULL)
		appendStringInfo(sql, ", CAST(NULL AS pg_catalog.%s)", type);
	else
		appendStringInfo(sql, ", CAST(r.%s AS pg_catalog.%s)", quote_identifier(column), type);
}

static void *
read_payable(Columns *columns)
{
	LinkedRow  *row = read_key_and_status(columns);

	row->amount = ot_column_text(columns);
	row->currency = ot_column_text(columns);
	row->deadline = ot_column_time(columns);
	row->created = ot_column_time(columns);
	return row;
}

List *
ot_store_lock_payable(const Link *link, const char *after, int limit)
{
	const char *key = quote_identifier(link->key_column);
	const char *status = quote_identifier(link->status_column);
	Statement	lock = {.as_caller = true, .once = true};
	StringInfoData sql;
	Args		args = {0};
	List	   *rows;
	ListCell   *cell;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT CAST(r.%s AS pg_catalog.text), CAST(r.%s AS pg_catalog.text)", key, status);
	append_column(&sql, link->amount_column, "text");
	append_column(&sql, link->currency_column, "text");
	append_column(&sql, link->deadline_column, "timestamptz");
	append_column(&sql, link->created_column, "timestamptz");
	appendStringInfo(&sql, " FROM %s r WHERE CAST(r.%s AS pg_catalog.text)" EQ "ANY ($1)", link->table_name, status);
	ot_arg_texts(&args, link->words[ORDER_PENDING]);
	ot_arg_int4(&args, limit);
	if (after != NULL)
	{
		appendStringInfo(&sql, " AND r.%s" GT "CAST($3 AS %s)", key, link->key_type);
		ot_arg_text(&args, after);
	}
	else
		appendStringInfo(&sql, " AND r.%s IS NOT NULL", key);
	appendStringInfo(&sql, " ORDER BY r.%s LIMIT $2 FOR NO KEY UPDATE", key);
	lock.sql = sql.data;
	rows = run_on_rows(link, &lock, &args, read_payable);
	if (link->currency_column == NULL)
		foreach(cell, rows)
			((LinkedRow *) lfirst(cell))->currency = link->currency;
	return rows;
}
