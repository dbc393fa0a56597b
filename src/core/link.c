/*
 * link.c
 *    Rows of linked tables follow the orders: the state of an order becomes the first of the state's words, in the row whose
 *    key is what remains of the order_id after the link's prefix.
 *
 * Invariants:
 *  1. A row is written only if its word stands for the state that the order left, so that nothing that the shop has done
 *     with it is overwritten. No row is left behind in silence: what was not written has a word of the new state already,
 *     or is answered as a problem.
 *  2. Locks: linked row, order, payment, refund. After the order is locked, no linked row is waited for: what is locked
 *     by others is a problem, too.
 *  3. One statement for each table, state left and state reached, however many orders.
 *
 * The key is compared in its own type, so that the table's index is used; only an id that is exactly prefix and key as
 * text names a row: 007 is not 7.
 */
#include "postgres.h"

#include "link.h"
#include "linked_row.h"
#include "rules.h"
#include "store.h"
#include "subtransaction.h"
#include "unwritten.h"

#define WAIT_FOR_MONEY 1000		/* milliseconds */

/* Keys. */

static bool
is_whole_number(const char *key, int64 least, int64 most)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoll(key, &end, 10);
	return errno == 0 && number >= least && number <= most && strcmp(psprintf("%lld", (long long) number), key) == 0;
}

