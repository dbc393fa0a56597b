/*
 * track.h
 *    The engine follows rows of linked tables. The rules are in track.c.
 */
#ifndef OT_TRACK_H
#define OT_TRACK_H

#include "rows.h"

/* A row that was inserted or changed by hand. */
extern void ot_track_row(const Link *link, const LinkedRow *row);

/* A row with a pending word that was there before the link. False if it has its order already. */
extern bool ot_track_adopt(const Link *link, const LinkedRow *row);

#endif
