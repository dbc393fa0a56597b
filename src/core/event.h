/*
 * event.h
 *    What happened, as rows of order_timeout.events.
 */
#ifndef OT_EVENT_H
#define OT_EVENT_H

#include "rows.h"

typedef struct Payload Payload;

/* A payload: ot_payload(), then its members. NULL and OT_NO_TIME members are left out. */
extern Payload *ot_payload(void);
extern void ot_payload_text(Payload *payload, const char *name, const char *value);
extern void ot_payload_int(Payload *payload, const char *name, int64 value);
extern void ot_payload_time(Payload *payload, const char *name, TimestampTz value);

/* Uses the payload up; it may be NULL. In a call that decides it gets the role that called. */
extern Event *ot_event_make(const char *order_id, const char *type, Payload *payload, TimestampTz now);

/* The same, and writes it at once. */
extern void ot_event(const char *order_id, const char *type, Payload *payload, TimestampTz now);

/* Events about an order, a payment or a refund carry the same members everywhere. */
extern Payload *ot_order_payload(const Order *order);
extern Payload *ot_payment_payload(const Payment *payment);
extern Payload *ot_refund_payload(const Refund *refund);
extern void ot_refund_event(const Refund *refund, const char *type, TimestampTz now);

#endif
