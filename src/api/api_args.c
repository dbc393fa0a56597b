/*
 * api_args.c
 *    Arguments as the SQL functions take them, and answers as they give them.
 *
 * Only what holds for a repeat of a call as well is checked here, so that a repeat is recognised before anything that
 * time may have changed: a deadline that lay in the future the first time, a state, a policy.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "api_args.h"
#include "check.h"
#include "compat.h"
#include "rules.h"
#include "store.h"

#define MAX_JSONB_BYTES (1024 * 1024)
#define MAX_YEARS 1000

static void
bad_value(const char *name, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s: %s", name, why),
			 errhint("%s", hint)));
}

/* SQL functions of another version than this library's may have fewer arguments, and answer with fewer columns. */
static void
require_place(int n, int count)
{
	if (n < count)
		return;
	ot_store_require_same_version();
	elog(ERROR, "the function has no place %d", n);
}

static bool
is_null(FunctionCallInfo fcinfo, int n)
{
	require_place(n, PG_NARGS());
	return PG_ARGISNULL(n);
}

static void
null_value(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name),
			 errhint("Give a value for %s.", name)));
}

static void
require(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (is_null(fcinfo, n))
		null_value(name);
}

/* Text. */

static void
require_id(const char *name, const char *id)
{
	const char *problem = ot_id_problem(id);

	if (problem != NULL)
		bad_value(name, problem, psprintf("Give 1 to %d bytes without control characters.", OT_MAX_ID_BYTES));
}

char *
ot_get_id(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *id;

	require(fcinfo, n, name);
	id = text_to_cstring(PG_GETARG_TEXT_PP(n));
	require_id(name, id);
	return id;
}

char *
ot_get_id_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	return is_null(fcinfo, n) ? NULL : ot_get_id(fcinfo, n, name);
}

List *
ot_get_ids_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	List	   *ids = NIL;

	if (is_null(fcinfo, n))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	if (count == 0)
		bad_value(name, "it has no element", psprintf("Give at least one, or leave %s out for all.", name));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			null_value(name);
		ids = lappend(ids, TextDatumGetCString(values[i]));
		require_id(name, llast(ids));
	}
	return ids;
}

static char *
get_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	text	   *value = PG_GETARG_TEXT_PP(n);

	if (VARSIZE_ANY_EXHDR(value) > OT_MAX_TEXT_BYTES)
		bad_value(name, psprintf("it is longer than %d bytes", OT_MAX_TEXT_BYTES), "Shorten it, and keep the rest elsewhere.");
	return text_to_cstring(value);
}

char *
ot_get_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	require(fcinfo, n, name);
	return get_text(fcinfo, n, name);
}

char *
ot_get_text_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	return is_null(fcinfo, n) ? NULL : get_text(fcinfo, n, name);
}

char *
ot_get_sql(FunctionCallInfo fcinfo, int n, const char *name)
{
	require(fcinfo, n, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
ot_get_text_cut(FunctionCallInfo fcinfo, int n)
{
	text	   *value;

	if (is_null(fcinfo, n))
		return NULL;
	value = PG_GETARG_TEXT_PP(n);
	return pnstrdup(VARDATA_ANY(value), ot_cut_length(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
}

char *
ot_get_currency(FunctionCallInfo fcinfo, int n)
{
	char	   *currency;
	const char *problem;

	require(fcinfo, n, "currency");
	currency = text_to_cstring(PG_GETARG_TEXT_PP(n));
	problem = ot_currency_problem(currency);
	if (problem != NULL)
		bad_value("currency", problem, "Give the code of ISO 4217, for example EUR.");
	return currency;
}

char *
ot_get_currency_or_null(FunctionCallInfo fcinfo, int n)
{
	return is_null(fcinfo, n) ? NULL : ot_get_currency(fcinfo, n);
}

bool
ot_get_bool_or_false(FunctionCallInfo fcinfo, int n)
{
	return is_null(fcinfo, n) ? false : PG_GETARG_BOOL(n);
}

int
ot_get_word(FunctionCallInfo fcinfo, int n, const char *name, const char *const *words)
{
	char	   *word;
	int			index;

	require(fcinfo, n, name);
	word = text_to_cstring(PG_GETARG_TEXT_PP(n));
	index = ot_word_find(words, word);
	if (index < 0)
	{
		StringInfoData known;

		initStringInfo(&known);
		for (int i = 0; words[i] != NULL; i++)
			appendStringInfo(&known, "%s%s", i == 0 ? "" : ", ", words[i]);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s: \"%s\"", name, ot_cut_text(word)),
				 errhint("Use one of: %s.", known.data)));
	}
	return index;
}

Jsonb *
ot_get_jsonb_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	Jsonb	   *value = is_null(fcinfo, n) ? NULL : PG_GETARG_JSONB_P(n);

	if (value != NULL && VARSIZE(value) > MAX_JSONB_BYTES)
		bad_value(name, psprintf("it is longer than %d bytes", MAX_JSONB_BYTES), "Shorten it, and keep the rest elsewhere.");
	return value;
}

