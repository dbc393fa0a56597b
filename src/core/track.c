/*
 * track.c
 *    Orders follow the rows of a linked table, where link_table was told to track it.
 *
 *    the row                            the order is          what happens
 *    ------------------------------------------------------------------------------------------------------
 *    says a word of pending             not there             it is created, with what the row says
 *    says any other word                not there             nothing: the engine has no part in it
 *    says a word of the order's state   -                     nothing: most often this is our own write
 *    says a word of cancelled           open or expired       it is cancelled
 *    says a word of expired             due                   it expires, or is closing: then a contradiction
 *    says a word of no state            -                     nothing: it is the shop's own business
 *    says another state's word          -                     a contradiction
 *    has another amount or currency     open                  a contradiction
 *    gets another deadline              pending, authorized   it moves; one in the past is an error
 *    has another key, or is deleted     there (open)          a contradiction
 *    is inserted with other terms       open                  a contradiction
 *    goes to another partition          -                     nothing: PostgreSQL deletes and inserts it
 *
 * Open: pending, authorized or closing. An authorized or closing order whose state has no word leaves its row the word that
 * the row had, so that is right, too.
 *
 * A contradiction is an error of the shop's statement (OT005), or with on_contradiction => 'note' it is shown until row
 * and order agree. With 'note' no statement fails for what its row says: what cannot be followed is a warning, and
 * shown too if there is an order.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "check.h"
#include "errors.h"
#include "follow.h"
#include "link.h"
#include "linked_row.h"
#include "order_close.h"
#include "order_create.h"
#include "order_deadline.h"
#include "rules.h"
#include "store.h"
#include "subtransaction.h"
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
	if (order->state == ORDER_CLOSING)
		return "A closing order expires by itself when its attempts have ended, and its row is written then: leave it as it is.";
	if (order->state == ORDER_AUTHORIZED && ot_link_has_word(link, ORDER_PENDING, row->status))
		return "An authorized order is pending again when its attempt has ended: call order_timeout.end_attempt().";
	if (order->state == ORDER_PENDING && ot_link_has_word(link, ORDER_AUTHORIZED, row->status))
		return "An order is authorized when its gateway promises the money: call order_timeout.authorize_attempt().";
	if (ot_link_has_word(link, ORDER_EXPIRED, row->status) || ot_link_has_word(link, ORDER_CLOSING, row->status))
		return "An order expires at its deadline; call order_timeout.cancel_order() to close it before.";
	if (order->state == ORDER_EXPIRED && ot_link_has_word(link, ORDER_PENDING, row->status))
		return "Call order_timeout.reopen_order(), which writes the row too.";
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

/* The order was read without a lock, so it may have become another state's meanwhile. */
static void
follow_word(const Link *link, const LinkedRow *row, Order *order)
{
	const char *said = psprintf("the row in table %s says \"%s\"", link->table_name, row->status);

	if (ot_link_agrees(link, order->state, row->status) || !has_any_word(link, row))
		return;
	if (ot_link_has_word(link, ORDER_EXPIRED, row->status) && ot_is_due(order, GetCurrentTimestamp()))
		(void) ot_order_expire(order->order_id);
	else if (order->state != ORDER_PAID && ot_link_has_word(link, ORDER_CANCELLED, row->status))
		(void) ot_order_cancel(order->order_id, said);
	order = ot_store_find_order(order->order_id);
	if (!ot_link_agrees(link, order->state, row->status))
		contradict(link, order, said, way_out(link, row, order));
}

/* What an order was created with. A row that is to be paid brings its terms when it is inserted, any row when they change. */
static bool
brings_terms(const Link *link, const LinkedRow *before, const LinkedRow *after)
{
	if (before == NULL)
		return ot_link_has_word(link, ORDER_PENDING, after->status);
	return !is_same(before->amount, after->amount) || !is_same(before->currency, after->currency);
}

typedef struct Comparison
{
	const Link *link;
	const LinkedRow *row;
	const Order *order;
	const char *problem;
} Comparison;

static void
compare_terms(void *work_state)
{
	Comparison *comparison = work_state;

	comparison->problem = ot_linked_terms_problem(comparison->link, comparison->row, comparison->order);
}

/* A row that asks for nothing that an order could have is noted, too. */
static const char *
problem_of_terms(const Link *link, const LinkedRow *row, const Order *order)
{
	Comparison	comparison = {link, row, order};
	Failure		failure;

	if (!link->notes_contradictions)
		compare_terms(&comparison);
	else if (!ot_try(compare_terms, &comparison, false, &failure))
		return failure.error->message;
	return comparison.problem;
}

