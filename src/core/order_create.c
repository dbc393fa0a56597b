/*
 * order_create.c
 *    create_order: a new order, and the payments that came before it.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "order_create.h"
#include "order_state.h"
#include "orphan.h"
#include "store.h"
#include "write.h"

static OrderAnswer
created_before(const Order *order, const OrderTerms *terms)
{
	if (strcmp(order->currency, terms->currency) != 0 || strcmp(order->policy, terms->policy) != 0 ||
		(order->amount != terms->amount && !ot_store_was_created_for(order->order_id, terms->amount)))
		ereport(ERROR,
				(errcode(OT_ORDER_DIFFERS),
				 errmsg("order \"%s\" exists with other terms", order->order_id),
				 errdetail("It is for %lld %s under policy \"%s\", and this call is for %lld %s under policy \"%s\".",
						   (long long) order->amount, order->currency, order->policy,
						   (long long) terms->amount, terms->currency, terms->policy),
				 errhint("Use another order_id, or repeat the call with the same amount, currency and policy.")));
	return ot_order_answer("exists", order);
}

static TimestampTz
deadline_of(const OrderTerms *terms, const Policy *policy, TimestampTz now)
{
	const Interval *within = terms->expires_in ? terms->expires_in : policy->pay_within;
	TimestampTz deadline = terms->expires_at;

	if (deadline == OT_NO_TIME)
		deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														   TimestampTzGetDatum(now), IntervalPGetDatum(within)));
	if (deadline <= now && !terms->may_be_overdue)
		ot_deadline_not_in_future(terms->order_id, deadline, now);
	return deadline;
}

Order *
ot_order_make(const OrderTerms *terms, const Policy *policy, TimestampTz now)
{
	Order	   *order = palloc0(sizeof(Order));

	order->order_id = pstrdup(terms->order_id);
	order->policy = policy->policy;
	order->amount = terms->amount;
	order->currency = pstrdup(terms->currency);
	order->created_at = now;
	order->metadata = terms->metadata;
	ot_order_begin(order, deadline_of(terms, policy, now));
	if (order->amount == 0)
		ot_order_become_paid(order, now);
	return order;
}

OrderAnswer
ot_order_create(const OrderTerms *terms)
{
	Order	   *order;
	Order	   *known;
	Policy	   *policy;
	TimestampTz now;

	ot_store_lock_new_order_id(terms->order_id);
	order = ot_store_find_order(terms->order_id);
	if (order != NULL)
		return created_before(order, terms);
	policy = ot_store_find_policy(terms->policy);
	if (policy == NULL)
		ot_no_such_policy(terms->policy);
	now = GetCurrentTimestamp();
	order = ot_order_make(terms, policy, now);
	if (!ot_insert_order(order))
	{
		if (ot_store_find_policy(terms->policy) == NULL)
			ot_no_such_policy(terms->policy);
		known = ot_store_find_order(terms->order_id);
		if (known == NULL)
			ot_row_not_written();
		return created_before(known, terms);
	}
	ot_event(order->order_id, "order.created", ot_order_payload(order), now);
	if (order->state == ORDER_PAID)
		ot_event(order->order_id, "order.paid", ot_order_payload(order), now);
	ot_orphans_apply(order, now);
	return ot_order_answer("created", order);
}
