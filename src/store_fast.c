/*
 * store_fast.c
 *    A table of ours, opened without SQL: what the fast store reads and writes goes straight to the heap and its
 *    indexes, with the executor's own functions for constraints and index entries.
 *
 * What an SQL statement looks up and builds anew each time (the indexes, the trees of the CHECKs and of the indexes'
 * predicates, slots) is kept here for the session, until the table's shape changes: PostgreSQL tells by a relcache
 * invalidation, which arrives at the latest when the table is locked, and a lock is held from there to the end of the
 * transaction.
 *
 * It serves a table only while it is as the extension made it, give or take an index: then no user's code can run in
 * between, and nothing has to be switched. Everything else is the SQL store's: row security, triggers, rules,
 * partitions, columns and constraints of others that call functions, and the isolation levels above READ COMMITTED,
 * where a row that changed meanwhile is an error and no reason to look at its latest version. The one kind of trigger
 * it serves are those of foreign keys that point at one of our primary keys, because no update changes such a key.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "store_fast.h"

#define MAX_COLUMNS 28
#define MAX_KEYS 4

/* Memory that a reset does not give back to the system: getting it anew each time would cost more than its use. */
#define KEPT_MEMORY 0, 256 * 1024, ALLOCSET_DEFAULT_MAXSIZE

typedef struct ColumnSpec
{
	const char *name;
	Oid			type;
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
	IndexSpec	indexes[FAST_INDEXES];	/* the first is the primary key */
	ColumnSpec	columns[MAX_COLUMNS];
} TableSpec;

/* As in sql/install/10_tables.sql. */
static const TableSpec specs[FAST_TABLES] = {
	[FAST_POLICIES] = {"policies", true, false, {{{1}}},
	{{"policy", TEXTOID}, {"pay_within", INTERVALOID}, {"late_rule", TEXTOID}, {"on_late", TEXTOID},
	{"refund_max_attempts", INT4OID}, {"refund_backoff", INTERVALOID}, {"refund_backoff_max", INTERVALOID},
	{"refund_jitter", FLOAT8OID}, {"refund_lease", INTERVALOID}, {"refund_settle_within", INTERVALOID},
	{"orphan_after", INTERVALOID}}},
	[FAST_ORDERS] = {"orders", false, false, {{{1}}, {{10}, 12}},
	{{"order_id", TEXTOID}, {"policy", TEXTOID}, {"state", TEXTOID}, {"amount", INT8OID}, {"currency", TEXTOID},
	{"paid", INT8OID}, {"refunded", INT8OID}, {"refund_pending", INT8OID}, {"held", INT8OID}, {"expires_at", TIMESTAMPTZOID},
	{"created_at", TIMESTAMPTZOID}, {"settled_at", TIMESTAMPTZOID}, {"close_reason", TEXTOID}, {"metadata", JSONBOID}}},
	[FAST_PAYMENTS] = {"payments", false, false, {{{1, 2}}, {{3}}},
	{{"gateway", TEXTOID}, {"payment_ref", TEXTOID}, {"order_id", TEXTOID}, {"amount", INT8OID}, {"currency", TEXTOID},
	{"paid_at", TIMESTAMPTZOID}, {"received_at", TIMESTAMPTZOID}, {"disposition", TEXTOID}, {"late_reason", TEXTOID},
	{"refunded", INT8OID}, {"refund_pending", INT8OID}, {"held", INT8OID}, {"held_at", TIMESTAMPTZOID},
	{"told_order_id", TEXTOID}, {"details", JSONBOID}}},
	[FAST_REFUNDS] = {"refunds", false, false, {{{1}}, {{11, 3}, 26}, {{3, 4}}, {{3, 15}, -15}},
	{{"refund_ref", TEXTOID}, {"order_id", TEXTOID}, {"gateway", TEXTOID}, {"payment_ref", TEXTOID}, {"amount", INT8OID},
	{"currency", TEXTOID}, {"reason", TEXTOID}, {"note", TEXTOID}, {"state", TEXTOID}, {"attempts", INT4OID},
	{"next_attempt_at", TIMESTAMPTZOID}, {"leased_until", TIMESTAMPTZOID}, {"lease_token", TEXTOID}, {"worker", TEXTOID},
	{"gateway_refund_ref", TEXTOID}, {"last_error", TEXTOID}, {"request_key", TEXTOID}, {"asked", INT8OID},
	{"handed_out_at", TIMESTAMPTZOID}, {"submitted_at", TIMESTAMPTZOID}, {"returned_at", TIMESTAMPTZOID},
	{"replaced_by", TEXTOID}, {"by_hand", BOOLOID}, {"attention_at", TIMESTAMPTZOID}, {"created_at", TIMESTAMPTZOID},
	{"settled_at", TIMESTAMPTZOID}}},
	[FAST_EVENTS] = {"events", false, true, {{{1}}},
	{{"id", INT8OID}, {"aggregatetype", TEXTOID}, {"aggregateid", TEXTOID}, {"type", TEXTOID}, {"payload", JSONBOID},
	{"created_at", TIMESTAMPTZOID}}},
};

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
	List	   *key_index;		/* the primary key */
	Oid			identity;		/* the sequence of column 1, or InvalidOid */
	TupleTableSlot *present;
	TupleTableSlot *written;

	/* Of one operation. */
	bool		busy;			/* stays true after an error: what the slots and relations point at is gone then */
	bool		wrote;
	MemoryContext caller_context;
	Relation	relation;
	Relation	looked_in;
	bool		locked;			/* the present row */
	bool		indexes_open;
	IndexScanDesc scan;
};

