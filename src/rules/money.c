/*
 * money.c
 *    The only place where money is added.
 *
 * Invariant: every sum is checked for overflow, and no bucket ever falls below zero. A bucket that would is a
 * contradiction between rows, so it stops the transaction instead of being repaired in silence.
 */
#include "postgres.h"

#include "common/int.h"

#include "money.h"
#include "unwritten.h"

int64
ot_money_add(int64 a, int64 b)
{
	int64		sum;

	if (pg_add_s64_overflow(a, b, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("sum of money is out of range"),
				 errdetail("%lld plus %lld does not fit into bigint.", (long long) a, (long long) b),
				 errhint("Check the amount, which is in minor units.")));
	return sum;
}

int64
ot_money_subtract(int64 a, int64 b)
{
	int64		difference;

	if (pg_sub_s64_overflow(a, b, &difference))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("sum of money is out of range"),
				 errdetail("%lld minus %lld does not fit into bigint.", (long long) a, (long long) b),
				 errhint("Check the amount, which is in minor units.")));
	return difference;
}

bool
ot_money_accumulate(int64 *sum, int64 by)
{
	int64		total;

	if (pg_add_s64_overflow(*sum, by, &total))
		return false;
	*sum = total;
	return true;
}

int64
ot_kept(const Funds *funds)
{
	int64		kept = ot_money_subtract(funds->paid, funds->refunded);

	kept = ot_money_subtract(kept, funds->refund_pending);
	return ot_money_subtract(kept, funds->held);
}

bool
ot_counts_for_order(const Payment *payment)
{
	return payment->disposition != PAYMENT_ORPHAN && payment->disposition != PAYMENT_WRONG_CURRENCY &&
		payment->disposition != PAYMENT_UNCOUNTED;
}

int64
ot_kept_for_order(const Payment *payment)
{
	return ot_counts_for_order(payment) ? ot_kept(&payment->funds) : 0;
}

int64
ot_surplus(const Order *order)
{
	int64		beyond = ot_money_subtract(ot_kept(&order->funds), order->amount);

	return Max(beyond, 0);
}

void
ot_payment_become(Payment *payment, Disposition disposition)
{
	payment->disposition = disposition;
	ot_row_changed(&payment->unwritten, payment->order_id);
}

void
ot_payment_name_attempt(Payment *payment, const char *attempt_ref)
{
	payment->attempt_ref = pstrdup(attempt_ref);
	ot_row_changed(&payment->unwritten, payment->order_id);
}

void
ot_funds_join(Order *order, const Payment *payment)
{
	order->funds.paid = ot_money_add(order->funds.paid, payment->funds.paid);
	order->funds.refunded = ot_money_add(order->funds.refunded, payment->funds.refunded);
	order->funds.refund_pending = ot_money_add(order->funds.refund_pending, payment->funds.refund_pending);
	order->funds.held = ot_money_add(order->funds.held, payment->funds.held);
	ot_row_changed(&order->unwritten, order->order_id);
}

/* What is refunded, owed and held is a part of what was paid, so it fits where that does. */
bool
ot_funds_can_join(const Order *order, const Payment *payment)
{
	int64		sum = order->funds.paid;

	return ot_money_accumulate(&sum, payment->funds.paid);
}

static void
rows_disagree(const Payment *payment, int64 amount)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("rows of order \"%s\" and payment \"%s\" of gateway \"%s\" disagree about the money",
					payment->order_id, payment->payment_ref, payment->gateway),
			 errdetail("One of them holds less than the %lld %s that are to move.",
					   (long long) amount, payment->currency),
			 errhint("Run SELECT * FROM order_timeout.funds_violations(), and correct the rows that it shows.")));
}

static bool
change_bucket(Funds *funds, Bucket bucket, int64 by)
{
	int64	   *sum = NULL;

	switch (bucket)
	{
		case BUCKET_KEPT:		/* what is in no other bucket */
			return true;
		case BUCKET_HELD:
			sum = &funds->held;
			break;
		case BUCKET_REFUND_PENDING:
			sum = &funds->refund_pending;
			break;
		case BUCKET_REFUNDED:
			sum = &funds->refunded;
			break;
	}
	*sum = ot_money_add(*sum, by);
	return *sum >= 0;
}

/* Moving nothing changes nothing, and still finds out that the rows disagree: then it answers false. */
static bool
move(Funds *funds, Bucket from, Bucket to, int64 amount)
{
	return change_bucket(funds, from, -amount) && change_bucket(funds, to, amount) && ot_kept(funds) >= 0;
}

void
ot_funds_move(Order *order, Payment *payment, Bucket from, Bucket to, int64 amount)
{
	Assert(amount >= 0 && from != to);

	if (!move(&payment->funds, from, to, amount))
		rows_disagree(payment, amount);
	if (amount > 0)
		ot_row_changed(&payment->unwritten, payment->order_id);
	if (!ot_counts_for_order(payment))
		return;
	if (order == NULL || !move(&order->funds, from, to, amount))
		rows_disagree(payment, amount);
	if (amount > 0)
		ot_row_changed(&order->unwritten, order->order_id);
}

void
ot_funds_hold(Order *order, Payment *payment, TimestampTz now)
{
	ot_payment_become(payment, PAYMENT_HELD);
	payment->held_at = now;
	ot_funds_move(order, payment, BUCKET_KEPT, BUCKET_HELD, ot_kept(&payment->funds));
}
