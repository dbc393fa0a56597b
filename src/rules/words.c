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

int
ot_word_find(const char *const *words, const char *word)
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}
