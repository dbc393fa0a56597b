/*
 * store_fast_obstacle.c
 *    What keeps the fast store from serving a table.
 *
 * It serves a table only while that is as the extension made it, give or take an index: then no user's code can run in
 * between, and no role has to be switched. The one kind of trigger that is no obstacle are those of foreign keys that
 * point at one of our primary keys, because no update changes such a key.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/rel.h"

#include "extension_version.h"
#include "store_fast_obstacle.h"

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

	if (desc->natts != spec->column_count)
		return "its columns are not those that the extension made";
	for (int i = 0; i < spec->column_count; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped || (column->attgenerated != '\0') != spec->columns[i].generated ||
			column->atttypid != ot_column_type(&spec->columns[i]) ||
			column->atttypmod != -1 ||
			strcmp(NameStr(column->attname), spec->columns[i].name) != 0 ||
			(column->attidentity != '\0') != (spec->key_columns == 0 && i == 0))
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

const char *
ot_fast_index_obstacle(Relation index)
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

const char *
ot_fast_table_obstacle(Relation relation, const TableSpec *spec)
{
	const char *obstacle;

	if (relation->rd_rel->relkind != RELKIND_RELATION || relation->rd_tableam != GetHeapamTableAmRoutine())
		return "it is not a plain heap table";
	if (relation->rd_rel->relispartition || relation->rd_rel->relhassubclass)
		return "it has partitions or children, or is one";
	if (relation->rd_rel->relrowsecurity)
		return "it has row security";
	if (!ot_has_same_version())
		return "the SQL objects are of another version than the library";
	if (OidIsValid(get_extension_oid("citus", true)))
		return "it may be distributed: extension \"citus\" is in this database";
	obstacle = columns_obstacle(relation, spec);
	if (obstacle != NULL || spec->read_only)
		return obstacle;
	if (relation->rd_rules != NULL)
		return "it has rules";
	return triggers_obstacle(relation);
}
