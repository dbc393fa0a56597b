/*
 * refund_request.h
 *    request_refund.
 */
#ifndef OT_REFUND_REQUEST_H
#define OT_REFUND_REQUEST_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct RefundRequest
{
	const char *order_id;
	const char *request_key;
	int64		amount;			/* 0: all that is kept */
	const char *reason;
	const char *payment_ref;	/* NULL: of any payment */
	const char *gateway;		/* of that payment; NULL: any */
} RefundRequest;

typedef struct RequestAnswer
{
	const char *outcome;
	List	   *refunds;
} RequestAnswer;

extern RequestAnswer ot_refund_request(const RefundRequest *request);

#endif
