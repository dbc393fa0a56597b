/*
 * decide.c
 *    What becomes of a payment, and of part payments when their order closes.
 *
 * payment.c and order_close.c carry out in rows what is decided here, replay.c in memory only.
 */
#include "postgres.h"

#include "decide.h"
#include "money.h"
#include "rules.h"

/* By PaymentOutcome. What is owed for no reason is not owed. */
static const struct
{
	Disposition disposition;
	RefundReason owed_for;
}			consequences[] = {
	[OUTCOME_PAID] = {PAYMENT_APPLIED, REASON_SURPLUS},
	[OUTCOME_PARTIAL] = {PAYMENT_APPLIED},
	[OUTCOME_SURPLUS] = {PAYMENT_SURPLUS, REASON_SURPLUS},
	[OUTCOME_LATE] = {PAYMENT_LATE, REASON_LATE},
	[OUTCOME_REOPENED] = {PAYMENT_APPLIED, REASON_SURPLUS},
	[OUTCOME_HELD] = {PAYMENT_HELD},
	[OUTCOME_WRONG_CURRENCY] = {PAYMENT_WRONG_CURRENCY, REASON_WRONG_CURRENCY},
	[OUTCOME_UNCOUNTED] = {PAYMENT_UNCOUNTED, REASON_SURPLUS}
};

static bool
is_same_currency(const Order *order, const Payment *payment)
{
	return strcmp(order->currency, payment->currency) == 0;
}

/* What an open order lacks with the payment. */
static int64
lacks_with(const Order *order, const Payment *payment)
{
	return ot_money_subtract(ot_money_subtract(order->amount, ot_kept(&order->funds)), ot_kept(&payment->funds));
}

bool
ot_policy_decides(const Order *order, const Payment *payment, TimestampTz now)
{
	if (!is_same_currency(order, payment) || !ot_funds_can_join(order, payment) || order->state == ORDER_PAID)
		return false;
	return ot_is_closed(order) || ot_is_due(order, now) || lacks_with(order, payment) > 0;
}

bool
ot_closes_first(const Order *order, const Policy *policy, TimestampTz now)
{
	return policy != NULL && policy->late_rule == LATE_AT_DEADLINE && ot_is_due(order, now);
}

static PaymentOutcome
decide_late(const Order *order, const Payment *payment, const Policy *policy)
{
	OnLate		on_late = ot_on_late(policy, ot_late_reason(order, payment));

	if (on_late == ON_LATE_HOLD)
		return OUTCOME_HELD;
	if (on_late == ON_LATE_REOPEN && !payment->cannot_reopen && order->state == ORDER_EXPIRED &&
		ot_kept(&payment->funds) >= order->amount)
		return OUTCOME_REOPENED;
	return OUTCOME_LATE;
}

PaymentOutcome
ot_decide_payment(const Order *order, const Payment *payment, const Policy *policy)
{
	if (!is_same_currency(order, payment))
		return OUTCOME_WRONG_CURRENCY;
	/* It is recorded all the same, since it is real money, and stays out of the sums. */
	if (!ot_funds_can_join(order, payment))
		return OUTCOME_UNCOUNTED;
	if (ot_order_is_open(order))
		return ot_is_tolerated(policy, lacks_with(order, payment)) ? OUTCOME_PAID : OUTCOME_PARTIAL;
	return order->state == ORDER_PAID ? OUTCOME_SURPLUS : decide_late(order, payment, policy);
}

Disposition
ot_disposition_of(PaymentOutcome outcome)
{
	return consequences[outcome].disposition;
}

RefundReason
ot_owed_for(PaymentOutcome outcome)
{
	return consequences[outcome].owed_for;
}

int64
ot_owed_at_once(const Order *order, const Payment *payment, PaymentOutcome outcome)
{
	switch (outcome)
	{
		case OUTCOME_PAID:
		case OUTCOME_REOPENED:
			return ot_surplus(order);
		case OUTCOME_PARTIAL:
		case OUTCOME_HELD:
			return 0;
		case OUTCOME_SURPLUS:
		case OUTCOME_LATE:
		case OUTCOME_WRONG_CURRENCY:
		case OUTCOME_UNCOUNTED:
			break;
	}
	return ot_kept(&payment->funds);
}

bool
ot_is_tolerated(const Policy *policy, int64 lacks)
{
	return lacks <= 0 || lacks <= policy->short_tolerance;
}

bool
ot_holds_short(const Policy *policy)
{
	return policy->on_short == ON_SHORT_HOLD;
}
