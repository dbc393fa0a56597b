/*
 * answers.c
 *    What the use cases answer with.
 */
#include "postgres.h"

#include "answers.h"

OrderAnswer
ot_order_answer(const char *outcome, const Order *order)
{
	OrderAnswer answer = {outcome, order};

	return answer;
}

PaymentAnswer
ot_payment_answer(const char *outcome, const Order *order, const Payment *payment, const Refund *refund)
{
	PaymentAnswer answer = {outcome, order, payment->disposition, NULL, 0, payment->late_reason};

	if (refund != NULL)
	{
		answer.refund_ref = refund->refund_ref;
		answer.refund_amount = refund->asked;
	}
	return answer;
}

RefundAnswer
ot_refund_answer(const char *outcome, const Refund *refund)
{
	RefundAnswer answer = {outcome, refund->state, refund->next_attempt_at, refund->refund_ref};

	return answer;
}
