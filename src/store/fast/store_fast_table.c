/*
 * store_fast_table.c
 *    What the fast store knows of a table.
 *
 * What an SQL statement looks up and builds again each time (the indexes, the trees of the CHECKs and of the indexes'
 * predicates, slots) is kept here for the session, until the table's shape changes: PostgreSQL reports that by a relcache
 * invalidation, which arrives at the latest when the table is locked, and a lock is held from there to the end of the
 * transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "store_fast_obstacle.h"
#include "store_fast_table.h"

/*
 * Memory that a reset does not give back to the system: getting it again each time would cost more than its use. It is all
 * freed at once, and what an index scan allocates is too large for a chunk of the usual kind of context.
 */
#define KEPT_MEMORY 0, 256 * 1024, ALLOCSET_DEFAULT_MAXSIZE

/* An index that is looked for by its columns; the predicate is that a column is null, or that the first one is not. */
typedef struct IndexSpec
{
	const char *columns[2];
	const char *null_column;
	bool		first_not_null;
} IndexSpec;

/* The first is the primary key. */
static const IndexSpec indexes[OT_TABLES][FAST_INDEXES] = {
	[TABLE_POLICIES] = {{{"policy"}}},
	[TABLE_ORDERS] = {{{"order_id"}}, [ORDERS_DUE] = {{"closes_at"}, "settled_at"}},
	[TABLE_PAYMENTS] = {{{"gateway", "payment_ref"}}, [PAYMENTS_ORDER] = {{"order_id"}}},
	[TABLE_REFUNDS] = {
		{{"refund_ref"}},
		[REFUNDS_OPEN] = {{"next_attempt_at", "gateway"}, "settled_at"},
		[REFUNDS_GATEWAY_REFUND] = {{"gateway_refund_ref", "gateway"}, NULL, true}
	},
	[TABLE_ATTEMPTS] = {{{"gateway", "attempt_ref"}}},
	[TABLE_EVENTS] = {{{"id"}}}
};

FastTable	ot_fast_tables[OT_TABLES];

static bool
is_about(const FastTable *table, Oid relid)
{
	if (!OidIsValid(relid) || table->relid == relid)
		return true;
	for (int i = 0; table->result != NULL && i < table->result->ri_NumIndices; i++)
		if (table->index_oids[i] == relid)
			return true;
	return false;
}

static void
shape_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < OT_TABLES; i++)
		if (ot_fast_tables[i].valid && is_about(&ot_fast_tables[i], relid))
			ot_fast_tables[i].valid = false;
}

/* The tables are found by the schema's name, which may be another one now. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	shape_changed(arg, InvalidOid);
}

void
ot_fast_watch_tables(void)
{
	for (int i = 0; i < OT_TABLES; i++)
	{
		ot_fast_tables[i].name = i;
		ot_fast_tables[i].spec = &ot_tables[i];
	}
	CacheRegisterRelcacheCallback(shape_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
}

/* Building. */

static bool
is_column(const FastTable *table, AttrNumber column, const char *name)
{
	return column > 0 && strcmp(table->spec->columns[column - 1].name, name) == 0;
}

