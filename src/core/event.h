/*
 * event.h
 *    What happened, as rows of order_timeout.events.
 */
#ifndef OT_EVENT_H
#define OT_EVENT_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct Payload Payload;

/* A payload: ot_payload(), then its members. NULL and OT_NO_TIME members are left out. */
extern Payload *ot_payload(void);
extern void ot_payload_text(Payload *payload, const char *name, const char *value);
extern void ot_payload_int(Payload *payload, const char *name, int64 value);
extern void ot_payload_time(Payload *payload, const char *name, TimestampTz value);

/* Uses the payload up; it may be NULL. In a call that decides it gets the role that called. */
extern Event *ot_event_make(const char *order_id, const char *type, Payload *payload, TimestampTz now);

/*
 * A history shows causes before effects, while a function often knows the effects first: what an order owes is written
 * before the order. An effect waits for the next event that is none, is written after it, and at the end of the call where
 * there is no such event. Between ot_events_hold() and ot_events_release() all events wait to become effects of the next one.
 */
extern void ot_event(const char *order_id, const char *type, Payload *payload, TimestampTz now);
extern void ot_event_add(Event *event);
extern void ot_events_add(List *events);
extern void ot_effect(const char *order_id, const char *type, Payload *payload, TimestampTz now);
extern int	ot_events_hold(void);
extern void ot_events_release(int held_from);

/* At the end of a call, before what follows. */
extern void ot_events_end(void);

/* Events about an order, a payment or a refund carry the same members everywhere. */
extern Payload *ot_order_payload(const Order *order);
extern Payload *ot_attempt_payload(const Attempt *attempt);
extern Payload *ot_payment_payload(const Payment *payment);
extern Payload *ot_refund_payload(const Refund *refund);
extern void ot_refund_event(const Refund *refund, const char *type, TimestampTz now);
extern void ot_refund_effect(const Refund *refund, const char *type, TimestampTz now);

#endif