typedef enum StoreChoice
{
	STORE_AUTO,
	STORE_FAST,
	STORE_SQL
} StoreChoice;

static const struct config_enum_entry store_choices[] = {
	{"auto", STORE_AUTO, false},
	{"fast", STORE_FAST, false},
	{"sql", STORE_SQL, false},
	{NULL, 0, false}
};

static int	store_choice = STORE_AUTO;
static FastTable tables[FAST_TABLES];

static void
shape_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < FAST_TABLES; i++)
		if (!OidIsValid(relid) || tables[i].relid == relid)
			tables[i].valid = false;
}

/* The tables are found by the schema's name, which may be another one now. */
static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	shape_changed(arg, InvalidOid);
}

void
ot_fast_init(void)
{
	DefineCustomEnumVariable("order_timeout.store", "How the tables are read and written.",
							 "auto: without SQL where that is safe; fast: an error where it is not; sql: with SQL statements.",
							 &store_choice, STORE_AUTO, store_choices, PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("order_timeout");
	for (int i = 0; i < FAST_TABLES; i++)
		tables[i].spec = &specs[i];
	CacheRegisterRelcacheCallback(shape_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
}

/* Whether a table can be served. */

static bool
is_users_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

static bool
names_users_code(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, List))
		return expression_tree_walker(node, names_users_code, context);
	if (exprType(node) >= FirstNormalObjectId || check_functions_in_node(node, is_users_function, NULL))
		return true;
	return expression_tree_walker(node, names_users_code, context);
}

/*
 * PostgreSQL's own functions can lead to a user's code too: query_to_xml runs any SQL, array_in the CHECKs of domains. Those
 * that can are not immutable, or get a value whose type is a user's.
 */
static bool
runs_users_code(Node *node)
{
	return names_users_code(node, NULL) || contain_mutable_functions(node);
}

static const char *
columns_obstacle(Relation relation, const TableSpec *spec)
{
	TupleDesc	desc = RelationGetDescr(relation);
	TupleConstr *constr = desc->constr;
	int			count = 0;

	while (count < MAX_COLUMNS && spec->columns[count].name != NULL)
		count++;
	if (desc->natts != count)
		return "its columns are not those that the extension made";
	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped || column->attgenerated || column->atttypid != spec->columns[i].type ||
			strcmp(NameStr(column->attname), spec->columns[i].name) != 0 ||
			(column->attidentity != '\0') != (spec->identity && i == 0))
			return "its columns are not those that the extension made";
	}
	for (int i = 0; !spec->read_only && constr != NULL && i < constr->num_check; i++)
		if (runs_users_code(stringToNode(constr->check[i].ccbin)))
			return "a CHECK may run code that is not PostgreSQL's own";
	return NULL;
}