Jsonb *
ot_get_jsonb_or_note(FunctionCallInfo fcinfo, int n, const char *name)
{
	Jsonb	   *value = is_null(fcinfo, n) ? NULL : PG_GETARG_JSONB_P(n);
	char	   *note;

	if (value == NULL || VARSIZE(value) <= MAX_JSONB_BYTES)
		return value;
	note = psprintf("{\"not_stored\": \"%s: longer than %d bytes\", \"bytes\": %u}", name, MAX_JSONB_BYTES, VARSIZE(value));
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(note)));
}

/* Numbers. */

int64
ot_get_amount(FunctionCallInfo fcinfo, int n, const char *name, int64 least)
{
	int64		amount;
	const char *problem;

	require(fcinfo, n, name);
	amount = PG_GETARG_INT64(n);
	problem = ot_amount_problem(amount, least);
	if (problem != NULL)
		bad_value(name, problem, psprintf("Give a number of at least %lld.", (long long) least));
	return amount;
}

int64
ot_get_amount_or_zero(FunctionCallInfo fcinfo, int n, const char *name)
{
	return is_null(fcinfo, n) ? 0 : ot_get_amount(fcinfo, n, name, 1);
}

int
ot_get_count(FunctionCallInfo fcinfo, int n, const char *name, int by_default, int most)
{
	int			count = is_null(fcinfo, n) ? by_default : PG_GETARG_INT32(n);

	if (count < 1 || count > most)
		bad_value(name, psprintf("%d is not between 1 and %d", count, most),
				  psprintf("Give a number in these bounds, or leave %s out for %d.", name, by_default));
	return count;
}

/* Times. */

TimestampTz
ot_get_time_or_none(FunctionCallInfo fcinfo, int n, const char *name)
{
	TimestampTz time;
	const char *problem;

	if (is_null(fcinfo, n))
		return OT_NO_TIME;
	time = PG_GETARG_TIMESTAMPTZ(n);
	problem = ot_time_problem(time);
	if (problem != NULL)
		bad_value(name, problem, "Give a time in these years.");
	return time;
}

TimestampTz
ot_get_time(FunctionCallInfo fcinfo, int n, const char *name)
{
	require(fcinfo, n, name);
	return ot_get_time_or_none(fcinfo, n, name);
}

static bool
is_beyond(int64 value, int64 limit)
{
	return value > limit || value < -limit;
}

static char *
interval_text(const Interval *interval)
{
	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)));
}

static void
bad_interval(const char *name, const Interval *interval, const char *why, const Interval *longest)
{
	bad_value(name, psprintf("%s %s", interval_text(interval), why),
			  psprintf("Give more than zero and at most %s, or leave %s out.", interval_text(longest), name));
}

/* Bounded field by field first, so that ot_interval_usecs cannot overflow. */
Interval *
ot_get_interval_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	const Interval longest = {.month = MAX_YEARS * MONTHS_PER_YEAR};
	Interval   *interval;

	if (is_null(fcinfo, n))
		return NULL;
	interval = PG_GETARG_INTERVAL_P(n);
	if (OT_INTERVAL_NOT_FINITE(interval) ||
		is_beyond(interval->month, MAX_YEARS * MONTHS_PER_YEAR) ||
		is_beyond(interval->day, MAX_YEARS * 366) ||
		is_beyond(interval->time, MAX_YEARS * 366 * USECS_PER_DAY))
		bad_interval(name, interval, "is out of range", &longest);
	if (ot_interval_usecs(interval) <= 0)
		bad_interval(name, interval, "is not greater than zero", &longest);
	return interval;
}

