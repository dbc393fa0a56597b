/*
 * store_values.c
 *    Values on their way to a row and from one, the same for both stores.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "rows.h"
#include "store_values.h"
#include "words.h"

/* Arguments. */

static void
add_arg(Args *args, Oid type, Datum value, bool isnull)
{
	Assert(args->count < OT_MAX_ARGS);
	args->types[args->count] = type;
	args->values[args->count] = value;
	args->nulls[args->count] = isnull;
	args->count++;
}

void
ot_arg_unused(Args *args)
{
	add_arg(args, InvalidOid, (Datum) 0, true);
}

void
ot_arg_text(Args *args, const char *value)
{
	add_arg(args, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

void
ot_arg_int8(Args *args, int64 value)
{
	add_arg(args, INT8OID, Int64GetDatum(value), false);
}

void
ot_arg_int8_or_null(Args *args, int64 value)
{
	add_arg(args, INT8OID, Int64GetDatum(value), value == 0);
}

void
ot_arg_int4(Args *args, int32 value)
{
	add_arg(args, INT4OID, Int32GetDatum(value), false);
}

void
ot_arg_float8(Args *args, double value)
{
	add_arg(args, FLOAT8OID, Float8GetDatum(value), false);
}

void
ot_arg_bool(Args *args, bool value)
{
	add_arg(args, BOOLOID, BoolGetDatum(value), false);
}

void
ot_arg_time(Args *args, TimestampTz value)
{
	add_arg(args, TIMESTAMPTZOID, TimestampTzGetDatum(value), value == OT_NO_TIME);
}

void
ot_arg_lower_bound(Args *args, TimestampTz value)
{
	add_arg(args, TIMESTAMPTZOID, TimestampTzGetDatum(value), false);
}

void
ot_arg_tid(Args *args, const ItemPointerData * value)
{
	ItemPointer copy = palloc(sizeof(ItemPointerData));

	*copy = *value;
	add_arg(args, TIDOID, PointerGetDatum(copy), false);
}

void
ot_arg_xid8(Args *args, FullTransactionId value)
{
	add_arg(args, XID8OID, FullTransactionIdGetDatum(value), false);
}

void
ot_arg_jsonb(Args *args, const Jsonb *value)
{
	add_arg(args, JSONBOID, PointerGetDatum(value), value == NULL);
}

void
ot_arg_array(Args *args, Oid element, Datum *values, bool *nulls, int count)
{
	int16		length;
	bool		by_value;
	char		alignment;
	int			lower_bound = 1;
	ArrayType  *array;

	get_typlenbyvalalign(element, &length, &by_value, &alignment);
	array = construct_md_array(values, nulls, 1, &count, &lower_bound, element, length, by_value, alignment);
	add_arg(args, get_array_type(element), PointerGetDatum(array), false);
}

void
ot_arg_texts(Args *args, List *texts)
{
	int			count = list_length(texts);
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(list_nth(texts, i));
	ot_arg_array(args, TEXTOID, values, NULL, count);
}

void
ot_arg_texts_or_null(Args *args, List *texts)
{
	ot_arg_texts(args, texts);
	args->nulls[args->count - 1] = texts == NIL;
}

/* Columns. */

static void
wrong_type(Form_pg_attribute column, Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column \"%s\" of order_timeout has type %s, not %s", NameStr(column->attname),
					format_type_be(column->atttypid), format_type_be(type)),
			 errhint("Give the column its type back with ALTER TABLE.")));
}

/* A value of another type would be read as something else: numeric's pointer as money. */
static Datum
next_column(Columns *columns, Oid type, bool *isnull)
{
	Form_pg_attribute column = TupleDescAttr(columns->desc, columns->next);

	if (unlikely(column->atttypid != type) && !IsBinaryCoercible(column->atttypid, type))
		wrong_type(column, type);
	*isnull = columns->nulls[columns->next];
	return columns->values[columns->next++];
}

static Datum
next_column_not_null(Columns *columns, Oid type)
{
	bool		isnull;
	Datum		value = next_column(columns, type, &isnull);

	if (isnull)
		elog(ERROR, "column %d is unexpectedly null", columns->next);
	return value;
}

