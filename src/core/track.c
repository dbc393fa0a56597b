/*
 * track.c
 *    Orders follow the rows of a linked table, where link_table was told to track it.
 *
 *    the row                            the order is          what happens
 *    ------------------------------------------------------------------------------------------------------
 *    says a word of pending             not there             it is created, with what the row says
 *    says any other word                not there             nothing: the engine has no part in it
 *    says a word of the order's state   -                     nothing: most often this is our own write
 *    says a word of cancelled           pending or expired    it is cancelled
 *    says a word of expired             due                   it expires
 *    says a word of no state            -                     nothing: it is the shop's own business
 *    says another state's word          -                     a contradiction
 *    has another amount or currency     pending               a contradiction
 *    has another key, or is deleted     there (pending)       a contradiction
 *
 * A contradiction is an error of the shop's statement (OT005), or with on_contradiction => 'note' it is shown until row
 * and order agree.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"
#include "follow.h"
#include "link.h"
#include "linked_row.h"
#include "order_close.h"
#include "order_create.h"
#include "rules.h"
#include "store.h"
#include "track.h"

static bool
is_same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void
contradict(const Link *link, Order *order, const char *why, const char *hint)
{
	if (link->notes_contradictions)
	{
		ot_follow_note(order, why);
		return;
	}
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("the row of order \"%s\" contradicts the order", order->order_id),
			 errdetail("It is %s; %s.", ot_order_states[order->state], why),
			 errhint("%s", hint)));
}

/* The word. */

static const char *
way_out(const Link *link, const LinkedRow *row, const Order *order)
{
	if (ot_link_has_word(link, ORDER_PAID, row->status))
		return "An order is paid when its payment is recorded: call order_timeout.record_payment().";
	if (order->state == ORDER_PAID)
		return "A paid order is not closed any more; call order_timeout.request_refund() to give money back.";
	if (ot_link_has_word(link, ORDER_EXPIRED, row->status))
		return "An order expires at its deadline; call order_timeout.cancel_order() to close it before.";
	return "Use a new row with another key.";
}

static bool
has_any_word(const Link *link, const LinkedRow *row)
{
	for (OrderState state = 0; state < OT_ORDER_STATES; state++)
	{
		if (ot_link_has_word(link, state, row->status))
			return true;
	}
	return false;
}

static void
follow_word(const Link *link, const LinkedRow *row, Order *order)
{
	const char *said = psprintf("the row in table %s says \"%s\"", link->table_name, row->status);

	if (ot_link_has_word(link, order->state, row->status) || !has_any_word(link, row))
		return;
	if (ot_link_has_word(link, ORDER_EXPIRED, row->status) && ot_is_due(order, GetCurrentTimestamp()))
		(void) ot_order_expire(order->order_id);
	else if (order->state != ORDER_PAID && ot_link_has_word(link, ORDER_CANCELLED, row->status))
		(void) ot_order_cancel(order->order_id, said);
	else
		contradict(link, order, said, way_out(link, row, order));
}

/* What an order was created with. */

static void
follow_terms(const Link *link, const LinkedRow *before, const LinkedRow *after, Order *order)
{
	const char *why;

	if (order->state != ORDER_PENDING || before == NULL ||
		(is_same(before->amount, after->amount) && is_same(before->currency, after->currency)))
		return;
	why = ot_linked_terms_problem(link, after, order);
	if (why != NULL)
		contradict(link, order, why, "Cancel the order, and use a new row with another key.");
}

static void
follow_row(const Link *link, const LinkedRow *before, const LinkedRow *after)
{
	Order	   *order = ot_store_find_order(ot_linked_order_id(link, after->key));

	if (order != NULL)
	{
		follow_terms(link, before, after, order);
		follow_word(link, after, order);
	}
	else if (ot_link_has_word(link, ORDER_PENDING, after->status))
	{
		OrderTerms	terms = ot_linked_terms(link, after);

		(void) ot_order_create(&terms);
	}
}

/* The row that the order had is there no more. */
static void
lose_row(const Link *link, const LinkedRow *before, bool deleted)
{
	Order	   *order = ot_store_find_order(ot_linked_order_id(link, before->key));

	if (order == NULL || (deleted && order->state != ORDER_PENDING))
		return;
	contradict(link, order,
			   psprintf("its row in table %s %s", link->table_name, deleted ? "is deleted" : "gets another key"),
			   "Cancel the order first.");
}

void
ot_track(const Link *link, const LinkedRow *before, const LinkedRow *after)
{
	if (after == NULL)
	{
		lose_row(link, before, true);
		return;
	}
	if (before != NULL && is_same(before->key, after->key) && is_same(before->status, after->status) &&
		is_same(before->amount, after->amount) && is_same(before->currency, after->currency))
		return;
	if (before != NULL && !is_same(before->key, after->key))
		lose_row(link, before, false);
	follow_row(link, before, after);
}
