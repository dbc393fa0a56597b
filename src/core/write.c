/*
 * write.c
 *    Orders, payments and refunds, written: the only way from the use cases to their rows.
 */
#include "postgres.h"

#include "event.h"
#include "money.h"
#include "store.h"
#include "write.h"

bool
ot_insert_order(Order *order)
{
	return ot_store_insert_order(order);
}

void
ot_write_order(Order *order)
{
	ot_store_update_order(order);
}

List *
ot_write_due_orders(List *orders)
{
	return ot_store_update_due(orders);
}

bool
ot_insert_payment(Payment *payment)
{
	return ot_store_insert_payment(payment);
}

void
ot_write_payment(Payment *payment)
{
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
	ot_store_insert_refund(refund);
}

void
ot_write_refund(Refund *refund)
{
	ot_store_update_refund(refund);
}

void
ot_write_refund_and_event(Refund *refund, const char *event_type, TimestampTz now)
{
	ot_write_refund(refund);
	ot_refund_event(refund, event_type, now);
}
