/*
 * api_progress.c
 *    SQL functions by which work in SQL says how far it is, and the one that the view progress reads: no logic.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"

#include "api_args.h"
#include "api_call.h"
#include "progress.h"

/*
 * Of the work in SQL that this session is at. An error ends it without a word: then it is of an older statement of the
 * client's, and nothing is added to it.
 */
static Progress progress;
static TimestampTz statement_start;

static bool
is_of_this_statement(void)
{
	return statement_start == GetCurrentStatementStartTimestamp();
}

/* What is not shown, such as a check_statement in a trigger that apply_statement fires, must not take the place of what is. */
static void
begin(LongWork work, int64 total)
{
	Progress	begun;

	ot_progress_begin(&begun, work, total);
	if (begun.work == WORK_NONE)
		return;
	progress = begun;
	statement_start = GetCurrentStatementStartTimestamp();
}

OT_FUNCTION(ot_progress)
{
	LongWork	work = ot_get_word(fcinfo, 0, "command", ot_long_works);
	int			phase = PG_GETARG_INT32(1);
	int64		total = PG_ARGISNULL(2) ? OT_TOTAL_UNKNOWN : PG_GETARG_INT64(2);

	if (phase == 1)
		begin(work, total);
	else if (progress.work == work && is_of_this_statement())
	{
		if (phase == 0)
			ot_progress_end(&progress);
		else
			ot_progress_phase(&progress, phase, total);
	}
	PG_RETURN_BOOL(true);
}

/*
 * For each row, so without what surrounds a call of another function. Lines are matched in phase 1 and user code runs in
 * others, so what a check_statement in a trigger matches is not counted for the work that the trigger interrupts.
 */
PG_FUNCTION_INFO_V1(ot_progress_row);
Datum
ot_progress_row(PG_FUNCTION_ARGS)
{
	if (progress.phase == PG_GETARG_INT32(0) && is_of_this_statement())
		ot_progress_add(&progress, 1);
	PG_RETURN_BOOL(true);
}

static void
return_progress(int pid, const Progress *of_session, void *state)
{
	Answer		answer = {0};

	ot_put_int4(&answer, pid);
	ot_put_text(&answer, ot_long_works[of_session->work]);
	ot_put_text(&answer, ot_progress_phase_name(of_session));
	ot_put_int4(&answer, of_session->phase);
	ot_put_int4(&answer, ot_progress_phases(of_session));
	ot_put_int8(&answer, of_session->done);
	if (of_session->total == OT_TOTAL_UNKNOWN)
		ot_put_null(&answer);
	else
		ot_put_int8(&answer, of_session->total);
	ot_put_text(&answer, ot_progress_unit(of_session));
	ot_put_time(&answer, of_session->started_at);
	ot_return_row((FunctionCallInfo) state, &answer);
}

OT_FUNCTION(ot_progress_rows)
{
	ot_begin_rows(fcinfo);
	ot_progress_visit(return_progress, fcinfo);
	return (Datum) 0;
}
