/*
 * adopt.c
 *    adopt_orders: rows that were there before their table was linked become orders.
 *
 * In batches, each its own transaction with the key that it came to, so that another call goes on there. Rows of a batch
 * are locked, so that nobody closes one by hand while its order is created. A row that cannot be taken over is reported and
 * left out. What is overdue already is left for the sweeper.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "adopt.h"
#include "errors.h"
#include "follow.h"
#include "linked_row.h"
#include "order_create.h"
#include "progress.h"
#include "store.h"
#include "subtransaction.h"

typedef struct Adoption
{
	const char *table_name;
	int			batch_size;
	int64		seen;
	int64		created;
	int64		failed;
	Progress	progress;
} Adoption;

typedef struct Candidate
{
	const Link *link;
	const LinkedRow *row;
	bool		created;
} Candidate;

static void
adopt_row(void *work_state)
{
	Candidate  *candidate = work_state;
	OrderTerms	terms = ot_linked_terms(candidate->link, candidate->row);

	terms.may_be_overdue = true;
	candidate->created = strcmp(ot_order_create(&terms).outcome, "created") == 0;
	ot_follow();
}

static int64
adopt_rows(Adoption *adoption, const Link *link, List *rows)
{
	int64		created = 0;
	ListCell   *cell;

	foreach(cell, rows)
	{
		Candidate	candidate = {link, lfirst(cell), false};
		Failure		failure;

		CHECK_FOR_INTERRUPTS();
		if (ot_try(adopt_row, &candidate, true, &failure))
			created += candidate.created;
		else
		{
			adoption->failed++;
			ot_progress_add(&adoption->progress, 0);
			ereport(WARNING,
					(errmsg("row \"%s\" of table %s is not taken over", candidate.row->key, link->table_name),
					 errdetail("%s", failure.text)));
		}
	}
	return created;
}

static const Link *
require_link(const char *table_name)
{
	const Link *link = ot_store_find_link(table_name);

	if (link == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is not linked", table_name),
				 errhint("Link it first with order_timeout.link_table().")));
	if (link->amount_column == NULL || (link->currency_column == NULL && link->currency == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is linked without an amount or a currency", table_name),
				 errhint("Link it with amount_column, and with currency_column or currency.")));
	return link;
}

/* Once, before the second batch: counting may read all of the table, so it is not worth it for a single one. */
static void
show_progress(Adoption *adoption, const Link *link)
{
	if (adoption->seen != adoption->batch_size)
		return;
	ot_progress_begin(&adoption->progress, WORK_ADOPT_ORDERS, OT_TOTAL_UNKNOWN);
	ot_progress_add(&adoption->progress, adoption->seen);
	ot_progress_expect(&adoption->progress, adoption->seen + ot_store_count_payable(link, link->adopted_to));
}

/* False when it was the last one. */
static bool
adopt_batch(Adoption *adoption)
{
	const Link *link = require_link(adoption->table_name);
	List	   *rows;
	bool		more;
	int64		created;

	show_progress(adoption, link);
	rows = ot_store_lock_payable(link, link->adopted_to, adoption->batch_size);
	more = list_length(rows) == adoption->batch_size;
	created = adopt_rows(adoption, link, rows);
	ot_progress_add(&adoption->progress, list_length(rows));
	adoption->seen += list_length(rows);
	adoption->created += created;
	ot_store_update_adoption(link, more ? ((LinkedRow *) llast(rows))->key : NULL, created,
							 more ? OT_NO_TIME : GetCurrentTimestamp());
	return more;
}

void
ot_adopt_orders(const char *table_name, int batch_size)
{
	Adoption	adoption = {table_name, batch_size};
	MemoryContext batch_context;
	bool		more = true;

	(void) require_link(table_name);
	ot_store_begin_procedure();
	batch_context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout adopt_orders", ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		MemoryContext previous = MemoryContextSwitchTo(batch_context);

		CHECK_FOR_INTERRUPTS();
		if (!ot_store_hold())
			break;
		more = adopt_batch(&adoption);
		ot_store_commit();
		ereport(NOTICE,
				(errmsg("%lld rows seen, %lld orders created, %lld rows not taken over",
						(long long) adoption.seen, (long long) adoption.created, (long long) adoption.failed)));
		MemoryContextSwitchTo(previous);
		MemoryContextReset(batch_context);
	}
	ot_progress_end(&adoption.progress);
	ot_store_end_procedure();
}
