/*
 * store_fast_obstacle.h
 *    What keeps the fast store from serving a table.
 */
#ifndef OT_STORE_FAST_OBSTACLE_H
#define OT_STORE_FAST_OBSTACLE_H

#include "postgres.h"

#include "store_table.h"
#include "utils/relcache.h"

/* Why a table cannot be served, or one of its indexes, in words that follow "The reason: "; NULL if it can. */
extern const char *ot_fast_table_obstacle(Relation relation, const TableSpec *spec);
extern const char *ot_fast_index_obstacle(Relation index);

#endif
