/*
 * link.h
 *    Rows of linked tables follow the engine. The rules are in link.c.
 */
#ifndef OT_LINK_H
#define OT_LINK_H

#include "nodes/pg_list.h"
#include "rows.h"

/* Writes the state of each order that is the link's into its row. With wait, also where others hold the row. */
extern void ot_link_write(const Link *link, List *orders, bool wait);

/* Locks the row of an order, if there is one that the caller may write. False when somebody else holds it. */
extern bool ot_link_take(const Link *link, const Order *order);

/* Whether an order_id may name a row of that table. */
extern bool ot_link_is_for(const Link *link, const char *order_id);

#endif
