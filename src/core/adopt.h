/*
 * adopt.h
 *    adopt_orders: rows that were there before their table was linked.
 */
#ifndef OT_ADOPT_H
#define OT_ADOPT_H

#include "postgres.h"

/* Commits after each batch. */
extern void ot_adopt_orders(const char *table_name, int batch_size);

#endif
