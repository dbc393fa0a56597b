/*
 * attempt_begin.h
 *    begin_attempt: before a buyer is sent to a gateway.
 */
#ifndef OT_ATTEMPT_BEGIN_H
#define OT_ATTEMPT_BEGIN_H

#include "answers.h"

typedef struct AttemptTerms
{
	const char *order_id;
	char	   *gateway;
	char	   *attempt_ref;
	int64		holds_for;		/* 0: it keeps the order open no longer */
	Jsonb	   *details;
	bool		can_void;
} AttemptTerms;

extern OrderAnswer ot_attempt_to_pay(const AttemptTerms *terms);

#endif
