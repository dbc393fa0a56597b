/*
 * check.c
 *    What a value must be, whoever brings it: a call's argument, or a user's function that answers.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "check.h"
#include "rules.h"

/* ISO 8859, of whatever part, has C1 where others have letters or the beginnings of characters. */
static bool
is_iso_8859(int encoding)
{
	switch (encoding)
	{
		case PG_LATIN1:
		case PG_LATIN2:
		case PG_LATIN3:
		case PG_LATIN4:
		case PG_LATIN5:
		case PG_LATIN6:
		case PG_LATIN7:
		case PG_LATIN8:
		case PG_LATIN9:
		case PG_LATIN10:
		case PG_ISO_8859_5:
		case PG_ISO_8859_6:
		case PG_ISO_8859_7:
		case PG_ISO_8859_8:
			return true;
		default:
			return false;
	}
}

/*
 * How many bytes the character beyond ASCII has, or 0 if it is one of C1. SQL_ASCII may be anything, and is mostly UTF-8:
 * it is read so, and what is none of it as ISO 8859.
 */
static int
beyond_ascii(const unsigned char *byte, int encoding)
{
	int			length;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
	{
		length = pg_utf_mblen(byte);
		if (length > 1 && strnlen((const char *) byte, length) == length && pg_utf8_islegal(byte, length))
			return byte[0] == 0xc2 && byte[1] <= 0x9f ? 0 : length;
	}
	else if (!is_iso_8859(encoding))
		return 1;
	return *byte <= 0x9f ? 0 : 1;
}

/* Which byte begins one, from 1 on, or 0. C0 and DEL in every encoding; C1 where it can be recognised. */
static int
find_control_character(const char *text)
{
	const unsigned char *byte = (const unsigned char *) text;
	int			encoding = GetDatabaseEncoding();
	int			length;

	for (; *byte; byte += length)
	{
		length = *byte < 0x80 ? 1 : beyond_ascii(byte, encoding);
		if (*byte < 0x20 || *byte == 0x7f || length == 0)
			return (const char *) byte - text + 1;
	}
	return 0;
}

const char *
ot_id_problem(const char *id)
{
	int			control_character;

	if (id[0] == '\0')
		return "it is empty";
	if (strlen(id) > OT_MAX_ID_BYTES)
		return psprintf("it is %zu bytes long", strlen(id));
	control_character = find_control_character(id);
	if (control_character > 0)
		return psprintf("byte %d is a control character", control_character);
	return NULL;
}

const char *
ot_amount_problem(int64 amount, int64 least)
{
	if (amount >= least)
		return NULL;
	return psprintf("%lld %s", (long long) amount, least == 0 ? "is negative" : "is not greater than zero");
}

const char *
ot_time_problem(TimestampTz time)
{
	TimestampTz earliest = (TimestampTz) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
	TimestampTz latest = (TimestampTz) (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;

	if (time >= earliest && time < latest)
		return NULL;
	return psprintf("%s is not between the years 1970 and 9999", timestamptz_to_str(time));
}

const char *
ot_currency_problem(const char *currency)
{
	if (strlen(currency) == 3 && strspn(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3)
		return NULL;
	return psprintf("\"%s\" is not three capital letters", ot_cut_text(currency));
}
