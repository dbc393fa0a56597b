/*
 * write.c
 *    Orders, attempts, payments and refunds, written: the only way from the use cases to their rows. From here on a row that was
 *    changed in memory needs no write any more.
 */
#include "postgres.h"

#include "event.h"
#include "money.h"
#include "store.h"
#include "unwritten.h"
#include "write.h"

static void
order_is_written(Order *order)
{
	ot_row_written(&order->unwritten);
	if (order->follows != 0)
		ot_order_moved(order);
}

bool
ot_insert_order(Order *order)
{
	bool		inserted = ot_store_insert_order(order);

	if (inserted)
		order_is_written(order);
	else
		ot_row_written(&order->unwritten);
	return inserted;
}

void
ot_write_order(Order *order)
{
	ot_store_update_order(order);
	order_is_written(order);
}

List *
ot_write_due_orders(List *orders)
{
	List	   *written = ot_store_update_due(orders);
	ListCell   *cell;

	foreach(cell, orders)
		ot_row_written(&((Order *) lfirst(cell))->unwritten);
	foreach(cell, written)
		ot_order_moved(lfirst(cell));
	return written;
}

void
ot_give_up_order(Order *order)
{
	ot_row_written(&order->unwritten);
}

bool
ot_insert_payment(Payment *payment)
{
	bool		inserted = ot_store_insert_payment(payment);

	ot_row_written(&payment->unwritten);
	return inserted;
}

void
ot_write_payment(Payment *payment)
{
	ot_store_update_payment(payment);
	ot_row_written(&payment->unwritten);
}

void
ot_write_money(Order *order, Payment *payment)
{
	ot_write_payment(payment);
	if (ot_counts_for_order(payment))
		ot_write_order(order);
}

bool
ot_insert_attempt(Attempt *attempt)
{
	bool		inserted = ot_store_insert_attempt(attempt);

	ot_row_written(&attempt->unwritten);
	return inserted;
}

void
ot_write_attempt(Attempt *attempt)
{
	ot_store_update_attempt(attempt);
	ot_row_written(&attempt->unwritten);
}

void
ot_insert_refund(Refund *refund)
{
	ot_store_insert_refund(refund);
	ot_row_written(&refund->unwritten);
}

void
ot_write_refund(Refund *refund)
{
	ot_store_update_refund(refund);
	ot_row_written(&refund->unwritten);
}

void
ot_write_refund_and_event(Refund *refund, const char *event_type, TimestampTz now)
{
	ot_write_refund(refund);
	ot_refund_event(refund, event_type, now);
}

void
ot_write_refund_and_effect(Refund *refund, const char *event_type, TimestampTz now)
{
	ot_write_refund(refund);
	ot_refund_effect(refund, event_type, now);
}

void
ot_give_up_refund(Refund *refund)
{
	ot_row_written(&refund->unwritten);
}
