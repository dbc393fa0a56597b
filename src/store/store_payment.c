/*
 * store_payment.c
 *    Payments.
 */
#include "postgres.h"

#include "store.h"
#include "store_choice.h"
#include "store_statement.h"

/* An orphan whose money is still here, neither given back nor owed back; whether it is one is decided when it is locked. */
#define FREE_ORPHAN "payments.disposition" SQL_EQ "'orphan' " \
	"AND payments.amount" SQL_GT "(payments.refunded" SQL_PLUS "payments.refund_pending)"
#define OLDEST_FIRST " ORDER BY payments.received_at, payments.gateway, payments.payment_ref"

Payment *
ot_store_find_payment(const char *gateway, const char *payment_ref)
{
	const char *key[] = {gateway, payment_ref};

	return ot_store_of(TABLE_PAYMENTS)->find(TABLE_PAYMENTS, key);
}

static Payment *
lock(const Payment *found, LockWaitPolicy wait_policy)
{
	const char *key[] = {found->gateway, found->payment_ref};

	return ot_store_of(TABLE_PAYMENTS)->lock(TABLE_PAYMENTS, key, &found->version, wait_policy);
}

Payment *
ot_store_lock_payment(const Payment *found)
{
	return lock(found, LockWaitBlock);
}

Payment *
ot_store_lock_payment_if_free(const Payment *found)
{
	return lock(found, LockWaitSkip);
}

List *
ot_store_lock_payments(const char *order_id)
{
	return ot_store_of(TABLE_PAYMENTS)->lock_payments_of_order(order_id);
}

bool
ot_store_insert_payment(Payment *payment)
{
	return ot_store_insert_new(TABLE_PAYMENTS, payment);
}

bool
ot_store_insert_payment_finds_duplicate(void)
{
	return ot_store_of(TABLE_PAYMENTS)->insert_finds_duplicate(TABLE_PAYMENTS);
}

void
ot_store_update_payment(const Payment *payment)
{
	ot_store_of(TABLE_PAYMENTS)->update(TABLE_PAYMENTS, payment);
}

List *
ot_store_stray_orphans(int limit)
{
	static Statement find = {"WHERE " FREE_ORPHAN
		" AND EXISTS (SELECT FROM order_timeout.orders o WHERE o.order_id" SQL_EQ "payments.order_id)" OLDEST_FIRST " LIMIT $1",
	.rows_of = TABLE_PAYMENTS};
	Args		args = {0};

	ot_arg_int4(&args, limit);
	return ot_run_rows(&find, &args);
}

List *
ot_store_old_orphans(TimestampTz before, int limit)
{
	static Statement find = {"WHERE " FREE_ORPHAN " AND payments.received_at" SQL_LE "$1" OLDEST_FIRST " LIMIT $2",
	.rows_of = TABLE_PAYMENTS};
	Args		args = {0};

	ot_arg_time(&args, before);
	ot_arg_int4(&args, limit);
	return ot_run_rows(&find, &args);
}
