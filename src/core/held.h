/*
 * held.h
 *    resolve_held.
 */
#ifndef OT_HELD_H
#define OT_HELD_H

#include "answers.h"

extern OrderAnswer ot_held_resolve(const char *gateway, const char *payment_ref, Decision decision);

#endif
