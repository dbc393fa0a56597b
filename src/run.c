/*
 * run.c
 *    How long a procedure that commits between its steps may work, and how it waits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "run.h"

#define SHORTEST_WAIT      2000 /* what falls due within it shares a commit */
#define SHORTEST_MARGIN    (50 * INT64CONST(1000))
#define LONGEST_MARGIN     (2 * USECS_PER_SEC)

/* When the last step has to be over. */
static TimestampTz
last_moment(void)
{
	int64		timeout = StatementTimeout * INT64CONST(1000);

	if (StatementTimeout <= 0)
		return DT_NOEND;
	return GetCurrentStatementStartTimestamp() + timeout - Min(Max(timeout / 5, SHORTEST_MARGIN), LONGEST_MARGIN);
}

TimestampTz
ot_run_end(int64 run_for)
{
	return Min(GetCurrentTimestamp() + run_for, last_moment());
}

bool
ot_run_has_time_for(int64 step)
{
	return GetCurrentTimestamp() + step < last_moment();
}

void
ot_run_wait_until(TimestampTz until)
{
	int64		wait = Max(until - GetCurrentTimestamp(), SHORTEST_WAIT);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (wait + 999) / 1000, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
