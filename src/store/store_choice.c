/*
 * store_choice.c
 *    Which of the two stores serves a table.
 */
#include "postgres.h"

#include "store_choice.h"
#include "store_fast_choice.h"
#include "store_fast_rows.h"
#include "store_sql.h"
#include "store_statement.h"

const RowStore *
ot_store_of(TableName table)
{
	return ot_fast_serves(table) ? &ot_fast_store : &ot_sql_store;
}

const RowStore *
ot_store_of_both(TableName table, TableName other)
{
	return ot_fast_serves(table) && ot_fast_serves(other) ? &ot_fast_store : &ot_sql_store;
}

bool
ot_store_is_fast(const RowStore *store)
{
	return store == &ot_fast_store;
}

/* The fast store does not wait for a row that may be there in a moment: the SQL store does, and finds out. */
bool
ot_store_insert_new(TableName table, void *row)
{
	const RowStore *store = ot_store_of(table);

	if (store->insert_new(table, row))
		return true;
	return ot_store_is_fast(store) && ot_sql_store.insert_new(table, row);
}

bool
ot_store_insert_new_order(Order *order)
{
	const RowStore *store = ot_store_of_both(TABLE_ORDERS, TABLE_POLICIES);

	if (store->insert_order(order))
		return true;
	return ot_store_is_fast(store) && ot_sql_store.insert_order(order);
}

void
ot_store_choice_init(void)
{
	ot_statement_init();
	ot_fast_init();
}
