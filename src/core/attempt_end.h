/*
 * attempt_end.h
 *    end_attempt, and what the end of an attempt means for its order.
 */
#ifndef OT_ATTEMPT_END_H
#define OT_ATTEMPT_END_H

#include "answers.h"

/* An attempt and its order, locked; OT010 if there is no such attempt. The order is NULL if it is not there. */
typedef struct LockedAttempt
{
	Order	   *order;
	Attempt    *attempt;
} LockedAttempt;

extern LockedAttempt ot_lock_attempt(const char *gateway, const char *attempt_ref);

/* The gateway reports that it failed, was cancelled or has expired. */
extern OrderAnswer ot_attempt_report_end(const char *gateway, const char *attempt_ref, AttemptState result);

/*
 * The attempt was changed in memory, and brings nothing more by itself. Writes it, and its order; closes the order if that
 * waited for nothing else.
 */
extern void ot_attempt_ended(LockedAttempt *locked, const char *event_type, TimestampTz now);

#endif
