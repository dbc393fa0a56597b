/*
 * link.c
 *    Rows of linked tables follow the engine: the state of an order becomes the first of the state's words, in the row whose
 *    key is what remains of the order_id after the link's prefix.
 *
 * Invariants:
 *  1. One statement a state and table, however many orders.
 *  2. No row is left behind in silence: what the statement did not write says the right thing already, or is missing
 *     (an error, or on_missing => 'ignore'), or was not let through (an error).
 *  3. The sweeper waits for no row: a payment may hold it and wait for the order that the sweeper holds.
 *
 * An id is compared with the key as text, so only the form that the key's own type writes names a row: 007 is not 7.
 */
#include "postgres.h"

#include "attempt.h"
#include "errors.h"
#include "link.h"
#include "store.h"

bool
ot_link_is_for(const Link *link, const char *order_id)
{
	return !link->shadow && strncmp(order_id, link->prefix, strlen(link->prefix)) == 0;
}

/* Keys. */

static bool
is_whole_number(const char *key, int64 lowest, int64 highest)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoll(key, &end, 10);
	return errno == 0 && number >= lowest && number <= highest && strcmp(psprintf("%lld", (long long) number), key) == 0;
}

static bool
is_uuid(const char *key)
{
	for (int i = 0; i < 36; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? key[i] != '-' : key[i] == '\0' || strchr("0123456789abcdef", key[i]) == NULL)
			return false;
	}
	return key[36] == '\0';
}

/* Whether a row may have this key; others would be an error of the statement. */
static bool
is_key(const Link *link, const char *key)
{
	if (strcmp(link->key_type, "pg_catalog.int8") == 0)
		return is_whole_number(key, PG_INT64_MIN, PG_INT64_MAX);
	if (strcmp(link->key_type, "pg_catalog.int4") == 0)
		return is_whole_number(key, PG_INT32_MIN, PG_INT32_MAX);
	if (strcmp(link->key_type, "pg_catalog.int2") == 0)
		return is_whole_number(key, PG_INT16_MIN, PG_INT16_MAX);
	if (strcmp(link->key_type, "pg_catalog.uuid") == 0)
		return is_uuid(key);
	return true;
}

/* Lists of keys as sets. */

static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static int
compare_key(const void *key, const void *cell)
{
	return strcmp(key, lfirst((const ListCell *) cell));
}

static List *
without(List *keys, List *gone)
{
	List	   *left = NIL;
	ListCell   *cell;

	if (gone == NIL)
		return keys;
	list_sort(gone, compare_cells);
	foreach(cell, keys)
		if (bsearch(lfirst(cell), gone->elements, list_length(gone), sizeof(ListCell), compare_key) == NULL)
			left = lappend(left, lfirst(cell));
	return left;
}

/* What was not written. */

static bool
is_word(List *words, const char *status)
{
	ListCell   *cell;

	foreach(cell, words)
		if (status != NULL && strcmp(lfirst(cell), status) == 0)
			return true;
	return false;
}

static void
missing(const Link *link, List *keys)
{
	if (keys == NIL || link->ignore_missing)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("table %s has no row for order \"%s%s\"", link->table_name, link->prefix, (char *) linitial(keys)),
			 errdetail("The table is linked to order_timeout by its column \"%s\"; the row is not there, or the caller may not see it.",
					   link->key_column),
			 errhint("Link it with on_missing => 'ignore' if orders may have no row.")));
}

static void
not_let_through(const Link *link, List *keys, OrderState state)
{
	if (keys == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("the status of order \"%s%s\" in table %s was not written", link->prefix, (char *) linitial(keys), link->table_name),
			 errdetail("A trigger, a rule or row security kept it from becoming \"%s\".", (char *) linitial(link->words[state]))));
}

static void
held_by_others(const Link *link, List *keys)
{
	if (keys == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("the row of order \"%s%s\" in table %s is locked by somebody else", link->prefix, (char *) linitial(keys),
					link->table_name)));
}

static void
account_for(const Link *link, OrderState state, List *keys, bool wait)
{
	List	   *right = NIL;
	List	   *wrong = NIL;
	ListCell   *cell;

	foreach(cell, ot_store_find_linked(link, keys))
	{
		LinkedRow  *row = lfirst(cell);

		if (is_word(link->words[state], row->status))
			right = lappend(right, row->key);
		else
			wrong = lappend(wrong, row->key);
	}
	if (!wait)
		held_by_others(link, without(wrong, wrong == NIL ? NIL : ot_store_lock_linked_if_free(link, wrong)));
	not_let_through(link, wrong, state);
	missing(link, without(keys, right));
}

typedef struct Taking
{
	const Link *link;
	List	   *keys;
} Taking;

static void
take_now(void *work_state)
{
	Taking	   *taking = work_state;

	ot_store_lock_linked_now(taking->link, taking->keys);
}

bool
ot_link_take(const Link *link, const Order *order)
{
	char	   *key = order->order_id + strlen(link->prefix);
	Taking		taking = {link, list_make1(key)};
	Failure		failure;

	if (!is_key(link, key) || ot_attempt(take_now, &taking, &failure))
		return true;
	if (failure.error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(failure.error);
	return false;
}

static void
write_state(const Link *link, OrderState state, List *orders, bool wait)
{
	List	   *keys = NIL;
	List	   *misshapen = NIL;
	List	   *left;
	ListCell   *cell;

	foreach(cell, orders)
	{
		Order	   *order = lfirst(cell);
		char	   *key = order->order_id + strlen(link->prefix);

		if (is_key(link, key))
			keys = lappend(keys, key);
		else
			misshapen = lappend(misshapen, key);
	}
	left = keys == NIL ? NIL : without(keys, ot_store_write_linked(link, state, keys, wait));
	if (left != NIL)
		account_for(link, state, left, wait);
	missing(link, misshapen);
}

void
ot_link_write(const Link *link, List *orders, bool wait)
{
	for (OrderState state = ORDER_PENDING; state <= ORDER_CANCELLED; state++)
	{
		List	   *of_state = NIL;
		ListCell   *cell;

		foreach(cell, orders)
		{
			Order	   *order = lfirst(cell);

			if (order->state == state && ot_link_is_for(link, order->order_id))
				of_state = lappend(of_state, order);
		}
		if (of_state != NIL)
			write_state(link, state, of_state, wait);
	}
}
