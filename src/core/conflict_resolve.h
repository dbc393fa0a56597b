/*
 * conflict_resolve.h
 *    resolve_conflict: what the operator found out about a contradiction.
 */
#ifndef OT_CONFLICT_RESOLVE_H
#define OT_CONFLICT_RESOLVE_H

#include "postgres.h"

/* to_book: what it reports was money of its own. Answers the outcome. */
extern const char *ot_conflict_resolve(int64 conflict_id, const char *note, bool to_book);

#endif
