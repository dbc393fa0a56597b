/*
 * conflict_resolve.c
 *    resolve_conflict: what the operator found out about a contradiction.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "conflict.h"
#include "conflict_resolve.h"
#include "errors.h"
#include "lock.h"
#include "refund_external.h"
#include "store.h"
#include "write.h"

static void
cannot_book(const Conflict *conflict, int errcode_of_it, const char *why)
{
	ereport(ERROR,
			(errcode(errcode_of_it),
			 errmsg("cannot book conflict %lld", (long long) conflict->conflict_id),
			 errdetail("%s", why),
			 errhint("Resolve it without booking it, or mend the records first.")));
}

/* It was money of its own after all. A number that another refund has by now stays there. */
static void
book(const Locked *money, Conflict *conflict, TimestampTz now)
{
	const char *number = conflict->gateway_refund_ref;
	External	external = {number, conflict->amount > 0 ? conflict->amount : conflict->counted_once, REASON_EXTERNAL, false};

	if (conflict->is_failure)
		cannot_book(conflict, OT_WRONG_STATE, "It reports a failure: no money went back.");
	if (external.amount == 0)
		cannot_book(conflict, OT_MORE_THAN_KEPT, "All that was reported is counted already.");
	if (external.amount > ot_external_room(money->payment))
		cannot_book(conflict, OT_MORE_THAN_KEPT, "It is more than what is kept and held of the payment.");
	if (number != NULL && ot_store_lock_gateway_refund_ref(conflict->gateway, number) != NULL)
		external.number = NULL;
	conflict->booked_by = ot_external_record(money, &external, now).refund->refund_ref;
	ot_write_money(money->order, money->payment);
}

const char *
ot_conflict_resolve(int64 conflict_id, const char *note, bool to_book)
{
	Conflict   *conflict = ot_store_find_conflict(conflict_id);
	Locked		money;
	TimestampTz now;

	if (conflict == NULL)
		ereport(ERROR,
				(errcode(OT_NO_SUCH_REFUND),
				 errmsg("conflict %lld does not exist", (long long) conflict_id),
				 errhint("Give a conflict_id that order_timeout.attention shows.")));
	money = ot_lock_payment(conflict->gateway, conflict->payment_ref);
	conflict = ot_store_lock_conflict(conflict_id);
	now = GetCurrentTimestamp();
	if (conflict->resolved_at != OT_NO_TIME)
		return "already_resolved";
	if (to_book)
		book(&money, conflict, now);
	ot_conflict_end(conflict, note, now);
	return "resolved";
}
