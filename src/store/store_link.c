/*
 * store_link.c
 *    The rows of linked tables. Their statements run as the caller, whose rights and row security they are subject to.
 *
 * The text of a statement depends on the link, so its plan is not kept: a payment of a linked order plans two.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/bitmapset.h"
#include "nodes/value.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/varlena.h"

#include "store.h"
#include "store_statement.h"

/* SQL text. */

/* The table's index is used, because it is the keys that are cast. */
static const char *
has_key(const Link *link)
{
	return psprintf("t.%s OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::%s[])", quote_identifier(link->key_column),
					link->key_type);
}

/* Of the words in parameter number. */
static const char *
has_word(const Link *link, int number)
{
	return psprintf("t.%s OPERATOR(pg_catalog.=) ANY ($%d::pg_catalog.text[]::%s[])", quote_identifier(link->status_column),
					number, link->status_type);
}

static const char *
key_text(const Link *link)
{
	return psprintf("t.%s::pg_catalog.text", quote_identifier(link->key_column));
}

/* A null where the link names no such column. */
static void
append_column(StringInfo sql, const char *column, const char *type)
{
	if (column == NULL)
		appendStringInfo(sql, ", NULL::pg_catalog.%s", type);
	else
		appendStringInfo(sql, ", t.%s::pg_catalog.%s", quote_identifier(column), type);
}

static const char *
select_rows(const Link *link)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s", key_text(link));
	append_column(&sql, link->status_column, "text");
	append_column(&sql, link->amount_column, "text");
	append_column(&sql, link->currency_column, "text");
	append_column(&sql, link->deadline_column, "timestamptz");
	append_column(&sql, link->policy_column, "text");
	appendStringInfo(&sql, " FROM %s t WHERE ", link->table_name);
	return sql.data;
}

/* Reading. */

static void *
read_key(Columns *columns)
{
	return ot_column_text(columns);
}

static void *
read_linked(Columns *columns)
{
	LinkedRow  *row = palloc(sizeof(LinkedRow));

	row->key = ot_column_text(columns);
	row->status = ot_column_text(columns);
	row->amount = ot_column_text(columns);
	row->currency = ot_column_text(columns);
	row->deadline = ot_column_time(columns);
	row->policy = ot_column_text(columns);
	return row;
}

List *
ot_store_find_linked(const Link *link, List *keys)
{
	Statement	find = {.as_caller = true, .once = true};
	Args		args = {0};

	find.sql = psprintf("%s%s", select_rows(link), has_key(link));
	ot_arg_texts(&args, keys);
	return ot_run_list(&find, &args, read_linked);
}

/* By their names, because a partition may have its columns in another sequence. */
static int
number_of(const Link *link, TupleDesc desc, const char *column)
{
	int			number = SPI_fnumber(desc, column);

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("linked table %s has no column \"%s\"", link->table_name, column),
				 errhint("End the link with order_timeout.unlink_table(), and link the table as it is now.")));
	return number;
}

static char *
text_of(const Link *link, HeapTuple tuple, TupleDesc desc, const char *column)
{
	return column == NULL ? NULL : SPI_getvalue(tuple, desc, number_of(link, desc, column));
}

static TimestampTz
time_of(const Link *link, HeapTuple tuple, TupleDesc desc, const char *column)
{
	int			number = column == NULL ? 0 : number_of(link, desc, column);
	bool		isnull = true;
	Datum		value = number > 0 ? SPI_getbinval(tuple, desc, number, &isnull) : (Datum) 0;

	if (isnull)
		return OT_NO_TIME;
	if (SPI_gettypeid(desc, number) == TIMESTAMPOID)
		value = DirectFunctionCall1(timestamp_timestamptz, value);
	else if (SPI_gettypeid(desc, number) != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of linked table %s is no timestamp any more", column, link->table_name),
				 errhint("Give it back its type, or link the table without it.")));
	return DatumGetTimestampTz(value);
}

LinkedRow *
ot_store_read_linked(const Link *link, HeapTuple tuple, TupleDesc desc)
{
	LinkedRow  *row = palloc(sizeof(LinkedRow));

	row->key = text_of(link, tuple, desc, link->key_column);
	row->status = text_of(link, tuple, desc, link->status_column);
	row->amount = text_of(link, tuple, desc, link->amount_column);
	row->currency = text_of(link, tuple, desc, link->currency_column);
	row->deadline = time_of(link, tuple, desc, link->deadline_column);
	row->policy = text_of(link, tuple, desc, link->policy_column);
	return row;
}

/* Each once, though it may serve several states. */
static List *
time_columns_of(const Link *link)
{
	List	   *columns = NIL;

	for (OrderState state = 0; state < OT_ORDER_STATES; state++)
	{
		if (link->time_columns[state] != NULL)
			columns = list_append_unique(columns, makeString(link->time_columns[state]));
	}
	return columns;
}

/* Locking. */

static bool
is_key_column(Relation table, const char *column)
{
	AttrNumber	number = column == NULL ? InvalidAttrNumber : get_attnum(RelationGetRelid(table), column);

	return number != InvalidAttrNumber &&
		bms_is_member(number - FirstLowInvalidHeapAttributeNumber, RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_KEY));
}

/*
 * A column of a unique index cannot be written while foreign keys hold the row, and to find that out after the order is
 * locked would be too late.
 */
