/*
 * api_call.h
 *    A call of a SQL function: when it returns, every row that it changed is written.
 */
#ifndef OT_API_CALL_H
#define OT_API_CALL_H

#include "fmgr.h"

/* Stands where a SQL function's C function has its name and arguments; its body follows. */
#define OT_FUNCTION(name) \
	static Datum name##_body(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		return ot_call(name##_body, fcinfo); \
	} \
	static Datum \
	name##_body(PG_FUNCTION_ARGS)

extern Datum ot_call(PGFunction body, FunctionCallInfo fcinfo);

/* For a name in C that only SQL functions of an older version have: says what to run. */
extern Datum ot_refuse_older_objects(void);

#endif
