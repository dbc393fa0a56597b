/*
 * follow.h
 *    What follows a change of an order's state: hooks. The diagram is in follow.c.
 */
#ifndef OT_FOLLOW_H
#define OT_FOLLOW_H

#include "subtransaction.h"
#include "nodes/pg_list.h"
#include "rows.h"

/* For all orders whose state has changed in this call. Its last step: all that it writes is written. */
extern void ot_follow(void);

/*
 * Carries out work that may reopen an order. False, and all of it is undone, if the reopen_hook refused: then there is
 * nothing left to deliver.
 */
extern bool ot_follow_unless_refused(Work work, void *work_state);

/* What failed before, tried again: find, then an attempt at each; what fails again is noted. */
extern List *ot_follow_find_due(TimestampTz now, int limit);
extern void ot_follow_again(const FollowUp *follow_up);
extern void ot_follow_failed_again(const FollowUp *follow_up, const Failure *failure);

/* A row of a linked table contradicts its order: shown until it agrees, or a person gives it up. */
extern void ot_follow_note(Order *order, const char *why);

/* A person gives up what waits for an order: the link or the hooks. Answers whether there was something. */
extern bool ot_follow_give_up(const char *order_id, bool link, const char *note);

#endif
