/*
 * progress.c
 *    How far long work is, for the view progress.
 *
 * PostgreSQL keeps for each session one place in shared memory where VACUUM, COPY and CREATE INDEX say how far they are.
 * Other sessions read it without a lock, inside of a running transaction too. We write into it under a number that no
 * command of PostgreSQL has, so that its own views do not show us.
 *
 * Invariants:
 *  1. The place is taken only while it is free, and written only while it holds this very work: COPY (SELECT ...
 *     funds_violations()) goes on reporting as COPY, and a check_statement that a hook of the sweeper calls is not shown.
 *  2. It may become free at any time: the server frees it when a transaction or a subtransaction is rolled back, and a
 *     CREATE INDEX in a user's hook takes it and frees it. So every write takes it again if it is free.
 *  3. Whoever began ends it. After an error the server has done that.
 *  4. Nothing depends on what stands there. With track_activities = off nothing does.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "progress.h"

#define OUR_COMMAND ((ProgressCommandType) 0x6f74)

/* What stands where. */
enum
{
	PARAM_WORK,
	PARAM_PHASE,
	PARAM_DONE,
	PARAM_TOTAL,
	PARAM_STARTED_AT,
	PARAMS
};

#define MAX_PHASES 2

static const struct
{
	const char *unit;
	const char *phases[MAX_PHASES];
}			works[] = {
	[WORK_SWEEP] = {"orders", {"closing due orders"}},
	[WORK_ADOPT_ORDERS] = {"rows", {"creating orders"}},
	[WORK_LOAD_STATEMENT] = {"records", {"splitting the file", "storing lines"}},
	[WORK_CHECK_STATEMENT] = {"lines", {"matching lines", "looking for rows that no statement has"}},
	[WORK_STATEMENT_TOTALS] = {"lines", {"matching lines"}},
	[WORK_APPLY_STATEMENT] = {"lines", {"matching lines", "applying lines"}},
	[WORK_FUNDS_VIOLATIONS] = {"orders", {"reading and sorting rows", "adding up orders"}},
};

const char *const ot_long_works[] = {"", "sweep", "adopt_orders", "load_statement", "check_statement", "statement_totals",
"apply_statement", "funds_violations", NULL};

static bool
is_shown(const Progress *progress)
{
	return MyBEEntry->st_progress_command == OUR_COMMAND &&
		MyBEEntry->st_progress_param[PARAM_WORK] == progress->work &&
		MyBEEntry->st_progress_param[PARAM_STARTED_AT] == progress->started_at;
}

static void
show(const Progress *progress)
{
	static const int params[PARAMS] = {PARAM_WORK, PARAM_PHASE, PARAM_DONE, PARAM_TOTAL, PARAM_STARTED_AT};
	const int64 values[PARAMS] = {progress->work, progress->phase, progress->done, progress->total, progress->started_at};

	if (progress->work == WORK_NONE)
		return;
	if (MyBEEntry->st_progress_command == PROGRESS_COMMAND_INVALID)
		pgstat_progress_start_command(OUR_COMMAND, InvalidOid);
	else if (!is_shown(progress))
		return;
	pgstat_progress_update_multi_param(PARAMS, params, values);
}

void
ot_progress_begin(Progress *progress, LongWork work, int64 total)
{
	bool		is_free = MyBEEntry != NULL && MyBEEntry->st_progress_command == PROGRESS_COMMAND_INVALID;

	progress->work = is_free ? work : WORK_NONE;
	progress->started_at = GetCurrentTimestamp();
	ot_progress_phase(progress, 1, total);
}

void
ot_progress_phase(Progress *progress, int phase, int64 total)
{
	progress->phase = phase;
	progress->done = 0;
	progress->total = total;
	show(progress);
}

void
ot_progress_expect(Progress *progress, int64 total)
{
	progress->total = total;
	show(progress);
}

void
ot_progress_add(Progress *progress, int64 done)
{
	progress->done += done;
	show(progress);
}

void
ot_progress_end(Progress *progress)
{
	if (progress->work != WORK_NONE && is_shown(progress))
		pgstat_progress_end_command();
	progress->work = WORK_NONE;
}

void
ot_progress_visit(ProgressVisitor visit, void *state)
{
	int			backends = pgstat_fetch_stat_numbackends();

	for (int i = 1; i <= backends; i++)
	{
		const PgBackendStatus *backend = &ot_backend_status(i)->backendStatus;
		const int64 *params = backend->st_progress_param;
		Progress	progress = {params[PARAM_WORK], params[PARAM_PHASE], params[PARAM_DONE], params[PARAM_TOTAL], params[PARAM_STARTED_AT]};

		/* A library of another version may know more of them; and just begun it is WORK_NONE. */
		if (backend->st_progress_command == OUR_COMMAND && backend->st_databaseid == MyDatabaseId &&
			progress.work > WORK_NONE && progress.work < lengthof(works) && ot_progress_phase_name(&progress) != NULL)
			visit(backend->st_procpid, &progress, state);
	}
}

const char *
ot_progress_phase_name(const Progress *progress)
{
	return progress->phase >= 1 && progress->phase <= MAX_PHASES ? works[progress->work].phases[progress->phase - 1] : NULL;
}

int
ot_progress_phases(const Progress *progress)
{
	int			phases = 0;

	while (phases < MAX_PHASES && works[progress->work].phases[phases] != NULL)
		phases++;
	return phases;
}

const char *
ot_progress_unit(const Progress *progress)
{
	return works[progress->work].unit;
}
