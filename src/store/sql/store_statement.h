/*
 * store_statement.h
 *    Private to the SQL store: a statement, and what runs it.
 */
#ifndef OT_STORE_STATEMENT_H
#define OT_STORE_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "store_table.h"
#include "store_values.h"

/* SQL text is parsed under the caller's search_path: every name and operator is qualified. */
#define SQL_EQ " OPERATOR(pg_catalog.=) "
#define SQL_NE " OPERATOR(pg_catalog.<>) "
#define SQL_LE " OPERATOR(pg_catalog.<=) "
#define SQL_GE " OPERATOR(pg_catalog.>=) "
#define SQL_LT " OPERATOR(pg_catalog.<) "
#define SQL_GT " OPERATOR(pg_catalog.>) "
#define SQL_LIKE " OPERATOR(pg_catalog.~~) "
#define SQL_PLUS " OPERATOR(pg_catalog.+) "

/*
 * Refunds that wait for their own time. It ends when they went on meanwhile: then they are due at another time. A subplan
 * and not a join, which could read all refunds.
 */
#define SQL_SET_ASIDE_REFUNDS(now) \
	"SELECT s.refund_ref FROM order_timeout.set_aside_refunds s WHERE s.retry_at" SQL_GT now " AND s.due_at" SQL_EQ \
	"(SELECT a.next_attempt_at FROM order_timeout.refunds a WHERE a.refund_ref" SQL_EQ "s.refund_ref)"

/* A subplan and not a join, so that the index of open refunds gives the order. */
#define SQL_NOT_SET_ASIDE_REFUND(now) "NOT (refunds.refund_ref" SQL_EQ "ANY (" SQL_SET_ASIDE_REFUNDS(now) "))"

/* What a statement sees. */
typedef enum StatementSnapshot
{
	SNAPSHOT_OF_STATEMENT,		/* a new one at READ COMMITTED, else the transaction's; may write */
	SNAPSHOT_OF_CALLER,			/* that of the query that called us */
	SNAPSHOT_LATEST				/* a new one, also where the transaction's is older */
} StatementSnapshot;

typedef struct Statement
{
	const char *sql;			/* of a statement that reads rows only what follows SELECT ... FROM its table */
	StatementSnapshot snapshot;
	TableName	rows_of;		/* the table whose rows it reads, or TABLE_NONE */
	bool		as_caller;		/* of the user's own objects: the owner's rights are not for them */
	bool		once;			/* the plan is not kept */
	bool		as_stored;		/* all columns and nothing else, so that nothing is projected; versions are not known */
	SPIPlanPtr	plan;			/* kept for the session's life; PostgreSQL revalidates it */
} Statement;

/* Runs it; returns how many rows it touched. */
extern uint64 ot_run(Statement *statement, Args *args);

/* Runs a write of one row; it is an error if it touches none. */
extern void ot_run_write(Statement *statement, Args *args);

/* Runs a write of one row that ends in RETURNING; the answer is never NULL. */
typedef void *(*RowReader) (Columns *columns);
extern void *ot_run_returning(Statement *statement, Args *args, RowReader read);

/* The same for a statement that ends in RETURNING ctid, which becomes the row's version. False if it touches no row. */
extern bool ot_run_versioned(Statement *statement, Args *args, RowVersion *version);

/* Runs a statement that reads rows; they are in the caller's memory context: all of them, or the first one or NULL. */
extern List *ot_run_rows(Statement *statement, Args *args);
extern void *ot_run_row(Statement *statement, Args *args);

/* The same for a statement that answers with other columns. */
extern List *ot_run_list(Statement *statement, Args *args, RowReader read);
extern void *ot_run_one(Statement *statement, Args *args, RowReader read);

/* Runs it through a cursor, so that a result of any size fits; each row is freed after its visit. */
typedef void (*RowVisitor) (Columns *columns, void *state);
extern void ot_run_cursor(Statement *statement, Args *args, RowVisitor visit, void *state);

/* Reads one number, an int64. */
extern void *ot_read_int8(Columns *columns);

extern bool ot_owner_exists(void);

/* Once, when the library is loaded. */
extern void ot_statement_init(void);

/* A procedure that commits between its steps. */
extern void ot_procedure_begin(void);
extern void ot_procedure_commit(void);
extern void ot_procedure_end(void);

#endif
