/*
 * attempt.h
 *    Work that may fail without taking with it what was done before.
 */
#ifndef OT_ATTEMPT_H
#define OT_ATTEMPT_H

#include "postgres.h"

typedef void (*Work) (void *work_state);

/* Why it failed; in the memory context of who attempted it. */
typedef struct Failure
{
	ErrorData  *error;			/* to be thrown after all, or not */
	const char *sqlstate;
	const char *message;
	const char *text;			/* both in one */
} Failure;

/*
 * Runs work in a subtransaction. An error rolls it back and is described, or goes on if it says nothing about the work:
 * cancel, shutdown, a full disk, and above READ COMMITTED what the caller has to repeat as a whole.
 */
extern bool ot_attempt(Work work, void *work_state, Failure *failure);

/*
 * The same in a transaction that is a procedure's own: deferred triggers of a user's, which would raise their error at the
 * commit, when it is too late to tell whose it is, are fired at the end of the work.
 */
extern bool ot_attempt_whole(Work work, void *work_state, Failure *failure);

/*
 * As ot_attempt, but a statement_timeout that comes while the work runs ends the work only. It comes once for a statement, so
 * whoever goes on after that must not run another's code any more.
 */
extern bool ot_attempt_within_timeout(Work work, void *work_state, Failure *failure);

/* How long to wait after so many failures, in microseconds: longer each time, up to an hour. */
extern int64 ot_retry_wait(int failures);

#endif
