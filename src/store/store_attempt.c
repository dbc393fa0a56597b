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
