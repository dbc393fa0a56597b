/*
 * store_sql.h
 *    The store that reads and writes rows with SQL statements. It serves any table, at every isolation level.
 */
#ifndef OT_STORE_SQL_H
#define OT_STORE_SQL_H

#include "row_store.h"

extern const RowStore ot_sql_store;

#endif
