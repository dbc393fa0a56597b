/*
 * currency.h
 *    Amounts as people write them, in minor units.
 */
#ifndef OT_CURRENCY_H
#define OT_CURRENCY_H

#include "postgres.h"

/* How many decimals its major unit has by ISO 4217, or -1 if it is not a currency known here. */
extern int	ot_currency_exponent(const char *currency);

/* A decimal number of major units; with is_major false a whole number of minor ones. Errors: 22023, 22003. */
extern int64 ot_minor_units_of(const char *amount, const char *currency, bool is_major);

/* As people write it, in major units with the currency. Where its decimals are not known, minor units that say so. */
extern char *ot_amount_words(int64 amount, const char *currency);

#endif
