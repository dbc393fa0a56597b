/*
 * store_fast_choice.c
 *    When the fast store serves a table: where nothing about the table keeps it from that (store_fast_obstacle.c), and
 *    nothing about the transaction.
 *
 * Above READ COMMITTED a row that changed meanwhile is an error and no reason to look at its latest version, so the SQL
 * store serves there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "utils/guc.h"

#include "store_fast_choice.h"
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

static bool
refuse(const FastTable *table, const char *obstacle)
{
	if (store_choice == STORE_FAST)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the fast store cannot serve table \"%s\"", table->spec->name),
				 errdetail("The reason: %s.", obstacle),
				 errhint("Remove what keeps it from that, or run SET order_timeout.store = 'auto'.")));
	return false;
}

bool
ot_fast_has_own_checks_only(TableName name)
{
	const FastTable *table = &ot_fast_tables[name];
	const TupleConstr *constr = table->present->tts_tupleDescriptor->constr;

	return constr == NULL || constr->num_check == table->spec->checks;
}

bool
ot_fast_serves(TableName name)
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
