/*
 * store_refund.c
 *    Refunds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "advisory_lock.h"
#include "empty_table.h"
#include "errors.h"
#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

#define OF_PAYMENT "WHERE refunds.gateway" SQL_EQ "$1 AND refunds.payment_ref" SQL_EQ "$2"
#define OLDEST_FIRST " ORDER BY refunds.created_at, refunds.refund_ref"

Refund *
ot_store_find_refund(const char *refund_ref)
{
	return ot_store_of(TABLE_REFUNDS)->find(TABLE_REFUNDS, &refund_ref);
}

Refund *
ot_store_lock_refund(const Refund *found)
{
	const char *key = found->refund_ref;

	return ot_store_of(TABLE_REFUNDS)->lock(TABLE_REFUNDS, &key, &found->version, LockWaitBlock);
}

Refund *
ot_store_lock_gateway_refund_ref(const char *gateway, const char *gateway_refund_ref)
{
	ot_advisory_lock(psprintf("%s %s", gateway, gateway_refund_ref));
	return ot_store_of(TABLE_REFUNDS)->find_gateway_refund(gateway, gateway_refund_ref);
}

Refund *
ot_store_find_gateway_refund(const char *gateway, const char *gateway_refund_ref)
{
	return ot_store_of(TABLE_REFUNDS)->find_gateway_refund(gateway, gateway_refund_ref);
}

bool
ot_store_has_refund_event(const Refund *refund, const char *type)
{
	static Statement find = {"SELECT FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 AND e.type" SQL_EQ "$2 "
	"AND e.payload OPERATOR(pg_catalog.@>) pg_catalog.jsonb_build_object('refund_ref', $3)"};
	Args		args = {0};

	ot_arg_text(&args, refund->order_id);
	ot_arg_text(&args, type);
	ot_arg_text(&args, refund->refund_ref);
	return ot_run(&find, &args) > 0;
}

static List *
refunds_of(Statement *statement, const Payment *payment)
{
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	return ot_run_rows(statement, &args);
}

List *
ot_store_find_refunds(const Payment *payment)
{
	static Statement find = {OF_PAYMENT OLDEST_FIRST, .rows_of = TABLE_REFUNDS};

	return refunds_of(&find, payment);
}

List *
ot_store_lock_refunds(const Payment *payment)
{
	static Statement lock = {OF_PAYMENT OLDEST_FIRST " FOR NO KEY UPDATE", .rows_of = TABLE_REFUNDS};

	return refunds_of(&lock, payment);
}

List *
ot_store_find_requested(const char *order_id, const char *request_key)
{
	static Statement find = {"LEFT JOIN order_timeout.payments p ON p.gateway" SQL_EQ "refunds.gateway "
		"AND p.payment_ref" SQL_EQ "refunds.payment_ref "
		"WHERE refunds.order_id" SQL_EQ "$1 AND refunds.request_key" SQL_EQ "$2 "
		"ORDER BY p.received_at DESC, p.gateway DESC, p.payment_ref DESC",
	.rows_of = TABLE_REFUNDS};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_arg_text(&args, request_key);
	return ot_run_rows(&find, &args);
}

static void *
read_refund_ref(Columns *columns)
{
	return ot_column_text(columns);
}

static List *
set_aside_at(TimestampTz now)
{
	static Statement find = {SQL_SET_ASIDE_REFUNDS("$1")};
	Args		args = {0};

	if (ot_is_surely_empty("set_aside_refunds"))
		return NIL;
	ot_arg_time(&args, now);
	return ot_run_list(&find, &args, read_refund_ref);
}

List *
ot_store_lock_due_refunds(TimestampTz now, const char *gateway, int limit)
{
	return ot_store_of(TABLE_REFUNDS)->lock_due_refunds(now, gateway, limit, set_aside_at(now));
}

List *
ot_store_lock_lapsed_refunds(TimestampTz now, int limit)
{
	static Statement lock = {"WHERE refunds.settled_at IS NULL AND refunds.next_attempt_at" SQL_LE "$1 "
		"AND refunds.state" SQL_EQ "'processing' AND " SQL_NOT_SET_ASIDE_REFUND("$1") " ORDER BY refunds.next_attempt_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
	.rows_of = TABLE_REFUNDS};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_rows(&lock, &args);
}

/*
 * By SQL in both stores: the policy stands in another table, and next to the call of a gateway that follows it is nothing.
 * A subplan and not a join, so that the index of open refunds gives the order.
 */
Refund *
ot_store_lock_next_refund(TimestampTz from, TimestampTz now, List *policies)
{
	static Statement lock = {"WHERE refunds.settled_at IS NULL AND refunds.next_attempt_at" SQL_GE "$1 "
		"AND refunds.next_attempt_at" SQL_LE "$2 AND COALESCE((SELECT o.policy FROM order_timeout.orders o "
		"WHERE o.order_id" SQL_EQ "refunds.order_id), 'default')" SQL_EQ "ANY ($3) "
		"AND " SQL_NOT_SET_ASIDE_REFUND("$2") " ORDER BY refunds.next_attempt_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
	.rows_of = TABLE_REFUNDS};
	Args		args = {0};

	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	ot_arg_texts(&args, policies);
	return ot_run_row(&lock, &args);
}

/* Policies and times in step, as two arrays. */
static void
limits_args(Args *args, List *limits)
{
	int			count = list_length(limits);
	Datum	   *policies = palloc(count * sizeof(Datum));
	Datum	   *times = palloc(count * sizeof(Datum));

	for (int i = 0; i < count; i++)
	{
		SubmittedLimit *limit = list_nth(limits, i);

		policies[i] = CStringGetTextDatum(limit->policy);
		times[i] = TimestampTzGetDatum(limit->submitted_before);
	}
	ot_arg_array(args, TEXTOID, policies, NULL, count);
	ot_arg_array(args, TIMESTAMPTZOID, times, NULL, count);
}

List *
ot_store_lock_submitted_refunds(List *limits, TimestampTz now, int limit)
{
	static Statement lock = {"LEFT JOIN order_timeout.orders o ON o.order_id" SQL_EQ "refunds.order_id "
		"JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS l (policy, submitted_before) "
		"ON l.policy" SQL_EQ "COALESCE(o.policy, 'default') "
		"WHERE refunds.settled_at IS NULL AND refunds.state" SQL_EQ "'submitted' "
		"AND refunds.submitted_at" SQL_LE "l.submitted_before AND " SQL_NOT_SET_ASIDE_REFUND("$3") " LIMIT $4 FOR NO KEY UPDATE OF refunds SKIP LOCKED",
	.rows_of = TABLE_REFUNDS};
	Args		args = {0};

	limits_args(&args, limits);
	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_rows(&lock, &args);
}

void
ot_store_insert_refund(Refund *refund)
{
	ot_store_of(TABLE_REFUNDS)->insert(TABLE_REFUNDS, refund);
}

void
ot_store_update_refund(Refund *refund)
{
	ot_store_of(TABLE_REFUNDS)->update(TABLE_REFUNDS, refund);
}

/* After a payment was given another order. */
void
ot_store_move_refunds(const Payment *payment)
{
	static Statement update = {"UPDATE order_timeout.refunds r SET order_id = $3 "
	"WHERE r.gateway" SQL_EQ "$1 AND r.payment_ref" SQL_EQ "$2"};
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	ot_arg_text(&args, payment->order_id);
	if (ot_run(&update, &args) != (uint64) list_length(ot_store_find_refunds(payment)))
		ot_row_not_written();
}
