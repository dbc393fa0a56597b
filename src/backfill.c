/*
 * backfill.c
 *    Orders that were there before their table was linked, taken over in batches: each its own transaction, with the key
 *    that it came to, so that another call goes on there.
 *
 * Rows of a batch are locked, so that nobody closes one by hand while its order is made. A row that cannot be taken over
 * is told and left out; it has no order then, as link_differences() shows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "backfill.h"
#include "store.h"
#include "track.h"

typedef struct Backfill
{
	Oid			table;
	int			batch_size;
	int64		seen;
	int64		created;
	int64		failed;
} Backfill;

typedef struct Adoption
{
	const Link *link;
	const LinkedRow *row;
	bool		created;
} Adoption;

static void
adopt(void *work_state)
{
	Adoption   *adoption = work_state;

	adoption->created = ot_track_adopt(adoption->link, adoption->row);
	ot_store_fire_deferred();
}

static int
adopt_each(Backfill *backfill, const Link *link, List *rows)
{
	int			created = 0;
	ListCell   *cell;

	foreach(cell, rows)
	{
		Adoption	adoption = {link, lfirst(cell), false};
		Failure		failure;

		CHECK_FOR_INTERRUPTS();
		if (ot_attempt(adopt, &adoption, &failure))
			created += adoption.created;
		else
		{
			backfill->failed++;
			ereport(WARNING,
					(errmsg("row \"%s\" of table %s is not taken over", adoption.row->key, link->table_name),
					 errdetail("%s", failure.text)));
		}
	}
	return created;
}

static const Link *
require_link(Oid table)
{
	const Link *link = ot_store_find_link_of(table);

	if (link == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table is not linked to order_timeout"),
				 errhint("Link it with order_timeout.link_table().")));
	if (link->amount_column == NULL || (link->currency_column == NULL && link->currency == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is linked without an amount or a currency", link->table_name),
				 errhint("Name them with order_timeout.link_table(): amount_column, and currency_column or currency.")));
	return link;
}

/* False when it was the last one. */
static bool
take_batch(Backfill *backfill)
{
	const Link *link = require_link(backfill->table);
	List	   *rows = ot_store_lock_payable(link, link->backfilled_to, backfill->batch_size);
	bool		more = list_length(rows) == backfill->batch_size;
	int			created = adopt_each(backfill, link, rows);

	backfill->seen += list_length(rows);
	backfill->created += created;
	ot_store_update_backfill(link, more ? ((LinkedRow *) llast(rows))->key : NULL, created,
							 more ? OT_NO_TIME : GetCurrentTimestamp());
	return more;
}

void
ot_backfill_table(Oid table, int batch_size)
{
	Backfill	backfill = {table, batch_size};
	MemoryContext batch_context;
	bool		more = true;

	(void) require_link(table);
	ot_store_begin_procedure();
	batch_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout backfill", ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		MemoryContext previous = MemoryContextSwitchTo(batch_context);

		CHECK_FOR_INTERRUPTS();
		if (!ot_store_hold())
			break;
		more = take_batch(&backfill);
		ot_store_commit();
		ereport(NOTICE,
				(errmsg("%lld rows seen, %lld orders created, %lld rows not taken over",
						(long long) backfill.seen, (long long) backfill.created, (long long) backfill.failed)));
		MemoryContextSwitchTo(previous);
		MemoryContextReset(batch_context);
	}
	ot_store_end_procedure();
}
