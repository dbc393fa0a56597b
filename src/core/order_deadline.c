/*
 * order_deadline.c
 *    set_deadline and reopen_order: deadlines that move either way. The one of extend_order only moves away.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "lock.h"
#include "order_attempts.h"
#include "order_deadline.h"
#include "order_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

OrderAnswer
ot_order_set_deadline(const char *order_id, TimestampTz expires_at)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_is_closed(order) || order->state == ORDER_CLOSING)
		return ot_order_answer("already_closed", order);
	if (expires_at == order->expires_at)
		return ot_order_answer("unchanged", order); /* a call repeated after that time is no error */
	if (expires_at <= now && ot_store_had_deadline(order_id, expires_at))
		return ot_order_answer("unchanged", order); /* nor if it was moved again meanwhile */
	if (expires_at <= now)
		ot_deadline_not_in_future(order_id, expires_at, now);
	ot_order_move_deadline(order, expires_at, ot_attempts_hold(order, expires_at));
	ot_write_order(order);
	ot_event(order_id, "order.changed", ot_order_payload(order), now);
	return ot_order_answer("set", order);
}

static void
cannot_reopen(const Order *order)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("order \"%s\" was cancelled, so it cannot be reopened", order->order_id),
			 errhint("Create a new order with another order_id.")));
}

/* Its refunds stay on their way: what was paid before goes back, and the buyer pays the whole amount. */
OrderAnswer
ot_order_reopen(const char *order_id, const Interval *expires_in, TimestampTz expires_at)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_order_is_open(order))
		return ot_order_answer("not_closed", order);
	if (order->state == ORDER_CANCELLED)
		cannot_reopen(order);
	if (expires_at == OT_NO_TIME)
	{
		const Interval *within = expires_in ? expires_in : ot_store_find_policy_of(order_id)->pay_within;

		expires_at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															 TimestampTzGetDatum(now), IntervalPGetDatum(within)));
	}
	if (expires_at <= now)
		ot_deadline_not_in_future(order_id, expires_at, now);
	ot_order_become_pending_again(order, expires_at);
	ot_write_order(order);
	ot_event(order_id, "order.reopened", ot_order_payload(order), now);
	return ot_order_answer("reopened", order);
}
