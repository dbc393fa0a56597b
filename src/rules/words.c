/*
 * words.c
 *    The contract's words.
 */
#include "postgres.h"

#include "words.h"

const char *const ot_order_states[] = {"pending", "authorized", "closing", "paid", "expired", "cancelled", NULL};

const char *const ot_follow_kinds[] = {"link", "close_hook", "reopen_hook", "paid_hook", NULL};

const char *const ot_dispositions[] = {"applied", "late", "surplus", "wrong_currency", "orphan", "held", "uncounted", NULL};

const char *const ot_payment_outcomes[] = {"paid", "partial", "surplus", "late", "reopened", "held", "wrong_currency", "surplus", NULL};

const char *const ot_refund_states[] = {"pending", "processing", "submitted", "unknown", "failed",
"needs_attention", "succeeded", "reversed", NULL};

const char *const ot_refund_reasons[] = {"late", "surplus", "wrong_currency", "expired", "cancelled",
"requested", "orphan", "reversed", "external", "chargeback", NULL};

const char *const ot_refund_results[] = {"succeeded", "failed", "unknown", "submitted", "deferred", "rejected", NULL};

const char *const ot_late_rules[] = {"until_closed", "at_deadline", NULL};

const char *const ot_on_lates[] = {"refund", "reopen", "hold", NULL};

const char *const ot_on_shorts[] = {"refund", "hold", NULL};

const char *const ot_before_closes[] = {"close", "void", NULL};

const char *const ot_attempt_states[] = {"open", "authorized", "captured", "failed", "cancelled", "expired", "voided",
"needs_attention", NULL};

const char *const ot_void_results[] = {"voided", "paid", "failed", "unknown", "deferred", "rejected", NULL};

const char *const ot_decisions[] = {"refund", "accept", NULL};

/* What functions write as the type of an event: create_consumer warns of others. */
const char *const ot_event_types[] = {"order.created", "order.paid", "order.accepted_short", "order.reopened", "order.extended", "order.changed",
	"order.authorized", "order.closing", "order.due_soon", "order.expired", "order.cancelled", "order.forgotten",
	"order.set_aside", "order.follow_up_failed", "order.followed_up", "order.follow_up_resolved",
	"attempt.begun", "attempt.authorized", "attempt.ended",
	"void.due", "void.claimed", "void.lease_lapsed", "void.voided", "void.paid", "void.failed", "void.unknown",
	"void.deferred", "void.rejected", "void.retried",
	"payment.partial", "payment.surplus", "payment.wrong_currency", "payment.late", "payment.held",
	"payment.orphan", "payment.conflict", "payment.accepted", "payment.given_back",
	"refund.created", "refund.claimed", "refund.needs_attention", "refund.set_aside", "refund.lease_lapsed",
	"refund.succeeded", "refund.failed", "refund.unknown", "refund.submitted", "refund.deferred", "refund.rejected",
	"refund.retried", "refund.settled", "refund.reversed", "refund.stopped", "refund.withdrawn", "refund.recorded",
	"refund.conflict",
	"conflict.resolved",
NULL};

int
ot_word_find(const char *const *words, const char *word)
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}
