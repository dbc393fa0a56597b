/*
 * store_statement.h
 *    Private to the SQL store: a statement, and what runs it.
 */
#ifndef OT_STORE_STATEMENT_H
#define OT_STORE_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "store_values.h"

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
extern void ot_advisory_lock(const char *name);
/* False if there is one now. If not, whoever comes with it before this transaction ends finds this one. */
extern bool ot_try_advisory_lock(const char *name);

#endif
