/*
 * subtransaction.c
 *    Work that may fail for one row, and is then undone without ending the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "store.h"
#include "subtransaction.h"
#include "unwritten.h"

/* Above READ COMMITTED the caller repeats the transaction; those of a procedure are READ COMMITTED. */
static bool
is_lost_race(int sqlerrcode)
{
	return IsolationUsesXactSnapshot() && ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

/* Whether an error says nothing about the row at hand. */
static bool
is_about_session(int sqlerrcode)
{
	if (sqlerrcode == ERRCODE_DISK_FULL || sqlerrcode == ERRCODE_OUT_OF_MEMORY || is_lost_race(sqlerrcode))
		return true;
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION || !ot_store_exists();
}

/*
 * A user's deferred triggers would raise their errors at the commit, when nobody knows any more which order they are
 * about: they are fired here.
 */
static void
carry_out(Work work, void *work_state, bool fire_deferred)
{
	work(work_state);
	ot_changes_require_written();
	if (fire_deferred)
		ot_store_fire_deferred();
}

/* NULL, or the error that rolled it back. */
static ErrorData *
run_in_subtransaction(Work work, void *work_state, bool fire_deferred)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Changes		changes;
	bool		decides = ot_decides();
	ErrorData  *error = NULL;

	ot_changes_begin(&changes);
	if (decides)
		ot_set_decides();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		carry_out(work, work_state, fire_deferred);
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
	ot_changes_end(&changes);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * A person's cancel has the same code; the timer tells them apart. It began to run when the statement was parsed, which in
 * the extended protocol is before the statement's own start.
 */
static bool
is_statement_timeout(int sqlerrcode)
{
	TimestampTz end = get_timeout_finish_time(STATEMENT_TIMEOUT);

	return sqlerrcode == ERRCODE_QUERY_CANCELED && StatementTimeout > 0 &&
		end >= GetCurrentStatementStartTimestamp() && end <= GetCurrentTimestamp();
}

static bool
ends_transaction(int sqlerrcode)
{
	if (is_statement_timeout(sqlerrcode))
		return false;
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION || is_lost_race(sqlerrcode) || !ot_store_exists();
}

static void
describe(ErrorData *error, Failure *failure)
{
	failure->error = error;
	failure->text = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error");
}

bool
ot_try(Work work, void *work_state, bool fire_deferred, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state, fire_deferred);

	if (error == NULL)
		return true;
	if (is_about_session(error->sqlerrcode))
		ReThrowError(error);
	describe(error, failure);
	return false;
}

bool
ot_try_handler(Work work, void *work_state, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state, true);

	if (error == NULL)
		return true;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION || !ot_store_exists())
		ReThrowError(error);
	describe(error, failure);
	return false;
}

bool
ot_try_after_report(Work work, void *work_state, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state, false);

	if (error == NULL)
		return true;
	if (ends_transaction(error->sqlerrcode))
		ReThrowError(error);
	describe(error, failure);
	return false;
}
