/*
 * store_replay.c
 *    The rows of a user's query, for replay_orders.
 */
#include "postgres.h"

#include "store.h"
#include "store_statement.h"

typedef struct Reading
{
	ReplayRowVisitor visit;
	void	   *state;
} Reading;

static void
visit_row(Columns *columns, void *state)
{
	Reading    *reading = state;
	ReplayRow	row;

	row.number = ot_column_int8(columns);
	row.order_id = ot_column_text(columns);
	row.created_at = ot_column_time(columns);
	row.amount = ot_column_text(columns);
	row.currency = ot_column_text(columns);
	row.paid_at = ot_column_time(columns);
	row.paid_amount = ot_column_text(columns);
	reading->visit(&row, reading->state);
}

/*
 * Amounts come as text, since a cast to bigint would round them in silence. The query ends in a line of its own: its last
 * line may be a comment.
 */
void
ot_store_visit_replay(const char *query, ReplayRowVisitor visit, void *state)
{
	Statement	statement = {.snapshot = SNAPSHOT_OF_CALLER, .as_caller = true, .once = true};
	Reading		reading = {visit, state};
	Args		args = {0};

	statement.sql = psprintf("SELECT pg_catalog.row_number() OVER () AS number, q.order_id::pg_catalog.text COLLATE pg_catalog.\"C\" AS id, "
							 "q.created_at::pg_catalog.timestamptz, q.amount::pg_catalog.text, q.currency::pg_catalog.text, "
							 "q.paid_at::pg_catalog.timestamptz AS paid, q.paid_amount::pg_catalog.text "
							 "FROM (\n%s\n) AS q ORDER BY id, paid, number", query);
	ot_run_cursor(&statement, &args, visit_row, &reading);
}