static const char *
way_to_other_terms(const Order *order)
{
	if (order->state == ORDER_AUTHORIZED)
		return "End the attempt that authorised the order with order_timeout.end_attempt(), then change the amount with "
			"order_timeout.change_order(), or cancel the order and use a new row with another key.";
	if (order->state == ORDER_CLOSING)
		return "A closing order cannot change: use a new row with another key.";
	return "Change the amount of the order first with order_timeout.change_order(), "
		"or cancel the order and use a new row with another key.";
}

static void
follow_terms(const Link *link, const LinkedRow *before, const LinkedRow *after, Order *order)
{
	const char *why;

	if (!ot_order_is_open(order) || !brings_terms(link, before, after))
		return;
	why = problem_of_terms(link, after, order);
	if (why != NULL)
		contradict(link, order, why, way_to_other_terms(order));
}

/* A key that cannot be an order's is no error until the row is to be paid. */
static Order *
order_of(const Link *link, const LinkedRow *row)
{
	char	   *order_id = psprintf("%s%s", link->order_prefix, row->key);

	return ot_id_problem(order_id) == NULL ? ot_store_find_order(order_id) : NULL;
}

static bool
takes_deadlines(const Order *order)
{
	return order->state == ORDER_PENDING || order->state == ORDER_AUTHORIZED;
}

/* After the word: of what the word has closed, the deadline does not matter. */
static void
follow_deadline(const Link *link, const LinkedRow *before, const LinkedRow *after)
{
	bool		is_new = before != NULL && before->deadline != after->deadline && after->deadline != OT_NO_TIME;
	Order	   *order = is_new ? order_of(link, after) : NULL;
	OrderAnswer answer;

	if (order == NULL || !takes_deadlines(order))
		return;
	answer = ot_order_set_deadline(order->order_id, ot_linked_deadline(link, after));
	/* What an order had before is unchanged to a repeated call, and here it is not. */
	if (takes_deadlines(answer.order) && answer.order->expires_at != after->deadline)
		ot_deadline_not_in_future(order->order_id, after->deadline, GetCurrentTimestamp());
}

static void
follow_row(const Link *link, const LinkedRow *before, const LinkedRow *after)
{
	Order	   *order = order_of(link, after);

	if (order != NULL)
	{
		follow_terms(link, before, after, order);
		follow_word(link, after, order);
		follow_deadline(link, before, after);
	}
	else if (ot_link_has_word(link, ORDER_PENDING, after->status))
	{
		OrderTerms	terms = ot_linked_terms(link, after);

		(void) ot_order_create(&terms);
	}
}

/* The row that the order had is there no more. */
static void
lose_row(const Link *link, const LinkedRow *before, bool deleted, bool may_have_moved)
{
	Order	   *order = order_of(link, before);

	if (order == NULL || (deleted && !ot_order_is_open(order)))
		return;
	if (may_have_moved && ot_store_find_linked(link, list_make1(before->key)) != NIL)
		return;
	contradict(link, order,
			   psprintf("its row in table %s %s", link->table_name, deleted ? "is deleted" : "gets another key"),
			   "Cancel the order first.");
}

static void
follow_change(const Link *link, const LinkedRow *before, const LinkedRow *after, bool in_partition)
{
	if (after == NULL)
	{
		lose_row(link, before, true, in_partition);
		return;
	}
	if (before != NULL && !is_same(before->key, after->key))
		lose_row(link, before, false, false);
	follow_row(link, before, after);
}

/* Where contradictions are noted, nothing that is written to the table is refused. */

typedef struct Change
{
	const Link *link;
	const LinkedRow *before;
	const LinkedRow *after;
	bool		in_partition;
} Change;

static void
try_change(void *work_state)
{
	Change	   *change = work_state;

	follow_change(change->link, change->before, change->after, change->in_partition);
	ot_follow();
}

static void
warn(const Change *change, const Failure *failure)
{
	const LinkedRow *row = change->after ? change->after : change->before;
	Order	   *order = order_of(change->link, row);

	ereport(WARNING,
			(errmsg("row \"%s\" of table %s is not followed", row->key, change->link->table_name),
			 errdetail("%s", failure->text)));
	if (order != NULL)
		ot_follow_note(order, failure->error->message);
}

void
ot_track(const Link *link, const LinkedRow *before, const LinkedRow *after, bool in_partition)
{
	Change		change = {link, before, after, in_partition};
	Failure		failure;

	if (before != NULL && after != NULL && is_same(before->key, after->key) && is_same(before->status, after->status) &&
		is_same(before->amount, after->amount) && is_same(before->currency, after->currency) &&
		before->deadline == after->deadline)
		return;
	if (!link->notes_contradictions)
		follow_change(link, before, after, in_partition);
	else if (!ot_try(try_change, &change, false, &failure))
		warn(&change, &failure);
}
