/*
 * event_totals.c
 *    Totals of the events, for the view metrics.
 *
 * They are counted as a consumer reads them (consumer.c), so each exactly once: the totals and the position are written in
 * one transaction. Counting begins with the first sweep, and again from then on in another database: what a restore brought
 * is in the totals that it brought.
 */
#include "postgres.h"

#include "access/xact.h"

#include "event_totals.h"
#include "store.h"

#define COUNTER    ""			/* no caller can name a consumer so */

static void
count_next(EventMark mark, int max_events)
{
	if (!ot_store_has_position(COUNTER))
	{
		ot_store_drop_consumer(COUNTER);
		ot_store_add_consumer(COUNTER, NIL, true, false, mark);
	}
	else if (ot_store_has_unread(COUNTER) && !ot_store_count_events(COUNTER, max_events))
	{
		ot_store_open_window(COUNTER, mark);
		ot_store_count_events(COUNTER, max_events);
	}
}

void
ot_count_events(int max_events)
{
	EventMark	mark = ot_store_mark_events();
	int			settings;

	/* Above READ COMMITTED the snapshot may be older than what another sweep has counted. */
	if (IsolationUsesXactSnapshot() || !ot_store_may_count_events())
		return;
	settings = ot_store_begin_walk();
	count_next(mark, max_events);
	ot_store_end_walk(settings);
}
