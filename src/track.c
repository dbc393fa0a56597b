/*
 * track.c
 *    The engine follows rows of linked tables: what somebody writes into a status there.
 *
 *    the word stands for     the order is       what happens
 *    ------------------------------------------------------------------------------------------
 *    no state                any                nothing: the word is the shop's own business
 *    pending                 not there          it is created, with what the row says
 *    another state           not there          nothing: the engine has no part in that order
 *    the order's state       -                  nothing, but a pending order's amount must agree
 *    cancelled               pending, expired   it is cancelled
 *    anything else           -                  a contradiction: OT005, or noted as an event
 *
 * In shadow mode nothing is refused, and what fails is a warning: the table's own application must not notice.
 */
#include "postgres.h"

#include "attempt.h"
#include "check.h"
#include "currency.h"
#include "errors.h"
#include "event.h"
#include "settle.h"
#include "store.h"
#include "track.h"

static bool
stands_for(const Link *link, OrderState state, const char *status)
{
	ListCell   *cell;

	foreach(cell, link->words[state])
		if (strcmp(lfirst(cell), status) == 0)
			return true;
	return false;
}

static bool
stands_for_any(const Link *link, const char *status)
{
	for (OrderState state = ORDER_PENDING; state <= ORDER_CANCELLED; state++)
		if (stands_for(link, state, status))
			return true;
	return false;
}

static const char *
required(const char *value, const char *column)
{
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("column \"%s\" must not be null in a row that is to be paid", column)));
	return value;
}

static char *
order_id_of(const Link *link, const LinkedRow *row)
{
	char	   *order_id = psprintf("%s%s", link->prefix, row->key);

	ot_check_id(order_id, link->key_column);
	return order_id;
}

/* A char(n) brings its blanks. */
static char *
currency_of(const Link *link, const LinkedRow *row)
{
	char	   *currency = pstrdup(required(row->currency, link->currency_column ? link->currency_column : "currency"));
	int			length = strlen(currency);

	while (length > 0 && currency[length - 1] == ' ')
		currency[--length] = '\0';
	ot_check_currency(currency, link->currency_column ? link->currency_column : "currency");
	return currency;
}

static int64
amount_of(const Link *link, const LinkedRow *row, const char *currency)
{
	int64		amount;

	if (link->amount_column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is linked without an amount_column", link->table_name)));
	amount = ot_minor_units_of(required(row->amount, link->amount_column), currency, link->amount_is_major);
	ot_check_amount(amount, 0, link->amount_column);
	return amount;
}

bool
ot_track_adopt(const Link *link, const LinkedRow *row)
{
	OrderTerms	terms = {0};
	Order	   *order;

	terms.order_id = order_id_of(link, row);
	order = ot_store_find_order(terms.order_id);
	if (order != NULL)
		return false;
	terms.currency = currency_of(link, row);
	terms.amount = amount_of(link, row, terms.currency);
	terms.policy = link->policy;
	terms.expires_at = row->deadline;
	terms.since = row->created;
	terms.adopted = true;
	if (row->deadline != OT_NO_TIME)
		ot_check_time(row->deadline, link->deadline_column);
	if (row->created != OT_NO_TIME)
		ot_check_time(row->created, link->created_column);
	return strcmp(ot_order_create(&terms).outcome, "created") == 0;
}

/* Contradictions. */

static const char *
way_out(const Link *link, const LinkedRow *row, const Order *order)
{
	if (stands_for(link, ORDER_PAID, row->status))
		return "An order is paid when its payment is recorded: order_timeout.record_payment().";
	if (order->state == ORDER_PAID)
		return "A paid order is not closed any more; money of it goes back with order_timeout.request_refund().";
	if (stands_for(link, ORDER_EXPIRED, row->status))
		return "An order expires at its deadline; close it before with order_timeout.cancel_order(), or later with order_timeout.expire_order().";
	return "A closed order is not opened by hand. Make a new order with another key.";
}

static void
contradicts(const Link *link, const LinkedRow *row, const Order *order)
{
	Payload    *payload;

	if (!link->note_contradictions && !link->shadow)
		ereport(ERROR,
				(errcode(OT_WRONG_STATE),
				 errmsg("status \"%s\" contradicts order \"%s\", which is %s", row->status, order->order_id,
						ot_order_states[order->state]),
				 errdetail("Table %s is linked to order_timeout.", link->table_name),
				 errhint("%s", way_out(link, row, order))));
	payload = ot_payload();
	ot_payload_text(payload, "state", ot_order_states[order->state]);
	ot_payload_text(payload, "table", link->table_name);
	ot_payload_text(payload, "status", row->status);
	ot_event(order->order_id, "order.contradicted", payload, GetCurrentTimestamp());
}

static void
amounts_agree(const Link *link, const LinkedRow *row, const Order *order)
{
	const char *currency = currency_of(link, row);

	if (amount_of(link, row, currency) == order->amount && strcmp(currency, order->currency) == 0)
		return;
	if (!link->note_contradictions && !link->shadow)
		ereport(ERROR,
				(errcode(OT_ORDER_DIFFERS),
				 errmsg("an order with this id and other terms exists"),
				 errdetail("Order \"%s\" is for %lld %s, the row of table %s says %s %s.", order->order_id,
						   (long long) order->amount, order->currency, link->table_name, row->amount, currency),
				 errhint("The amount of an order cannot be changed. Cancel it and make a new one with another key.")));
	contradicts(link, row, order);
}

static void
cancel(const Link *link, const LinkedRow *row, const Order *order)
{
	OrderAnswer answer = ot_order_cancel(order->order_id, psprintf("status \"%s\" in %s", row->status, link->table_name));

	if (strcmp(answer.outcome, "already_paid") == 0)
		contradicts(link, row, answer.order);
}

static void
follow_row(const Link *link, const LinkedRow *row)
{
	Order	   *order;

	if (row->key == NULL || row->status == NULL || !stands_for_any(link, row->status))
		return;
	order = ot_store_find_order(order_id_of(link, row));
	if (order == NULL)
	{
		if (stands_for(link, ORDER_PENDING, row->status))
			(void) ot_track_adopt(link, row);
	}
	else if (stands_for(link, order->state, row->status))
	{
		if (order->state == ORDER_PENDING)
			amounts_agree(link, row, order);
	}
	else if (order->state != ORDER_PAID && stands_for(link, ORDER_CANCELLED, row->status))
		cancel(link, row, order);
	else
		contradicts(link, row, order);
}

/* Attempts. */

typedef struct Tracked
{
	const Link *link;
	const LinkedRow *row;
} Tracked;

static void
follow_tracked(void *work_state)
{
	Tracked    *tracked = work_state;

	follow_row(tracked->link, tracked->row);
}

void
ot_track_row(const Link *link, const LinkedRow *row)
{
	Tracked		tracked = {link, row};
	Failure		failure;

	if (!link->shadow)
		follow_row(link, row);
	else if (!ot_attempt(follow_tracked, &tracked, &failure))
		ereport(WARNING,
				(errmsg("order_timeout does not follow the row \"%s\" of table %s", row->key ? row->key : "", link->table_name),
				 errdetail("%s", failure.text)));
}
