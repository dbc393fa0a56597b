/*
 * set_aside.h
 *    What fails for one row keeps that row waiting, and no other.
 */
#ifndef OT_SET_ASIDE_H
#define OT_SET_ASIDE_H

#include "subtransaction.h"
#include "nodes/pg_list.h"
#include "rows.h"

/* An order that could not be closed. */
extern void ot_set_order_aside(const char *order_id, const Failure *failure);

/*
 * Refunds or attempts that are locked and worked on together. Both functions run in a subtransaction, and again one by one if
 * that fails: then with a limit of 1, and what is set aside meanwhile is not found any more.
 */
typedef struct WorkBatch
{
	bool		of_voids;		/* else of refunds */
	List	   *(*lock) (struct WorkBatch *batch, int limit);
	void		(*work) (struct WorkBatch *batch);
	bool		fire_deferred;
	int			limit;			/* of this look */
	List	   *found;			/* what lock found */
	TimestampTz first_due_at;	/* the first of them, as it was found */
	List	   *skipped;		/* attempts that failed: lock must leave them out */
	const char *last_error;		/* NULL: none was set aside */
} WorkBatch;

/* Answers how many were found; work was carried out for those of them that did not fail. */
extern int	ot_batch_work(WorkBatch *batch, int limit);

#endif
