/*
 * store_table.c
 *    What the tables look like, described once: as in sql/install/10_tables.sql, column by column in the table's order.
 *
 * A new column is a line in the DDL and in the upgrade script, a member of the struct in rows.h, and a line here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "rules.h"
#include "store_table.h"

/*
 * No update changes it; one does; so does the closing of a batch of orders, for which the SQL store writes these only. It
 * writes the terms of an order only where they changed: each column of a statement costs.
 */
#define FIXED true, false, false, false
#define CHANGES false, false, false, false
#define CLOSES false, true, false, false
#define TERMS false, false, true, false
#define GENERATED false, false, false, true

#define COLUMN(name, kind, row, member, fixed) {name, kind, offsetof(row, member), fixed, NULL}
#define WORD(name, row, member, fixed, words) {name, COLUMN_WORD, offsetof(row, member), fixed, words}

static const ColumnSpec policy_columns[] = {
	COLUMN("policy", COLUMN_TEXT, Policy, policy, FIXED),
	COLUMN("pay_within", COLUMN_INTERVAL, Policy, pay_within, FIXED),
	WORD("late_rule", Policy, late_rule, FIXED, ot_late_rules),
	WORD("on_late", Policy, on_late, FIXED, ot_on_lates),
	COLUMN("refund_max_attempts", COLUMN_INT4, Policy, refund_max_attempts, FIXED),
	COLUMN("refund_backoff", COLUMN_USECS, Policy, refund_backoff, FIXED),
	COLUMN("refund_backoff_max", COLUMN_USECS, Policy, refund_backoff_max, FIXED),
	COLUMN("refund_jitter", COLUMN_FLOAT8, Policy, refund_jitter, FIXED),
	COLUMN("refund_lease", COLUMN_USECS, Policy, refund_lease, FIXED),
	COLUMN("refund_settle_within", COLUMN_USECS, Policy, refund_settle_within, FIXED),
	COLUMN("orphan_after", COLUMN_USECS, Policy, orphan_after, FIXED),
	COLUMN("short_tolerance", COLUMN_INT8, Policy, short_tolerance, FIXED),
	WORD("on_short", Policy, on_short, FIXED, ot_on_shorts),
	WORD("on_notified_late", Policy, on_notified_late, FIXED, ot_on_lates),
	COLUMN("attempt_hold", COLUMN_USECS, Policy, attempt_hold, FIXED),
	WORD("before_close", Policy, before_close, FIXED, ot_before_closes),
	COLUMN("void_within", COLUMN_USECS, Policy, void_within, FIXED),
	COLUMN("remind_before", COLUMN_USECS, Policy, remind_before, FIXED)
};

static const ColumnSpec order_columns[] = {
	COLUMN("order_id", COLUMN_TEXT, Order, order_id, FIXED),
	COLUMN("policy", COLUMN_TEXT, Order, policy, FIXED),
	WORD("state", Order, state, CLOSES, ot_order_states),
	COLUMN("amount", COLUMN_INT8, Order, amount, TERMS),
	COLUMN("currency", COLUMN_TEXT, Order, currency, FIXED),
	COLUMN("paid", COLUMN_INT8, Order, funds.paid, CHANGES),
	COLUMN("refunded", COLUMN_INT8, Order, funds.refunded, CHANGES),
	COLUMN("refund_pending", COLUMN_INT8, Order, funds.refund_pending, CLOSES),
	COLUMN("held", COLUMN_INT8, Order, funds.held, CLOSES),
	COLUMN("expires_at", COLUMN_TIME, Order, expires_at, TERMS),
	COLUMN("created_at", COLUMN_TIME, Order, created_at, FIXED),
	COLUMN("settled_at", COLUMN_TIME, Order, settled_at, CLOSES),
	COLUMN("close_reason", COLUMN_TEXT, Order, close_reason, CLOSES),
	COLUMN("metadata", COLUMN_JSONB, Order, metadata, FIXED),
	COLUMN("open_until", COLUMN_TIME, Order, open_until, TERMS),
	COLUMN("closes_at", COLUMN_TIME, Order, closes_at, GENERATED),
	COLUMN("due_since", COLUMN_TIME, Order, due_since, TERMS),
	COLUMN("reminded_of", COLUMN_TIME, Order, reminded_of, TERMS),
	COLUMN("has_attempts", COLUMN_BOOL, Order, has_attempts, TERMS)
};

