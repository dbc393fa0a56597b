/*
 * advisory_lock.h
 *    Private to the stores: locks on names that have no row yet. They are held until the transaction ends.
 */
#ifndef OT_ADVISORY_LOCK_H
#define OT_ADVISORY_LOCK_H

#include "postgres.h"

#include "storage/lock.h"

/* Waits for every other transaction that locked the same name. */
extern void ot_advisory_lock(const char *name);

/* In a mode of table locks, which says whom it keeps out. */
extern void ot_advisory_lock_as(const char *name, LOCKMODE mode);

/* False if another transaction holds it. */
extern bool ot_try_advisory_lock(const char *name);

#endif
