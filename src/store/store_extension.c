/*
 * store_extension.c
 *    The extension as a whole: whether its tables are there, and procedures that commit between their steps.
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/inval.h"

#include "extension_version.h"
#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

void
ot_store_init(void)
{
	ot_store_choice_init();
}

bool
ot_store_exists(void)
{
	AcceptInvalidationMessages();
	return ot_owner_exists();
}

/* DROP EXTENSION locks the extension before its tables, table after table: so does a caller that works with all of them. */
bool
ot_store_hold(void)
{
	Oid			extension = get_extension_oid("order_timeout", true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid("order_timeout", true) == extension && ot_store_exists();
}

void
ot_store_require_same_version(void)
{
	ot_require_same_version();
}

void
ot_store_begin_procedure(void)
{
	ot_procedure_begin();
}

void
ot_store_commit(void)
{
	ot_procedure_commit();
}

void
ot_store_fire_deferred(void)
{
	ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(all_immediate);
}

void
ot_store_end_procedure(void)
{
	ot_procedure_end();
}