static const ColumnSpec payment_columns[] = {
	COLUMN("gateway", COLUMN_TEXT, Payment, gateway, FIXED),
	COLUMN("payment_ref", COLUMN_TEXT, Payment, payment_ref, FIXED),
	COLUMN("order_id", COLUMN_TEXT, Payment, order_id, CHANGES),
	COLUMN("amount", COLUMN_INT8, Payment, funds.paid, FIXED),
	COLUMN("currency", COLUMN_TEXT, Payment, currency, FIXED),
	COLUMN("paid_at", COLUMN_TIME, Payment, paid_at, FIXED),
	COLUMN("received_at", COLUMN_TIME, Payment, received_at, FIXED),
	WORD("disposition", Payment, disposition, CHANGES, ot_dispositions),
	COLUMN("late_reason", COLUMN_TEXT, Payment, late_reason, CHANGES),
	COLUMN("refunded", COLUMN_INT8, Payment, funds.refunded, CHANGES),
	COLUMN("refund_pending", COLUMN_INT8, Payment, funds.refund_pending, CHANGES),
	COLUMN("held", COLUMN_INT8, Payment, funds.held, CHANGES),
	COLUMN("held_at", COLUMN_TIME, Payment, held_at, CHANGES),
	COLUMN("told_order_id", COLUMN_TEXT, Payment, told_order_id, CHANGES),
	COLUMN("details", COLUMN_JSONB, Payment, details, FIXED),
	COLUMN("accepted_at", COLUMN_TIME, Payment, accepted_at, CHANGES),
	COLUMN("attempt_ref", COLUMN_TEXT, Payment, attempt_ref, CHANGES)
};

static const ColumnSpec refund_columns[] = {
	COLUMN("refund_ref", COLUMN_TEXT, Refund, refund_ref, FIXED),
	COLUMN("order_id", COLUMN_TEXT, Refund, order_id, FIXED),
	COLUMN("gateway", COLUMN_TEXT, Refund, gateway, FIXED),
	COLUMN("payment_ref", COLUMN_TEXT, Refund, payment_ref, FIXED),
	COLUMN("amount", COLUMN_INT8, Refund, amount, CHANGES),
	COLUMN("currency", COLUMN_TEXT, Refund, currency, FIXED),
	WORD("reason", Refund, reason, FIXED, ot_refund_reasons),
	COLUMN("note", COLUMN_TEXT, Refund, note, CHANGES),
	WORD("state", Refund, state, CHANGES, ot_refund_states),
	COLUMN("attempts", COLUMN_INT4, Refund, attempts, CHANGES),
	COLUMN("next_attempt_at", COLUMN_TIME, Refund, next_attempt_at, CHANGES),
	COLUMN("leased_until", COLUMN_TIME, Refund, lease.until, CHANGES),
	COLUMN("lease_token", COLUMN_TEXT, Refund, lease.token, CHANGES),
	COLUMN("worker", COLUMN_TEXT, Refund, lease.worker, CHANGES),
	COLUMN("gateway_refund_ref", COLUMN_TEXT, Refund, gateway_refund_ref, CHANGES),
	COLUMN("last_error", COLUMN_TEXT, Refund, last_error, CHANGES),
	COLUMN("request_key", COLUMN_TEXT, Refund, request_key, FIXED),
	COLUMN("asked", COLUMN_INT8, Refund, asked, FIXED),
	COLUMN("handed_out_at", COLUMN_TIME, Refund, handed_out_at, CHANGES),
	COLUMN("submitted_at", COLUMN_TIME, Refund, submitted_at, CHANGES),
	COLUMN("returned_at", COLUMN_TIME, Refund, returned_at, CHANGES),
	COLUMN("replaced_by", COLUMN_TEXT, Refund, replaced_by, CHANGES),
	COLUMN("by_hand", COLUMN_BOOL, Refund, by_hand, CHANGES),
	COLUMN("attention_at", COLUMN_TIME, Refund, attention_at, CHANGES),
	COLUMN("created_at", COLUMN_TIME, Refund, created_at, FIXED),
	COLUMN("settled_at", COLUMN_TIME, Refund, settled_at, CHANGES),
	COLUMN("maybe_sent", COLUMN_BOOL, Refund, maybe_sent, CHANGES),
	COLUMN("ended_leases", COLUMN_TEXT, Refund, lease.ended, CHANGES),
	COLUMN("from_kept", COLUMN_INT8, Refund, from_kept, CHANGES),
	COLUMN("from_held", COLUMN_INT8, Refund, from_held, CHANGES),
	COLUMN("withdrawn", COLUMN_BOOL, Refund, withdrawn, CHANGES),
	COLUMN("was_requested", COLUMN_BOOL, Refund, was_requested, FIXED)
};

