/*
 * sweep.h
 *    Closes what is due, takes back what workers abandoned, heals what could not be seen.
 */
#ifndef OT_SWEEP_H
#define OT_SWEEP_H

#include "rows.h"

/* One batch in the caller's transaction; the counts are in the answer. */
extern SweepRun ot_sweep_once(int batch_size);

/* Until its time is up, committing after every step. Times in microseconds. */
extern void ot_sweep(int64 run_for, int batch_size, int64 poll_interval);

#endif
