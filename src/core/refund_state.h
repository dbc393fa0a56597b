/*
 * refund_state.h
 *    The states of a refund and the steps between them. The diagram is in refund_state.c.
 */
#ifndef OT_REFUND_STATE_H
#define OT_REFUND_STATE_H

#include "rows.h"

/* Each changes the row in memory; the caller writes it, or its call fails (unwritten.h). */
extern void ot_refund_become_pending(Refund *refund, TimestampTz next_attempt_at);
extern void ot_refund_become_processing(Refund *refund, const char *worker, TimestampTz leased_until, TimestampTz now);
extern void ot_refund_become_submitted(Refund *refund, const Policy *policy, TimestampTz now);
extern void ot_refund_become_failed(Refund *refund, const Policy *policy, TimestampTz now);
extern void ot_refund_become_unknown(Refund *refund, const Policy *policy, TimestampTz now);
extern void ot_refund_lapse(Refund *refund, const Policy *policy, TimestampTz now);
extern void ot_refund_defer(Refund *refund, const Policy *policy, TimestampTz now);
extern void ot_refund_reject(Refund *refund, TimestampTz now);
extern void ot_refund_retry_from_start(Refund *refund, TimestampTz now);
extern void ot_refund_stop(Refund *refund, const char *why, TimestampTz now);
extern bool ot_refund_is_stopped(const Refund *refund);
extern void ot_refund_note_result(Refund *refund, RefundResult result);
extern void ot_refund_become_withdrawn(Refund *refund, TimestampTz now);
extern void ot_refund_become_needs_attention(Refund *refund, TimestampTz now);
extern void ot_refund_become_succeeded(Refund *refund, TimestampTz now);
extern void ot_refund_become_reversed(Refund *refund, const Refund *replaced_by, TimestampTz now);

#endif
