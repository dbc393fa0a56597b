/*
 * store_values.h
 *    Private to the stores: values on their way to a row and from one.
 */
#ifndef OT_STORE_VALUES_H
#define OT_STORE_VALUES_H

#include "postgres.h"

#include "access/transam.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

#define OT_MAX_ARGS 40

typedef struct Args
{
	int			count;
	Oid			types[OT_MAX_ARGS];
	Datum		values[OT_MAX_ARGS];
	bool		nulls[OT_MAX_ARGS];
} Args;

extern void ot_arg_unused(Args *args);
extern void ot_arg_text(Args *args, const char *value);
extern void ot_arg_int8(Args *args, int64 value);
extern void ot_arg_int8_or_null(Args *args, int64 value);
extern void ot_arg_int4(Args *args, int32 value);
extern void ot_arg_float8(Args *args, double value);
extern void ot_arg_bool(Args *args, bool value);
extern void ot_arg_time(Args *args, TimestampTz value);

/* A time to compare with, where OT_NO_TIME stands for the beginning of time. */
extern void ot_arg_lower_bound(Args *args, TimestampTz value);
extern void ot_arg_tid(Args *args, const ItemPointerData * value);
extern void ot_arg_xid8(Args *args, FullTransactionId value);
extern void ot_arg_jsonb(Args *args, const Jsonb *value);

/* An array; values and nulls as for construct_md_array, nulls may be NULL. */
extern void ot_arg_texts(Args *args, List *texts);
extern void ot_arg_texts_or_null(Args *args, List *texts);
extern void ot_arg_array(Args *args, Oid element, Datum *values, bool *nulls, int count);

/* The columns of one row, read from left to right. */
typedef struct Columns
{
	Datum	   *values;
	bool	   *nulls;
	int			next;
	TupleDesc	desc;
	bool		without_jsonb;	/* columns that are never read are left out */
} Columns;

/* Each is an error when the column has another type. */
extern char *ot_column_text(Columns *columns);

/* A text[] of no nulls, ended by a NULL; NULL for an empty one. */
extern const char **ot_column_texts(Columns *columns);
extern List *ot_column_text_list(Columns *columns);
extern int64 *ot_column_int8s(Columns *columns, int *count);
extern int64 ot_column_int8(Columns *columns);
extern int64 ot_column_int8_or_zero(Columns *columns);
extern int32 ot_column_int4(Columns *columns);
extern double ot_column_float8(Columns *columns);
extern bool ot_column_bool(Columns *columns);
extern TimestampTz ot_column_time(Columns *columns);
extern Interval *ot_column_interval(Columns *columns);
extern ItemPointerData ot_column_tid(Columns *columns);
extern TransactionId ot_column_xid(Columns *columns);
extern Jsonb *ot_column_jsonb(Columns *columns);
extern void ot_column_skip(Columns *columns);

/* The index of a word that a CHECK has already confined to the list; -1 for NULL. */
extern int	ot_column_word(Columns *columns, const char *const *words);

#endif
