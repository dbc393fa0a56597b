/*
 * unwritten.h
 *    Counts rows that were changed in memory and are still to be written.
 */
#ifndef OT_UNWRITTEN_H
#define OT_UNWRITTEN_H

#include "postgres.h"

/* The flag of a row; counts it once, however often it changes before it is written. */
extern void ot_row_changed(bool *unwritten);
extern void ot_row_written(bool *unwritten);

/* Around everything that must leave no row unwritten. ot_changes_begin answers what ot_changes_end needs, error or not. */
extern int	ot_changes_begin(void);
extern void ot_changes_require_written(void);
extern void ot_changes_end(int outer);

#endif
