/*
 * store_fast_choice.h
 *    When the fast store serves a table.
 */
#ifndef OT_STORE_FAST_CHOICE_H
#define OT_STORE_FAST_CHOICE_H

#include "store_table.h"

/* Once, when the library is loaded. */
extern void ot_fast_init(void);

/*
 * Whether the fast store can serve that table now. If it can, the table is locked against changes of its shape until
 * the transaction ends, so the answer still holds for what follows.
 */
extern bool ot_fast_serves(TableName name);

/* Whether others have added no CHECK to a table that is served. */
extern bool ot_fast_has_own_checks_only(TableName name);

#endif
