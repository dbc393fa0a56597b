/*
 * accept.h
 *    accept_payment and accept_short.
 */
#ifndef OT_ACCEPT_H
#define OT_ACCEPT_H

#include "answers.h"

extern OrderAnswer ot_payment_accept(const char *gateway, const char *payment_ref, const char *note);
extern OrderAnswer ot_order_accept_short(const char *order_id, const char *note);

/* For resolve_held: the order, not paid, takes this payment and what else of it is held. Answers accepted or short. */
extern const char *ot_held_accept(Order *order, Payment *payment);

#endif
