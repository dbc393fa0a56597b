/*
 * linked_row.h
 *    What a row of a linked table says about its order.
 */
#ifndef OT_LINKED_ROW_H
#define OT_LINKED_ROW_H

#include "order_create.h"
#include "rows.h"

/* The terms of the order that the row asks for. Errors: 22023, 22003, 22004. */
extern OrderTerms ot_linked_terms(const Link *link, const LinkedRow *row);

/* OT_NO_TIME: the row names none. Errors: 22023. */
extern TimestampTz ot_linked_deadline(const Link *link, const LinkedRow *row);

/* How the deadline differs from the order's, or NULL. */
extern const char *ot_linked_deadline_problem(const Link *link, const LinkedRow *row, const Order *order);

/* How amount or currency differ from the order's, or NULL. */
extern const char *ot_linked_terms_problem(const Link *link, const LinkedRow *row, const Order *order);

#endif
