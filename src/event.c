/*
 * event.c
 *    What happened, as rows of order_timeout.events: written by the functions in the same transaction, not by
 *    triggers, so that a restore of the tables repeats nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "event.h"
#include "store.h"

StringInfo
ot_payload(void)
{
	return makeStringInfo();
}

static void
member(StringInfo payload, const char *name)
{
	appendStringInfoString(payload, payload->len == 0 ? "{" : ", ");
	escape_json(payload, name);
	appendStringInfoString(payload, ": ");
}

void
ot_payload_text(StringInfo payload, const char *name, const char *value)
{
	if (value == NULL)
		return;
	member(payload, name);
	escape_json(payload, value);
}

void
ot_payload_int(StringInfo payload, const char *name, int64 value)
{
	member(payload, name);
	appendStringInfo(payload, INT64_FORMAT, value);
}

void
ot_payload_time(StringInfo payload, const char *name, TimestampTz value)
{
	char		buffer[MAXDATELEN + 1];

	if (value == OT_NO_TIME)
		return;
	ot_payload_text(payload, name, JsonEncodeDateTime(buffer, TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL));
}

Event *
ot_event_make(const char *order_id, const char *type, StringInfo payload, TimestampTz now)
{
	Event	   *event = palloc(sizeof(Event));

	event->order_id = order_id;
	event->type = type;
	event->created_at = now;
	if (payload == NULL || payload->len == 0)
		event->payload = "{}";
	else
	{
		appendStringInfoChar(payload, '}');
		event->payload = payload->data;
	}
	return event;
}

void
ot_event(const char *order_id, const char *type, StringInfo payload, TimestampTz now)
{
	ot_store_add_event(ot_event_make(order_id, type, payload, now));
}

StringInfo
ot_payment_payload(const Payment *payment)
{
	StringInfo	payload = ot_payload();

	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_int(payload, "amount", payment->funds.paid);
	ot_payload_text(payload, "currency", payment->currency);
	ot_payload_text(payload, "disposition", ot_dispositions[payment->disposition]);
	ot_payload_text(payload, "late_reason", payment->late_reason);
	return payload;
}

StringInfo
ot_refund_payload(const Refund *refund)
{
	StringInfo	payload = ot_payload();

	ot_payload_text(payload, "refund_ref", refund->refund_ref);
	ot_payload_text(payload, "gateway", refund->gateway);
	ot_payload_text(payload, "payment_ref", refund->payment_ref);
	ot_payload_int(payload, "amount", refund->amount);
	ot_payload_text(payload, "currency", refund->currency);
	ot_payload_text(payload, "reason", ot_refund_reasons[refund->reason]);
	ot_payload_text(payload, "state", ot_refund_states[refund->state]);
	ot_payload_int(payload, "attempts", refund->attempts);
	ot_payload_time(payload, "next_attempt_at", refund->next_attempt_at);
	ot_payload_text(payload, "worker", refund->worker);
	ot_payload_text(payload, "gateway_refund_ref", refund->gateway_refund_ref);
	ot_payload_text(payload, "error", refund->last_error);
	ot_payload_text(payload, "note", refund->note);
	return payload;
}
