/*
 * event_totals.h
 *    Totals of the events.
 */
#ifndef OT_EVENT_TOTALS_H
#define OT_EVENT_TOTALS_H

#include "postgres.h"

/* Adds the next events to their totals, at most max_events of a window, unless another transaction is about it. */
extern void ot_count_events(int max_events);

#endif