/* Foreign keys that point at the primary key ask nothing of an update that leaves it as it is. */
static const char *
triggers_obstacle(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	(void) RelationGetIndexList(relation);	/* fills rd_pkindex */
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (RI_FKey_trigger_type(triggers->triggers[i].tgfoid) != RI_TRIGGER_PK ||
			triggers->triggers[i].tgconstrindid != relation->rd_pkindex)
			return "it has triggers";
	return NULL;
}

static const char *
index_obstacle(Relation index)
{
	if (index->rd_rel->relam != BTREE_AM_OID)
		return "one of its indexes is not a btree";
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		if (index->rd_opfamily[i] >= FirstNormalObjectId)
			return "one of its indexes has an operator class that is not PostgreSQL's own";
	if (runs_users_code((Node *) RelationGetIndexExpressions(index)) ||
		runs_users_code((Node *) RelationGetIndexPredicate(index)))
		return "one of its indexes may run code that is not PostgreSQL's own";
	return NULL;
}

static const char *
shape_obstacle(Relation relation, const TableSpec *spec)
{
	const char *obstacle;

	if (relation->rd_rel->relkind != RELKIND_RELATION || relation->rd_tableam != GetHeapamTableAmRoutine())
		return "it is not a plain heap table";
	if (relation->rd_rel->relispartition || relation->rd_rel->relhassubclass)
		return "it has partitions or children, or is one";
	if (relation->rd_rel->relrowsecurity)
		return "it has row security";
	if (OidIsValid(get_extension_oid("citus", true)))
		return "it may be distributed: extension \"citus\" is in this database";
	obstacle = columns_obstacle(relation, spec);
	if (obstacle != NULL || spec->read_only)
		return obstacle;
	if (relation->rd_rules != NULL)
		return "it has rules";
	return triggers_obstacle(relation);
}

/* Building. */

static bool
is_index(Relation index, const IndexSpec *spec)
{
	int			count = spec->columns[1] != 0 ? 2 : 1;
	List	   *predicate = RelationGetIndexPredicate(index);

	if (spec->columns[0] == 0 || !index->rd_index->indisvalid || index->rd_index->indnkeyatts != count)
		return false;
	for (int i = 0; i < count; i++)
		if (index->rd_index->indkey.values[i] != spec->columns[i] || index->rd_indoption[i] != 0 ||
			(OidIsValid(index->rd_indcollation[i]) && index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	if (spec->predicate == 0 || predicate == NIL)
		return spec->predicate == 0 && predicate == NIL;
	if (list_length(predicate) == 1 && IsA(linitial(predicate), NullTest))
	{
		NullTest   *test = linitial(predicate);

		return IsA(test->arg, Var) && ((Var *) test->arg)->varattno == abs(spec->predicate) &&
			test->nulltesttype == (spec->predicate > 0 ? IS_NULL : IS_NOT_NULL);
	}
	return false;
}

/* Others may have been made with the same columns. */
static bool
is_primary_key(Relation index)
{
	return index->rd_index->indisprimary && index->rd_index->indimmediate;
}

static const char *
build_index(FastTable *table, int i, Oid oid)
{
	Relation	index = index_open(oid, RowExclusiveLock);
	const char *obstacle = index_obstacle(index);

	table->index_oids[i] = oid;
	table->result->ri_IndexRelationInfo[i] = BuildIndexInfo(index);
	for (int j = 0; j < FAST_INDEXES; j++)
		if (is_index(index, &table->spec->indexes[j]) && (j > 0 || is_primary_key(index)))
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
		if (table->spec->indexes[j].columns[0] != 0 && !OidIsValid(table->lookups[j]))
			return "an index that the extension made is not there";
	table->key_index = list_make1_oid(table->lookups[0]);
	return NULL;
}

/* In the estate's memory. No triggers are put into result: those that are there have nothing to do. */
static const char *
build_state(FastTable *table, Relation relation)
{
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(relation));

	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, relation, 0, NULL, 0);
	table->result->ri_TrigDesc = NULL;
	table->present = MakeSingleTupleTableSlot(desc, &TTSOpsBufferHeapTuple);
	table->written = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	table->identity = table->spec->identity ? ot_identity_sequence(relation, 1) : InvalidOid;
	return build_indexes(table, relation);
}

