/*
 * order_state.c
 *    The states of an order and the steps between them. Order states change in this file only.
 *
 *    create_order
 *         |
 *         v          the sum reaches the amount (at once if the amount is 0), or less is accepted
 *      pending -----------------------------------------------------------------> paid
 *         |  |                                                                    ^  ^
 *         |  |  expire_order, the sweeper, or a                                   |  |
 *         |  |  payment after the deadline (at_deadline)                          |  |
 *         |  +-----------------------------------------> expired -----------------+  |
 *         |                                                 |   on_late = reopen,    |
 *         |  cancel_order                                   |   or late money is     |
 *         |                                                 v cancel_order  accepted |
 *         +-------------------------------------------> cancelled -------------------+
 *                                                               late money is accepted
 *
 *    An expired order is pending again after reopen_order.
 *    Accepted: by accept_payment or resolve_held(accept). Less: by accept_short or the policy's short_tolerance.
 *
 * Invariants:
 *  1. A state is read under the row's lock and changed under the same lock; the clock is read after the lock is held.
 *  2. A closed order keeps nothing: what was paid for it is owed back, given back, or held.
 *  3. Each call writes the order row once, so that its CHECKs see the end of the transition and nothing in between.
 *  4. A payment is written together with what became of it; nothing that a gateway reported is dropped.
 *  5. Locks: order, then payments, then refunds. A call that finds no order to lock takes the advisory lock of its
 *     order_id first, and only then locks any row.
 *
 * An order is settled from the moment when it was paid or closed. Only orders that are not settled can fall due.
 */
#include "postgres.h"

#include "order_state.h"
#include "rules.h"
#include "unwritten.h"

/* What follows each change, hooks in the order of their changes: a late payment may close its order and reopen it. */
static void
note_what_follows(Order *order, OrderState state)
{
	if (order->follows == 0)
		order->left_state = order->state;
	order->follows |= 1 << FOLLOW_LINK;
	if (order->state == ORDER_PENDING && state != ORDER_PAID)
		order->follows |= 1 << FOLLOW_CLOSE_HOOK;
	if (ot_is_closed(order) && (state == ORDER_PENDING || state == ORDER_PAID))
		order->follows |= 1 << FOLLOW_REOPEN_HOOK;
	if (state == ORDER_PAID)
		order->follows |= 1 << FOLLOW_PAID_HOOK;
}

static void
set_state(Order *order, OrderState state)
{
	if (state != order->state)
		note_what_follows(order, state);
	order->state = state;
	ot_row_changed(&order->unwritten, order->order_id);
}

void
ot_order_become_pending(Order *order)
{
	set_state(order, ORDER_PENDING);
	order->settled_at = OT_NO_TIME;
}

/* From expired: the deadline begins again. */
void
ot_order_become_pending_again(Order *order, TimestampTz expires_at)
{
	Assert(order->state == ORDER_EXPIRED);

	set_state(order, ORDER_PENDING);
	order->settled_at = OT_NO_TIME;
	order->close_reason = NULL;
	order->expires_at = expires_at;
}

void
ot_order_change_amount(Order *order, int64 amount)
{
	Assert(order->state == ORDER_PENDING);

	order->amount = amount;
	ot_row_changed(&order->unwritten, order->order_id);
}

void
ot_order_move_deadline(Order *order, TimestampTz expires_at)
{
	order->expires_at = expires_at;
	ot_row_changed(&order->unwritten, order->order_id);
}

/* From every other state. If the order was closed, it is not any more. */
void
ot_order_become_paid(Order *order, TimestampTz now)
{
	Assert(order->state != ORDER_PAID);

	set_state(order, ORDER_PAID);
	order->settled_at = now;
	order->close_reason = NULL;
}

void
ot_order_become_expired(Order *order, TimestampTz now)
{
	Assert(ot_is_due(order, now));

	set_state(order, ORDER_EXPIRED);
	order->settled_at = now;
	order->close_reason = pstrdup("deadline");
}

/* An expired order's money is settled already, so settled_at stays the moment of closing. */
void
ot_order_become_cancelled(Order *order, const char *reason, TimestampTz now)
{
	Assert(order->state == ORDER_PENDING || order->state == ORDER_EXPIRED);

	if (order->state == ORDER_PENDING)
		order->settled_at = now;
	set_state(order, ORDER_CANCELLED);
	order->close_reason = reason ? pstrdup(reason) : NULL;
}
