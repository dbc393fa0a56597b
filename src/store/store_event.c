/*
 * store_event.c
 *    The SQL store: events, conflicts, and the sweeper's own rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store.h"
#include "store_fast_rows.h"
#include "store_statement.h"

void
ot_store_add_event(const Event *event)
{
	static Statement insert = {"INSERT INTO order_timeout.events (aggregatetype, aggregateid, type, payload, created_at) "
	"VALUES ('order', $1, $2, $3, $4)"};
	Args		args = {0};

	if (ot_fast_serves(FAST_EVENTS))
	{
		ot_fast_add_event(event);
		return;
	}
	ot_arg_text(&args, event->order_id);
	ot_arg_text(&args, event->type);
	ot_arg_jsonb(&args, event->payload);
	ot_arg_time(&args, event->created_at);
	ot_run_write(&insert, &args);
}

void
ot_store_add_events(List *events)
{
	static Statement insert = {"INSERT INTO order_timeout.events (aggregatetype, aggregateid, type, payload, created_at) "
		"SELECT 'order', n.order_id, n.type, n.payload, n.created_at "
		"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
	"AS n (order_id, type, payload, created_at)"};
	enum
	{
		ID, TYPE, PAYLOAD, CREATED_AT, COLUMNS
	};
	static const Oid types[COLUMNS] = {TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID};
	int			count = list_length(events);
	Datum	   *values[COLUMNS];
	Args		args = {0};

	if (ot_fast_serves(FAST_EVENTS))
	{
		ot_fast_add_events(events);
		return;
	}
	for (int i = 0; i < COLUMNS; i++)
		values[i] = palloc(count * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		Event	   *event = list_nth(events, i);

		values[ID][i] = CStringGetTextDatum(event->order_id);
		values[TYPE][i] = CStringGetTextDatum(event->type);
		values[PAYLOAD][i] = JsonbPGetDatum(event->payload);
		values[CREATED_AT][i] = TimestampTzGetDatum(event->created_at);
	}
	for (int i = 0; i < COLUMNS; i++)
		ot_arg_array(&args, types[i], values[i], NULL, count);
	if (ot_run(&insert, &args) != count)
		elog(ERROR, "events were not written");
}

static void
put_tuple(Columns *columns, void *state)
{
	tuplestore_putvalues((Tuplestorestate *) state, columns->desc, columns->values, columns->nulls);
}

void
ot_store_history(const char *order_id, Tuplestorestate *rows)
{
	static Statement find = {"SELECT e.id, e.aggregatetype, e.aggregateid, e.type, e.payload, e.created_at "
	"FROM order_timeout.events e WHERE e.aggregateid" EQ "$1 ORDER BY e.id", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_run_cursor(&find, &args, put_tuple, rows);
}

/* Conflicts. The caller holds the payment, so two equal ones cannot arrive at once. */

bool
ot_store_add_conflict(const Conflict *conflict)
{
	static Statement insert = {"INSERT INTO order_timeout.conflicts "
		"(order_id, gateway, payment_ref, refund_ref, gateway_refund_ref, amount, problem, created_at) "
		"SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE NOT EXISTS (SELECT FROM order_timeout.conflicts c "
		"WHERE c.gateway" EQ "$2 AND c.payment_ref" EQ "$3 AND c.amount" EQ "$6 AND c.problem" EQ "$7 "
		"AND COALESCE(c.refund_ref, '')" EQ "COALESCE($4, '') "
	"AND COALESCE(c.gateway_refund_ref, '')" EQ "COALESCE($5, ''))"};
	Args		args = {0};

	ot_arg_text(&args, conflict->order_id);
	ot_arg_text(&args, conflict->gateway);
	ot_arg_text(&args, conflict->payment_ref);
	ot_arg_text(&args, conflict->refund_ref);
	ot_arg_text(&args, conflict->gateway_refund_ref);
	ot_arg_int8(&args, conflict->amount);
	ot_arg_text(&args, conflict->problem);
	ot_arg_time(&args, conflict->created_at);
	return ot_run(&insert, &args) == 1;
}

bool
ot_store_has_conflict(const Payment *payment, const char *gateway_refund_ref, int64 amount)
{
	static Statement find = {"SELECT c.conflict_id FROM order_timeout.conflicts c WHERE c.gateway" EQ "$1 "
	"AND c.payment_ref" EQ "$2 AND c.gateway_refund_ref" EQ "$3 AND c.amount" EQ "$4 AND c.refund_ref IS NULL"};
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
	static Statement update = {"UPDATE order_timeout.conflicts c SET resolved_at = $4, note = $5 WHERE c.gateway" EQ "$1 "
		"AND c.payment_ref" EQ "$2 AND c.gateway_refund_ref" EQ "$3 AND c.amount" EQ "$6 AND c.refund_ref IS NULL "
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
		"c.amount, c.problem, c.resolved_at FROM order_timeout.conflicts c WHERE c.conflict_id" EQ "$1 "
	"FOR NO KEY UPDATE"};
	Args		args = {0};

	ot_arg_int8(&args, conflict_id);
	return ot_run_one(&lock, &args, read_conflict);
}

void
ot_store_resolve_conflict(int64 conflict_id, TimestampTz now, const char *note)
{
	static Statement update = {"UPDATE order_timeout.conflicts c SET resolved_at = $2, note = $3 WHERE c.conflict_id" EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, conflict_id);
	ot_arg_time(&args, now);
	ot_arg_text(&args, note);
	ot_run_write(&update, &args);
}

/* The sweeper's own rows. */

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
	static Statement find = {"SELECT s.failures FROM order_timeout.set_aside s WHERE s.order_id" EQ "$1"};
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
	ot_run(&upsert, &args);
}

void
ot_store_clear_set_aside(void)
{
	static Statement delete = {"WITH gone AS (SELECT s.order_id FROM order_timeout.set_aside s WHERE NOT EXISTS "
		"(SELECT FROM order_timeout.orders o WHERE o.order_id" EQ "s.order_id AND o.settled_at IS NULL "
		"AND o.expires_at" LE "s.since) FOR UPDATE SKIP LOCKED) "
	"DELETE FROM order_timeout.set_aside s USING gone WHERE s.order_id" EQ "gone.order_id"};
	Args		args = {0};

	ot_run(&delete, &args);
}

static void *
read_int8(Columns *columns)
{
	int64	   *value = palloc(sizeof(int64));

	*value = ot_column_int8(columns);
	return value;
}

int64
ot_store_begin_sweep(TimestampTz now, TimestampTz prune_before)
{
	static Statement prune = {"DELETE FROM order_timeout.sweeps s WHERE s.started_at" LE "$1"};
	static Statement insert = {"INSERT INTO order_timeout.sweeps (pid, started_at, active_at) VALUES ($1, $2, $2) RETURNING sweep_id"};
	Args		before = {0};
	Args		args = {0};

	ot_arg_time(&before, prune_before);
	ot_run(&prune, &before);
	ot_arg_int4(&args, MyProcPid);
	ot_arg_time(&args, now);
	return *(int64 *) ot_run_one(&insert, &args, read_int8);
}

void
ot_store_update_sweep(const SweepRun *run)
{
	static Statement update = {"UPDATE order_timeout.sweeps s SET active_at = $2, ended_at = $3, batches = $4, expired = $5, "
		"failed = $6, leases_returned = $7, orphans_settled = $8, "
		"max_lag = pg_catalog.make_interval(secs => $9), behind = pg_catalog.make_interval(secs => $10), last_error = $11 "
	"WHERE s.sweep_id" EQ "$1"};
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
