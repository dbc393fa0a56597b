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

#include "store_table.h"

/* The indexes that the fast store reads, by their columns; a table's own begin with 0. */
typedef enum FastIndex
{
	KEY_INDEX = 0,
	ORDERS_DUE = 1,
	PAYMENTS_ORDER = 1,
	REFUNDS_OPEN = 1,
	REFUNDS_GATEWAY_REFUND,
	FAST_INDEXES
} FastIndex;

typedef struct FastTable
{
	TableName	name;
	const TableSpec *spec;

	/* Kept while the shape stays. */
	bool		valid;
	Oid			relid;
	const char *obstacle;		/* why it cannot be served, or NULL; what follows is there only then */
	EState	   *estate;			/* its memory holds all of this */
	MemoryContext row_context;	/* of one operation */
	ResultRelInfo *result;
	Oid		   *index_oids;		/* of all indexes, as result has them */
	Oid			lookups[FAST_INDEXES];	/* of those that it reads */
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
	bool		locked;			/* the current row */
	bool		indexes_open;
	IndexScanDesc scan;
} FastTable;

/* Once, when the library is loaded. */
extern void ot_fast_watch_tables(void);

extern FastTable ot_fast_tables[OT_TABLES];

/* Locks the table, and knows it as it is then. False if it is not there. */
extern bool ot_fast_find_table(FastTable *table);

#endif
