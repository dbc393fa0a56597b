/*
 * linked_row.c
 *    What a row of a linked table says about its order.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "check.h"
#include "currency.h"
#include "linked_row.h"

static void
invalid(const Link *link, const char *key, const char *what, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("row \"%s\" of table %s has an invalid %s: %s", key, link->table_name, what, why),
			 errhint("The table is linked to order_timeout: correct the row.")));
}

static const char *
required(const Link *link, const LinkedRow *row, const char *value, const char *what)
{
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("row \"%s\" of table %s has no %s", row->key, link->table_name, what),
				 errhint("The table is linked to order_timeout, and a row that is to be paid needs one.")));
	return value;
}

static char *
order_id_of(const Link *link, const char *key)
{
	char	   *order_id = psprintf("%s%s", link->order_prefix, key);
	const char *problem = ot_id_problem(order_id);

	if (problem != NULL)
		invalid(link, key, "key", problem);
	return order_id;
}

/* A char(n) brings its blanks. */
static char *
currency_of(const Link *link, const LinkedRow *row)
{
	char	   *currency = pstrdup(link->currency ? link->currency : required(link, row, row->currency, "currency"));
	int			length = strlen(currency);
	const char *problem;

	while (length > 0 && currency[length - 1] == ' ')
		currency[--length] = '\0';
	problem = ot_currency_problem(currency);
	if (problem != NULL)
		invalid(link, row->key, "currency", problem);
	return currency;
}

static int64
amount_of(const Link *link, const LinkedRow *row, const char *currency)
{
	int64		amount = ot_minor_units_of(required(link, row, row->amount, "amount"), currency, link->amount_is_major);
	const char *problem = ot_amount_problem(amount, 0);

	if (problem != NULL)
		invalid(link, row->key, "amount", problem);
	return amount;
}

TimestampTz
ot_linked_deadline(const Link *link, const LinkedRow *row)
{
	const char *problem = row->deadline == OT_NO_TIME ? NULL : ot_time_problem(row->deadline);

	if (problem != NULL)
		invalid(link, row->key, "deadline", problem);
	return row->deadline;
}

OrderTerms
ot_linked_terms(const Link *link, const LinkedRow *row)
{
	OrderTerms	terms = {0};

	terms.order_id = order_id_of(link, row->key);
	terms.currency = currency_of(link, row);
	terms.amount = amount_of(link, row, terms.currency);
	terms.policy = row->policy != NULL ? row->policy : link->policy;
	terms.expires_at = ot_linked_deadline(link, row);
	return terms;
}

const char *
ot_linked_terms_problem(const Link *link, const LinkedRow *row, const Order *order)
{
	char	   *currency = currency_of(link, row);
	int64		amount = amount_of(link, row, currency);

	if (amount == order->amount && strcmp(currency, order->currency) == 0)
		return NULL;
	return psprintf("the row in table %s asks for %lld %s, and the order for %lld %s", link->table_name,
					(long long) amount, currency, (long long) order->amount, order->currency);
}

const char *
ot_linked_deadline_problem(const Link *link, const LinkedRow *row, const Order *order)
{
	char	   *of_row;

	if (row->deadline == OT_NO_TIME || row->deadline == order->expires_at)
		return NULL;
	of_row = pstrdup(timestamptz_to_str(row->deadline));	/* it answers the same buffer each time */
	return psprintf("the row in table %s has the deadline %s, and the order %s", link->table_name, of_row,
					timestamptz_to_str(order->expires_at));
}
