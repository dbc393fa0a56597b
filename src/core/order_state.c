/*
 * order_state.c
 *    The states of an order and the steps between them. Order states change in this file only.
 *
 *    create_order
 *         |
 *         v          the sum reaches the amount (at once if the amount is 0), or less is accepted
 *      pending ------------------------------------------------------------------> paid
 *       |  |  ^  authorize_attempt                                                 ^  ^
 *       |  |  +---------------------> authorized ----------------------------------+  |
 *       |  |   end_attempt, voided     |     |                                     |  |
 *       |  |                           |     |                                     |  |
 *       |  +----------+----------------+     |                                     |  |
 *       |             | at its deadline, by expire_order or the sweeper;           |  |
 *       |             | a payment after the deadline closes it too (at_deadline)   |  |
 *       |             +--> closing ------------------------------------------------+  |
 *       |             |   (before_close = void, and an attempt to be voided)       |  |
 *       |             |       | no attempt is left, or void_within is over         |  |
 *       |             v       v                                                    |  |
 *       |            expired -----------------------------------------------------+   |
 *       |               |             on_late = reopen, or late money is accepted     |
 *       |  cancel_order | cancel_order                                                |
 *       |               v                                                             |
 *       +--------> cancelled ---------------------------------------------------------+
 *     (also from authorized and closing)              late money is accepted
 *
 *    An expired order is pending again after reopen_order. Pending, authorized and closing are open.
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
 *
 * An open order falls due at closes_at: that is expires_at, or open_until if that is later. Attempts and an authorisation
 * move open_until. So does closing: the order falls due again when its voids have had their time. closes_at is what passed
 * before then (due_since) once it is closed, because a payment is late or not by that.
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
	if (ot_order_is_open(order) && (state == ORDER_EXPIRED || state == ORDER_CANCELLED))
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

/* What a payment does not change. */
static void
terms_changed(Order *order)
{
	order->terms_changed = true;
	ot_row_changed(&order->unwritten, order->order_id);
}

static void
set_closing_time(Order *order, TimestampTz expires_at, TimestampTz open_until)
{
	order->expires_at = expires_at;
	order->open_until = open_until;
	order->closes_at = Max(expires_at, open_until); /* OT_NO_TIME is before all times */
	terms_changed(order);
}

void
ot_order_begin(Order *order, TimestampTz expires_at)
{
	set_state(order, ORDER_PENDING);
	order->settled_at = order->due_since = order->reminded_of = OT_NO_TIME;
	set_closing_time(order, expires_at, OT_NO_TIME);
}

/* What had authorised it has ended. */
void
ot_order_become_pending(Order *order)
{
	Assert(order->state == ORDER_AUTHORIZED);

	set_state(order, ORDER_PENDING);
}

/* From expired: the deadline begins again. */
void
ot_order_become_pending_again(Order *order, TimestampTz expires_at)
{
	Assert(order->state == ORDER_EXPIRED);

	set_state(order, ORDER_PENDING);
	order->settled_at = OT_NO_TIME;
	order->close_reason = NULL;
	set_closing_time(order, expires_at, OT_NO_TIME);
}

void
ot_order_become_authorized(Order *order)
{
	Assert(order->state == ORDER_PENDING);

	set_state(order, ORDER_AUTHORIZED);
}

/* It is due, and its attempts are to be ended first: it falls due again after that. */
void
ot_order_become_closing(Order *order, TimestampTz void_until)
{
	Assert(order->state == ORDER_PENDING || order->state == ORDER_AUTHORIZED);

	set_state(order, ORDER_CLOSING);
	order->due_since = order->closes_at;
	set_closing_time(order, order->expires_at, void_until);
}

/* What it was due by before its voids. */
static void
leave_closing(Order *order)
{
	if (order->state != ORDER_CLOSING)
		return;
	set_closing_time(order, order->expires_at, order->due_since > order->expires_at ? order->due_since : OT_NO_TIME);
	order->due_since = OT_NO_TIME;
}

void
ot_order_change_amount(Order *order, int64 amount)
{
	Assert(order->state == ORDER_PENDING);

	order->amount = amount;
	terms_changed(order);
}

void
ot_order_move_deadline(Order *order, TimestampTz expires_at, TimestampTz open_until)
{
	Assert(order->state != ORDER_CLOSING);

	set_closing_time(order, expires_at, open_until);
}

/* A closing order that its attempts keep waiting no longer: it is due now. */
void
ot_order_end_voids(Order *order, TimestampTz now)
{
	Assert(order->state == ORDER_CLOSING);

	set_closing_time(order, order->expires_at, now);
}

void
ot_order_note_attempts(Order *order)
{
	order->has_attempts = true;
	terms_changed(order);
}

void
ot_order_note_reminder(Order *order)
{
	order->reminded_of = order->expires_at;
	terms_changed(order);
}

/* From every other state. If the order was closed, it is not any more. */
void
ot_order_become_paid(Order *order, TimestampTz now)
{
	Assert(order->state != ORDER_PAID);

	leave_closing(order);
	set_state(order, ORDER_PAID);
	order->settled_at = now;
	order->close_reason = NULL;
}

void
ot_order_become_expired(Order *order, TimestampTz now)
{
	Assert(ot_is_due(order, now) || order->state == ORDER_CLOSING);

	leave_closing(order);
	set_state(order, ORDER_EXPIRED);
	order->settled_at = now;
	order->close_reason = pstrdup("deadline");
}

/* An expired order's money is settled already, so settled_at stays the moment of closing. */
void
ot_order_become_cancelled(Order *order, const char *reason, TimestampTz now)
{
	Assert(ot_order_is_open(order) || order->state == ORDER_EXPIRED);

	if (ot_order_is_open(order))
		order->settled_at = now;
	leave_closing(order);
	set_state(order, ORDER_CANCELLED);
	order->close_reason = reason ? pstrdup(reason) : NULL;
}
