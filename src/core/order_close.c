/*
 * order_close.c
 *    Closing an order: expire_order, cancel_order, and the closing that the sweeper and a late payment do. What the
 *    order kept is owed back, or held for the operator's decision.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "decide.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "order_attempts.h"
#include "order_close.h"
#include "order_state.h"
#include "refund_owe.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static void
owe_kept(Order *order, Payment *payment, RefundReason reason, TimestampTz now)
{
	ot_refund_owe(order, payment, BUCKET_KEPT, ot_kept(&payment->funds), reason, now);
	ot_write_payment(payment);
}

static void
hold_kept(Order *order, Payment *payment, TimestampTz now)
{
	ot_funds_hold(order, payment, now);
	ot_write_payment(payment);
	ot_effect(order->order_id, "payment.held", ot_payment_payload(payment), now);
}

/*
 * Each payment's part goes back to itself, or waits for the operator. Writes payments and refunds; the caller writes the
 * order.
 */
static void
give_up_all_kept(Order *order, RefundReason reason, TimestampTz now)
{
	Policy	   *policy;
	ListCell   *cell;

	if (ot_kept(&order->funds) == 0)
		return;
	policy = ot_store_find_policy_of(order->order_id);
	foreach(cell, ot_store_lock_payments(order->order_id))
	{
		Payment    *payment = lfirst(cell);

		if (ot_kept_for_order(payment) == 0)
			continue;
		if (ot_holds_short(policy))
			hold_kept(order, payment, now);
		else
			owe_kept(order, payment, reason, now);
	}
}

static void
close_at_deadline(Order *order, TimestampTz now)
{
	give_up_all_kept(order, REASON_EXPIRED, now);
	ot_order_become_expired(order, now);
}

/* Closes an order that is due, unless its gateways are to be asked first. */
static void
close_or_ask(Order *order, TimestampTz now)
{
	Policy	   *policy = order->has_attempts ? ot_store_find_policy_of(order->order_id) : NULL;

	if (policy != NULL && ot_attempts_come_first(order, policy))
		ot_order_become_closing(order, now + policy->void_within);
	else
		close_at_deadline(order, now);
}

static Event *
closed_event(const Order *order, TimestampTz now)
{
	const char *type = order->state == ORDER_EXPIRED ? "order.expired" : "order.cancelled";

	if (order->state == ORDER_CLOSING)
		type = "order.closing";
	return ot_event_make(order->order_id, type, ot_order_payload(order), now);
}

OrderAnswer
ot_order_expire(const char *order_id)
{
	Order	   *order = ot_lock_order_if_there(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order == NULL)
		return ot_order_answer("not_found", NULL);
	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (ot_is_closed(order))
		return ot_order_answer("already_closed", order);
	if (!ot_is_due(order, now))
		return ot_order_answer(order->state == ORDER_CLOSING ? "closing" : "not_due", order);
	close_or_ask(order, now);
	ot_write_order(order);
	ot_event_add(closed_event(order, now));
	return ot_order_answer(ot_order_states[order->state], order);
}

/* The caller has locked the order, so its linked row must not be waited for any more. */
void
ot_order_close_after_attempts(const char *order_id)
{
	Order	   *order = ot_store_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	close_at_deadline(order, now);
	ot_write_order(order);
	ot_event_add(closed_event(order, now));
}

OrderAnswer
ot_order_cancel(const char *order_id, const char *reason)
{
	Order	   *order = ot_lock_order(order_id);
	TimestampTz now = GetCurrentTimestamp();

	if (order->state == ORDER_PAID)
		return ot_order_answer("already_paid", order);
	if (order->state == ORDER_CANCELLED)
		return ot_order_answer("already_closed", order);
	if (ot_order_is_open(order))
		give_up_all_kept(order, REASON_CANCELLED, now);
	ot_order_become_cancelled(order, reason, now);
	ot_write_order(order);
	ot_event_add(closed_event(order, now));
	return ot_order_answer("cancelled", order);
}

void
ot_order_expire_for_payment(Order *order, TimestampTz now)
{
	close_at_deadline(order, now);
	ot_event_add(closed_event(order, now));
}

/* The sweeper's closing. */

/*
 * An order with payments is locked before they are. NULL when another transaction has it, or changed it after it was
 * found: now would lie before that change.
 */
static Order *
take_for_expiry(Order *found, TimestampTz now)
{
	Order	   *order = found;

	if (ot_kept(&found->funds) > 0 || found->has_attempts)
		order = ot_store_lock_order_if_free(found->order_id);
	if (order == NULL || !ot_is_due(order, now) || order->funds.paid != found->funds.paid)
		return NULL;
	return ot_attempts_lock_if_free(order) ? order : NULL;
}

/* Those with attempts are written one by one: becoming closing changes more columns than closing a batch does. */
static List *
close_those_still_due(List *due, TimestampTz now, List **written)
{
	List	   *orders = NIL;
	ListCell   *cell;

	foreach(cell, due)
	{
		Order	   *order = take_for_expiry(lfirst(cell), now);

		if (order == NULL)
			continue;
		close_or_ask(order, now);
		if (order->has_attempts)
		{
			ot_write_order(order);
			*written = lappend(*written, order);
		}
		else
			orders = lappend(orders, order);
	}
	return orders;
}

List *
ot_orders_expire(List *due, TimestampTz now)
{
	List	   *written = NIL;
	List	   *orders = close_those_still_due(due, now, &written);
	List	   *events = NIL;
	ListCell   *cell;

	if (orders != NIL)
		orders = ot_write_due_orders(orders);
	orders = list_concat(orders, written);
	foreach(cell, orders)
		events = lappend(events, closed_event(lfirst(cell), now));
	if (events != NIL)
		ot_events_add(events);
	return orders;
}
