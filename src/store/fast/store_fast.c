/*
 * store_fast.c
 *    A table of ours, opened without SQL: what the fast store reads and writes goes straight to the heap and its
 *    indexes, with the executor's own functions for constraints and index entries.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store_fast.h"

#define MAX_KEYS 4

static void
take_snapshot(FastTable *table)
{
	if (table->own_snapshot)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	table->own_snapshot = true;
}

FastTable *
ot_fast_begin(TableName name)
{
	FastTable  *table = &ot_fast_tables[name];

	/* Valid or not: what an invalidation since then is about cannot have changed what we hold a lock on. */
	Assert(table->obstacle == NULL && !table->busy);
	CommandCounterIncrement();	/* the caller's own writes are to be seen, as by a statement */
	table->busy = true;
	table->relation = table->result->ri_RelationDesc = table_open(table->relid, NoLock);
	table->scan = NULL;
	table->indexes_open = table->wrote = table->locked = table->own_snapshot = false;
	if (!ActiveSnapshotSet())
		take_snapshot(table);	/* a write needs one too, no matter which */
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
	if (table->own_snapshot)
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
	take_snapshot(table);
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
 * A place may hold another row by now, if nothing kept the version that was read there: the transaction that inserted it
 * shows which one it is, since it had ended when the version was read, or was ours. What is locked needs no new snapshot:
 * no other transaction can have changed it, so only our own changes matter, and those SnapshotSelf sees.
 */
bool
ot_fast_fetch(FastTable *table, const RowVersion *version)
{
	ItemPointerData tid = version->tid;

	if (!version->locked)
		take_snapshot(table);
	table->locked = false;
	return ItemPointerIsValid(&tid) &&
		table_tuple_fetch_row_version(table->relation, &tid, version->locked ? SnapshotSelf : GetActiveSnapshot(),
									  table->present) &&
		HeapTupleHeaderGetRawXmin(header(table)) == version->xmin;
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

static void
set_version(FastTable *table, RowVersion *version)
{
	version->tid = table->present->tts_tid;
	version->xmin = HeapTupleHeaderGetRawXmin(header(table));
	version->locked = table->locked;
}

void *
ot_fast_read(FastTable *table)
{
	MemoryContext previous = MemoryContextSwitchTo(table->caller_context);
	Columns		columns = {0};
	void	   *row;

	slot_getallattrs(table->present);
	columns.values = table->present->tts_values;
	columns.nulls = table->present->tts_isnull;
	columns.desc = table->present->tts_tupleDescriptor;
	row = ot_row_read(table->name, &columns);
	if (table->spec->versioned)
		set_version(table, ot_row_version(table->name, row));
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

/* A new row: columns without an argument are NULL. */
static void
fill_new(FastTable *table, TupleTableSlot *slot, const Args *args)
{
	int			count = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, args->values, args->count * sizeof(Datum));
	memcpy(slot->tts_isnull, args->nulls, args->count * sizeof(bool));
	memset(slot->tts_isnull + args->count, true, (count - args->count) * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = table->relid;
	ExecConstraints(table->result, slot, table->estate);
}

/*
 * The current row, with new values. What no update changes stays as it is stored: a key that was stored compressed would
 * look like another one if it was written again.
 */
static void
fill_changed(FastTable *table, const Args *args)
{
	TupleTableSlot *before = table->present;
	TupleTableSlot *slot = table->written;
	int			count = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	slot_getallattrs(before);
	for (int i = 0; i < count; i++)
	{
		bool		stays = i >= args->count || table->spec->columns[i].fixed;

		slot->tts_values[i] = stays ? before->tts_values[i] : args->values[i];
		slot->tts_isnull[i] = stays ? before->tts_isnull[i] : args->nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = table->relid;
	ExecConstraints(table->result, slot, table->estate);
}

void
ot_fast_insert(FastTable *table, const Args *args)
{
	CheckCmdReplicaIdentity(table->relation, CMD_INSERT);
	fill_new(table, table->written, args);
	open_indexes(table);
	table_tuple_insert(table->relation, table->written, GetCurrentCommandId(true), 0, NULL);
	(void) ot_insert_index_entries(table->result, table->written, table->estate, false, false, NULL, NIL, false);
	table->wrote = true;
}

/*
 * As INSERT ... ON CONFLICT does it, but it does not say which row it met, nor in which unique index: the key may have two
 * while one of them is rebuilt.
 */
bool
ot_fast_insert_new(FastTable *table, const Args *args)
{
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	uint32		token;

	CheckCmdReplicaIdentity(table->relation, CMD_INSERT);
	fill_new(table, table->written, args);
	open_indexes(table);
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(table->relation, table->written, GetCurrentCommandId(true), 0, NULL, token);
	(void) ot_insert_index_entries(table->result, table->written, table->estate, false, true, &conflict,
								   NIL, false);
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
		fill_new(table, slots[i], &rows[i]);
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

	CheckCmdReplicaIdentity(table->relation, CMD_UPDATE);
	fill_changed(table, args);
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

void
ot_fast_set_written(FastTable *table, RowVersion *version)
{
	version->tid = table->written->tts_tid;
	version->xmin = GetCurrentTransactionId();
	version->locked = true;
}

int64
ot_fast_next_identity(FastTable *table)
{
	return nextval_internal(table->identity, false);
}
