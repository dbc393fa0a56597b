/*
 * store_fast_order.c
 *    The fast store: orders, and the policies they follow.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "errors.h"
#include "store_fast_rows.h"
#include "store_row.h"

/* The row with that key becomes the present one. */
static bool
find(FastTable *table, const char *key)
{
	FastKey		equal = {1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key)};

	ot_fast_look(table, 0, &equal, 1);
	return ot_fast_next(table);
}

Order *
ot_fast_find_order(const char *order_id)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	Order	   *order = find(orders, order_id) ? ot_fast_read(orders, ot_read_order) : NULL;

	ot_fast_end(orders);
	return order;
}

Order *
ot_fast_lock_order(const char *order_id, LockWaitPolicy wait_policy)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	bool		locked = find(orders, order_id) && ot_fast_lock(orders, wait_policy);
	Order	   *order = locked ? ot_fast_read(orders, ot_read_order) : NULL;

	ot_fast_end(orders);
	return order;
}

/*
 * The lock on the table is held by now, so whoever deletes the policy has committed, or waits. Who creates the same order
 * waits at its order_id, so no other row with this key can be on its way.
 */
bool
ot_fast_insert_order(const Order *order)
{
	FastTable  *orders;
	Args		args = {0};

	if (ot_fast_find_policy(order->policy) == NULL)
		return false;
	orders = ot_fast_begin(FAST_ORDERS);
	ot_order_args(&args, order);
	ot_arg_jsonb(&args, order->metadata);
	ot_fast_insert(orders, &args);
	ot_fast_end(orders);
	return true;
}

void
ot_fast_update_order(const Order *order)
{
	FastTable  *orders = ot_fast_begin(FAST_ORDERS);
	Args		args = {0};

	if (!find(orders, order->order_id))
		ot_row_not_written();
	ot_order_args(&args, order);
	ot_fast_update(orders, &args);
	ot_fast_end(orders);
}

/* Policies. */

Policy *
ot_fast_find_policy(const char *policy)
{
	FastTable  *policies = ot_fast_begin(FAST_POLICIES);
	Policy	   *row = find(policies, policy) ? ot_fast_read(policies, ot_read_policy) : NULL;

	ot_fast_end(policies);
	return row;
}