/* After an error the slots hold pins that are gone: they are forgotten with their memory and never cleared. */
static void
forget(FastTable *table)
{
	if (table->estate != NULL)
		MemoryContextDelete(table->estate->es_query_cxt);
	table->estate = NULL;
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
	table->obstacle = shape_obstacle(relation, table->spec);
	if (table->obstacle == NULL)
	{
		MemoryContextSwitchTo(CacheMemoryContext);
		table->estate = CreateExecutorState();
		MemoryContextSwitchTo(table->estate->es_query_cxt);
		(void) GetPerTupleExprContext(table->estate);
		table->row_context = AllocSetContextCreate(table->estate->es_query_cxt, "order_timeout rows", KEPT_MEMORY);
		table->obstacle = build_state(table, relation);
	}
	table->busy = false;
	MemoryContextSwitchTo(previous);
	table_close(relation, NoLock);
}

/* Locks the table, and knows it as it is then. False if it is not there. */
static bool
find_table(FastTable *table)
{
	LOCKMODE	mode = table->spec->read_only ? AccessShareLock : RowExclusiveLock;

	for (;;)
	{
		if (!table->valid || table->busy)
		{
			Oid			namespace = get_namespace_oid("order_timeout", true);

			forget(table);
			table->relid = OidIsValid(namespace) ? get_relname_relid(table->spec->name, namespace) : InvalidOid;
			if (!OidIsValid(table->relid))
				return false;
			LockRelationOid(table->relid, mode);
			if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table->relid)))
				continue;		/* it was dropped meanwhile */
			build(table);
		}
		else
			LockRelationOid(table->relid, mode);
		if (table->valid)
			return true;
	}
}

static bool
refuse(const TableSpec *spec, const char *obstacle)
{
	if (store_choice == STORE_FAST)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the fast store cannot serve table \"%s\"", spec->name),
				 errdetail("The reason: %s.", obstacle),
				 errhint("SET order_timeout.store = 'auto' uses SQL statements where it has to.")));
	return false;
}

bool
ot_fast_serves(FastTableName name)
{
	FastTable  *table = &tables[name];

	if (store_choice == STORE_SQL)
		return false;
	/* SQL statements raise the right errors. */
	if (XactReadOnly || IsInParallelMode() || RecoveryInProgress())
		return false;
	if (IsolationUsesXactSnapshot())
		return refuse(table->spec, "the transaction's isolation level is not READ COMMITTED");
	if (!find_table(table))
		return false;
	return table->obstacle == NULL || refuse(table->spec, table->obstacle);
}

/* Operations. */

FastTable *
ot_fast_begin(FastTableName name)
{
	FastTable  *table = &tables[name];

	/* Valid or not: what an invalidation since then is about cannot have changed what we hold a lock on. */
	Assert(table->obstacle == NULL && !table->busy);
	CommandCounterIncrement();	/* the caller's own writes are to be seen, as by a statement */
	table->busy = true;
	table->relation = table->result->ri_RelationDesc = table_open(table->relid, NoLock);
	table->scan = NULL;
	table->indexes_open = table->wrote = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	table->caller_context = MemoryContextSwitchTo(table->row_context);
	return table;
}

static void
end_look(FastTable *table)
{
	if (table->scan == NULL)
		return;
	ExecClearTuple(table->present);
	index_endscan(table->scan);
	index_close(table->looked_in, NoLock);
	table->scan = NULL;
}

static void
close_indexes(FastTable *table)
{
	if (table->indexes_open)
		for (int i = 0; i < table->result->ri_NumIndices; i++)
			index_close(table->result->ri_IndexRelationDescs[i], NoLock);
	table->indexes_open = false;
}

