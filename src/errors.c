/*
 * errors.c
 *    Errors that several calls have in common.
 */
#include "errors.h"

void
ot_no_such_order(const char *order_id)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_ORDER),
			 errmsg("no such order"),
			 errdetail("There is no order \"%s\".", order_id)));
}

void
ot_no_such_payment(const char *gateway, const char *payment_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_PAYMENT),
			 errmsg("no such payment"),
			 errdetail("Gateway \"%s\" has no payment \"%s\" here.", gateway, payment_ref)));
}
