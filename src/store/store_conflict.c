/*
 * store_conflict.c
 *    Conflicts. The caller holds the payment, so two equal ones cannot arrive at once.
 */
#include "postgres.h"

#include "store.h"
#include "store_statement.h"

static bool
is_there(const Conflict *conflict)
{
	static Statement find = {"SELECT FROM order_timeout.conflicts c WHERE c.gateway" SQL_EQ "$1 AND c.payment_ref" SQL_EQ "$2 "
		"AND c.amount" SQL_EQ "$3 AND c.problem" SQL_EQ "$4 AND COALESCE(c.refund_ref, '')" SQL_EQ "COALESCE($5, '') "
	"AND COALESCE(c.gateway_refund_ref, '')" SQL_EQ "COALESCE($6, '')"};
	Args		args = {0};

	ot_arg_text(&args, conflict->gateway);
	ot_arg_text(&args, conflict->payment_ref);
	ot_arg_int8(&args, conflict->amount);
	ot_arg_text(&args, conflict->problem);
	ot_arg_text(&args, conflict->refund_ref);
	ot_arg_text(&args, conflict->gateway_refund_ref);
	return ot_run(&find, &args) > 0;
}

bool
ot_store_add_conflict(const Conflict *conflict)
{
	static Statement insert = {"INSERT INTO order_timeout.conflicts "
		"(order_id, gateway, payment_ref, refund_ref, gateway_refund_ref, amount, problem, created_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"};
	Args		args = {0};

	if (is_there(conflict))
		return false;
	ot_arg_text(&args, conflict->order_id);
	ot_arg_text(&args, conflict->gateway);
	ot_arg_text(&args, conflict->payment_ref);
	ot_arg_text(&args, conflict->refund_ref);
	ot_arg_text(&args, conflict->gateway_refund_ref);
	ot_arg_int8(&args, conflict->amount);
	ot_arg_text(&args, conflict->problem);
	ot_arg_time(&args, conflict->created_at);
	ot_run_write(&insert, &args);
	return true;
}

bool
ot_store_has_conflict(const Payment *payment, const char *gateway_refund_ref, int64 amount)
{
	static Statement find = {"SELECT c.conflict_id FROM order_timeout.conflicts c WHERE c.gateway" SQL_EQ "$1 "
	"AND c.payment_ref" SQL_EQ "$2 AND c.gateway_refund_ref" SQL_EQ "$3 AND c.amount" SQL_EQ "$4 AND c.refund_ref IS NULL"};
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	ot_arg_text(&args, gateway_refund_ref);
	ot_arg_int8(&args, amount);
	return ot_run(&find, &args) > 0;
}

void
ot_store_resolve_conflicts_of(const Refund *refund, TimestampTz now)
{
	static Statement update = {"UPDATE order_timeout.conflicts c SET resolved_at = $4, note = $5 WHERE c.gateway" SQL_EQ "$1 "
		"AND c.payment_ref" SQL_EQ "$2 AND c.gateway_refund_ref" SQL_EQ "$3 AND c.amount" SQL_EQ "$6 AND c.refund_ref IS NULL "
	"AND c.resolved_at IS NULL"};
	Args		args = {0};

	ot_arg_text(&args, refund->gateway);
	ot_arg_text(&args, refund->payment_ref);
	ot_arg_text(&args, refund->gateway_refund_ref);
	ot_arg_time(&args, now);
	ot_arg_text(&args, psprintf("it was refund %s", refund->refund_ref));
	ot_arg_int8(&args, refund->amount);
	ot_run(&update, &args);
}

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
	conflict->resolved_at = ot_column_time(columns);
	return conflict;
}

Conflict *
ot_store_lock_conflict(int64 conflict_id)
{
	static Statement lock = {"SELECT c.conflict_id, c.order_id, c.gateway, c.payment_ref, c.refund_ref, c.gateway_refund_ref, "
		"c.amount, c.problem, c.resolved_at FROM order_timeout.conflicts c WHERE c.conflict_id" SQL_EQ "$1 "
	"FOR NO KEY UPDATE"};
	Args		args = {0};

	ot_arg_int8(&args, conflict_id);
	return ot_run_one(&lock, &args, read_conflict);
}

void
ot_store_resolve_conflict(int64 conflict_id, TimestampTz now, const char *note)
{
	static Statement update = {"UPDATE order_timeout.conflicts c SET resolved_at = $2, note = $3 WHERE c.conflict_id" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, conflict_id);
	ot_arg_time(&args, now);
	ot_arg_text(&args, note);
	ot_run_write(&update, &args);
}
