/*
 * progress.h
 *    How far long work is, for the view progress.
 */
#ifndef OT_PROGRESS_H
#define OT_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef enum LongWork
{
	WORK_NONE,
	WORK_SWEEP,
	WORK_ADOPT_ORDERS,
	WORK_LOAD_STATEMENT,
	WORK_CHECK_STATEMENT,
	WORK_STATEMENT_TOTALS,
	WORK_APPLY_STATEMENT,
	WORK_FUNDS_VIOLATIONS
} LongWork;

/* By LongWork, and the name of none last. */
extern const char *const ot_long_works[];

#define OT_TOTAL_UNKNOWN (-1)

/* Kept by what does the work. Zeroed it is none, and what is called with it does nothing. */
typedef struct Progress
{
	LongWork	work;
	int			phase;			/* from 1 on */
	int64		done;			/* in this phase */
	int64		total;			/* or OT_TOTAL_UNKNOWN */
	TimestampTz started_at;
} Progress;

/* Begins with phase 1; it is none if the session reports the progress of something else, which this is a part of. */
extern void ot_progress_begin(Progress *progress, LongWork work, int64 total);
extern void ot_progress_phase(Progress *progress, int phase, int64 total);

/* The total has changed or is known now. */
extern void ot_progress_expect(Progress *progress, int64 total);

/* So many more are done. 0 shows it again after a rollback, which takes it away. */
extern void ot_progress_add(Progress *progress, int64 done);
extern void ot_progress_end(Progress *progress);

/* What each session in this database is at. */
typedef void (*ProgressVisitor) (int pid, const Progress *progress, void *state);
extern void ot_progress_visit(ProgressVisitor visit, void *state);

/* In words: what it does in its phase, how many phases there are, and what is counted. */
extern const char *ot_progress_phase_name(const Progress *progress);
extern int	ot_progress_phases(const Progress *progress);
extern const char *ot_progress_unit(const Progress *progress);

#endif
