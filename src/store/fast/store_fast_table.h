/*
 * store_fast_table.h
 *    Private to the fast store: what is known of a table, kept for the session.
 */
#ifndef OT_STORE_FAST_TABLE_H
#define OT_STORE_FAST_TABLE_H

#include "postgres.h"

#include "access/genam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#include "store_fast.h"

#define OT_FAST_COLUMNS 28

typedef struct ColumnSpec
{
	const char *name;
	Oid			type;
	bool		fixed;			/* no update changes it */
} ColumnSpec;

/* An index that is looked for by its columns; the predicate is that a column is null (its number), or is not (negative). */
typedef struct IndexSpec
{
	int			columns[2];
	int			predicate;
} IndexSpec;

typedef struct TableSpec
{
	const char *name;
	bool		read_only;
	bool		identity;		/* the first column numbers itself */
	int			checks;
	IndexSpec	indexes[FAST_INDEXES];	/* the first is the primary key */
	ColumnSpec	columns[OT_FAST_COLUMNS];
} TableSpec;

struct FastTable
{
	const TableSpec *spec;

	/* Kept while the shape stays. */
	bool		valid;
	Oid			relid;
	const char *obstacle;		/* why it cannot be served, or NULL; what follows is there only then */
	EState	   *estate;			/* its memory holds all of this */
	MemoryContext row_context;	/* of one operation */
	ResultRelInfo *result;
	Oid		   *index_oids;		/* of all indexes, as result has them */
	Oid			lookups[FAST_INDEXES];	/* of those in spec */
	Oid			identity;		/* the sequence of column 1, or InvalidOid */
	TupleTableSlot *present;
	TupleTableSlot *written;

	/* Of one operation. */
	bool		busy;			/* stays true after an error: what the slots and relations point at is gone then */
	bool		wrote;
	bool		own_snapshot;
	MemoryContext caller_context;
	Relation	relation;
	Relation	looked_in;
	bool		locked;			/* the present row */
	bool		indexes_open;
	IndexScanDesc scan;
};

/* Once, when the library is loaded. */
extern void ot_fast_watch_tables(void);

extern FastTable ot_fast_tables[FAST_TABLES];

/* Locks the table, and knows it as it is then. False if it is not there. */
extern bool ot_fast_find_table(FastTable *table);

/* Why a table cannot be served, or one of its indexes; NULL if it can. */
extern const char *ot_fast_table_obstacle(Relation relation, const TableSpec *spec);
extern const char *ot_fast_index_obstacle(Relation index);

#endif