static const char *
lock_strength(const Link *link)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(link->table_name));
	Relation	table = table_openrv_extended(makeRangeVarFromNameList(names), AccessShareLock, true);
	bool		writes_key;
	ListCell   *cell;

	if (table == NULL)
		return "NO KEY UPDATE";
	writes_key = is_key_column(table, link->status_column) || is_key_column(table, link->reason_column);
	foreach(cell, time_columns_of(link))
		writes_key = writes_key || is_key_column(table, strVal(lfirst(cell)));
	table_close(table, AccessShareLock);
	return writes_key ? "UPDATE" : "NO KEY UPDATE";
}

List *
ot_store_lock_linked(const Link *link, List *keys, bool wait)
{
	Statement	lock = {.as_caller = true, .once = true};
	Args		args = {0};

	lock.sql = psprintf("SELECT %s FROM %s t WHERE %s FOR %s OF t%s", key_text(link), link->table_name, has_key(link),
						lock_strength(link), wait ? "" : " SKIP LOCKED");
	ot_arg_texts(&args, keys);
	return ot_run_list(&lock, &args, read_key);
}

/* A caller's own limit that is shorter stays. */
List *
ot_store_lock_linked_within(const Link *link, List *keys, int milliseconds)
{
	int			level;
	List	   *locked;

	if (LockTimeout > 0 && LockTimeout <= milliseconds)
		return ot_store_lock_linked(link, keys, true);
	level = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", psprintf("%d", milliseconds), PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	locked = ot_store_lock_linked(link, keys, true);
	AtEOXact_GUC(true, level);
	return locked;
}

static List *
words_of(const Link *link, OrderState state)
{
	List	   *words = NIL;

	for (StatusWords word = link->words[state]; word != NULL && *word != NULL; word++)
		words = lappend(words, unconstify(char *, *word));
	return words;
}

List *
ot_store_lock_payable(const Link *link, const char *after, int limit)
{
	Statement	lock = {.as_caller = true, .once = true};
	const char *key = quote_identifier(link->key_column);
	Args		args = {0};

	lock.sql = psprintf("%s%s%s ORDER BY t.%s LIMIT $2 FOR NO KEY UPDATE OF t", select_rows(link), has_word(link, 1),
						after == NULL ? "" : psprintf(" AND t.%s OPERATOR(pg_catalog.>) $3::%s", key, link->key_type), key);
	ot_arg_texts(&args, words_of(link, ORDER_PENDING));
	ot_arg_int4(&args, limit);
	if (after != NULL)
		ot_arg_text(&args, after);
	return ot_run_list(&lock, &args, read_linked);
}

int64
ot_store_count_payable(const Link *link, const char *after)
{
	Statement	count = {.as_caller = true, .once = true};
	Args		args = {0};

	count.sql = psprintf("SELECT pg_catalog.count(*) FROM %s t WHERE %s%s", link->table_name, has_word(link, 1),
						 after == NULL ? "" : psprintf(" AND t.%s OPERATOR(pg_catalog.>) $2::%s", quote_identifier(link->key_column), link->key_type));
	ot_arg_texts(&args, words_of(link, ORDER_PENDING));
	if (after != NULL)
		ot_arg_text(&args, after);
	return *(int64 *) ot_run_one(&count, &args, ot_read_int8);
}

/* Writing. */

/* The column of the state has its time; the others have none any more, so that the row says what the order is. */
static void
append_times(StringInfo sql, const Link *link, OrderState to)
{
	ListCell   *cell;

	foreach(cell, time_columns_of(link))
	{
		const char *column = strVal(lfirst(cell));
		bool		is_of_state = link->time_columns[to] != NULL && strcmp(link->time_columns[to], column) == 0;

		appendStringInfo(sql, ", %s = %s", quote_identifier(column), is_of_state ? "$4::pg_catalog.timestamptz" : "NULL");
	}
}

/* Answers with the keys of those that have the word now: a trigger of the table may have seen to it that they have another. */
List *
ot_store_write_linked(const Link *link, List *keys, List *from, OrderState to, TimestampTz time, const char *reason)
{
	Statement	write = {.as_caller = true, .once = true};
	Args		args = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "WITH written AS (UPDATE %s t SET %s = $3::pg_catalog.text::%s", link->table_name,
					 quote_identifier(link->status_column), link->status_type);
	append_times(&sql, link, to);
	if (link->reason_column != NULL)
		appendStringInfo(&sql, ", %s = $5::pg_catalog.text", quote_identifier(link->reason_column));
	appendStringInfo(&sql, " WHERE %s AND %s RETURNING %s AS key, t.%s::pg_catalog.text AS word) "
					 "SELECT w.key FROM written w WHERE w.word" SQL_EQ "$3", has_key(link), has_word(link, 2), key_text(link),
					 quote_identifier(link->status_column));
	write.sql = sql.data;
	ot_arg_texts(&args, keys);
	ot_arg_texts(&args, from);
	ot_arg_text(&args, link->words[to][0]);
	ot_arg_time(&args, time);
	ot_arg_text(&args, reason);
	return ot_run_list(&write, &args, read_key);
}

void
ot_store_update_adoption(const Link *link, const char *adopted_to, int64 created, TimestampTz ended)
{
	static Statement update = {"UPDATE order_timeout.links l SET adopted_to = $2, adopted = l.adopted" SQL_PLUS "$3, "
	"adopted_at = coalesce($4, l.adopted_at) WHERE l.table_name" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_text(&args, link->table_name);
	ot_arg_text(&args, adopted_to);
	ot_arg_int8(&args, created);
	ot_arg_time(&args, ended);
	ot_run(&update, &args);
}
