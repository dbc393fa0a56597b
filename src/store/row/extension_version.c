/*
 * extension_version.c
 *    The library and the SQL objects must be of one version.
 *
 * New files are installed first, and ALTER EXTENSION UPDATE runs in each database after that. In between, a new session
 * has the new library and finds the old tables: it must not write rows that lack a column, so it says what to run.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "extension_version.h"

/* PostgreSQL keeps no cache of this table; it is read when a statement is prepared, not when it runs. */
static char *
objects_version(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	char	   *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("order_timeout"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(extensions), &isnull);

		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return version;
}

bool
ot_has_same_version(void)
{
	char	   *version = objects_version();

	return version == NULL || strcmp(version, OT_VERSION) == 0;
}

void
ot_require_same_version(void)
{
	char	   *version = objects_version();

	if (version == NULL || strcmp(version, OT_VERSION) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the SQL objects of extension \"order_timeout\" are of another version than its library"),
			 errdetail("The objects are of version %s, the library is of version %s.", version, OT_VERSION),
			 errhint("Run ALTER EXTENSION order_timeout UPDATE; in this database, then connect again.")));
}
