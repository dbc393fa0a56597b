/*
 * attempt.h
 *    Work that may fail for one row, and is then undone without ending the transaction.
 */
#ifndef OT_ATTEMPT_H
#define OT_ATTEMPT_H

#include "postgres.h"

typedef void (*Work) (void *work_state);

typedef struct Failure
{
	ErrorData  *error;
	char	   *text;			/* SQLSTATE and message */
} Failure;

/* False if it failed. An error that says nothing about the row at hand goes on to the caller's caller. */
extern bool ot_attempt(Work work, void *work_state, bool fire_deferred, Failure *failure);

#endif
