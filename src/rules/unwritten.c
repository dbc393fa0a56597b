/*
 * unwritten.c
 *    Knows which rows were changed in memory and are still to be written, and what is to follow once they are.
 *
 * Money moves in memory first, because each row is written once, when all that happens to it has happened. The
 * function that moves the money is often not the one that writes the row, and a forgotten write would be silent: the
 * call would answer that the money had moved. So every row that changes is counted until it is written, and a call that
 * ends with some left over fails.
 *
 * Calls can be nested: what a call writes may fire a user's trigger that makes another call. Each counts its own rows
 * only. An inner call about an order that the outer one has changed and not yet written would read what is over already,
 * and the outer one would write over what it did: it can find that out here.
 */
#include "unwritten.h"

static Changes none = {0};
static Changes *current = &none;

void
ot_row_changed(bool *unwritten, const char *order_id)
{
	if (*unwritten)
		return;
	*unwritten = true;
	current->rows++;
	current->order_ids = lappend(current->order_ids, unconstify(char *, order_id));
}

void
ot_row_written(bool *unwritten)
{
	if (!*unwritten)
		return;
	*unwritten = false;
	if (--current->rows > 0)
		return;
	list_free(current->order_ids);
	current->order_ids = NIL;
}

static bool
has_changed(const Changes *changes, const char *order_id)
{
	ListCell   *cell;

	foreach(cell, changes->order_ids)
	{
		if (strcmp(lfirst(cell), order_id) == 0)
			return true;
	}
	return false;
}

bool
ot_is_changed_by_outer_call(const char *order_id)
{
	for (const Changes *changes = current->outer; changes != NULL; changes = changes->outer)
		if (has_changed(changes, order_id))
			return true;
	return false;
}

/* An order that is written several times in a call is written so one time after the other. */
void
ot_order_moved(Order *order)
{
	if (current->moved == NIL || llast(current->moved) != order)
		current->moved = lappend(current->moved, order);
}

List *
ot_take_moved(void)
{
	List	   *moved = current->moved;

	current->moved = NIL;
	return moved;
}

KeptEvents *
ot_kept_events(void)
{
	return &current->kept;
}

void
ot_set_reports_money(void)
{
	current->reports_money = true;
}

bool
ot_reports_money(void)
{
	return current->reports_money;
}

void
ot_set_decides(void)
{
	current->decides = true;
}

bool
ot_decides(void)
{
	return current->decides;
}

void
ot_set_reopening_refused(bool *refused)
{
	current->refused = refused;
}

bool *
ot_reopening_refused(void)
{
	return current->refused;
}

void
ot_changes_begin(Changes *changes)
{
	changes->rows = 0;
	changes->order_ids = NIL;
	changes->moved = NIL;
	memset(&changes->kept, 0, sizeof(KeptEvents));
	changes->reports_money = false;
	changes->decides = false;
	changes->refused = NULL;
	changes->outer = current;
	current = changes;
}

void
ot_changes_require_written(void)
{
	if (current->rows != 0)
		elog(ERROR, "rows that were changed and not written: %d", current->rows);
	if (current->kept.events != NIL)
		elog(ERROR, "events that were kept and not written: %d", list_length(current->kept.events));
	if (current->moved != NIL)
		elog(ERROR, "orders that changed their state and were not followed: %d", list_length(current->moved));
}

void
ot_changes_end(const Changes *changes)
{
	current = changes->outer;
}