static const ColumnSpec attempt_columns[] = {
	COLUMN("gateway", COLUMN_TEXT, Attempt, gateway, FIXED),
	COLUMN("attempt_ref", COLUMN_TEXT, Attempt, attempt_ref, FIXED),
	COLUMN("order_id", COLUMN_TEXT, Attempt, order_id, FIXED),
	WORD("state", Attempt, state, CHANGES, ot_attempt_states),
	COLUMN("authorized", COLUMN_INT8_OR_NULL, Attempt, authorized, CHANGES),
	COLUMN("currency", COLUMN_TEXT, Attempt, currency, CHANGES),
	COLUMN("valid_until", COLUMN_TIME, Attempt, valid_until, CHANGES),
	COLUMN("holds_until", COLUMN_TIME, Attempt, holds_until, CHANGES),
	COLUMN("can_void", COLUMN_BOOL, Attempt, can_void, FIXED),
	COLUMN("details", COLUMN_JSONB, Attempt, details, FIXED),
	COLUMN("covers", COLUMN_BOOL, Attempt, covers, CHANGES),
	COLUMN("captured", COLUMN_INT8, Attempt, captured, CHANGES),
	COLUMN("attempts", COLUMN_INT4, Attempt, attempts, CHANGES),
	COLUMN("next_attempt_at", COLUMN_TIME, Attempt, next_attempt_at, CHANGES),
	COLUMN("leased_until", COLUMN_TIME, Attempt, lease.until, CHANGES),
	COLUMN("lease_token", COLUMN_TEXT, Attempt, lease.token, CHANGES),
	COLUMN("worker", COLUMN_TEXT, Attempt, lease.worker, CHANGES),
	COLUMN("last_error", COLUMN_TEXT, Attempt, last_error, CHANGES),
	COLUMN("handed_out_at", COLUMN_TIME, Attempt, handed_out_at, CHANGES),
	COLUMN("maybe_sent", COLUMN_BOOL, Attempt, maybe_sent, CHANGES),
	COLUMN("ended_leases", COLUMN_TEXT, Attempt, lease.ended, CHANGES),
	COLUMN("attention_at", COLUMN_TIME, Attempt, attention_at, CHANGES),
	COLUMN("created_at", COLUMN_TIME, Attempt, created_at, FIXED),
	COLUMN("settled_at", COLUMN_TIME, Attempt, settled_at, CHANGES)
};

static const ColumnSpec event_columns[] = {
	COLUMN("id", COLUMN_INT8, Event, id, FIXED),
	COLUMN("aggregatetype", COLUMN_TEXT, Event, aggregatetype, FIXED),
	COLUMN("aggregateid", COLUMN_TEXT, Event, order_id, FIXED),
	COLUMN("type", COLUMN_TEXT, Event, type, FIXED),
	COLUMN("payload", COLUMN_JSONB, Event, payload, FIXED),
	COLUMN("created_at", COLUMN_TIME, Event, created_at, FIXED),
	COLUMN("xid", COLUMN_WRITER, Event, id, FIXED)
};

#define COLUMNS(columns) lengthof(columns), columns

const TableSpec ot_tables[OT_TABLES] = {
	[TABLE_POLICIES] = {"policies", sizeof(Policy), 1, true, false, 0, COLUMNS(policy_columns)},
	[TABLE_ORDERS] = {"orders", sizeof(Order), 1, false, true, 1, COLUMNS(order_columns)},
	[TABLE_PAYMENTS] = {"payments", sizeof(Payment), 2, false, true, 3, COLUMNS(payment_columns)},
	[TABLE_REFUNDS] = {"refunds", sizeof(Refund), 1, false, true, 4, COLUMNS(refund_columns)},
	[TABLE_ATTEMPTS] = {"attempts", sizeof(Attempt), 2, false, true, 4, COLUMNS(attempt_columns)},
	[TABLE_EVENTS] = {"events", sizeof(Event), 0, false, false, 0, COLUMNS(event_columns)}
};

Oid
ot_column_type(const ColumnSpec *column)
{
	switch (column->kind)
	{
		case COLUMN_TEXT:
		case COLUMN_WORD:
			return TEXTOID;
		case COLUMN_INT8:
		case COLUMN_INT8_OR_NULL:
			return INT8OID;
		case COLUMN_INT4:
			return INT4OID;
		case COLUMN_FLOAT8:
			return FLOAT8OID;
		case COLUMN_BOOL:
			return BOOLOID;
		case COLUMN_TIME:
			return TIMESTAMPTZOID;
		case COLUMN_INTERVAL:
		case COLUMN_USECS:
			return INTERVALOID;
		case COLUMN_JSONB:
			return JSONBOID;
		case COLUMN_WRITER:
			return XID8OID;
	}
	return InvalidOid;
}

