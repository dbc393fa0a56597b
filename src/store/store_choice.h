/*
 * store_choice.h
 *    Private to the stores: which of the two serves a table. The choice is made here and nowhere else.
 */
#ifndef OT_STORE_CHOICE_H
#define OT_STORE_CHOICE_H

#include "row_store.h"

/* The store that serves a table now. It is asked again for each operation: what runs in between may change the answer. */
extern const RowStore *ot_store_of(TableName table);

/* The same for an operation that touches two tables: the fast store only if it serves both. */
extern const RowStore *ot_store_of_both(TableName table, TableName other);

extern bool ot_store_is_fast(const RowStore *store);

/* Writes a row unless one with its key is there; false if there is. */
extern bool ot_store_insert_new(TableName table, void *row);

/* The same for an order; also false if its policy is not there. */
extern bool ot_store_insert_new_order(Order *order);

/* Once, when the library is loaded. */
extern void ot_store_choice_init(void);

#endif
