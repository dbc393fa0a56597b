/*
 * attempt_authorize.h
 *    authorize_attempt: a gateway promises money.
 */
#ifndef OT_ATTEMPT_AUTHORIZE_H
#define OT_ATTEMPT_AUTHORIZE_H

#include "answers.h"
#include "attempt_state.h"

extern OrderAnswer ot_attempt_authorize(const char *gateway, const char *attempt_ref, const Authorization *authorization);

#endif
