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
			 errdetail("There is no order \"%s\".", order_id),
			 errhint("Check the order_id, or create the order first: order_timeout.create_order().")));
}

void
ot_no_such_payment(const char *gateway, const char *payment_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_PAYMENT),
			 errmsg("no such payment"),
			 errdetail("Gateway \"%s\" has no payment \"%s\" here.", gateway, payment_ref),
			 errhint("Check both, or record the payment first: order_timeout.record_payment().")));
}

void
ot_deadline_not_in_future(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the deadline must lie in the future")));
}

void
ot_row_not_written(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a row of extension \"order_timeout\" was not written"),
			 errdetail("A trigger on its tables suppressed it, or the row is not there any more."),
			 errhint("Triggers on the tables of order_timeout may raise an error, but must not return NULL.")));
}
