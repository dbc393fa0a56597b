/*
 * store_fast_choice.c
 *    Which store serves a table: the fast one only while the table is as the extension made it, give or take an index. Then
 *    no user's code can run in between, and nothing has to be switched.
 *
 * Everything else is the SQL store's: row security, triggers, rules, partitions, columns of others, constraints that may
 * run somebody's code, and the isolation levels above READ COMMITTED, where a row that changed meanwhile is an error and no
 * reason to look at its latest version. The one kind of trigger that is no obstacle are those of foreign keys that point
 * at one of our primary keys, because no update changes such a key.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "store_fast_table.h"

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

void
ot_fast_init(void)
{
	DefineCustomEnumVariable("order_timeout.store", "How the tables are read and written.",
							 "auto: without SQL where that is safe; fast: an error where it is not; sql: with SQL statements.",
							 &store_choice, STORE_AUTO, store_choices, PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("order_timeout");
	ot_fast_watch_tables();
}

/* Obstacles. */

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

	while (count < OT_FAST_COLUMNS && spec->columns[count].name != NULL)
		count++;
	if (desc->natts != count)
		return "its columns are not those that the extension made";
	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped || column->attgenerated || column->atttypid != spec->columns[i].type ||
			column->atttypmod != -1 ||
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
	if (OidIsValid(get_extension_oid("citus", true)))
		return "it may be distributed: extension \"citus\" is in this database";
	obstacle = columns_obstacle(relation, spec);
	if (obstacle != NULL || spec->read_only)
		return obstacle;
	if (relation->rd_rules != NULL)
		return "it has rules";
	return triggers_obstacle(relation);
}

/* The choice. */

static bool
refuse(const FastTable *table, const char *obstacle)
{
	if (store_choice == STORE_FAST)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the fast store cannot serve table \"%s\"", table->spec->name),
				 errdetail("The reason: %s.", obstacle),
				 errhint("SET order_timeout.store = 'auto' uses SQL statements where it has to.")));
	return false;
}

bool
ot_fast_has_own_checks_only(FastTableName name)
{
	const FastTable *table = &ot_fast_tables[name];
	const TupleConstr *constr = table->present->tts_tupleDescriptor->constr;

	return constr == NULL || constr->num_check == table->spec->checks;
}

bool
ot_fast_serves(FastTableName name)
{
	FastTable  *table = &ot_fast_tables[name];

	if (store_choice == STORE_SQL)
		return false;
	/* SQL statements raise the right errors. */
	if (XactReadOnly || IsInParallelMode() || RecoveryInProgress())
		return false;
	if (IsolationUsesXactSnapshot())
		return refuse(table, "the transaction's isolation level is not READ COMMITTED");
	if (ExecutorCheckPerms_hook != NULL)
		return refuse(table, "an extension checks or records what statements touch (ExecutorCheckPerms_hook)");
	if (!ot_fast_find_table(table))
		return false;
	return table->obstacle == NULL || refuse(table, table->obstacle);
}
