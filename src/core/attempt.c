/*
 * attempt.c
 *    Work that may fail for one row, and is then undone without ending the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "attempt.h"
#include "store.h"
#include "unwritten.h"

/* Whether an error says nothing about the row at hand. */
static bool
is_about_session(int sqlerrcode)
{
	if (sqlerrcode == ERRCODE_DISK_FULL || sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		return true;
	/* The caller of sweep_once repeats the transaction; sweep's own are READ COMMITTED. */
	if (IsolationUsesXactSnapshot() && ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
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
	int			outer = ot_changes_begin();
	ErrorData  *error = NULL;

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
	ot_changes_end(outer);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

bool
ot_attempt(Work work, void *work_state, bool fire_deferred, Failure *failure)
{
	ErrorData  *error = run_in_subtransaction(work, work_state, fire_deferred);

	if (error == NULL)
		return true;
	if (is_about_session(error->sqlerrcode))
		ReThrowError(error);
	failure->error = error;
	failure->text = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message ? error->message : "unknown error");
	return false;
}
