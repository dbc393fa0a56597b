/*
 * chargeback.c
 *    reverse_chargeback: a chargeback was won, or a refund by the gateway's dashboard bounced.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "chargeback.h"
#include "conflict.h"
#include "errors.h"
#include "lock.h"
#include "orphan.h"
#include "refund_external.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static void
require_external(const Refund *refund)
{
	if (!ot_is_external(refund))
		ereport(ERROR,
				(errcode(OT_WRONG_STATE),
				 errmsg("refund \"%s\" is none that record_refund recorded", refund->refund_ref),
				 errdetail("Its reason is %s.", ot_refund_reasons[refund->reason]),
				 errhint("If its money came back, call order_timeout.reverse_refund().")));
}

static Refund *
find_external(const char *gateway, const char *gateway_refund_ref, const char *refund_ref)
{
	Refund	   *found = refund_ref != NULL ? ot_store_find_refund(refund_ref)
	: ot_store_find_gateway_refund(gateway, gateway_refund_ref);

	if (found == NULL || strcmp(found->gateway, gateway) != 0)
		ereport(ERROR,
				(errcode(OT_NO_SUCH_REFUND),
				 errmsg("refund \"%s\" of gateway \"%s\" does not exist", refund_ref ? refund_ref : gateway_refund_ref, gateway),
				 errhint("Give the number that record_refund was called with; order_timeout.refunds shows it.")));
	return found;
}

void
ot_chargeback_give_back(const LockedRefund *locked, const char *note, TimestampTz now)
{
	const Locked *money = &locked->money;
	Refund	   *external = locked->refund;

	if (note != NULL)
		external->note = pstrdup(note);
	(void) ot_external_give_back(money, external, NULL, note, now);
	ot_conflicts_end_of(ot_conflicts_of(money->payment), external->refund_ref, "the money came back", now);
	ot_write_money(money->order, money->payment);
	ot_orphan_join(money, now);
}

RefundAnswer
ot_chargeback_reverse(const char *gateway, const char *gateway_refund_ref, const char *refund_ref, const char *note)
{
	Refund	   *found = find_external(gateway, gateway_refund_ref, refund_ref);
	LockedRefund locked = ot_lock_refund_and_money(found->refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	bool		is_repeat = locked.refund->state == REFUND_REVERSED;
	RefundAnswer answer;

	require_external(locked.refund);
	if (!is_repeat)
		ot_chargeback_give_back(&locked, note, now);
	answer = ot_refund_answer(is_repeat ? "already_reversed" : "reversed", locked.refund);
	answer.refund_ref = locked.refund->replaced_by;
	return answer;
}