static int64
read_usecs(Columns *columns)
{
	Interval   *interval = ot_column_interval(columns);

	return interval == NULL ? 0 : ot_interval_usecs(interval);
}

static void
read_column(const ColumnSpec *column, Columns *columns, void *place)
{
	switch (column->kind)
	{
		case COLUMN_TEXT:
			*(char **) place = ot_column_text(columns);
			break;
		case COLUMN_WORD:
			*(int *) place = ot_column_word(columns, column->words);
			break;
		case COLUMN_INT8:
			*(int64 *) place = ot_column_int8(columns);
			break;
		case COLUMN_INT8_OR_NULL:
			*(int64 *) place = ot_column_int8_or_zero(columns);
			break;
		case COLUMN_INT4:
			*(int *) place = ot_column_int4(columns);
			break;
		case COLUMN_FLOAT8:
			*(double *) place = ot_column_float8(columns);
			break;
		case COLUMN_BOOL:
			*(bool *) place = ot_column_bool(columns);
			break;
		case COLUMN_TIME:
			*(TimestampTz *) place = ot_column_time(columns);
			break;
		case COLUMN_INTERVAL:
			*(Interval **) place = ot_column_interval(columns);
			break;
		case COLUMN_USECS:
			*(int64 *) place = read_usecs(columns);
			break;
		case COLUMN_JSONB:
			if (!columns->without_jsonb)
				ot_column_skip(columns);
			break;
		case COLUMN_WRITER:
			ot_column_skip(columns);
			break;
	}
}

void *
ot_row_read(TableName table, Columns *columns)
{
	const TableSpec *spec = &ot_tables[table];
	char	   *row = palloc0(spec->row_size);

	for (int i = 0; i < spec->column_count; i++)
		read_column(&spec->columns[i], columns, row + spec->columns[i].offset);
	return row;
}

void
ot_row_column_arg(Args *args, TableName table, const void *row, int number)
{
	const ColumnSpec *column = &ot_tables[table].columns[number];
	const void *place = (const char *) row + column->offset;

	switch (column->kind)
	{
		case COLUMN_TEXT:
			ot_arg_text(args, *(char *const *) place);
			break;
		case COLUMN_WORD:
			ot_arg_text(args, column->words[*(const int *) place]);
			break;
		case COLUMN_INT8:
			ot_arg_int8(args, *(const int64 *) place);
			break;
		case COLUMN_INT8_OR_NULL:
			ot_arg_int8_or_null(args, *(const int64 *) place);
			break;
		case COLUMN_INT4:
			ot_arg_int4(args, *(const int *) place);
			break;
		case COLUMN_FLOAT8:
			ot_arg_float8(args, *(const double *) place);
			break;
		case COLUMN_BOOL:
			ot_arg_bool(args, *(const bool *) place);
			break;
		case COLUMN_TIME:
			ot_arg_time(args, *(const TimestampTz *) place);
			break;
		case COLUMN_INTERVAL:
		case COLUMN_USECS:
			elog(ERROR, "column \"%s\" is never written", column->name);
			break;
		case COLUMN_JSONB:
			ot_arg_jsonb(args, *(Jsonb *const *) place);
			break;
		case COLUMN_WRITER:
			ot_arg_xid8(args, GetTopFullTransactionId());
			break;
	}
}

void
ot_row_args(Args *args, TableName table, const void *row)
{
	for (int i = 0; i < ot_tables[table].column_count; i++)
		ot_row_column_arg(args, table, row, i);
}

void
ot_row_changes(Args *args, TableName table, const void *row)
{
	const TableSpec *spec = &ot_tables[table];

	for (int i = 0; i < spec->column_count; i++)
	{
		if (spec->columns[i].fixed)
			ot_arg_unused(args);
		else
			ot_row_column_arg(args, table, row, i);
	}
}

void
ot_row_key(const char **key, TableName table, const void *row)
{
	const TableSpec *spec = &ot_tables[table];

	for (int i = 0; i < spec->key_columns; i++)
		key[i] = *(char *const *) ((const char *) row + spec->columns[i].offset);
}

bool
ot_row_has_key(TableName table, const void *row, const char *const *key)
{
	const char *own[OT_MAX_KEY_COLUMNS];

	ot_row_key(own, table, row);
	for (int i = 0; i < ot_tables[table].key_columns; i++)
		if (strcmp(own[i], key[i]) != 0)
			return false;
	return true;
}

RowVersion *
ot_row_version(TableName table, const void *row)
{
	Assert(ot_tables[table].versioned);
	return (RowVersion *) row;
}

void
ot_row_place_arg(Args *args, TableName table, const void *row)
{
	ot_arg_tid(args, &ot_row_version(table, row)->tid);
}
