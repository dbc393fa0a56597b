/*
 * currency.c
 *    Amounts as people write them, in minor units.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"

#include "currency.h"

/* ISO 4217, list one (and codes that left it lately), by exponent. What has no minor units at all (gold, test codes) is not here. */
static const char *const by_exponent[] = {
	"BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF ",
	"",
	"AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
	"CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF "
	"IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV "
	"MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD "
	"SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG ZWL ",
	"BHD IQD JOD KWD LYD OMR TND ",
	"CLF UYW "
};

int
ot_currency_exponent(const char *currency)
{
	char		code[5];

	if (strlen(currency) != 3 || strchr(currency, ' ') != NULL)
		return -1;
	snprintf(code, sizeof(code), "%s ", currency);
	for (int i = 0; i < lengthof(by_exponent); i++)
		if (strstr(by_exponent[i], code) != NULL)
			return i;
	return -1;
}

static void
not_an_amount(const char *amount, const char *currency, bool is_major)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not an amount of %s", amount, currency),
			 is_major ? errhint("Give a number with no more decimals than the currency has.")
			 : errhint("Give a whole number of minor units, as in 1234 for 12.34 EUR.")));
}

int64
ot_minor_units_of(const char *amount, const char *currency, bool is_major)
{
	int			exponent = is_major ? ot_currency_exponent(currency) : 0;
	const char *digits = amount + (amount[0] == '-');
	int			whole = strspn(digits, "0123456789");
	const char *decimals = digits[whole] == '.' ? digits + whole + 1 : digits + whole;
	int			count = strspn(decimals, "0123456789");
	char	   *minor;

	if (exponent < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the minor units of currency \"%s\" are not known", currency),
				 errhint("Use a currency of ISO 4217, or keep amounts in minor units in a column of type bigint.")));
	if (whole + count == 0 || decimals[count] != '\0')
		not_an_amount(amount, currency, is_major);
	while (count > exponent)
		if (decimals[--count] != '0')
			not_an_amount(amount, currency, is_major);
	/* bigint's own input function knows its range. */
	minor = psprintf("%.*s%.*s%.*s%.*s", (int) (digits - amount), amount, whole, digits, count, decimals,
					 exponent - count, "0000");
	return DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(minor)));
}

char *
ot_amount_words(int64 amount, const char *currency)
{
	int			exponent = ot_currency_exponent(currency);
	int64		unit = 1;

	if (exponent < 0)
		return psprintf("%lld %s in minor units", (long long) amount, currency);
	if (exponent == 0)
		return psprintf("%lld %s", (long long) amount, currency);
	for (int i = 0; i < exponent; i++)
		unit *= 10;
	return psprintf("%lld.%0*lld %s", (long long) (amount / unit), exponent, (long long) (amount % unit), currency);
}
