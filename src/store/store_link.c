/*
 * store_link.c
 *    The rows of linked tables. Their statements run as the caller, whose rights and row security they are subject to.
 *
 * The text of a statement depends on the link, so its plan is not kept: a payment of a linked order plans two.
 */
#include "postgres.h"

#include "storage/proc.h"
#include "utils/guc.h"

#include "store.h"
#include "store_statement.h"

/* The table's index is used, because it is the keys that are cast. */
static const char *
has_key(const Link *link)
{
	return psprintf("t.%s OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::%s[])", link->key_column, link->key_type);
}

static void *
read_key(Columns *columns)
{
	return ot_column_text(columns);
}

List *
ot_store_lock_linked(const Link *link, List *keys, bool wait)
{
	Statement	lock = {.as_caller = true, .once = true};
	Args		args = {0};

	lock.sql = psprintf("SELECT t.%s::pg_catalog.text FROM %s t WHERE %s FOR NO KEY UPDATE OF t%s",
						link->key_column, link->table_name, has_key(link), wait ? "" : " SKIP LOCKED");
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

static void *
read_linked(Columns *columns)
{
	LinkedRow  *row = palloc(sizeof(LinkedRow));

	row->key = ot_column_text(columns);
	row->status = ot_column_text(columns);
	return row;
}

List *
ot_store_find_linked(const Link *link, List *keys)
{
	Statement	find = {.as_caller = true, .once = true};
	Args		args = {0};

	find.sql = psprintf("SELECT t.%s::pg_catalog.text, t.%s::pg_catalog.text FROM %s t WHERE %s",
						link->key_column, link->status_column, link->table_name, has_key(link));
	ot_arg_texts(&args, keys);
	return ot_run_list(&find, &args, read_linked);
}

List *
ot_store_write_linked(const Link *link, List *keys, List *from, const char *word, TimestampTz time, const char *reason)
{
	Statement	write = {.as_caller = true, .once = true};
	Args		args = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s t SET %s = $3::pg_catalog.text::%s", link->table_name, link->status_column, link->status_type);
	if (link->time_column != NULL)
		appendStringInfo(&sql, ", %s = $4::pg_catalog.timestamptz", link->time_column);
	if (link->reason_column != NULL)
		appendStringInfo(&sql, ", %s = $5::pg_catalog.text", link->reason_column);
	appendStringInfo(&sql, " WHERE %s AND t.%s OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::%s[]) RETURNING t.%s::pg_catalog.text",
					 has_key(link), link->status_column, link->status_type, link->key_column);
	write.sql = sql.data;
	ot_arg_texts(&args, keys);
	ot_arg_texts(&args, from);
	ot_arg_text(&args, word);
	ot_arg_time(&args, time);
	ot_arg_text(&args, reason);
	return ot_run_list(&write, &args, read_key);
}
