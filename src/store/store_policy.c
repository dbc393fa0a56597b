/*
 * store_policy.c
 *    Policies.
 */
#include "postgres.h"

#include "errors.h"
#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

#define DEFAULT_POLICY "default"

Policy *
ot_store_find_policy(const char *policy)
{
	return ot_store_of(TABLE_POLICIES)->find(TABLE_POLICIES, &policy);
}

Policy *
ot_store_find_policy_of(const char *order_id)
{
	return ot_store_find_next_policy(order_id, NULL);
}

Policy *
ot_store_find_next_policy(const char *order_id, Policy *known)
{
	Order	   *order = ot_store_find_order(order_id);
	const char *name = order != NULL ? order->policy : DEFAULT_POLICY;
	bool		is_known = known != NULL && strcmp(known->policy, name) == 0;
	Policy	   *policy = is_known ? known : ot_store_find_policy(name);

	if (policy == NULL)
		ereport(ERROR,
				(errcode(OT_NO_SUCH_POLICY),
				 errmsg("policy \"%s\" of order \"%s\" is not there", name, order_id),
				 errhint("Insert it again into order_timeout.policies.")));
	return policy;
}

bool
ot_store_policy_in_use(const char *policy)
{
	static Statement find = {"SELECT o.order_id FROM order_timeout.orders o WHERE o.policy" SQL_EQ "$1 LIMIT 1", SNAPSHOT_LATEST};
	Args		args = {0};

	ot_arg_text(&args, policy);
	return ot_run(&find, &args) > 0;
}

List *
ot_store_find_policies(void)
{
	static Statement find = {"", .rows_of = TABLE_POLICIES};
	Args		args = {0};

	return ot_run_rows(&find, &args);
}