/* numeric(p, 0): any number of digits, written in one way. */
static bool
is_numeral(const char *key)
{
	const char *digits = key + (key[0] == '-');
	size_t		length = strspn(digits, "0123456789");

	if (length == 0 || length > 1000 || digits[length] != '\0')
		return false;
	return digits[0] != '0' || strcmp(key, "0") == 0;
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

/* Whether a row may have this key; casting others would be an error. */
static bool
is_key(const Link *link, const char *key)
{
	if (strcmp(link->key_type, "pg_catalog.int8") == 0)
		return is_whole_number(key, PG_INT64_MIN, PG_INT64_MAX);
	if (strcmp(link->key_type, "pg_catalog.int4") == 0)
		return is_whole_number(key, PG_INT32_MIN, PG_INT32_MAX);
	if (strcmp(link->key_type, "pg_catalog.int2") == 0)
		return is_whole_number(key, PG_INT16_MIN, PG_INT16_MAX);
	if (strcmp(link->key_type, "pg_catalog.\"numeric\"") == 0)
		return is_numeral(key);
	if (strcmp(link->key_type, "pg_catalog.uuid") == 0)
		return is_uuid(key);
	return true;
}

/* NULL if the order_id names no row of the table. */
static char *
key_in(const Link *link, const char *order_id)
{
	size_t		length = strlen(link->order_prefix);
	const char *key = order_id + length;

	if (strncmp(order_id, link->order_prefix, length) != 0 || !is_key(link, key))
		return NULL;
	return unconstify(char *, key);
}

/* Sorted lists of texts as sets. */

static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static int
compare_text(const void *text, const void *cell)
{
	return strcmp(text, lfirst((const ListCell *) cell));
}

static bool
contains(const List *sorted, const char *text)
{
	return sorted != NIL &&
		bsearch(text, sorted->elements, list_length(sorted), sizeof(ListCell), compare_text) != NULL;
}

static List *
sort(List *texts)
{
	list_sort(texts, compare_cells);
	return texts;
}

/* Locking. */

typedef struct Taking
{
	const Link *link;
	List	   *keys;
	bool		reports_money;
} Taking;

static void
take(void *work_state)
{
	Taking	   *taking = work_state;

	if (ot_store_lock_linked(taking->link, taking->keys, false) != NIL ||
		ot_store_find_linked(taking->link, taking->keys) == NIL)
		return;
	if (taking->reports_money)
		ot_store_lock_linked_within(taking->link, taking->keys, WAIT_FOR_MONEY);
	else
		ot_store_lock_linked(taking->link, taking->keys, true);
}

/*
 * A caller who may not lock the row, or a table that is not as it was, need not fail here: most calls do not change the
 * order's state. Writing the row will say so.
 */
static bool
may_go_on(const Failure *failure)
{
	return ERRCODE_TO_CATEGORY(failure->error->sqlerrcode) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION;
}

void
ot_link_lock(const char *order_id)
{
	ListCell   *cell;

	foreach(cell, ot_store_links())
	{
		const Link *link = lfirst(cell);
		char	   *key = key_in(link, order_id);
		Taking		taking = {link, list_make1(key), ot_reports_money()};
		Failure		failure;

		if (key == NULL)
			continue;
		if (taking.reports_money)
			(void) ot_try_after_report(take, &taking, &failure);
		else if (!ot_try(take, &taking, false, &failure) && !may_go_on(&failure))
			ReThrowError(failure.error);
	}
}

/* Orders whose rows are there, and locked by others. */
static List *
busy_in(const Link *link, List *orders)
{
	List	   *keys = NIL;
	List	   *locked;
	List	   *left = NIL;
	List	   *busy = NIL;
	ListCell   *cell;

	foreach(cell, orders)
	{
		char	   *key = key_in(link, ((Order *) lfirst(cell))->order_id);

		if (key != NULL)
			keys = lappend(keys, key);
	}
	locked = keys == NIL ? NIL : sort(ot_store_lock_linked(link, keys, false));
	foreach(cell, keys)
	{
		if (!contains(locked, lfirst(cell)))
			left = lappend(left, lfirst(cell));
	}
	if (left == NIL)
		return NIL;
	foreach(cell, ot_store_find_linked(link, left))
		busy = lappend(busy, psprintf("%s%s", link->order_prefix, ((LinkedRow *) lfirst(cell))->key));
	return sort(busy);
}

List *
ot_link_lock_if_free(List *orders)
{
	ListCell   *of_link;

	foreach(of_link, ot_store_links())
	{
		List	   *busy = busy_in(lfirst(of_link), orders);
		List	   *others = NIL;
		ListCell   *cell;

		if (busy == NIL)
			continue;
		foreach(cell, orders)
		{
			if (!contains(busy, ((Order *) lfirst(cell))->order_id))
				others = lappend(others, lfirst(cell));
		}
		orders = others;
	}
	return orders;
}

/* Words. */

bool
ot_link_has_word(const Link *link, OrderState state, const char *status)
{
	for (StatusWords word = link->words[state]; status != NULL && word != NULL && *word != NULL; word++)
	{
		if (strcmp(*word, status) == 0)
			return true;
	}
	return false;
}

static List *
add_words(List *list, StatusWords words)
{
	for (; words != NULL && *words != NULL; words++)
		list = lappend(list, unconstify(char *, *words));
	return list;
}

/*
 * The words of the last mapped state that the order had; of a state that is not mapped, those of the states before it, which
 * the enum has before it. A paid order is closed no more.
 */
static List *
words_of_last_mapped(const Link *link, OrderState state)
{
	List	   *words = add_words(NIL, link->words[state]);

	for (OrderState before = 0; before < state && link->words[state] == NULL; before++)
	{
		if (before != ORDER_PAID)
			words = add_words(words, link->words[before]);
	}
	return words;
}

/* A row that has a word of the new state is right, but the time and the reason of a settled state are still to be written. */
static List *
words_to_replace(const Link *link, OrderState from, OrderState to)
{
	List	   *words = NIL;
	ListCell   *cell;

	foreach(cell, words_of_last_mapped(link, from))
	{
		if (!ot_state_is_open(to) || !ot_link_has_word(link, to, lfirst(cell)))
			words = lappend(words, lfirst(cell));
	}
	return words;
}

/* A settled state without a word says nothing about the row; an open one leaves it the word that it had. */
bool
ot_link_agrees(const Link *link, OrderState state, const char *status)
{
	ListCell   *cell;

	if (!ot_state_is_open(state))
		return ot_link_has_word(link, state, status);
	foreach(cell, words_of_last_mapped(link, state))
	{
		if (status != NULL && strcmp(lfirst(cell), status) == 0)
			return true;
	}
	return false;
}

/* Writing. */

/* Orders of one link that go from one state to another. */
typedef struct Step
{
	const Link *link;
	OrderState	from;
	OrderState	to;
	List	   *orders;
	List	   *keys;
} Step;

static List *
problem(List *problems, Order *order, int sqlerrcode, const char *why)
{
	LinkProblem *made = palloc(sizeof(LinkProblem));

	made->order = order;
	made->sqlerrcode = sqlerrcode;
	made->why = why;
	return lappend(problems, made);
}

static const LinkedRow *
row_of(List *rows, const char *key)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		if (strcmp(((LinkedRow *) lfirst(cell))->key, key) == 0)
			return lfirst(cell);
	}
	return NULL;
}

