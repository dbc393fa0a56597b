/*
 * store_payment.c
 *    The SQL store: payments.
 */
#include "postgres.h"

#include "store.h"
#include "store_fast_rows.h"
#include "store_row.h"
#include "store_statement.h"

#define PAYMENT_COLUMNS \
	"p.gateway, p.payment_ref, p.order_id, p.amount, p.currency, p.paid_at, p.received_at, p.disposition, p.late_reason, " \
	"p.refunded, p.refund_pending, p.held, p.held_at, p.told_order_id"

/* An orphan whose money is still here, neither given back nor owed back. */
#define FREE_ORPHAN "p.disposition" EQ "'orphan' AND p.amount" GT "(p.refunded" PLUS "p.refund_pending)"

static Payment *
payment_by_ref(Statement *statement, const char *gateway, const char *payment_ref)
{
	Args		args = {0};

	ot_arg_text(&args, gateway);
	ot_arg_text(&args, payment_ref);
	return ot_run_one(statement, &args, ot_read_payment);
}

Payment *
ot_store_find_payment(const char *gateway, const char *payment_ref)
{
	static Statement find = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p "
	"WHERE p.gateway" EQ "$1 AND p.payment_ref" EQ "$2"};

	if (ot_fast_serves(FAST_PAYMENTS))
		return ot_fast_find_payment(gateway, payment_ref);
	return payment_by_ref(&find, gateway, payment_ref);
}

Payment *
ot_store_lock_payment(const Payment *found)
{
	static Statement lock = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p "
	"WHERE p.gateway" EQ "$1 AND p.payment_ref" EQ "$2 FOR NO KEY UPDATE"};

	if (ot_fast_serves(FAST_PAYMENTS))
		return ot_fast_lock_payment(found, LockWaitBlock);
	return payment_by_ref(&lock, found->gateway, found->payment_ref);
}

Payment *
ot_store_lock_payment_if_free(const Payment *found)
{
	static Statement lock = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p "
	"WHERE p.gateway" EQ "$1 AND p.payment_ref" EQ "$2 FOR NO KEY UPDATE SKIP LOCKED"};

	if (ot_fast_serves(FAST_PAYMENTS))
		return ot_fast_lock_payment(found, LockWaitSkip);
	return payment_by_ref(&lock, found->gateway, found->payment_ref);
}

List *
ot_store_lock_payments(const char *order_id)
{
	static Statement lock = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p WHERE p.order_id" EQ "$1 "
	"ORDER BY p.received_at, p.gateway, p.payment_ref FOR NO KEY UPDATE"};
	Args		args = {0};

	if (ot_fast_serves(FAST_PAYMENTS))
		return ot_fast_lock_payments(order_id);
	ot_arg_text(&args, order_id);
	return ot_run_list(&lock, &args, ot_read_payment);
}

bool
ot_store_insert_payment(const Payment *payment)
{
	static Statement insert = {"INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, paid_at, "
		"received_at, disposition, late_reason, refunded, refund_pending, held, held_at, told_order_id, details) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
	"ON CONFLICT (gateway, payment_ref) DO NOTHING"};
	Args		args = {0};

	if (ot_fast_serves(FAST_PAYMENTS) && ot_fast_insert_payment(payment))
		return true;
	ot_payment_args(&args, payment);
	ot_arg_jsonb(&args, payment->details);
	return ot_run(&insert, &args) == 1;
}

bool
ot_store_insert_payment_finds_duplicate(void)
{
	return ot_fast_serves(FAST_PAYMENTS) && ot_fast_has_own_checks_only(FAST_PAYMENTS);
}

void
ot_store_update_payment(const Payment *payment)
{
	static Statement update = {"UPDATE order_timeout.payments p SET order_id = $3, disposition = $8, late_reason = $9, "
		"refunded = $10, refund_pending = $11, held = $12, held_at = $13, told_order_id = $14 "
	"WHERE p.gateway" EQ "$1 AND p.payment_ref" EQ "$2"};
	Args		args = {0};

	if (ot_fast_serves(FAST_PAYMENTS))
	{
		ot_fast_update_payment(payment);
		return;
	}
	ot_payment_args(&args, payment);
	ot_run_write(&update, &args);
}

List *
ot_store_stray_orphans(int limit)
{
	static Statement find = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p WHERE " FREE_ORPHAN
		" AND EXISTS (SELECT FROM order_timeout.orders o WHERE o.order_id" EQ "p.order_id) "
	"ORDER BY p.received_at, p.gateway, p.payment_ref LIMIT $1"};
	Args		args = {0};

	ot_arg_int4(&args, limit);
	return ot_run_list(&find, &args, ot_read_payment);
}

List *
ot_store_old_orphans(TimestampTz before, int limit)
{
	static Statement find = {"SELECT " PAYMENT_COLUMNS " FROM order_timeout.payments p WHERE " FREE_ORPHAN
	" AND p.received_at" LE "$1 ORDER BY p.received_at, p.gateway, p.payment_ref LIMIT $2"};
	Args		args = {0};

	ot_arg_time(&args, before);
	ot_arg_int4(&args, limit);
	return ot_run_list(&find, &args, ot_read_payment);
}
