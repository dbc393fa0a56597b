/*
 * refund_decide.c
 *    What the operator decides about a refund: to retry, settle, reverse, stop or withdraw it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "chargeback.h"
#include "conflict.h"
#include "errors.h"
#include "event.h"
#include "lock.h"
#include "money.h"
#include "refund_decide.h"
#include "refund_owe.h"
#include "refund_state.h"
#include "rules.h"
#include "store.h"
#include "write.h"

static const char *
what_to_do_instead(const Refund *refund)
{
	if (refund->state == REFUND_SUCCEEDED)
		return "If the money came back, call order_timeout.reverse_refund().";
	if (refund->replaced_by != NULL)
		return psprintf("Look at refund \"%s\", which took its place.", refund->replaced_by);
	if (refund->state == REFUND_REVERSED)
		return "Nothing took its place. If the money has to go back after all, call order_timeout.request_refund().";
	return "Let the workers go on with it, or report what the gateway did with order_timeout.complete_refund().";
}

/* What was to be done, and which refunds it can be done with. */
static void
wrong_state(const char *verb, const Refund *refund, const char *rule)
{
	ereport(ERROR,
			(errcode(OT_WRONG_STATE),
			 errmsg("cannot %s refund \"%s\" in state \"%s\"",
					verb, refund->refund_ref, ot_refund_states[refund->state]),
			 errdetail("%s", rule),
			 errhint("%s", what_to_do_instead(refund))));
}

RefundAnswer
ot_refund_retry(const char *refund_ref)
{
	Refund	   *refund = ot_lock_refund(refund_ref, NULL).refund;
	TimestampTz now = GetCurrentTimestamp();

	if (!ot_is_open(refund) && ot_store_has_refund_event(refund, "refund.retried"))
		return ot_refund_answer("already_due", refund); /* a call repeated after what it led to */
	if (!ot_is_open(refund))
		wrong_state("retry", refund, "Only a refund that is still owed can be tried again.");
	if (refund->state != REFUND_NEEDS_ATTENTION)
		return ot_refund_answer("already_due", refund);
	ot_refund_retry_from_start(refund, now);
	ot_write_refund_and_event(refund, "refund.retried", now);
	return ot_refund_answer("retried", refund);
}

RefundAnswer
ot_refund_settle(const char *refund_ref, const char *note)
{
	LockedRefund locked = ot_lock_refund_and_money(refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	Locked		money = locked.money;
	Refund	   *refund = locked.refund;

	if (refund->by_hand)		/* reversed since, or not */
		return ot_refund_answer("already_settled", refund);
	if (refund->state != REFUND_NEEDS_ATTENTION)
		wrong_state("settle", refund, "Only a refund that needs attention can be settled by hand.");
	refund->by_hand = true;
	refund->note = pstrdup(note);
	ot_refund_become_succeeded(refund, now);
	ot_funds_move(money.order, money.payment, BUCKET_REFUND_PENDING, BUCKET_REFUNDED, refund->amount);
	ot_write_refund_and_event(refund, "refund.settled", now);
	ot_write_money(money.order, money.payment);
	return ot_refund_answer("settled", refund);
}

static RefundAnswer
reversed(const char *outcome, const Refund *refund)
{
	RefundAnswer answer = ot_refund_answer(outcome, refund);

	answer.refund_ref = refund->replaced_by;
	return answer;
}

/* That the gateway reported a failure after its success is what the operator acts on. */
static void
end_failures(const LockedRefund *locked, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, ot_conflicts_of(locked->money.payment))
	{
		Conflict   *conflict = lfirst(cell);

		if (conflict->is_failure && conflict->resolved_at == OT_NO_TIME && conflict->refund_ref != NULL &&
			strcmp(conflict->refund_ref, locked->refund->refund_ref) == 0)
			ot_conflict_end(conflict, "reversed: the money is owed again", now);
	}
}

/*
 * Money that came back is owed again, and the operator has to say where to send it. The gateway declared the key dead: the
 * money is still owed, under a new one. What record_refund recorded goes back to where it was taken from.
 */
RefundAnswer
ot_refund_reverse(const char *refund_ref, const char *reason)
{
	LockedRefund locked = ot_lock_refund_and_money(refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	Locked		money = locked.money;
	Refund	   *refund = locked.refund;
	bool		came_back = refund->state == REFUND_SUCCEEDED;
	Refund	   *successor;

	if (refund->state == REFUND_REVERSED)
		return reversed("already_reversed", refund);
	if (ot_is_external(refund))
	{
		ot_chargeback_give_back(&locked, reason, now);
		return reversed("reversed", refund);
	}
	if (!came_back && refund->state != REFUND_NEEDS_ATTENTION)
		wrong_state("reverse", refund, "Only a refund that succeeded or needs attention can be reversed.");

	successor = ot_refund_make(money.payment, refund->amount, REASON_REVERSED, now);
	successor->note = pstrdup(reason);
	successor->was_requested = ot_refund_is_of_request(refund);
	if (came_back)
	{
		end_failures(&locked, now);
		ot_refund_become_needs_attention(successor, now);
		ot_funds_move(money.order, money.payment, BUCKET_REFUNDED, BUCKET_REFUND_PENDING, refund->amount);
		ot_write_money(money.order, money.payment);
	}
	ot_refund_insert(successor);
	ot_refund_become_reversed(refund, successor, now);
	ot_write_refund_and_event(refund, "refund.reversed", now);
	return reversed("reversed", refund);
}

/* Nothing is sent until the operator decides; a worker that has it may still report. */
RefundAnswer
ot_refund_stop_by_hand(const char *refund_ref, const char *note)
{
	Refund	   *refund = ot_lock_refund(refund_ref, NULL).refund;
	TimestampTz now = GetCurrentTimestamp();

	if (!ot_is_open(refund))
		wrong_state("stop", refund, "Only a refund that is still owed can be stopped.");
	if (refund->state == REFUND_NEEDS_ATTENTION)
		return ot_refund_answer("already_stopped", refund);
	refund->note = pstrdup(note);
	ot_refund_stop(refund, note, now);
	ot_write_refund_and_event(refund, "refund.stopped", now);
	return ot_refund_answer("stopped", refund);
}

RefundAnswer
ot_refund_withdraw(const char *refund_ref, const char *note)
{
	LockedRefund locked = ot_lock_refund_and_money(refund_ref, NULL);
	TimestampTz now = GetCurrentTimestamp();
	Locked		money = locked.money;
	Refund	   *refund = locked.refund;

	if (refund->withdrawn)
		return ot_refund_answer("already_withdrawn", refund);
	if (!ot_is_open(refund) || !ot_refund_is_clear(refund) || !ot_refund_is_of_request(refund) ||
		money.order == NULL || money.order->state != ORDER_PAID)
		wrong_state("withdraw", refund,
					"Only a refund that was requested and that the gateway surely does not have can be withdrawn.");
	refund->note = pstrdup(note);
	ot_refund_become_withdrawn(refund, now);
	ot_funds_move(money.order, money.payment, BUCKET_REFUND_PENDING, BUCKET_KEPT, refund->amount);
	(void) ot_refund_owe_surplus(money.order, money.payment, now);
	ot_write_refund_and_event(refund, "refund.withdrawn", now);
	ot_write_money(money.order, money.payment);
	return ot_refund_answer("withdrawn", refund);
}
