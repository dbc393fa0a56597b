/*
 * row_store.h
 *    What each of the two stores does with rows. store_choice.c chooses which one serves a table; every function here does
 *    what the function of store.h that calls it says.
 */
#ifndef OT_ROW_STORE_H
#define OT_ROW_STORE_H

#include "nodes/lockoptions.h"
#include "nodes/pg_list.h"
#include "rows.h"
#include "store_table.h"

typedef struct RowStore
{
	/* By its key, as many texts as the table has key columns; NULL if it is not there. */
	void	   *(*find) (TableName table, const char *const *key);

	/*
	 * The same, in its latest version; NULL also if another transaction has it and wait_policy does not wait. Where it
	 * was seen before (NULL: nowhere) is looked at first.
	 */
	void	   *(*lock) (TableName table, const char *const *key, const RowVersion *seen, LockWaitPolicy wait_policy);

	void		(*insert) (TableName table, void *row);
	void		(*insert_many) (TableName table, List *rows);

	/* False, and nothing is written, when there is a row with that key; the fast store's also if there may be one. */
	bool		(*insert_new) (TableName table, void *row);

	/* Whether insert_new finds that out before anything else happens. */
	bool		(*insert_finds_duplicate) (TableName table);

	/*
	 * A row that is locked and still as it was read, or as this transaction's last write of it left it; else it is an
	 * error: then a trigger has called a function that changed the row, and would be overwritten.
	 */
	void		(*update) (TableName table, void *row);

	/* Orders. */
	bool		(*insert_order) (Order *order);
	/* Set_aside: their order_ids. Alone: no other sweeper looks for due orders now. */
	List	   *(*find_due_orders) (TimestampTz from, TimestampTz now, int limit, List *set_aside, bool alone);
	List	   *(*update_due_orders) (List *orders);
	TimestampTz (*next_deadline) (TimestampTz from, TimestampTz now, List *set_aside);

	/* Payments and refunds. */
	List	   *(*lock_payments_of_order) (const char *order_id);
	Refund	   *(*find_gateway_refund) (const char *gateway, const char *gateway_refund_ref);
	/* Set_aside: their refund_refs. */
	List	   *(*lock_due_refunds) (TimestampTz now, const char *gateway, int limit, List *set_aside);
} RowStore;

#endif
