/*
 * store_refund.c
 *    The SQL store: refunds.
 */
#include "postgres.h"

#include "access/xact.h"

#include "store.h"
#include "store_fast_rows.h"
#include "store_row.h"
#include "store_statement.h"

#define REFUND_COLUMNS \
	"r.refund_ref, r.order_id, r.gateway, r.payment_ref, r.amount, r.currency, r.reason, r.note, r.state, r.attempts, " \
	"r.next_attempt_at, r.leased_until, r.lease_token, r.worker, r.gateway_refund_ref, r.last_error, r.request_key, r.asked, " \
	"r.handed_out_at, r.submitted_at, r.returned_at, r.replaced_by, r.by_hand, r.attention_at, r.created_at, r.settled_at"

#define OLDEST_FIRST " ORDER BY r.created_at, r.refund_ref"

static Refund *
refund_by_ref(Statement *statement, const char *refund_ref)
{
	Args		args = {0};

	ot_arg_text(&args, refund_ref);
	return ot_run_one(statement, &args, ot_read_refund);
}

Refund *
ot_store_find_refund(const char *refund_ref)
{
	static Statement find = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r WHERE r.refund_ref" EQ "$1"};

	if (ot_fast_serves(FAST_REFUNDS))
		return ot_fast_find_refund(refund_ref);
	return refund_by_ref(&find, refund_ref);
}

Refund *
ot_store_lock_refund(const Refund *found)
{
	static Statement lock = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r WHERE r.refund_ref" EQ "$1 "
	"FOR NO KEY UPDATE"};

	if (ot_fast_serves(FAST_REFUNDS))
		return ot_fast_lock_refund(found);
	return refund_by_ref(&lock, found->refund_ref);
}

#define BY_GATEWAY_REFUND_REF \
	" FROM order_timeout.refunds r WHERE r.gateway" EQ "$1 AND r.gateway_refund_ref" EQ "$2"

Refund *
ot_store_lock_gateway_refund_ref(const char *gateway, const char *gateway_refund_ref)
{
	static Statement find = {"SELECT " REFUND_COLUMNS BY_GATEWAY_REFUND_REF};
	static Statement find_latest = {"SELECT r.refund_ref" BY_GATEWAY_REFUND_REF, SNAPSHOT_LATEST};
	Args		args = {0};
	Refund	   *refund;

	ot_arg_text(&args, gateway);
	ot_arg_text(&args, gateway_refund_ref);
	ot_advisory_lock(psprintf("%s %s", gateway, gateway_refund_ref));
	if (ot_fast_serves(FAST_REFUNDS))
		return ot_fast_find_gateway_refund(gateway, gateway_refund_ref);
	refund = ot_run_one(&find, &args, ot_read_refund);

	/* The unique index would say so too, but with an error that tells nobody to try again. */
	if (refund == NULL && IsolationUsesXactSnapshot() && ot_run(&find_latest, &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a refund recorded at the same moment")));
	return refund;
}

static List *
refunds_of(Statement *statement, const Payment *payment)
{
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	return ot_run_list(statement, &args, ot_read_refund);
}

List *
ot_store_find_refunds(const Payment *payment)
{
	static Statement find = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
	"WHERE r.gateway" EQ "$1 AND r.payment_ref" EQ "$2" OLDEST_FIRST};

	return refunds_of(&find, payment);
}

List *
ot_store_lock_refunds(const Payment *payment)
{
	static Statement lock = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
	"WHERE r.gateway" EQ "$1 AND r.payment_ref" EQ "$2" OLDEST_FIRST " FOR NO KEY UPDATE"};

	return refunds_of(&lock, payment);
}

List *
ot_store_find_requested(const char *order_id, const char *request_key)
{
	static Statement find = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
		"LEFT JOIN order_timeout.payments p ON p.gateway" EQ "r.gateway AND p.payment_ref" EQ "r.payment_ref "
		"WHERE r.order_id" EQ "$1 AND r.request_key" EQ "$2 "
	"ORDER BY p.received_at DESC, p.gateway DESC, p.payment_ref DESC"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_arg_text(&args, request_key);
	return ot_run_list(&find, &args, ot_read_refund);
}

