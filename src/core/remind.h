/*
 * remind.h
 *    The sweeper's reminders: one event order.due_soon for each deadline.
 */
#ifndef OT_REMIND_H
#define OT_REMIND_H

#include "nodes/pg_list.h"
#include "rows.h"

/* How far a run has come. Times by ot_ticks(). */
typedef struct Reminders
{
	bool		procedure;		/* its transactions are its own */
	int64		end;			/* of the run */
	MemoryContext context;		/* outlives the steps of the run */
	List	   *windows;		/* of the policies that remind */
	int64		next_look;
	int64		next_full_look;
	int64		full_look_began;
	bool		in_full_look;	/* it takes several batches */
	int64		full_look_took; /* so far */

	/* Of the last batch. */
	bool		full;			/* there may be more */
	int64		took;			/* without the look */
	const char *last_error;		/* or NULL */
} Reminders;

extern void ot_reminders_begin(Reminders *reminders, int64 end, bool procedure);

/* One batch of at most limit orders; answers with how many were found. */
extern int	ot_remind(Reminders *reminders, int limit);

#endif
