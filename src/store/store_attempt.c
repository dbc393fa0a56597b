/*
 * store_attempt.c
 *    Attempts to pay.
 */
#include "postgres.h"

#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

#define UNSETTLED_OF_ORDER "WHERE attempts.order_id" SQL_EQ "$1 AND attempts.settled_at IS NULL"
#define OLDEST_FIRST " ORDER BY attempts.created_at, attempts.gateway, attempts.attempt_ref"

Attempt *
ot_store_find_attempt(const char *gateway, const char *attempt_ref)
{
	const char *key[] = {gateway, attempt_ref};

	return ot_store_of(TABLE_ATTEMPTS)->find(TABLE_ATTEMPTS, key);
}

Attempt *
ot_store_lock_attempt(const Attempt *found)
{
	const char *key[] = {found->gateway, found->attempt_ref};

	return ot_store_of(TABLE_ATTEMPTS)->lock(TABLE_ATTEMPTS, key, &found->version, LockWaitBlock);
}

static List *
of_order(Statement *statement, const char *order_id)
{
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run_rows(statement, &args);
}

List *
ot_store_find_attempts(const char *order_id)
{
	static Statement find = {UNSETTLED_OF_ORDER OLDEST_FIRST, .rows_of = TABLE_ATTEMPTS};

	return of_order(&find, order_id);
}

List *
ot_store_lock_attempts(const char *order_id)
{
	static Statement lock = {UNSETTLED_OF_ORDER OLDEST_FIRST " FOR NO KEY UPDATE", .rows_of = TABLE_ATTEMPTS};

	return of_order(&lock, order_id);
}

bool
ot_store_lock_attempts_if_free(const char *order_id)
{
	static Statement lock = {UNSETTLED_OF_ORDER " FOR NO KEY UPDATE SKIP LOCKED", .rows_of = TABLE_ATTEMPTS};

	return list_length(of_order(&lock, order_id)) == list_length(ot_store_find_attempts(order_id));
}

/* By SQL in both stores: next to the call of a gateway that follows it is nothing. */

#define NOT_SKIPPED(gateways, attempt_refs) "NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(" gateways "), " \
	"pg_catalog.unnest(" attempt_refs ")) AS s (gateway, attempt_ref) " \
	"WHERE s.gateway" SQL_EQ "attempts.gateway AND s.attempt_ref" SQL_EQ "attempts.attempt_ref) "
#define OLDEST_DUE_FIRST "ORDER BY attempts.next_attempt_at, attempts.gateway LIMIT "
#define LOCKED_ARE_LEFT_OUT " FOR NO KEY UPDATE SKIP LOCKED"

static void
skipped_args(Args *args, List *skipped)
{
	List	   *gateways = NIL;
	List	   *attempt_refs = NIL;
	ListCell   *cell;

	foreach(cell, skipped)
	{
		const Attempt *attempt = lfirst(cell);

		gateways = lappend(gateways, attempt->gateway);
		attempt_refs = lappend(attempt_refs, attempt->attempt_ref);
	}
	ot_arg_texts(args, gateways);
	ot_arg_texts(args, attempt_refs);
}

List *
ot_store_lock_due_voids(TimestampTz now, const char *gateway, int limit, List *skipped)
{
	static Statement lock = {"WHERE attempts.next_attempt_at" SQL_LE "$1 AND ($2 IS NULL OR attempts.gateway" SQL_EQ "$2) "
	"AND " NOT_SKIPPED("$4", "$5") OLDEST_DUE_FIRST "$3" LOCKED_ARE_LEFT_OUT, .rows_of = TABLE_ATTEMPTS};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_text(&args, gateway);
	ot_arg_int4(&args, limit);
	skipped_args(&args, skipped);
	return ot_run_rows(&lock, &args);
}

List *
ot_store_lock_lapsed_voids(TimestampTz now, int limit, List *skipped)
{
	static Statement lock = {"WHERE attempts.next_attempt_at" SQL_LE "$1 AND attempts.lease_token IS NOT NULL "
	"AND " NOT_SKIPPED("$3", "$4") OLDEST_DUE_FIRST "$2" LOCKED_ARE_LEFT_OUT, .rows_of = TABLE_ATTEMPTS};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	skipped_args(&args, skipped);
	return ot_run_rows(&lock, &args);
}

/* A subplan and not a join, so that the index of due voids gives the order. */
Attempt *
ot_store_lock_next_void(TimestampTz from, TimestampTz now, List *policies, List *skipped)
{
	static Statement lock = {"WHERE attempts.next_attempt_at" SQL_GE "$1 AND attempts.next_attempt_at" SQL_LE "$2 "
		"AND (SELECT o.policy FROM order_timeout.orders o WHERE o.order_id" SQL_EQ "attempts.order_id)" SQL_EQ "ANY ($3) "
	"AND " NOT_SKIPPED("$4", "$5") OLDEST_DUE_FIRST "1" LOCKED_ARE_LEFT_OUT, .rows_of = TABLE_ATTEMPTS};
	Args		args = {0};

	ot_arg_lower_bound(&args, from);
	ot_arg_time(&args, now);
	ot_arg_texts(&args, policies);
	skipped_args(&args, skipped);
	return ot_run_row(&lock, &args);
}

bool
ot_store_has_attempt_event(const Attempt *attempt, const char *type)
{
	static Statement find = {"SELECT FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 AND e.type" SQL_EQ "$2 "
	"AND e.payload OPERATOR(pg_catalog.@>) pg_catalog.jsonb_build_object('gateway', $3, 'attempt_ref', $4)"};
	Args		args = {0};

	ot_arg_text(&args, attempt->order_id);
	ot_arg_text(&args, type);
	ot_arg_text(&args, attempt->gateway);
	ot_arg_text(&args, attempt->attempt_ref);
	return ot_run(&find, &args) > 0;
}

bool
ot_store_insert_attempt(Attempt *attempt)
{
	return ot_store_insert_new(TABLE_ATTEMPTS, attempt);
}

void
ot_store_update_attempt(Attempt *attempt)
{
	ot_store_of(TABLE_ATTEMPTS)->update(TABLE_ATTEMPTS, attempt);
}