void
ot_fast_end(FastTable *table)
{
	close_indexes(table);
	end_look(table);
	ExecClearTuple(table->present);
	ExecClearTuple(table->written);
	MemoryContextSwitchTo(table->caller_context);
	ResetPerTupleExprContext(table->estate);
	MemoryContextReset(table->row_context);
	PopActiveSnapshot();
	table_close(table->relation, NoLock);
	table->busy = false;
	if (table->wrote)
		CommandCounterIncrement();
}

void
ot_fast_look(FastTable *table, FastIndex index, const FastKey *keys, int count)
{
	ScanKeyData scan_keys[MAX_KEYS];

	Assert(count <= MAX_KEYS);
	end_look(table);
	table->looked_in = index_open(table->lookups[index], RowExclusiveLock);
	for (int i = 0; i < count; i++)
		ScanKeyEntryInitialize(&scan_keys[i], 0, keys[i].column, keys[i].strategy, InvalidOid,
							   table->looked_in->rd_indcollation[keys[i].column - 1], keys[i].function, keys[i].value);
	table->scan = ot_index_beginscan(table->relation, table->looked_in, GetActiveSnapshot(), count);
	index_rescan(table->scan, scan_keys, count, NULL, 0);
}

bool
ot_fast_next(FastTable *table)
{
	table->locked = false;
	return index_getnext_slot(table->scan, ForwardScanDirection, table->present);
}

static HeapTupleHeader
header(FastTable *table)
{
	return ((HeapTupleTableSlot *) table->present)->tuple->t_data;
}

/*
 * A place may hold another row by now, if nothing kept the version that was read there: its inserting transaction tells
 * them apart, since it had ended when the version was read, or was ours.
 */
bool
ot_fast_fetch(FastTable *table, const RowVersion *version)
{
	ItemPointerData tid = version->tid;

	return ItemPointerIsValid(&tid) &&
		table_tuple_fetch_row_version(table->relation, &tid, GetActiveSnapshot(), table->present) &&
		HeapTupleHeaderGetRawXmin(header(table)) == version->xmin;
}

RowVersion
ot_fast_version(FastTable *table)
{
	RowVersion	version = {table->present->tts_tid, HeapTupleHeaderGetRawXmin(header(table)), table->locked};

	return version;
}

bool
ot_fast_is_untouched(FastTable *table)
{
	return (header(table)->t_infomask & HEAP_XMAX_INVALID) != 0;
}

bool
ot_fast_lock(FastTable *table, LockWaitPolicy wait_policy)
{
	ItemPointerData tid = table->present->tts_tid;
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_lock(table->relation, &tid, GetActiveSnapshot(), table->present, GetCurrentCommandId(true),
							  LockTupleNoKeyExclusive, wait_policy,
							  TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS | TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	switch (result)
	{
		case TM_Ok:
			table->locked = true;
			return true;
		case TM_Deleted:
		case TM_WouldBlock:
			return false;
		default:
			elog(ERROR, "unexpected result of locking a row: %d", result);
	}
}

void *
ot_fast_read(FastTable *table, FastReader read)
{
	MemoryContext previous = MemoryContextSwitchTo(table->caller_context);
	Columns		columns = {0};
	void	   *row;

	slot_getallattrs(table->present);
	columns.values = table->present->tts_values;
	columns.nulls = table->present->tts_isnull;
	columns.desc = table->present->tts_tupleDescriptor;
	row = read(&columns);
	MemoryContextSwitchTo(previous);
	return row;
}

List *
ot_fast_append(FastTable *table, List *rows, void *row)
{
	MemoryContext previous = MemoryContextSwitchTo(table->caller_context);

	rows = lappend(rows, row);
	MemoryContextSwitchTo(previous);
	return rows;
}

/* Writes. */

static void
open_indexes(FastTable *table)
{
	if (table->indexes_open)
		return;
	table->indexes_open = true;
	for (int i = 0; i < table->result->ri_NumIndices; i++)
		table->result->ri_IndexRelationDescs[i] = index_open(table->index_oids[i], RowExclusiveLock);
}

/* Columns without an argument come from before, if there is one. */
static void
fill(TupleTableSlot *slot, const Args *args, TupleTableSlot *before)
{
	int			count = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, args->values, args->count * sizeof(Datum));
	memcpy(slot->tts_isnull, args->nulls, args->count * sizeof(bool));
	if (before != NULL)
		slot_getallattrs(before);
	for (int i = args->count; i < count; i++)
	{
		slot->tts_values[i] = before != NULL ? before->tts_values[i] : (Datum) 0;
		slot->tts_isnull[i] = before != NULL ? before->tts_isnull[i] : true;
	}
	ExecStoreVirtualTuple(slot);
}

