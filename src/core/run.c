/*
 * run.c
 *    How long a procedure that commits between its steps works, and how it waits.
 *
 * What takes its time goes by a clock that nobody sets: if the clock of the day goes back by an hour, the run is not to
 * end an hour later. What waits for a time of day goes by that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "run.h"

#define SHORTEST_WAIT   2000	/* what falls due within it shares a commit */
#define SHORTEST_MARGIN (50 * INT64CONST(1000))
#define LONGEST_MARGIN  (2 * USECS_PER_SEC)
#define PASS_SHARE      200		/* a pass takes at most this part of the time: what falls due meanwhile is late */
#define PASS_WITHIN     (20 * USECS_PER_SEC)	/* but never later than that, even after a slow one */

int64
ot_ticks(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MICROSEC(now);
}

int64
ot_run_last_moment(void)
{
	int64		timeout = StatementTimeout * INT64CONST(1000);
	int64		margin = Min(Max(timeout / 5, SHORTEST_MARGIN), LONGEST_MARGIN);
	int64		used = GetCurrentTimestamp() - GetCurrentStatementStartTimestamp();

	if (StatementTimeout <= 0)
		return PG_INT64_MAX;
	return ot_ticks() + timeout - margin - Max(used, 0);
}

int64
ot_run_next_pass(int64 started, int64 took)
{
	return started + Min(Max(OT_PASS_EVERY, took * PASS_SHARE), PASS_WITHIN);
}

void
ot_run_wait(TimestampTz until, int64 end)
{
	int64		wait = Max(Min(until - GetCurrentTimestamp(), end - ot_ticks()), SHORTEST_WAIT);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (wait + 999) / 1000, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
