/*
 * store_fast_rows.h
 *    The store that reads and writes rows without SQL, where it serves their table.
 */
#ifndef OT_STORE_FAST_ROWS_H
#define OT_STORE_FAST_ROWS_H

#include "row_store.h"

extern const RowStore ot_fast_store;

#endif
