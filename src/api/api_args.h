/*
 * api_args.h
 *    Arguments as the SQL functions take them: checked, with the contract's errors. Every error names the argument.
 */
#ifndef OT_API_ARGS_H
#define OT_API_ARGS_H

#include "fmgr.h"
#include "rows.h"

/* An identifier: 1 to 255 bytes, no control characters. The second form answers NULL for NULL. */
extern char *ot_get_id(FunctionCallInfo fcinfo, int n, const char *name);
extern char *ot_get_id_or_null(FunctionCallInfo fcinfo, int n, const char *name);

/* Identifiers, of which there is at least one; NIL for NULL. */
extern List *ot_get_ids_or_null(FunctionCallInfo fcinfo, int n, const char *name);

/* Free text of at most OT_MAX_TEXT_BYTES; the last form cuts what is longer, because money is not refused for its words. */
extern char *ot_get_text(FunctionCallInfo fcinfo, int n, const char *name);
extern char *ot_get_text_or_null(FunctionCallInfo fcinfo, int n, const char *name);
extern char *ot_get_text_cut(FunctionCallInfo fcinfo, int n);

/* A statement of the caller's, of any length. */
extern char *ot_get_sql(FunctionCallInfo fcinfo, int n, const char *name);

/* Minor units of at least least; the second form answers 0 for NULL. */
extern int64 ot_get_amount(FunctionCallInfo fcinfo, int n, const char *name, int64 least);
extern int64 ot_get_amount_or_zero(FunctionCallInfo fcinfo, int n, const char *name);
extern char *ot_get_currency(FunctionCallInfo fcinfo, int n);
extern char *ot_get_currency_or_null(FunctionCallInfo fcinfo, int n);
extern bool ot_get_bool_or_false(FunctionCallInfo fcinfo, int n);

/* A count from 1 to most. */
extern int	ot_get_count(FunctionCallInfo fcinfo, int n, const char *name, int by_default, int most);

/* A time between the years 1970 and 9999, or OT_NO_TIME for NULL. */
extern TimestampTz ot_get_time_or_none(FunctionCallInfo fcinfo, int n, const char *name);
extern TimestampTz ot_get_time(FunctionCallInfo fcinfo, int n, const char *name);

/* More than nothing and no more than 1000 years, or NULL. */
extern Interval *ot_get_interval_or_null(FunctionCallInfo fcinfo, int n, const char *name);

/* The same in microseconds, up to most. */
extern int64 ot_get_usecs(FunctionCallInfo fcinfo, int n, const char *name, int64 by_default, int64 most);

/* The same, where zero is good, and NULL is zero. */
extern int64 ot_get_usecs_or_zero(FunctionCallInfo fcinfo, int n, const char *name, int64 most);

/* One of the words. */
extern int	ot_get_word(FunctionCallInfo fcinfo, int n, const char *name, const char *const *words);

/* At most 1 MB; the second form puts a note in the place of what is longer. */
extern Jsonb *ot_get_jsonb_or_null(FunctionCallInfo fcinfo, int n, const char *name);
extern Jsonb *ot_get_jsonb_or_note(FunctionCallInfo fcinfo, int n, const char *name);

/* Answers: the columns of one row, set from left to right. */
#define OT_MAX_COLUMNS 12

typedef struct Answer
{
	int			count;
	Datum		values[OT_MAX_COLUMNS];
	bool		nulls[OT_MAX_COLUMNS];
} Answer;

extern void ot_put_text(Answer *answer, const char *value);
extern void ot_put_int8(Answer *answer, int64 value);
extern void ot_put_int4(Answer *answer, int32 value);
extern void ot_put_bool(Answer *answer, bool value);
extern void ot_put_jsonb(Answer *answer, const Jsonb *value);
extern void ot_put_time(Answer *answer, TimestampTz value);
extern void ot_put_null(Answer *answer);

/* One row of the function's OUT parameters; a single OUT parameter is a plain value. */
extern Datum ot_return(FunctionCallInfo fcinfo, const Answer *answer);

/* Many rows: begin, then a row each. */
extern void ot_begin_rows(FunctionCallInfo fcinfo);
extern void ot_return_row(FunctionCallInfo fcinfo, const Answer *answer);

#endif
