/*
 * store_sweep.c
 *    The sweeper's own rows: its runs, and the orders and refunds that are set aside.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store.h"
#include "store_statement.h"

static void *
read_int4(Columns *columns)
{
	int		   *value = palloc(sizeof(int));

	*value = ot_column_int4(columns);
	return value;
}

int
ot_store_failures(const char *order_id)
{
	static Statement find = {"SELECT s.failures FROM order_timeout.set_aside s WHERE s.order_id" SQL_EQ "$1"};
	Args		args = {0};
	int		   *failures;

	ot_arg_text(&args, order_id);
	failures = ot_run_one(&find, &args, read_int4);
	return failures == NULL ? 0 : *failures;
}

void
ot_store_set_aside(const SetAside *order)
{
	static Statement upsert = {"INSERT INTO order_timeout.set_aside (order_id, since, failures, retry_at, sqlstate, error) "
		"VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (order_id) DO UPDATE "
	"SET failures = excluded.failures, retry_at = excluded.retry_at, sqlstate = excluded.sqlstate, error = excluded.error"};
	Args		args = {0};

	ot_arg_text(&args, order->order_id);
	ot_arg_time(&args, order->since);
	ot_arg_int4(&args, order->failures);
	ot_arg_time(&args, order->retry_at);
	ot_arg_text(&args, order->sqlstate);
	ot_arg_text(&args, order->error);
	ot_run_write(&upsert, &args);
}

int
ot_store_refund_failures(const char *refund_ref, TimestampTz due_at)
{
	static Statement find = {"SELECT s.failures FROM order_timeout.set_aside_refunds s WHERE s.refund_ref" SQL_EQ "$1 "
	"AND s.due_at" SQL_EQ "$2"};
	Args		args = {0};
	int		   *failures;

	ot_arg_text(&args, refund_ref);
	ot_arg_time(&args, due_at);
	failures = ot_run_one(&find, &args, read_int4);
	return failures == NULL ? 0 : *failures;
}

void
ot_store_set_refund_aside(const SetAsideRefund *refund)
{
	static Statement upsert = {"INSERT INTO order_timeout.set_aside_refunds AS s "
		"(refund_ref, due_at, since, failures, retry_at, sqlstate, error) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (refund_ref) DO UPDATE "
		"SET since = CASE WHEN s.due_at" SQL_EQ "excluded.due_at THEN s.since ELSE excluded.since END, "
		"due_at = excluded.due_at, failures = excluded.failures, retry_at = excluded.retry_at, "
	"sqlstate = excluded.sqlstate, error = excluded.error"};
	Args		args = {0};

	ot_arg_text(&args, refund->refund_ref);
	ot_arg_time(&args, refund->due_at);
	ot_arg_time(&args, refund->why.since);
	ot_arg_int4(&args, refund->why.failures);
	ot_arg_time(&args, refund->why.retry_at);
	ot_arg_text(&args, refund->why.sqlstate);
	ot_arg_text(&args, refund->why.error);
	ot_run_write(&upsert, &args);
}

static void
clear_set_aside_refunds(void)
{
	static Statement delete = {"WITH gone AS (SELECT s.refund_ref FROM order_timeout.set_aside_refunds s WHERE NOT EXISTS "
		"(SELECT FROM order_timeout.refunds r WHERE r.refund_ref" SQL_EQ "s.refund_ref "
		"AND r.next_attempt_at" SQL_EQ "s.due_at) FOR UPDATE SKIP LOCKED) "
	"DELETE FROM order_timeout.set_aside_refunds s USING gone WHERE s.refund_ref" SQL_EQ "gone.refund_ref"};
	Args		args = {0};

	ot_run(&delete, &args);
}

void
ot_store_clear_set_aside(void)
{
	static Statement delete = {"WITH gone AS (SELECT s.order_id FROM order_timeout.set_aside s WHERE NOT EXISTS "
		"(SELECT FROM order_timeout.orders o WHERE o.order_id" SQL_EQ "s.order_id AND o.settled_at IS NULL "
		"AND o.closes_at" SQL_LE "s.since) FOR UPDATE SKIP LOCKED) "
	"DELETE FROM order_timeout.set_aside s USING gone WHERE s.order_id" SQL_EQ "gone.order_id"};
	Args		args = {0};

	ot_run(&delete, &args);
	clear_set_aside_refunds();
}

int64
ot_store_begin_sweep(TimestampTz now, int64 last_event, TimestampTz prune_before)
{
	static Statement prune = {"DELETE FROM order_timeout.sweeps s WHERE s.started_at" SQL_LE "$1"};
	static Statement insert = {"INSERT INTO order_timeout.sweeps (pid, started_at, active_at, last_event) VALUES ($1, $2, $2, $3) RETURNING sweep_id"};
	Args		before = {0};
	Args		args = {0};

	ot_arg_time(&before, prune_before);
	ot_run(&prune, &before);
	ot_arg_int4(&args, MyProcPid);
	ot_arg_time(&args, now);
	ot_arg_int8(&args, last_event);
	return *(int64 *) ot_run_returning(&insert, &args, ot_read_int8);
}

void
ot_store_update_sweep(const SweepRun *run)
{
	static Statement update = {"UPDATE order_timeout.sweeps s SET active_at = $2, ended_at = $3, batches = $4, expired = $5, "
		"failed = $6, leases_returned = $7, orphans_settled = $8, "
		"max_lag = pg_catalog.make_interval(secs => $9), behind = pg_catalog.make_interval(secs => $10), last_error = $11 "
	"WHERE s.sweep_id" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, run->sweep_id);
	ot_arg_time(&args, run->active_at);
	ot_arg_time(&args, run->ended_at);
	ot_arg_int8(&args, run->batches);
	ot_arg_int8(&args, run->expired);
	ot_arg_int8(&args, run->failed);
	ot_arg_int8(&args, run->leases_returned);
	ot_arg_int8(&args, run->orphans_settled);
	ot_arg_float8(&args, run->max_lag / 1000000.0);
	ot_arg_float8(&args, run->behind / 1000000.0);
	ot_arg_text(&args, run->last_error[0] ? run->last_error : NULL);
	ot_run(&update, &args);
}
