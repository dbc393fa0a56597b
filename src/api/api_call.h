/*
 * api_call.h
 *    A call of a SQL function: when it returns, every row that it changed is written, and what follows is done.
 */
#ifndef OT_API_CALL_H
#define OT_API_CALL_H

#include "fmgr.h"

/* Stands where a SQL function's C function has its name and arguments; its body follows. */
#define OT_FUNCTION(name) OT_ANY_FUNCTION(name, CALL_PLAIN)

/* The same for one by which a gateway reports money: what follows must not refuse it. */
#define OT_MONEY_FUNCTION(name) OT_ANY_FUNCTION(name, CALL_REPORTS_MONEY)

/* The same for one by which the caller decides about an order or its money: its events say which role that was. */
#define OT_DECISION_FUNCTION(name) OT_ANY_FUNCTION(name, CALL_DECIDES)

typedef enum CallKind
{
	CALL_PLAIN,
	CALL_REPORTS_MONEY,
	CALL_DECIDES
} CallKind;

#define OT_ANY_FUNCTION(name, kind) \
	static Datum name##_body(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		return ot_call(name##_body, fcinfo, kind); \
	} \
	static Datum \
	name##_body(PG_FUNCTION_ARGS)

extern Datum ot_call(PGFunction body, FunctionCallInfo fcinfo, CallKind kind);

/* 2D000 unless a procedure was called alone, so that it can commit; the texts are DETAIL and HINT. */
extern void ot_require_own_transactions(FunctionCallInfo fcinfo, const char *procedure, const char *commits, const char *instead);

/* For a name in C that only SQL functions of an older version have: says what to run. */
extern Datum ot_refuse_older_objects(void);

#endif
