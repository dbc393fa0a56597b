/*
 * write.c
 *    Orders, payments and refunds, written: the only way from the use cases to their rows. From here on a row that was
 *    changed in memory needs no write any more.
 */
#include "postgres.h"

#include "event.h"
#include "money.h"
#include "store.h"
#include "unwritten.h"
#include "write.h"

bool
ot_insert_order(Order *order)
{
	ot_row_written(&order->unwritten);
	return ot_store_insert_order(order);
}

void
ot_write_order(Order *order)
{
	ot_row_written(&order->unwritten);
	ot_store_update_order(order);
}

List *
ot_write_due_orders(List *orders)
{
	ListCell   *cell;

	foreach(cell, orders)
		ot_row_written(&((Order *) lfirst(cell))->unwritten);
	return ot_store_update_due(orders);
}

void
ot_give_up_order(Order *order)
{
	ot_row_written(&order->unwritten);
}

bool
ot_insert_payment(Payment *payment)
{
	ot_row_written(&payment->unwritten);
	return ot_store_insert_payment(payment);
}

void
ot_write_payment(Payment *payment)
{
	ot_row_written(&payment->unwritten);
	ot_store_update_payment(payment);
}

void
ot_write_money(Order *order, Payment *payment)
{
	ot_write_payment(payment);
	if (ot_counts_for_order(payment))
		ot_write_order(order);
}

void
ot_insert_refund(Refund *refund)
{
	ot_row_written(&refund->unwritten);
	ot_store_insert_refund(refund);
}

void
ot_write_refund(Refund *refund)
{
	ot_row_written(&refund->unwritten);
	ot_store_update_refund(refund);
}

void
ot_write_refund_and_event(Refund *refund, const char *event_type, TimestampTz now)
{
	ot_write_refund(refund);
	ot_refund_event(refund, event_type, now);
}

void
ot_give_up_refund(Refund *refund)
{
	ot_row_written(&refund->unwritten);
}
