/*
 * store_fast_refund.c
 *    The fast store: refunds.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "errors.h"
#include "store_fast_rows.h"
#include "store_row.h"

static bool
find(FastTable *refunds, const char *refund_ref)
{
	FastKey		equal = {1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(refund_ref)};

	ot_fast_look(refunds, REFUNDS_KEY, &equal, 1);
	return ot_fast_next(refunds);
}

/* Where it was, or where its latest version is that can be seen. */
static bool
find_again(FastTable *refunds, const Refund *found)
{
	return ot_fast_fetch(refunds, &found->version) || find(refunds, found->refund_ref);
}

static Refund *
read_refund(FastTable *refunds)
{
	Refund	   *refund = ot_fast_read(refunds, ot_read_refund);

	refund->version = ot_fast_version(refunds);
	return refund;
}

Refund *
ot_fast_find_refund(const char *refund_ref)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	Refund	   *refund = find(refunds, refund_ref) ? read_refund(refunds) : NULL;

	ot_fast_end(refunds);
	return refund;
}

Refund *
ot_fast_lock_refund(const Refund *found)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	bool		locked = find_again(refunds, found) && ot_fast_lock(refunds, LockWaitBlock);
	Refund	   *refund = locked ? read_refund(refunds) : NULL;

	ot_fast_end(refunds);
	return refund;
}

Refund *
ot_fast_find_gateway_refund(const char *gateway, const char *gateway_refund_ref)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	FastKey		equal[] = {
		{1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway_refund_ref)},
		{2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(gateway)}
	};
	Refund	   *refund;

	ot_fast_look(refunds, REFUNDS_GATEWAY_REFUND, equal, lengthof(equal));
	refund = ot_fast_next(refunds) ? read_refund(refunds) : NULL;
	ot_fast_end(refunds);
	return refund;
}

/* Whether the locked row is still due: its latest version may not be the one that the index led to. */
static bool
is_due(const Refund *refund, TimestampTz now)
{
	return refund->settled_at == OT_NO_TIME && refund->next_attempt_at != OT_NO_TIME && refund->next_attempt_at <= now;
}

List *
ot_fast_lock_due_refunds(TimestampTz now, const char *gateway, int limit)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	FastKey		keys[] = {
		{1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(now)},
		{2, BTEqualStrategyNumber, F_TEXTEQ, gateway != NULL ? CStringGetTextDatum(gateway) : (Datum) 0}
	};
	List	   *due = NIL;

	ot_fast_look(refunds, REFUNDS_OPEN, keys, gateway != NULL ? 2 : 1);
	while (list_length(due) < limit && ot_fast_next(refunds))
	{
		Refund	   *refund;

		if (!ot_fast_lock(refunds, LockWaitSkip))
			continue;
		refund = read_refund(refunds);
		if (is_due(refund, now))
			due = ot_fast_append(refunds, due, refund);
	}
	ot_fast_end(refunds);
	return due;
}

void
ot_fast_insert_refund(const Refund *refund)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	Args		args = {0};

	ot_refund_args(&args, refund);
	ot_fast_insert(refunds, &args);
	ot_fast_end(refunds);
}

void
ot_fast_update_refund(const Refund *refund)
{
	FastTable  *refunds = ot_fast_begin(FAST_REFUNDS);
	Args		args = {0};

	if (!find_again(refunds, refund))
		ot_row_not_written();
	ot_refund_args(&args, refund);
	ot_fast_update(refunds, &args);
	ot_fast_end(refunds);
}
