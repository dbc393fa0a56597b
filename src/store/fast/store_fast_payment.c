/*
 * store_fast_payment.c
 *    The fast store: payments.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "errors.h"
#include "store_fast_rows.h"
#include "store_row.h"

static bool
find(FastTable *payments, const char *gateway, const char *payment_ref)
{
	FastKey		equal[] = {
		{1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway)},
		{2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(payment_ref)}
	};

	ot_fast_look(payments, PAYMENTS_KEY, equal, lengthof(equal));
	return ot_fast_next(payments);
}

/* Where it was, or where its latest version is that can be seen. */
static bool
find_again(FastTable *payments, const Payment *found)
{
	return ot_fast_fetch(payments, &found->version) || find(payments, found->gateway, found->payment_ref);
}

static Payment *
read_payment(FastTable *payments)
{
	Payment    *payment = ot_fast_read(payments, ot_read_payment);

	payment->version = ot_fast_version(payments);
	return payment;
}

Payment *
ot_fast_find_payment(const char *gateway, const char *payment_ref)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	Payment    *payment = find(payments, gateway, payment_ref) ? read_payment(payments) : NULL;

	ot_fast_end(payments);
	return payment;
}

Payment *
ot_fast_lock_payment(const Payment *found, LockWaitPolicy wait_policy)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	bool		locked = find_again(payments, found) && ot_fast_lock(payments, wait_policy);
	Payment    *payment = locked ? read_payment(payments) : NULL;

	ot_fast_end(payments);
	return payment;
}

/* Oldest first. */
static int
compare_age(const ListCell *a, const ListCell *b)
{
	const Payment *one = lfirst(a);
	const Payment *other = lfirst(b);
	int			order = strcmp(one->gateway, other->gateway);

	if (one->received_at != other->received_at)
		return one->received_at < other->received_at ? -1 : 1;
	return order != 0 ? order : strcmp(one->payment_ref, other->payment_ref);
}

/* Who may change an order's payments holds the order, so the order of locking is no matter. */
List *
ot_fast_lock_payments(const char *order_id)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	FastKey		equal = {1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(order_id)};
	List	   *locked = NIL;

	ot_fast_look(payments, PAYMENTS_ORDER, &equal, 1);
	while (ot_fast_next(payments))
	{
		Payment    *payment;

		if (!ot_fast_lock(payments, LockWaitBlock))
			continue;
		payment = read_payment(payments);
		if (strcmp(payment->order_id, order_id) == 0)
			locked = ot_fast_append(payments, locked, payment);
	}
	ot_fast_end(payments);
	list_sort(locked, compare_age);
	return locked;
}

bool
ot_fast_insert_payment(const Payment *payment)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	Args		args = {0};
	bool		inserted;

	ot_payment_args(&args, payment);
	ot_arg_jsonb(&args, payment->details);
	inserted = ot_fast_insert_new(payments, &args);
	ot_fast_end(payments);
	return inserted;
}

void
ot_fast_update_payment(const Payment *payment)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	Args		args = {0};

	if (!find_again(payments, payment))
		ot_row_not_written();
	ot_payment_args(&args, payment);
	ot_fast_update(payments, &args);
	ot_fast_end(payments);
}
