/*
 * subtransaction.h
 *    Work that may fail for one row, and is then undone without ending the transaction.
 */
#ifndef OT_SUBTRANSACTION_H
#define OT_SUBTRANSACTION_H

#include "postgres.h"

typedef void (*Work) (void *work_state);

typedef struct Failure
{
	ErrorData  *error;
	char	   *text;			/* SQLSTATE and message */
} Failure;

/* False if it failed. An error that says nothing about the row at hand goes on to the caller's caller. */
extern bool ot_try(Work work, void *work_state, bool fire_deferred, Failure *failure);

/*
 * The same for a function of the user's that does its work outside, whatever error it ends with; deferred triggers are
 * fired. Only what ends the statement goes on.
 */
extern bool ot_try_handler(Work work, void *work_state, Failure *failure);

/*
 * The same for what follows a report of money, which is never refused for it: only errors that end the caller's
 * transaction anyway go on. After a statement_timeout the rest of the call has no limit, so it should be short.
 */
extern bool ot_try_after_report(Work work, void *work_state, Failure *failure);

#endif
