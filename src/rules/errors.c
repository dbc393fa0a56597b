/*
 * errors.c
 *    Errors that several calls have in common.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "errors.h"

void
ot_no_such_order(const char *order_id)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_ORDER),
			 errmsg("order \"%s\" does not exist", order_id),
			 errhint("Check the order_id, or create the order first with order_timeout.create_order().")));
}

void
ot_no_such_policy(const char *policy)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_POLICY),
			 errmsg("policy \"%s\" does not exist", policy),
			 errhint("Name a row of order_timeout.policies, or insert the policy there first.")));
}

void
ot_no_such_payment(const char *gateway, const char *payment_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_PAYMENT),
			 errmsg("payment \"%s\" of gateway \"%s\" does not exist", payment_ref, gateway),
			 errhint("Check gateway and payment_ref, or record it first with order_timeout.record_payment().")));
}

void
ot_no_such_attempt(const char *gateway, const char *attempt_ref)
{
	ereport(ERROR,
			(errcode(OT_NO_SUCH_ATTEMPT),
			 errmsg("attempt \"%s\" of gateway \"%s\" does not exist", attempt_ref, gateway),
			 errhint("Check gateway and attempt_ref, or begin it first with order_timeout.begin_attempt().")));
}

void
ot_deadline_not_in_future(const char *order_id, TimestampTz deadline, TimestampTz now)
{
	char	   *here = pstrdup(timestamptz_to_str(now));	/* it answers the same buffer each time */

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("deadline of order \"%s\" does not lie in the future", order_id),
			 errdetail("The deadline is %s, and the time here is %s.", timestamptz_to_str(deadline), here),
			 errhint("Give a later deadline, or check the caller's clock and time zone.")));
}

void
ot_row_not_written(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a row of extension \"order_timeout\" was not written"),
			 errdetail("A trigger on its tables suppressed the write, or changed the same row by a call of its own."),
			 errhint("Let triggers on the tables of order_timeout raise an error instead of returning NULL, and make calls about the same order after the call that fired them.")));
}
