/*
 * order_forget.c
 *    forget_order: what people wrote about an order is emptied; the money's rows and the proof stay.
 *
 * Texts, metadata and details may hold what belongs to a person. Ids, amounts and times do not, as far as we can know, and
 * without them neither a repeat could be recognised nor the money be added up.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "order_forget.h"
#include "rules.h"
#include "store.h"

static void
refuse(const Order *order, const char *why)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("cannot forget order \"%s\" in state \"%s\" yet", order->order_id, ot_order_states[order->state]),
			 errdetail("Of this order, %s.", why),
			 errhint("Close it, and end its refunds and decisions first; order_timeout.funds() and attention show them.")));
}

/* In other currencies and uncounted too: they are in no sum of the order. */
static void
require_settled(const Order *order, List *payments)
{
	ListCell   *cell;

	if (order->state != ORDER_PAID && !ot_is_closed(order))
		refuse(order, "payment is still awaited");
	foreach(cell, payments)
	{
		const Payment *payment = lfirst(cell);

		if (payment->funds.refund_pending > 0)
			refuse(order, "money of it is owed");
		if (payment->funds.held > 0 || (payment->disposition == PAYMENT_ORPHAN && ot_kept(&payment->funds) > 0))
			refuse(order, "money of it waits for a decision");
	}
}

const char *
ot_order_forget(const char *order_id)
{
	Order	   *order = ot_lock_order(order_id);

	require_settled(order, ot_store_lock_payments(order_id));
	if (ot_store_forget_order(order_id))
		ot_event(order_id, "order.forgotten", ot_order_payload(ot_store_find_order(order_id)), GetCurrentTimestamp());
	return "forgotten";
}
