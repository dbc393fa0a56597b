/*
 * empty_table.c
 *    Whether a table of ours has never had a row.
 *
 * A table that is nearly always empty costs a call as much as one with rows, if it is asked by a statement. Its file has
 * no page until the first row comes.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "optimizer/planner.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "empty_table.h"

/* An extension that plans statements itself may have the rows elsewhere (Citus). */
bool
ot_is_surely_empty(const char *table)
{
	Oid			namespace = get_namespace_oid("order_timeout", true);
	Oid			relid = OidIsValid(namespace) ? get_relname_relid(table, namespace) : InvalidOid;
	Relation	relation = OidIsValid(relid) && planner_hook == NULL ? try_table_open(relid, AccessShareLock) : NULL;
	bool		empty;

	if (relation == NULL)
		return false;
	empty = relation->rd_rel->relkind == RELKIND_RELATION && !relation->rd_rel->relhassubclass &&
		RelationGetNumberOfBlocks(relation) == 0;
	table_close(relation, NoLock);	/* the lock stays to the end of the transaction, as a statement's would */
	return empty;
}
