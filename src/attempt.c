/*
 * attempt.c
 *    Work that may fail without taking with it what was done before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "store.h"

#define FIRST_RETRY        (10 * USECS_PER_SEC)
#define LONGEST_RETRY      USECS_PER_HOUR

/* Whether an error says nothing about the work at hand. */
static bool
is_about_session(int sqlerrcode)
{
	if (sqlerrcode == ERRCODE_DISK_FULL || sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		return true;
	/* The caller retries his transaction; those of procedures are READ COMMITTED. */
	if (IsolationUsesXactSnapshot() && ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
		return true;
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION || !ot_store_exists();
}

/* A person's cancel has the same code; the clock tells them apart. */
static bool
is_statement_timeout(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_QUERY_CANCELED && StatementTimeout > 0 &&
		GetCurrentTimestamp() - GetCurrentStatementStartTimestamp() >= StatementTimeout * (int64) 1000;
}

static void
describe(ErrorData *error, Failure *failure)
{
	failure->error = error;
	failure->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	failure->message = error->message ? error->message : "unknown error";
	failure->text = psprintf("%s: %s", failure->sqlstate, failure->message);
}

/* NULL, or the error that rolled it back. */
static ErrorData *
run_in_subtransaction(Work work, void *work_state)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(work_state);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

bool
ot_attempt(Work work, void *work_state, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state);

	if (error == NULL)
		return true;
	if (is_about_session(error->sqlerrcode))
		ReThrowError(error);
	describe(error, failure);
	return false;
}

typedef struct WholeWork
{
	Work		work;
	void	   *work_state;
} WholeWork;

static void
work_and_fire_deferred(void *work_state)
{
	WholeWork  *whole = work_state;

	whole->work(whole->work_state);
	ot_store_fire_deferred();
}

bool
ot_attempt_whole(Work work, void *work_state, Failure *failure)
{
	WholeWork	whole = {work, work_state};

	return ot_attempt(work_and_fire_deferred, &whole, failure);
}

bool
ot_attempt_within_timeout(Work work, void *work_state, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state);

	if (error == NULL)
		return true;
	if (!is_statement_timeout(error->sqlerrcode) && is_about_session(error->sqlerrcode))
		ReThrowError(error);
	describe(error, failure);
	return false;
}

int64
ot_retry_wait(int failures)
{
	int64		wait = FIRST_RETRY;

	for (int i = 1; i < failures && wait < LONGEST_RETRY; i++)
		wait *= 2;
	return Min(wait, LONGEST_RETRY);
}