static void
fill_and_check(FastTable *table, CmdType command, const Args *args, TupleTableSlot *before)
{
	CheckCmdReplicaIdentity(table->relation, command);
	fill(table->written, args, before);
	table->written->tts_tableOid = table->relid;
	ExecConstraints(table->result, table->written, table->estate);
}

void
ot_fast_insert(FastTable *table, const Args *args)
{
	fill_and_check(table, CMD_INSERT, args, NULL);
	open_indexes(table);
	table_tuple_insert(table->relation, table->written, GetCurrentCommandId(true), 0, NULL);
	(void) ot_insert_index_entries(table->result, table->written, table->estate, false, false, NULL, NIL, false);
	table->wrote = true;
}

/* As INSERT ... ON CONFLICT does it, but who meets somebody is not told who it was. */
bool
ot_fast_insert_new(FastTable *table, const Args *args)
{
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	uint32		token;

	fill_and_check(table, CMD_INSERT, args, NULL);
	open_indexes(table);
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(table->relation, table->written, GetCurrentCommandId(true), 0, NULL, token);
	(void) ot_insert_index_entries(table->result, table->written, table->estate, false, true, &conflict,
								   table->key_index, false);
	table_tuple_complete_speculative(table->relation, table->written, token, !conflict);
	SpeculativeInsertionLockRelease(xid);
	table->wrote = true;
	return !conflict;
}

void
ot_fast_insert_many(FastTable *table, const Args *rows, int count)
{
	TupleTableSlot **slots = palloc(count * sizeof(TupleTableSlot *));
	BulkInsertState bulk = GetBulkInsertState();

	CheckCmdReplicaIdentity(table->relation, CMD_INSERT);
	for (int i = 0; i < count; i++)
	{
		slots[i] = MakeTupleTableSlot(table->written->tts_tupleDescriptor, &TTSOpsVirtual);
		slots[i]->tts_tableOid = table->relid;
		fill(slots[i], &rows[i], NULL);
		ExecConstraints(table->result, slots[i], table->estate);
	}
	open_indexes(table);
	table_multi_insert(table->relation, slots, count, GetCurrentCommandId(true), 0, bulk);
	for (int i = 0; i < count; i++)
		(void) ot_insert_index_entries(table->result, slots[i], table->estate, false, false, NULL, NIL, false);
	table->wrote = true;
	FreeBulkInsertState(bulk);
}

static bool
update(FastTable *table, const Args *args, bool wait)
{
	ItemPointerData tid = table->present->tts_tid;
	TM_FailureData failure;
	LockTupleMode mode;
	UpdatedIndexes indexes;
	TM_Result	result;

	fill_and_check(table, CMD_UPDATE, args, table->present);
	result = table_tuple_update(table->relation, &tid, table->written, GetCurrentCommandId(true), GetActiveSnapshot(),
								InvalidSnapshot, wait, &failure, &mode, &indexes);
	if (result != TM_Ok)
		return false;
	table->wrote = true;
	if (ot_needs_index_entries(indexes))
	{
		open_indexes(table);
		(void) ot_insert_index_entries(table->result, table->written, table->estate, true, false, NULL, NIL,
									   ot_only_summarizing(indexes));
	}
	return true;
}

void
ot_fast_update(FastTable *table, const Args *args)
{
	if (!update(table, args, true))
		elog(ERROR, "a locked row of \"%s\" has changed", table->spec->name);
}

bool
ot_fast_update_if_free(FastTable *table, const Args *args)
{
	return update(table, args, false);
}

int64
ot_fast_next_identity(FastTable *table)
{
	return nextval_internal(table->identity, false);
}