char *
ot_column_text(Columns *columns)
{
	bool		isnull;
	Datum		value = next_column(columns, TEXTOID, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

const char **
ot_column_texts(Columns *columns)
{
	ArrayType  *array = DatumGetArrayTypeP(next_column_not_null(columns, TEXTARRAYOID));
	Datum	   *values;
	bool	   *nulls;
	int			count;
	const char **texts;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	if (count == 0)
		return NULL;
	texts = palloc((count + 1) * sizeof(char *));
	for (int i = 0; i < count; i++)
		texts[i] = TextDatumGetCString(values[i]);
	texts[count] = NULL;
	return texts;
}

List *
ot_column_text_list(Columns *columns)
{
	bool		isnull;
	Datum		value = next_column(columns, TEXTARRAYOID, &isnull);
	Datum	   *values;
	int			count;
	List	   *texts = NIL;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &count);
	for (int i = 0; i < count; i++)
		texts = lappend(texts, TextDatumGetCString(values[i]));
	return texts;
}

int64 *
ot_column_int8s(Columns *columns, int *count)
{
	ArrayType  *array = DatumGetArrayTypeP(next_column_not_null(columns, INT8ARRAYOID));
	Datum	   *values;
	int64	   *numbers;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, NULL, count);
	numbers = palloc(Max(*count, 1) * sizeof(int64));
	for (int i = 0; i < *count; i++)
		numbers[i] = DatumGetInt64(values[i]);
	return numbers;
}

int64
ot_column_int8(Columns *columns)
{
	return DatumGetInt64(next_column_not_null(columns, INT8OID));
}

/* Columns of a row that an outer join did not find are null. */
int64
ot_column_int8_or_zero(Columns *columns)
{
	bool		isnull;
	Datum		value = next_column(columns, INT8OID, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int32
ot_column_int4(Columns *columns)
{
	return DatumGetInt32(next_column_not_null(columns, INT4OID));
}

double
ot_column_float8(Columns *columns)
{
	return DatumGetFloat8(next_column_not_null(columns, FLOAT8OID));
}

bool
ot_column_bool(Columns *columns)
{
	return DatumGetBool(next_column_not_null(columns, BOOLOID));
}

TimestampTz
ot_column_time(Columns *columns)
{
	bool		isnull;
	Datum		value = next_column(columns, TIMESTAMPTZOID, &isnull);

	return isnull ? OT_NO_TIME : DatumGetTimestampTz(value);
}

Interval *
ot_column_interval(Columns *columns)
{
	bool		isnull;
	Datum		value = next_column(columns, INTERVALOID, &isnull);
	Interval   *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(Interval));
	memcpy(copy, DatumGetIntervalP(value), sizeof(Interval));
	return copy;
}

ItemPointerData
ot_column_tid(Columns *columns)
{
	return *(ItemPointer) DatumGetPointer(next_column_not_null(columns, TIDOID));
}

TransactionId
ot_column_xid(Columns *columns)
{
	return DatumGetTransactionId(next_column_not_null(columns, XIDOID));
}

Jsonb *
ot_column_jsonb(Columns *columns)
{
	return DatumGetJsonbPCopy(next_column_not_null(columns, JSONBOID));
}

void
ot_column_skip(Columns *columns)
{
	columns->next++;
}

static bool
is_word(struct varlena *value, const char *word)
{
	size_t		length = strlen(word);

	return VARSIZE_ANY_EXHDR(value) == length && memcmp(VARDATA_ANY(value), word, length) == 0;
}

/* Compared where it is: each row that is read has some. */
int
ot_column_word(Columns *columns, const char *const *words)
{
	bool		isnull;
	Datum		value = next_column(columns, TEXTOID, &isnull);
	text	   *word;

	if (isnull)
		return -1;
	word = DatumGetTextPP(value);
	for (int i = 0; words[i] != NULL; i++)
		if (is_word(word, words[i]))
			return i;
	elog(ERROR, "unexpected word \"%s\" in column %d", text_to_cstring(word), columns->next);
	return -1;
}
