/*
 * advisory_lock.c
 *    Locks on names that have no row yet.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "advisory_lock.h"

#define ADVISORY_SEED UINT64CONST(0x6f726465725f7469)	/* keeps our advisory locks apart from others' */

/*
 * A transaction-level advisory lock: there is no row yet to lock. Two names that hash alike wait for each other for the
 * length of a transaction, which is harmless.
 */
static Datum
advisory_key(const char *name)
{
	return Int64GetDatum((int64) hash_bytes_extended((const unsigned char *) name, strlen(name), ADVISORY_SEED));
}

void
ot_advisory_lock(const char *name)
{
	DirectFunctionCall1(pg_advisory_xact_lock_int8, advisory_key(name));
}

void
ot_advisory_lock_as(const char *name, LOCKMODE mode)
{
	uint64		key = (uint64) DatumGetInt64(advisory_key(name));
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);
	(void) LockAcquire(&tag, mode, false, false);
}

bool
ot_try_advisory_lock(const char *name)
{
	return DatumGetBool(DirectFunctionCall1(pg_try_advisory_xact_lock_int8, advisory_key(name)));
}
