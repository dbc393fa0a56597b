/*
 * set_aside.c
 *    What fails for one row keeps that row waiting, and no other.
 *
 * Rows are worked on in batches, each in a subtransaction. If it fails, they are taken one by one, and those that fail
 * again are set aside with the reason, to be tried later after waits that grow. The operator sees them in the view
 * attention. Voids that fail are only left out for the rest of the call, which warns of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "event.h"
#include "rules.h"
#include "set_aside.h"
#include "store.h"

static SetAside
describe(const char *order_id, int failures, const Failure *failure)
{
	TimestampTz now = GetCurrentTimestamp();
	SetAside	why = {order_id, now, failures};
	const char *error = failure->error->message ? failure->error->message : "unknown error";

	why.retry_at = now + ot_retry_wait(failures);
	why.sqlstate = pstrdup(unpack_sql_state(failure->error->sqlerrcode));
	why.error = ot_cut_text(error);
	return why;
}

static void
write_event(const SetAside *why, const char *type, const char *refund_ref)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "refund_ref", refund_ref);
	ot_payload_text(payload, "sqlstate", why->sqlstate);
	ot_payload_text(payload, "error", why->error);
	ot_payload_int(payload, "failures", why->failures);
	ot_payload_time(payload, "retry_at", why->retry_at);
	ot_event(why->order_id, type, payload, why->since);
}

void
ot_set_order_aside(const char *order_id, const Failure *failure)
{
	SetAside	why = describe(order_id, ot_store_failures(order_id) + 1, failure);

	ot_store_set_aside(&why);
	write_event(&why, "order.set_aside", NULL);
}

/* Refunds. */

static void
write_refund_event(void *work_state)
{
	const SetAsideRefund *refund = work_state;

	write_event(&refund->why, "refund.set_aside", refund->refund_ref);
}

/* Its events may be what fails: then the row in set_aside_refunds must do. */
static void
set_refund_aside(WorkBatch *batch, const Failure *failure)
{
	const Refund *found = linitial(batch->found);
	TimestampTz due_at = batch->first_due_at;	/* work may have changed the row */
	int			failures = ot_store_refund_failures(found->refund_ref, due_at) + 1;
	SetAsideRefund refund = {found->refund_ref, due_at, describe(found->order_id, failures, failure)};
	Failure		of_event;

	ot_store_set_refund_aside(&refund);
	(void) ot_try(write_refund_event, &refund, false, &of_event);
	batch->last_error = failure->text;
}

/* Voids. */

static void
skip_void(WorkBatch *batch, const Failure *failure)
{
	Attempt    *attempt = linitial(batch->found);

	batch->skipped = lappend(batch->skipped, attempt);
	batch->last_error = failure->text;
	ereport(WARNING,
			(errmsg("the void of attempt \"%s\" of gateway \"%s\" could not be worked on", attempt->attempt_ref, attempt->gateway),
			 errdetail("%s", failure->text),
			 errhint("It is tried again by the next call.")));
}

/* Batches. */

static void
lock_and_work(void *work_state)
{
	WorkBatch  *batch = work_state;

	batch->found = batch->lock(batch, batch->limit);
	if (batch->found == NIL)
		return;
	batch->first_due_at = batch->of_voids ? ((Attempt *) linitial(batch->found))->next_attempt_at
		: ((Refund *) linitial(batch->found))->next_attempt_at;
	batch->work(batch);
}

static bool
attempt(WorkBatch *batch, int limit, Failure *failure)
{
	batch->limit = limit;
	batch->found = NIL;
	if (ot_try(lock_and_work, batch, batch->fire_deferred, failure))
		return true;
	if (batch->found == NIL)
		ReThrowError(failure->error);	/* looking for them failed, so it is none of theirs */
	return false;
}

static void
set_aside(WorkBatch *batch, const Failure *failure)
{
	if (batch->of_voids)
		skip_void(batch, failure);
	else
		set_refund_aside(batch, failure);
}

int
ot_batch_work(WorkBatch *batch, int limit)
{
	Failure		failure;
	int			count;

	if (attempt(batch, limit, &failure))
		return list_length(batch->found);
	count = list_length(batch->found);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!attempt(batch, 1, &failure))
			set_aside(batch, &failure);
		else if (batch->found == NIL)
			break;
	}
	return count;
}
