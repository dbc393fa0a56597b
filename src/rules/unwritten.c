/*
 * unwritten.c
 *    Counts rows that were changed in memory and are still to be written.
 *
 * Money moves in memory first, because each row is written once, when all that happens to it has happened. The
 * function that moves the money is often not the one that writes the row, and a forgotten write would be silent: the
 * call would answer that the money had moved. So every row that changes is counted until it is written, and a call that
 * ends with some left over fails.
 *
 * Calls can be nested: what a call writes may fire a user's trigger that makes another call. Each counts its own rows
 * only, and the outer count is put back when the inner call is over, be it by an error that the trigger catches.
 */
#include "unwritten.h"

static int	unwritten_rows = 0;

void
ot_row_changed(bool *unwritten)
{
	unwritten_rows += !*unwritten;
	*unwritten = true;
}

void
ot_row_written(bool *unwritten)
{
	unwritten_rows -= *unwritten;
	*unwritten = false;
}

int
ot_changes_begin(void)
{
	int			outer = unwritten_rows;

	unwritten_rows = 0;
	return outer;
}

void
ot_changes_require_written(void)
{
	if (unwritten_rows != 0)
		elog(ERROR, "rows that were changed and not written: %d", unwritten_rows);
}

void
ot_changes_end(int outer)
{
	unwritten_rows = outer;
}
