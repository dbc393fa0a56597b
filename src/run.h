/*
 * run.h
 *    How long a procedure that commits between its steps may work, and how it waits.
 */
#ifndef OT_RUN_H
#define OT_RUN_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* When a run of run_for microseconds ends: in time to commit before statement_timeout, which covers the whole CALL, cancels it. */
extern TimestampTz ot_run_end(int64 run_for);

/* Whether a step of so many microseconds would be over before statement_timeout. */
extern bool ot_run_has_time_for(int64 step);

/* Sleeps, at least for a moment. Nothing may be held by then. */
extern void ot_run_wait_until(TimestampTz until);

#endif
