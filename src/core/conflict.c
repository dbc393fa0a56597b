/*
 * conflict.c
 *    What a gateway says in contradiction to what is recorded: money may have gone twice. Nothing is overwritten; a
 *    person looks.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "conflict.h"
#include "errors.h"
#include "event.h"
#include "store.h"

static const char *const problems[] = {
	[PROBLEM_OTHER_REFUND] = "the gateway's refund is recorded as another refund",
	[PROBLEM_OTHER_PAYMENT] = "the gateway's refund is recorded for another payment",
	[PROBLEM_MORE_THAN_ASKED] = "the gateway returned more than it was asked for",
	[PROBLEM_MORE_THAN_LEFT] = "the gateway returned more than this payment has left",
	[PROBLEM_LESS_THAN_RECORDED] = "the gateway returned less than recorded",
	[PROBLEM_TWO_NUMBERS] = "the gateway returned it under two numbers",
	[PROBLEM_SETTLED_BY_HAND] = "settled by hand, and the gateway returned it too",
	[PROBLEM_OWED_AGAIN] = "reversed and owed anew, and the gateway returned it",
};

void
ot_conflict_note(const Payment *payment, const char *refund_ref, const char *gateway_refund_ref, int64 amount,
				 Problem problem, TimestampTz now)
{
	Conflict	conflict = {0};
	Payload    *payload;

	conflict.order_id = payment->order_id;
	conflict.gateway = payment->gateway;
	conflict.payment_ref = payment->payment_ref;
	conflict.refund_ref = refund_ref;
	conflict.gateway_refund_ref = gateway_refund_ref;
	conflict.amount = amount;
	conflict.problem = problems[problem];
	conflict.created_at = now;
	if (!ot_store_add_conflict(&conflict))
		return;
	payload = ot_payload();
	ot_payload_text(payload, "refund_ref", refund_ref);
	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_text(payload, "gateway_refund_ref", gateway_refund_ref);
	ot_payload_int(payload, "amount", amount);
	ot_payload_text(payload, "currency", payment->currency);
	ot_payload_text(payload, "problem", problems[problem]);
	ot_event(payment->order_id, "refund.conflict", payload, now);
}

const char *
ot_conflict_resolve(int64 conflict_id, const char *note)
{
	Conflict   *conflict = ot_store_lock_conflict(conflict_id);
	TimestampTz now = GetCurrentTimestamp();
	Payload    *payload;

	if (conflict == NULL)
		ereport(ERROR,
				(errcode(OT_NO_SUCH_REFUND),
				 errmsg("conflict %lld does not exist", (long long) conflict_id),
				 errhint("Give a conflict_id that order_timeout.attention shows.")));
	if (conflict->resolved_at != OT_NO_TIME)
		return "already_resolved";
	ot_store_resolve_conflict(conflict_id, now, note);
	payload = ot_payload();
	ot_payload_int(payload, "conflict_id", conflict_id);
	ot_payload_text(payload, "note", note);
	ot_event(conflict->order_id, "conflict.resolved", payload, now);
	return "resolved";
}
