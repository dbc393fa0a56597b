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

Payment *
ot_fast_find_payment(const char *gateway, const char *payment_ref)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	Payment    *payment = find(payments, gateway, payment_ref) ? ot_fast_read(payments, ot_read_payment) : NULL;

	ot_fast_end(payments);
	return payment;
}

Payment *
ot_fast_lock_payment(const char *gateway, const char *payment_ref, LockWaitPolicy wait_policy)
{
	FastTable  *payments = ot_fast_begin(FAST_PAYMENTS);
	bool		locked = find(payments, gateway, payment_ref) && ot_fast_lock(payments, wait_policy);
	Payment    *payment = locked ? ot_fast_read(payments, ot_read_payment) : NULL;

	ot_fast_end(payments);
	return payment;
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

	if (!find(payments, payment->gateway, payment->payment_ref))
		ot_row_not_written();
	ot_payment_args(&args, payment);
	ot_fast_update(payments, &args);
	ot_fast_end(payments);
}
