/*
 * api_sweep.c
 *    SQL procedures that commit between their steps, and sweep_once: arguments and answers, no logic.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api_args.h"
#include "api_call.h"
#include "send.h"
#include "sweep.h"

#define MAX_BATCH 100000
#define MAX_RUN (365 * USECS_PER_DAY)

OT_FUNCTION(ot_sweep_procedure)
{
	int64		run_for = ot_get_usecs(fcinfo, 0, "run_for", USECS_PER_MINUTE, MAX_RUN);
	int			batch_size = ot_get_count(fcinfo, 1, "batch_size", 1000, MAX_BATCH);
	int64		poll_interval = ot_get_usecs(fcinfo, 2, "poll_interval", USECS_PER_SEC / 10, USECS_PER_HOUR);

	ot_require_own_transactions(fcinfo, "sweep", "It commits after every batch.",
								"CALL order_timeout.sweep() alone, or use SELECT * FROM order_timeout.sweep_once().");
	ot_sweep(run_for, batch_size, poll_interval);
	return (Datum) 0;
}

OT_FUNCTION(ot_sweep_function)
{
	SweepRun	run = ot_sweep_once(ot_get_count(fcinfo, 0, "max_orders", 1000, MAX_BATCH));
	Answer		answer = {0};

	ot_put_int8(&answer, run.expired);
	ot_put_int8(&answer, run.failed);
	ot_put_int8(&answer, run.leases_returned);
	return ot_return(fcinfo, &answer);
}

OT_FUNCTION(ot_send_refunds)
{
	int64		run_for = ot_get_usecs(fcinfo, 0, "run_for", USECS_PER_MINUTE, MAX_RUN);

	ot_require_own_transactions(fcinfo, "send_refunds", "It commits before and after every refund and every void.",
								"CALL order_timeout.send_refunds() alone.");
	ot_send(run_for);
	return (Datum) 0;
}
