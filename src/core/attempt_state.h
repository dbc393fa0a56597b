/*
 * attempt_state.h
 *    The states of an attempt to pay and the steps between them. The diagram is in attempt_state.c.
 */
#ifndef OT_ATTEMPT_STATE_H
#define OT_ATTEMPT_STATE_H

#include "rows.h"

/* What a gateway promised. */
typedef struct Authorization
{
	int64		amount;
	const char *currency;
	TimestampTz valid_until;
} Authorization;

/* Neither ended nor captured. */
extern bool ot_attempt_is_live(const Attempt *attempt);

/* Live, and nobody was asked to end it. */
extern bool ot_attempt_may_pay(const Attempt *attempt);

/* It authorised its order, and not all of that was captured. */
extern bool ot_attempt_has_rest(const Attempt *attempt);

/* Nothing more can be asked of it; the operator may still have to look. */
extern bool ot_attempt_is_over(const Attempt *attempt);

/* Its gateway says that it was paid, and no payment of it is recorded. */
extern bool ot_attempt_is_reported_paid(const Attempt *attempt);

/* What is authorised and not captured; 0 if it never was authorised. */
extern int64 ot_attempt_rest(const Attempt *attempt);

/* Each changes the row in memory; the caller writes it, or its call fails (unwritten.h). */
extern void ot_attempt_begin(Attempt *attempt, TimestampTz now);
extern void ot_attempt_become_authorized(Attempt *attempt, const Authorization *authorization, bool covers);
extern void ot_attempt_note_authorization(Attempt *attempt, const Authorization *authorization);
extern void ot_attempt_become_captured(Attempt *attempt, int64 amount, TimestampTz now);
extern void ot_attempt_may_capture_more(Attempt *attempt);
extern void ot_attempt_end(Attempt *attempt, AttemptState state, TimestampTz now);
extern void ot_attempt_void(Attempt *attempt, TimestampTz now);
extern void ot_attempt_hand_out(Attempt *attempt, const char *worker, TimestampTz leased_until, TimestampTz now);
extern void ot_attempt_void_failed(Attempt *attempt, const Policy *policy, TimestampTz now);
extern void ot_attempt_void_unknown(Attempt *attempt, const Policy *policy, TimestampTz now);
extern void ot_attempt_void_lapse(Attempt *attempt, const Policy *policy, TimestampTz now);
extern void ot_attempt_void_defer(Attempt *attempt, const Policy *policy, TimestampTz now);
extern void ot_attempt_void_reject(Attempt *attempt, TimestampTz now);
extern void ot_attempt_void_note_failure(Attempt *attempt);
extern void ot_attempt_become_reported_paid(Attempt *attempt, TimestampTz now);
extern void ot_attempt_retry_void(Attempt *attempt, TimestampTz now);

#endif