List *
ot_store_lock_due_refunds(TimestampTz now, const char *gateway, int limit)
{
	static Statement lock = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
		"WHERE r.settled_at IS NULL AND r.next_attempt_at" LE "$1 AND ($2 IS NULL OR r.gateway" EQ "$2) "
	"ORDER BY r.next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"};
	Args		args = {0};

	if (ot_fast_serves(FAST_REFUNDS))
		return ot_fast_lock_due_refunds(now, gateway, limit);
	ot_arg_time(&args, now);
	ot_arg_text(&args, gateway);
	ot_arg_int4(&args, limit);
	return ot_run_list(&lock, &args, ot_read_refund);
}

List *
ot_store_lock_lapsed_refunds(TimestampTz now, int limit)
{
	static Statement lock = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
		"WHERE r.settled_at IS NULL AND r.next_attempt_at" LE "$1 AND r.state" EQ "'processing' "
	"ORDER BY r.next_attempt_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_list(&lock, &args, ot_read_refund);
}

List *
ot_store_lock_overlong_refunds(TimestampTz now, int limit)
{
	static Statement lock = {"SELECT " REFUND_COLUMNS " FROM order_timeout.refunds r "
		"LEFT JOIN order_timeout.orders o ON o.order_id" EQ "r.order_id "
		"JOIN order_timeout.policies p ON p.policy" EQ "COALESCE(o.policy, 'default') "
		"WHERE r.settled_at IS NULL AND r.state" EQ "'submitted' "
	"AND (r.submitted_at" PLUS "p.refund_settle_within)" LE "$1 LIMIT $2 FOR NO KEY UPDATE OF r SKIP LOCKED"};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_list(&lock, &args, ot_read_refund);
}

void
ot_store_insert_refund(const Refund *refund)
{
	static Statement insert = {"INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, currency, "
		"reason, note, state, attempts, next_attempt_at, leased_until, lease_token, worker, gateway_refund_ref, last_error, "
		"request_key, asked, handed_out_at, submitted_at, returned_at, replaced_by, by_hand, attention_at, created_at, settled_at) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, "
	"$25, $26)"};
	Args		args = {0};

	if (ot_fast_serves(FAST_REFUNDS))
	{
		ot_fast_insert_refund(refund);
		return;
	}
	ot_refund_args(&args, refund);
	ot_run_write(&insert, &args);
}

void
ot_store_update_refund(const Refund *refund)
{
	static Statement update = {"UPDATE order_timeout.refunds r SET amount = $5, note = $8, state = $9, attempts = $10, "
		"next_attempt_at = $11, leased_until = $12, lease_token = $13, worker = $14, gateway_refund_ref = $15, last_error = $16, "
		"handed_out_at = $19, submitted_at = $20, returned_at = $21, replaced_by = $22, by_hand = $23, attention_at = $24, "
	"settled_at = $26 WHERE r.refund_ref" EQ "$1"};
	Args		args = {0};

	if (ot_fast_serves(FAST_REFUNDS))
	{
		ot_fast_update_refund(refund);
		return;
	}
	ot_refund_args(&args, refund);
	ot_run_write(&update, &args);
}

/* After a payment was given another order. */
void
ot_store_move_refunds(const Payment *payment)
{
	static Statement update = {"UPDATE order_timeout.refunds r SET order_id = $3 "
	"WHERE r.gateway" EQ "$1 AND r.payment_ref" EQ "$2"};
	Args		args = {0};

	ot_arg_text(&args, payment->gateway);
	ot_arg_text(&args, payment->payment_ref);
	ot_arg_text(&args, payment->order_id);
	ot_run(&update, &args);
}
