/*
 * run.h
 *    How long a procedure that commits between its steps works, and how it waits.
 */
#ifndef OT_RUN_H
#define OT_RUN_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Microseconds of a clock that nobody sets, since whenever. */
extern int64 ot_ticks(void);

/* When the last step has to be over, by ot_ticks(), to commit before statement_timeout, which covers the whole CALL. */
extern int64 ot_run_last_moment(void);

/* How far below the last look for rows by a time the next one starts. */
#define OT_LOOK_SLACK (100 * INT64CONST(1000))

/* What need not be done at every step. When it is done next, by ot_ticks(): later if it took long. */
#define OT_PASS_EVERY USECS_PER_SEC
extern int64 ot_run_next_pass(int64 started, int64 took);

/* Sleeps until a time of day, but not beyond end, which is by ot_ticks(). */
extern void ot_run_wait(TimestampTz until, int64 end);

#endif
