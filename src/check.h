/*
 * check.h
 *    What a value must be, wherever it comes from: an argument, a row of a linked table, the answer of a function of the
 *    user's.
 */
#ifndef OT_CHECK_H
#define OT_CHECK_H

#include "postgres.h"

#include "compat.h"
#include "datatype/timestamp.h"

/* What is wrong with it, in words that follow "invalid NAME: "; NULL if nothing is. */
extern const char *ot_id_problem(const char *id);
extern const char *ot_amount_problem(int64 amount, int64 least);

/* The rest raise 22023: invalid NAME: WHY. */
pg_noreturn extern void ot_bad_value(const char *name, const char *why);

/* 1 to 255 bytes, no control characters. */
extern void ot_check_id(const char *id, const char *name);
/* Three capital letters. */
extern void ot_check_currency(const char *currency, const char *name);
extern void ot_check_amount(int64 amount, int64 least, const char *name);
/* Between the years 1970 and 9999. */
extern void ot_check_time(TimestampTz time, const char *name);

#endif
