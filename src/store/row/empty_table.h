/*
 * empty_table.h
 *    Private to the stores: whether a table of ours has never had a row.
 */
#ifndef OT_EMPTY_TABLE_H
#define OT_EMPTY_TABLE_H

#include "postgres.h"

/* Surely empty, without reading it: false says nothing. */
extern bool ot_is_surely_empty(const char *table);

#endif
