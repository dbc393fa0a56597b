/*
 * unwritten.h
 *    Knows which rows were changed in memory and are still to be written, and what is to follow once they are.
 */
#ifndef OT_UNWRITTEN_H
#define OT_UNWRITTEN_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "rows.h"

/* Events that are not written yet, because what led to them has its event first; kept by event.c. */
typedef struct KeptEvents
{
	List	   *events;
	int			effects_from;	/* those from here on are effects of the next one */
	int			held;			/* how often: while it is not 0, none is written */
} KeptEvents;

/* What one call has changed and not written yet. */
typedef struct Changes
{
	int			rows;
	List	   *order_ids;		/* of those rows; some may be written by now */
	List	   *moved;			/* orders whose new state is written, and which hooks and linked rows have yet to
								 * follow */
	KeptEvents	kept;
	bool		reports_money;	/* what follows must not refuse what this call reports */
	bool		decides;		/* its events say which role called */
	bool	   *refused;		/* where a reopen_hook may refuse: set while it is called; else NULL */
	struct Changes *outer;		/* of the call in whose midst this one is made */
} Changes;

/* The flag of a row, and the order that it belongs to; counts it once, however often it changes before it is written. */
extern void ot_row_changed(bool *unwritten, const char *order_id);

/* After the write: a call that a trigger makes in the midst of it would be overtaken by what this call does next. */
extern void ot_row_written(bool *unwritten);

/* Whether an outer call has changed rows of that order and not written all of them. */
extern bool ot_is_changed_by_outer_call(const char *order_id);

/* Orders whose new state is written; taken once, by follow.c. */
extern void ot_order_moved(Order *order);
extern List *ot_take_moved(void);

/* Of the call that is made now. */
extern KeptEvents *ot_kept_events(void);
extern void ot_set_reports_money(void);
extern bool ot_reports_money(void);
extern void ot_set_decides(void);
extern bool ot_decides(void);
extern void ot_set_reopening_refused(bool *refused);
extern bool *ot_reopening_refused(void);

/* Around everything that must leave no row unwritten; ot_changes_end also after an error. */
extern void ot_changes_begin(Changes *changes);
extern void ot_changes_require_written(void);
extern void ot_changes_end(const Changes *changes);

#endif
