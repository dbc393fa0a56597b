/*
 * backfill.h
 *    Orders that were there before their table was linked.
 */
#ifndef OT_BACKFILL_H
#define OT_BACKFILL_H

#include "postgres.h"

extern void ot_backfill_table(Oid table, int batch_size);

#endif
