/*
 * event.c
 *    What happened, as rows of order_timeout.events: written by the functions in the same transaction, not by
 *    triggers, so that a restore of the tables repeats nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "event.h"
#include "store.h"

struct Payload
{
	JsonbParseState *members;
};

Payload *
ot_payload(void)
{
	Payload    *payload = palloc0(sizeof(Payload));

	pushJsonbValue(&payload->members, WJB_BEGIN_OBJECT, NULL);
	return payload;
}

static void
set_text(JsonbValue *to, const char *text)
{
	to->type = jbvString;
	to->val.string.val = unconstify(char *, text);
	to->val.string.len = strlen(text);
}

static void
member(Payload *payload, const char *name, JsonbValue *value)
{
	JsonbValue	key;

	set_text(&key, name);
	pushJsonbValue(&payload->members, WJB_KEY, &key);
	pushJsonbValue(&payload->members, WJB_VALUE, value);
}

void
ot_payload_text(Payload *payload, const char *name, const char *text)
{
	JsonbValue	value;

	if (text == NULL)
		return;
	set_text(&value, text);
	member(payload, name, &value);
}

void
ot_payload_int(Payload *payload, const char *name, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	member(payload, name, &value);
}

void
ot_payload_time(Payload *payload, const char *name, TimestampTz time)
{
	char	   *text;

	if (time == OT_NO_TIME)
		return;
	text = palloc(MAXDATELEN + 1);
	JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL);
	ot_payload_text(payload, name, text);
}

Event *
ot_event_make(const char *order_id, const char *type, Payload *payload, TimestampTz now)
{
	Event	   *event = palloc(sizeof(Event));

	if (payload == NULL)
		payload = ot_payload();
	event->order_id = order_id;
	event->type = type;
	event->payload = JsonbValueToJsonb(pushJsonbValue(&payload->members, WJB_END_OBJECT, NULL));
	event->created_at = now;
	return event;
}

void
ot_event(const char *order_id, const char *type, Payload *payload, TimestampTz now)
{
	ot_store_add_event(ot_event_make(order_id, type, payload, now));
}

Payload *
ot_payment_payload(const Payment *payment)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "gateway", payment->gateway);
	ot_payload_text(payload, "payment_ref", payment->payment_ref);
	ot_payload_int(payload, "amount", payment->funds.paid);
	ot_payload_text(payload, "currency", payment->currency);
	ot_payload_text(payload, "disposition", ot_dispositions[payment->disposition]);
	ot_payload_text(payload, "late_reason", payment->late_reason);
	return payload;
}

Payload *
ot_refund_payload(const Refund *refund)
{
	Payload    *payload = ot_payload();

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
