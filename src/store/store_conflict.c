/*
 * store_conflict.c
 *    Conflicts. The caller holds the payment, so two equal ones cannot arrive at once.
 */
#include "postgres.h"

#include "empty_table.h"
#include "errors.h"
#include "store.h"
#include "store_statement.h"

void
ot_store_add_conflict(const Conflict *conflict)
{
	static Statement insert = {"INSERT INTO order_timeout.conflicts "
		"(order_id, gateway, payment_ref, refund_ref, gateway_refund_ref, amount, problem, created_at, reason, is_failure, "
	"counted_once, reported) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"};
	Args		args = {0};

	ot_arg_text(&args, conflict->order_id);
	ot_arg_text(&args, conflict->gateway);
	ot_arg_text(&args, conflict->payment_ref);
	ot_arg_text(&args, conflict->refund_ref);
	ot_arg_text(&args, conflict->gateway_refund_ref);
	ot_arg_int8(&args, conflict->amount);
	ot_arg_text(&args, conflict->problem);
	ot_arg_time(&args, conflict->created_at);
	ot_arg_text(&args, conflict->reason);
	ot_arg_bool(&args, conflict->is_failure);
	ot_arg_int8(&args, conflict->counted_once);
	ot_arg_int8(&args, conflict->reported);
	ot_run_write(&insert, &args);
}

/* Of a row of 0.1.0 all that is known of what was reported is its amount. */
#define CONFLICT_COLUMNS \
	"c.conflict_id, c.order_id, c.gateway, c.payment_ref, c.refund_ref, c.gateway_refund_ref, c.amount, c.problem, " \
	"c.created_at, c.resolved_at, c.reason, c.is_failure, c.counted_once, COALESCE(c.reported, c.amount)"

static void *
read_conflict(Columns *columns)
{
	Conflict   *conflict = palloc0(sizeof(Conflict));

	conflict->conflict_id = ot_column_int8(columns);
	conflict->order_id = ot_column_text(columns);
	conflict->gateway = ot_column_text(columns);
	conflict->payment_ref = ot_column_text(columns);
	conflict->refund_ref = ot_column_text(columns);
	conflict->gateway_refund_ref = ot_column_text(columns);
	conflict->amount = ot_column_int8(columns);
	conflict->problem = ot_column_text(columns);
	conflict->created_at = ot_column_time(columns);
	conflict->resolved_at = ot_column_time(columns);
	conflict->reason = ot_column_text(columns);
	conflict->is_failure = ot_column_bool(columns);
	conflict->counted_once = ot_column_int8(columns);
	conflict->reported = ot_column_int8(columns);
	return conflict;
}

List *
ot_store_find_conflicts(const Payment *payment)
{
	static Statement find = {"SELECT " CONFLICT_COLUMNS " FROM order_timeout.conflicts c WHERE c.gateway" SQL_EQ "$1 "
	"AND c.payment_ref" SQL_EQ "$2 ORDER BY c.conflict_id"};
	Args		args = {0};

	if (ot_is_surely_empty("conflicts"))
		return NIL;
	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	return ot_run_list(&find, &args, read_conflict);
}

void
ot_store_move_conflicts(const Payment *payment)
{
	static Statement update = {"UPDATE order_timeout.conflicts c SET order_id = $3 "
	"WHERE c.gateway" SQL_EQ "$1 AND c.payment_ref" SQL_EQ "$2"};
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	ot_arg_text(&args, payment->order_id);
	if (ot_run(&update, &args) != (uint64) list_length(ot_store_find_conflicts(payment)))
		ot_row_not_written();
}

static Conflict *
conflict_by_id(Statement *statement, int64 conflict_id)
{
	Args		args = {0};

	ot_arg_int8(&args, conflict_id);
	return ot_run_one(statement, &args, read_conflict);
}

Conflict *
ot_store_find_conflict(int64 conflict_id)
{
	static Statement find = {"SELECT " CONFLICT_COLUMNS " FROM order_timeout.conflicts c WHERE c.conflict_id" SQL_EQ "$1"};

	return conflict_by_id(&find, conflict_id);
}

Conflict *
ot_store_lock_conflict(int64 conflict_id)
{
	static Statement lock = {"SELECT " CONFLICT_COLUMNS " FROM order_timeout.conflicts c WHERE c.conflict_id" SQL_EQ "$1 "
	"FOR NO KEY UPDATE"};

	return conflict_by_id(&lock, conflict_id);
}

void
ot_store_resolve_conflict(const Conflict *conflict, const char *note)
{
	static Statement update = {"UPDATE order_timeout.conflicts c SET resolved_at = $2, note = $3, booked_by = $4 "
	"WHERE c.conflict_id" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, conflict->conflict_id);
	ot_arg_time(&args, conflict->resolved_at);
	ot_arg_text(&args, note);
	ot_arg_text(&args, conflict->booked_by);
	ot_run_write(&update, &args);
}