/* An open order whose row was noted for another amount or deadline. */
static List *
explain_terms(List *problems, const Link *link, Order *order, const LinkedRow *row)
{
	const char *why = NULL;

	if (!ot_order_is_open(order))
		return problems;
	if (link->amount_column != NULL)
		why = ot_linked_terms_problem(link, row, order);
	if (why == NULL && link->notes_contradictions)
		why = ot_linked_deadline_problem(link, row, order);
	return why == NULL ? problems : problem(problems, order, ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION, why);
}

static const char *
what_order_did(const Step *step)
{
	if (step->from == step->to)
		return psprintf("the order is %s", ot_order_states[step->to]);
	return psprintf("the order went from %s to %s", ot_order_states[step->from], ot_order_states[step->to]);
}

/* What was not written. Locked: the keys of rows that are ours to write. */
static List *
explain(List *problems, const Step *step, Order *order, const LinkedRow *row, List *locked)
{
	const Link *link = step->link;

	if (row == NULL)
		return problem(problems, order, ERRCODE_NO_DATA,
					   psprintf("table %s has no such row, or the caller may not see it", link->table_name));
	if (ot_link_agrees(link, step->to, row->status))
		return step->from == step->to ? explain_terms(problems, link, order, row) : problems;
	if (!contains(locked, row->key))
		return problem(problems, order, ERRCODE_LOCK_NOT_AVAILABLE,
					   psprintf("the row in table %s is locked by another transaction", link->table_name));
	return problem(problems, order, ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
				   psprintf("the row in table %s says \"%s\", and %s", link->table_name, row->status ? row->status : "",
							what_order_did(step)));
}

static List *
write_step(List *problems, const Step *step)
{
	const Link *link = step->link;
	const Order *first = linitial(step->orders);
	List	   *locked = sort(ot_store_lock_linked(link, step->keys, false));
	List	   *written = NIL;
	List	   *left = NIL;
	List	   *rows;
	ListCell   *key;
	ListCell   *order;

	if (locked != NIL && step->from != step->to)
		written = sort(ot_store_write_linked(link, locked, words_to_replace(link, step->from, step->to), step->to,
											 first->settled_at, first->close_reason));
	foreach(key, step->keys)
	{
		if (!contains(written, lfirst(key)))
			left = lappend(left, lfirst(key));
	}
	if (left == NIL)
		return problems;
	rows = ot_store_find_linked(link, left);
	forboth(key, step->keys, order, step->orders)
	{
		if (!contains(written, lfirst(key)))
			problems = explain(problems, step, lfirst(order), row_of(rows, lfirst(key)), locked);
	}
	return problems;
}

static Step
step_of(const Link *link, OrderState from, OrderState to, List *orders)
{
	Step		step = {link, from, to};
	ListCell   *cell;

	foreach(cell, orders)
	{
		Order	   *order = lfirst(cell);
		char	   *key = order->state == to && order->left_state == from ? key_in(link, order->order_id) : NULL;

		if (key == NULL)
			continue;
		step.orders = lappend(step.orders, order);
		step.keys = lappend(step.keys, key);
	}
	return step;
}

/* A row is written if the new state has a word. What was noted of an open order is looked at without one, too. */
static bool
concerns_rows(const Link *link, OrderState from, OrderState to)
{
	return link->words[to] != NULL || (from == to && ot_state_is_open(to));
}

List *
ot_link_write(List *orders)
{
	List	   *problems = NIL;
	ListCell   *cell;

	foreach(cell, ot_store_links())
	{
		const Link *link = lfirst(cell);

		for (OrderState to = 0; to < OT_ORDER_STATES; to++)
		{
			for (OrderState from = 0; from < OT_ORDER_STATES; from++)
			{
				Step		step = step_of(link, from, to, orders);

				if (step.orders != NIL && concerns_rows(link, from, to))
					problems = write_step(problems, &step);
			}
		}
	}
	return problems;
}