static bool
has_columns(const FastTable *table, Relation index, const IndexSpec *spec)
{
	int			count = spec->columns[1] != NULL ? 2 : 1;

	if (index->rd_index->indnkeyatts != count)
		return false;
	for (int i = 0; i < count; i++)
		if (!is_column(table, index->rd_index->indkey.values[i], spec->columns[i]) || index->rd_indoption[i] != 0 ||
			(OidIsValid(index->rd_indcollation[i]) && index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	return true;
}

static bool
has_predicate(const FastTable *table, Relation index, const IndexSpec *spec)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	const char *column = spec->first_not_null ? spec->columns[0] : spec->null_column;
	NullTest   *test;

	if (column == NULL || predicate == NIL)
		return column == NULL && predicate == NIL;
	if (list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
		return false;
	test = linitial(predicate);
	return IsA(test->arg, Var) && is_column(table, ((Var *) test->arg)->varattno, column) &&
		test->nulltesttype == (spec->first_not_null ? IS_NOT_NULL : IS_NULL);
}

static bool
is_index(const FastTable *table, Relation index, const IndexSpec *spec)
{
	return spec->columns[0] != NULL && index->rd_index->indisvalid &&
		has_columns(table, index, spec) && has_predicate(table, index, spec);
}

/* Others may have been made with the same columns. */
static bool
is_primary_key(Relation index)
{
	return index->rd_index->indisprimary && index->rd_index->indimmediate;
}

/*
 * An entry that an update writes again with the values that it had is a hint to clear the old ones away. The executor
 * knows that from the columns that a statement sets; here there is no statement.
 */
static void
hint_unchanged(const FastTable *table, IndexInfo *info)
{
	info->ii_CheckedUnchanged = true;
	info->ii_IndexUnchanged = true;
	for (int i = 0; i < info->ii_NumIndexKeyAttrs; i++)
	{
		AttrNumber	column = info->ii_IndexAttrNumbers[i];

		if (column <= 0 || !table->spec->columns[column - 1].fixed)
			info->ii_IndexUnchanged = false;
	}
}

static const char *
build_index(FastTable *table, int i, Oid oid)
{
	Relation	index = index_open(oid, RowExclusiveLock);
	const char *obstacle = ot_fast_index_obstacle(index);

	table->index_oids[i] = oid;
	table->result->ri_IndexRelationInfo[i] = BuildIndexInfo(index);
	hint_unchanged(table, table->result->ri_IndexRelationInfo[i]);
	for (int j = 0; j < FAST_INDEXES; j++)
		if (is_index(table, index, &indexes[table->name][j]) && (j > 0 || is_primary_key(index)))
			table->lookups[j] = oid;
	index_close(index, NoLock);
	return obstacle;
}

static const char *
build_indexes(FastTable *table, Relation relation)
{
	List	   *oids = RelationGetIndexList(relation);
	int			count = list_length(oids);

	table->index_oids = palloc(count * sizeof(Oid));
	table->result->ri_NumIndices = count;
	table->result->ri_IndexRelationDescs = palloc0(count * sizeof(Relation));
	table->result->ri_IndexRelationInfo = palloc0(count * sizeof(IndexInfo *));
	memset(table->lookups, 0, sizeof(table->lookups));
	for (int i = 0; i < count; i++)
	{
		const char *obstacle = build_index(table, i, list_nth_oid(oids, i));

		if (obstacle != NULL)
			return obstacle;
	}
	for (int j = 0; j < FAST_INDEXES; j++)
		if (indexes[table->name][j].columns[0] != NULL && !OidIsValid(table->lookups[j]))
			return "an index that the extension made is not there";
	return NULL;
}

/* In the estate's memory. No triggers are put into result: those that are there have nothing to do. */
static const char *
build_state(FastTable *table, Relation relation)
{
	TupleDesc	desc = CreateTupleDescCopyConstr(RelationGetDescr(relation));

	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, relation, 0, NULL, 0);
	table->result->ri_TrigDesc = NULL;
	table->present = MakeSingleTupleTableSlot(desc, &TTSOpsBufferHeapTuple);
	table->written = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	table->identity = table->spec->key_columns == 0 ? ot_identity_sequence(relation, 1) : InvalidOid;
	return build_indexes(table, relation);
}

/* After an error the slots hold pins that are gone: they are forgotten with their memory and never cleared. */
static void
forget(FastTable *table)
{
	if (table->estate != NULL)
		MemoryContextDelete(table->estate->es_query_cxt);
	table->estate = NULL;
	table->result = NULL;
	table->valid = table->busy = false;
}

static void
build(FastTable *table)
{
	Relation	relation = table_open(table->relid, NoLock);
	MemoryContext previous = CurrentMemoryContext;

	forget(table);
	table->busy = true;			/* an error in here leaves it half built */
	table->valid = true;		/* until an invalidation says otherwise, in the middle of this too */
	table->obstacle = ot_fast_table_obstacle(relation, table->spec);
	if (table->obstacle == NULL)
	{
		MemoryContextSwitchTo(CacheMemoryContext);
		table->estate = CreateExecutorState();
		MemoryContextSwitchTo(table->estate->es_query_cxt);
		(void) GetPerTupleExprContext(table->estate);
		table->row_context = GenerationContextCreate(table->estate->es_query_cxt, "order_timeout rows", KEPT_MEMORY);
		table->obstacle = build_state(table, relation);
	}
	table->busy = false;
	MemoryContextSwitchTo(previous);
	table_close(relation, NoLock);
}

static Oid
find_relid(const char *name)
{
	Oid			namespace = get_namespace_oid("order_timeout", true);

	return OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;
}

bool
ot_fast_find_table(FastTable *table)
{
	LOCKMODE	mode = table->spec->read_only ? AccessShareLock : RowExclusiveLock;

	for (;;)
	{
		if (!table->valid || table->busy)
		{
			forget(table);
			table->relid = find_relid(table->spec->name);
			if (!OidIsValid(table->relid))
				return false;
			LockRelationOid(table->relid, mode);
			if (find_relid(table->spec->name) != table->relid)
				continue;		/* it was dropped or renamed meanwhile */
			build(table);
			return true;		/* invalid again or not: now there is a lock, what it says cannot change */
		}
		LockRelationOid(table->relid, mode);
		if (table->valid)
			return true;
	}
}
