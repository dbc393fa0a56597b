/*
 * order_extend.c
 *    extend_order: a later deadline for an order that is still pending, be it overdue.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "lock.h"
#include "order_attempts.h"
#include "order_extend.h"
#include "order_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

OrderAnswer
ot_order_extend(const char *order_id, TimestampTz expires_at)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_is_closed(order) || order->state == ORDER_CLOSING)
		return ot_order_answer("already_closed", order);
	if (expires_at == order->expires_at)
		return ot_order_answer("unchanged", order); /* a call repeated after that time is no error */
	if (expires_at <= now && expires_at < order->expires_at && ot_store_had_deadline(order_id, expires_at))
		return ot_order_answer("unchanged", order); /* nor if it was extended further meanwhile */
	if (expires_at <= now)
		ot_deadline_not_in_future(order_id, expires_at, now);
	if (expires_at < order->expires_at)
		return ot_order_answer("unchanged", order);
	ot_order_move_deadline(order, expires_at, ot_attempts_hold(order, expires_at));
	ot_write_order(order);
	ot_event(order_id, "order.extended", ot_order_payload(order), now);
	return ot_order_answer("extended", order);
}
