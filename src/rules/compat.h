/*
 * compat.h
 *    What differs between PostgreSQL 15, 17 and 18. The only file that asks for PG_VERSION_NUM.
 */
#ifndef OT_COMPAT_H
#define OT_COMPAT_H

#include "postgres.h"

#include "utils/timestamp.h"

#if PG_VERSION_NUM < 150000
#error "order_timeout needs PostgreSQL 15 or later"
#endif

/* 17 knows infinite intervals. */
#if PG_VERSION_NUM >= 170000
#define OT_INTERVAL_NOT_FINITE(i) INTERVAL_NOT_FINITE(i)
#else
#define OT_INTERVAL_NOT_FINITE(i) (false)
#endif

/* 18 has a keyword of its own for what was an attribute. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Up to 17 ExecutorRun takes an argument for whether it is called once only. */
#if PG_VERSION_NUM < 180000
#define OT_EXECUTE_ONCE_PARAMETER , bool execute_once
#define OT_EXECUTE_ONCE , execute_once
#else
#define OT_EXECUTE_ONCE_PARAMETER
#define OT_EXECUTE_ONCE
#endif

/* From 16 on some kinds of index may be the only ones that an update touches. */
#if PG_VERSION_NUM >= 160000
#define UpdatedIndexes TU_UpdateIndexes
#define ot_needs_index_entries(indexes) ((indexes) != TU_None)
#define ot_only_summarizing(indexes) ((indexes) == TU_Summarizing)
#define ot_insert_index_entries ExecInsertIndexTuples
#else
#define UpdatedIndexes bool
#define ot_needs_index_entries(indexes) (indexes)
#define ot_only_summarizing(indexes) (false)
#define ot_insert_index_entries(result, slot, estate, update, no_error, conflict, arbiters, only_summarizing) \
	ExecInsertIndexTuples(result, slot, estate, update, no_error, conflict, arbiters)
#endif

#if PG_VERSION_NUM >= 170000
#define ot_identity_sequence(relation, column) getIdentitySequence(relation, column, false)
#else
#define ot_identity_sequence(relation, column) getIdentitySequence(RelationGetRelid(relation), column, false)
#endif

/* 18 counts an index scan's searches for EXPLAIN. */
#if PG_VERSION_NUM >= 180000
#define ot_index_beginscan(table, index, snapshot, keys) index_beginscan(table, index, snapshot, NULL, keys, 0)
#else
#define ot_index_beginscan(table, index, snapshot, keys) index_beginscan(table, index, snapshot, keys, 0)
#endif

/* What is known of a session, by its number from 1 to pgstat_fetch_stat_numbackends(). */
#if PG_VERSION_NUM >= 160000
#define ot_backend_status(number) pgstat_get_local_beentry_by_index(number)
#else
#define ot_backend_status(number) pgstat_fetch_stat_local_beentry(number)
#endif

#endif
