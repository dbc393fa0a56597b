/*
 * track.h
 *    Orders follow the rows of a linked table. What happens when is in track.c.
 */
#ifndef OT_TRACK_H
#define OT_TRACK_H

#include "rows.h"

/* A row of a tracked table was inserted (before is NULL), updated, or deleted (after is NULL); or moved between partitions. */
extern void ot_track(const Link *link, const LinkedRow *before, const LinkedRow *after, bool in_partition);

#endif
