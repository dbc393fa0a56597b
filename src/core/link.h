/*
 * link.h
 *    Rows of linked tables follow the orders. The rules are in link.c.
 */
#ifndef OT_LINK_H
#define OT_LINK_H

#include "nodes/pg_list.h"
#include "rows.h"

/*
 * Locks the linked row of an order, if there is one, before the order itself. Waits as long as it takes, or while money is
 * reported a second at most; then the row stays unlocked.
 */
extern void ot_link_lock(const char *order_id);

/* Those of the orders whose linked rows are not busy; they are locked now. */
extern List *ot_link_lock_if_free(List *orders);

/* Whether a word of the table stands for the state. */
extern bool ot_link_has_word(const Link *link, OrderState state, const char *status);

/* Whether a row may say so while its order is in the state. */
extern bool ot_link_agrees(const Link *link, OrderState state, const char *status);

/* A row that was not written. */
typedef struct LinkProblem
{
	Order	   *order;
	int			sqlerrcode;
	const char *why;
} LinkProblem;

/* Writes the state of orders into their linked rows, if they still say what the order was. Answers with LinkProblems. */
extern List *ot_link_write(List *orders);

#endif
