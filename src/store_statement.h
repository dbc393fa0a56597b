/*
 * store_statement.h
 *    Private to the SQL store: a statement, its arguments, and its rows.
 */
#ifndef OT_STORE_STATEMENT_H
#define OT_STORE_STATEMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* SQL text is parsed under the caller's search_path: every name and operator is qualified. */
#define EQ " OPERATOR(pg_catalog.=) "
#define NE " OPERATOR(pg_catalog.<>) "
#define LE " OPERATOR(pg_catalog.<=) "
#define GE " OPERATOR(pg_catalog.>=) "
#define GT " OPERATOR(pg_catalog.>) "
#define PLUS " OPERATOR(pg_catalog.+) "

/* What a statement sees. */
typedef enum StatementSnapshot
{
	SNAPSHOT_OF_STATEMENT,		/* a new one at READ COMMITTED, else the transaction's; may write */
	SNAPSHOT_OF_CALLER,			/* that of the query that called us */
	SNAPSHOT_LATEST				/* a new one, also where the transaction's is older */
} StatementSnapshot;

typedef struct Statement
{
	const char *sql;
	StatementSnapshot snapshot;
	SPIPlanPtr	plan;			/* kept for the session's life; PostgreSQL revalidates it */
} Statement;

#define OT_MAX_ARGS 28

typedef struct Args
{
	int			count;
	Oid			types[OT_MAX_ARGS];
	Datum		values[OT_MAX_ARGS];
	char		nulls[OT_MAX_ARGS];
} Args;

extern void ot_arg_text(Args *args, const char *value);
extern void ot_arg_int8(Args *args, int64 value);
extern void ot_arg_int4(Args *args, int32 value);
extern void ot_arg_float8(Args *args, double value);
extern void ot_arg_bool(Args *args, bool value);
extern void ot_arg_time(Args *args, TimestampTz value);
/* A time to compare with, where OT_NO_TIME stands for the beginning of time. */
extern void ot_arg_lower_bound(Args *args, TimestampTz value);
extern void ot_arg_jsonb(Args *args, const Jsonb *value);
/* An array; values and nulls as for construct_md_array, nulls may be NULL. */
extern void ot_arg_array(Args *args, Oid element, Datum *values, bool *nulls, int count);

/* The columns of one row, read from left to right. */
typedef struct Columns
{
	HeapTuple	tuple;
	TupleDesc	desc;
	int			next;
} Columns;

extern char *ot_column_text(Columns *columns);
extern int64 ot_column_int8(Columns *columns);
extern int32 ot_column_int4(Columns *columns);
extern double ot_column_float8(Columns *columns);
extern bool ot_column_bool(Columns *columns);
extern TimestampTz ot_column_time(Columns *columns);
extern Interval *ot_column_interval(Columns *columns);
/* The index of a word that a CHECK has already confined to the list; -1 for NULL. */
extern int	ot_column_word(Columns *columns, const char *const *words);

typedef void *(*RowReader) (Columns *columns);

/* Runs it; returns how many rows it touched. */
extern uint64 ot_run(Statement *statement, Args *args);

/* Runs a write of one row; it is an error if it touches none. */
extern void ot_run_write(Statement *statement, Args *args);

/* Runs it and reads its rows in the caller's memory context: all of them, or the first one or NULL. */
extern List *ot_run_list(Statement *statement, Args *args, RowReader read);
extern void *ot_run_one(Statement *statement, Args *args, RowReader read);

/* Runs it through a cursor, so that a result of any size fits; each row is freed after its visit. */
typedef void (*RowVisitor) (Columns *columns, void *state);
extern void ot_run_cursor(Statement *statement, Args *args, RowVisitor visit, void *state);

extern bool ot_owner_exists(void);

/* Waits for every other transaction that came here with the same name. */
extern void ot_meet(const char *name);

#endif
