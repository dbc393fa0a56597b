/*
 * check.h
 *    What a value must be, whoever brings it: a call's argument, or a user's function that answers.
 */
#ifndef OT_CHECK_H
#define OT_CHECK_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define OT_MAX_ID_BYTES 255

/* Each says what is wrong with a value, or NULL. An identifier has 1 to OT_MAX_ID_BYTES bytes and no control character. */
extern const char *ot_id_problem(const char *id);
extern const char *ot_amount_problem(int64 amount, int64 least);
extern const char *ot_time_problem(TimestampTz time);
extern const char *ot_currency_problem(const char *currency);

#endif
