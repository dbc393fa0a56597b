/*
 * void_report.h
 *    complete_void: what a worker or the gateway reports about the end of an attempt; retry_void.
 */
#ifndef OT_VOID_REPORT_H
#define OT_VOID_REPORT_H

#include "rows.h"

typedef struct VoidReport
{
	const char *gateway;
	const char *attempt_ref;
	VoidResult	result;
	const char *lease_token;
	const char *error;
} VoidReport;

typedef struct VoidAnswer
{
	const char *outcome;
	const Attempt *attempt;
} VoidAnswer;

extern VoidAnswer ot_void_complete(const VoidReport *report);

/* The operator decides that it is tried again. */
extern VoidAnswer ot_void_retry(const char *gateway, const char *attempt_ref);

#endif
