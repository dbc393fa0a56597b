/*
 * store_fast.h
 *    Private to the fast store: a table of ours, opened without SQL.
 */
#ifndef OT_STORE_FAST_H
#define OT_STORE_FAST_H

#include "postgres.h"

#include "access/stratnum.h"
#include "nodes/lockoptions.h"
#include "nodes/pg_list.h"
#include "store_fast_table.h"
#include "store_table.h"
#include "store_values.h"

/* A condition on a column of an index, counted from 1, as an operator of btree. */
typedef struct FastKey
{
	int			column;
	StrategyNumber strategy;
	RegProcedure function;
	Datum		value;
} FastKey;

/*
 * What one operation does lies between these two. Its memory is gone after it, whatever read returns is the caller's.
 * It takes a new snapshot when it first looks for something.
 */
extern FastTable *ot_fast_begin(TableName name);
extern void ot_fast_end(FastTable *table);

/* Makes the rows of an index's range come one after the other, in the index's order; ot_fast_end ends that too. */
extern void ot_fast_look(FastTable *table, FastIndex index, const FastKey *keys, int count);
extern bool ot_fast_next(FastTable *table);

/* Makes that version the current row, if it is the latest one that can be seen. */
extern bool ot_fast_fetch(FastTable *table, const RowVersion *version);

/* Whether the current row was never locked or changed; if it was, only locking it shows whether it is free. */
extern bool ot_fast_is_untouched(FastTable *table);

/*
 * Locks the current row in its latest version. False if it is gone, or another transaction has it and wait_policy does
 * not wait.
 */
extern bool ot_fast_lock(FastTable *table, LockWaitPolicy wait_policy);

/* The current row, which is the caller's, with its version. */
extern void *ot_fast_read(FastTable *table);

/* A list that outlives the operation, like what was read. */
extern List *ot_fast_append(FastTable *table, List *rows, void *row);

/* Writes. Columns beyond the arguments are NULL in a new row; an update leaves them as they are, and those that are fixed. */
extern void ot_fast_insert(FastTable *table, const Args *args);

/* False, and nothing is written, when a unique index has a row with its values, or may have one in a moment. */
extern bool ot_fast_insert_new(FastTable *table, const Args *args);
extern void ot_fast_insert_many(FastTable *table, const Args *rows, int count);
extern void ot_fast_update(FastTable *table, const Args *args);

/*
 * False, and nothing is written, when the current row is not the latest, or another transaction has it. PostgreSQL itself
 * never updates so, and asserts that the row is free: the caller has just seen it untouched (ot_fast_is_untouched). Look
 * at heap_update again with each major; test/specs/race_sweep_between.spec is about it.
 */
extern bool ot_fast_update_if_free(FastTable *table, const Args *args);

/* The version of the row that was written last. */
extern void ot_fast_set_written(FastTable *table, RowVersion *version);

/* The next number of the table's identity column. */
extern int64 ot_fast_next_identity(FastTable *table);

#endif
