/*
 * check.c
 *    What a value must be, wherever it comes from.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/datetime.h"

#include "check.h"

#define MAX_ID_BYTES 255

void
ot_bad_value(const char *name, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s: %s", name, why)));
}

/* C0 and DEL in every encoding; C1 in UTF-8, where it is C2 80 to C2 9F. */
static bool
has_control_character(const char *text)
{
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;

	for (const unsigned char *byte = (const unsigned char *) text; *byte; byte++)
		if (*byte < 0x20 || *byte == 0x7f || (utf8 && byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f))
			return true;
	return false;
}

const char *
ot_id_problem(const char *id)
{
	if (id[0] == '\0')
		return "it is empty";
	if (strlen(id) > MAX_ID_BYTES)
		return "it is longer than 255 bytes";
	if (has_control_character(id))
		return "it contains a control character";
	return NULL;
}

const char *
ot_amount_problem(int64 amount, int64 least)
{
	if (amount >= least)
		return NULL;
	return psprintf("%lld %s", (long long) amount, least == 0 ? "is negative" : "is not greater than zero");
}

void
ot_check_id(const char *id, const char *name)
{
	const char *problem = ot_id_problem(id);

	if (problem != NULL)
		ot_bad_value(name, problem);
}

void
ot_check_currency(const char *currency, const char *name)
{
	if (strlen(currency) != 3 || strspn(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3)
		ot_bad_value(name, psprintf("\"%s\" is not three capital letters (ISO 4217)", currency));
}

void
ot_check_amount(int64 amount, int64 least, const char *name)
{
	const char *problem = ot_amount_problem(amount, least);

	if (problem != NULL)
		ot_bad_value(name, problem);
}

void
ot_check_time(TimestampTz time, const char *name)
{
	TimestampTz earliest = (TimestampTz) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
	TimestampTz latest = (TimestampTz) (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;

	if (time < earliest || time >= latest)
		ot_bad_value(name, "it must lie between the years 1970 and 9999");
}