int64
ot_get_usecs(FunctionCallInfo fcinfo, int n, const char *name, int64 by_default, int64 most)
{
	const Interval longest = {.day = most / USECS_PER_DAY, .time = most % USECS_PER_DAY};
	Interval   *interval = ot_get_interval_or_null(fcinfo, n, name);
	int64		usecs;

	if (interval == NULL)
		return by_default;
	usecs = ot_interval_usecs(interval);
	if (usecs > most)
		bad_interval(name, interval, "is too long", &longest);
	return usecs;
}

int64
ot_get_usecs_or_zero(FunctionCallInfo fcinfo, int n, const char *name, int64 most)
{
	Interval   *interval = is_null(fcinfo, n) ? NULL : PG_GETARG_INTERVAL_P(n);

	if (interval != NULL && interval->month == 0 && interval->day == 0 && interval->time == 0)
		return 0;
	return ot_get_usecs(fcinfo, n, name, 0, most);
}

/* Answers. */

static void
put(Answer *answer, Datum value, bool isnull)
{
	Assert(answer->count < OT_MAX_COLUMNS);
	answer->values[answer->count] = value;
	answer->nulls[answer->count] = isnull;
	answer->count++;
}

void
ot_put_text(Answer *answer, const char *value)
{
	put(answer, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

void
ot_put_int8(Answer *answer, int64 value)
{
	put(answer, Int64GetDatum(value), false);
}

void
ot_put_int4(Answer *answer, int32 value)
{
	put(answer, Int32GetDatum(value), false);
}

void
ot_put_bool(Answer *answer, bool value)
{
	put(answer, BoolGetDatum(value), false);
}

void
ot_put_jsonb(Answer *answer, const Jsonb *value)
{
	put(answer, JsonbPGetDatum(value), value == NULL);
}

void
ot_put_time(Answer *answer, TimestampTz value)
{
	put(answer, TimestampTzGetDatum(value), value == OT_NO_TIME);
}

void
ot_put_null(Answer *answer)
{
	put(answer, (Datum) 0, true);
}

/* What a function answers with stays as it is while it has its oid; finding it out again costs more than the answer. */
typedef struct ResultShape
{
	Oid			function;
	TupleDesc	desc;			/* NULL: one plain value */
} ResultShape;

static const ResultShape *
find_shape(FunctionCallInfo fcinfo)
{
	static ResultShape known[32];
	static int	next = 0;
	Oid			function = fcinfo->flinfo->fn_oid;
	ResultShape *shape;
	TupleDesc	desc;

	for (int i = 0; i < lengthof(known); i++)
		if (known[i].function == function)
			return &known[i];

	shape = &known[next++ % lengthof(known)];
	shape->function = InvalidOid;	/* until all of it is there */
	if (shape->desc != NULL)
		FreeTupleDesc(shape->desc);
	shape->desc = NULL;
	if (get_call_result_type(fcinfo, NULL, &desc) == TYPEFUNC_COMPOSITE)
	{
		MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);

		shape->desc = CreateTupleDescCopy(BlessTupleDesc(desc));
		MemoryContextSwitchTo(previous);
	}
	shape->function = function;
	return shape;
}

Datum
ot_return(FunctionCallInfo fcinfo, const Answer *answer)
{
	TupleDesc	desc = find_shape(fcinfo)->desc;

	if (desc == NULL)
	{
		fcinfo->isnull = answer->nulls[0];
		return answer->values[0];
	}
	require_place(answer->count - 1, desc->natts);
	require_place(desc->natts - 1, answer->count);
	return HeapTupleGetDatum(heap_form_tuple(desc, (Datum *) answer->values, (bool *) answer->nulls));
}

void
ot_begin_rows(FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, 0);
}

void
ot_return_row(FunctionCallInfo fcinfo, const Answer *answer)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	require_place(answer->count - 1, result->setDesc->natts);
	require_place(result->setDesc->natts - 1, answer->count);
	tuplestore_putvalues(result->setResult, result->setDesc, (Datum *) answer->values, (bool *) answer->nulls);
}
