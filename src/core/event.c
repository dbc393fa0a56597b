/*
 * event.c
 *    What happened, as rows of order_timeout.events: written by the functions in the same transaction, not by
 *    triggers, so that a restore of the tables repeats nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "event.h"
#include "rules.h"
#include "store.h"
#include "unwritten.h"

#define MAX_MEMBERS 16

/* An object of jsonb whose keys are kept in jsonb's own order, so that nothing has to be sorted when it is written. */
struct Payload
{
	int			count;
	JsonbPair	members[MAX_MEMBERS];
};

Payload *
ot_payload(void)
{
	Payload    *payload = palloc(sizeof(Payload));

	payload->count = 0;
	return payload;
}

static void
set_text(JsonbValue *to, const char *text)
{
	to->type = jbvString;
	to->val.string.val = unconstify(char *, text);
	to->val.string.len = ot_cut_length(text, strlen(text)); /* version 0.1.0 stored texts of any length */
}

/* Shorter keys first, keys of one length by their bytes. */
static bool
comes_before(const char *name, int length, const JsonbValue *key)
{
	if (length != key->val.string.len)
		return length < key->val.string.len;
	return memcmp(name, key->val.string.val, length) < 0;
}

/* Makes room for a member; the answer is its value, to be set. */
static JsonbValue *
member(Payload *payload, const char *name)
{
	int			length = strlen(name);
	JsonbPair  *place = payload->members + payload->count++;

	if (payload->count > MAX_MEMBERS)
		elog(ERROR, "an event's payload has more than %d members", MAX_MEMBERS);
	for (; place > payload->members && comes_before(name, length, &place[-1].key); place--)
		*place = place[-1];
	set_text(&place->key, name);
	return &place->value;
}

void
ot_payload_text(Payload *payload, const char *name, const char *text)
{
	if (text != NULL)
		set_text(member(payload, name), text);
}

void
ot_payload_int(Payload *payload, const char *name, int64 number)
{
	JsonbValue *value = member(payload, name);

	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
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

/* The role whose rights were used, and the one that logged in. */
static void
put_decider(Payload *payload)
{
	ot_payload_text(payload, "role", GetUserNameFromId(GetUserId(), true));
	ot_payload_text(payload, "session_user", GetUserNameFromId(GetSessionUserId(), true));
}

static Jsonb *
payload_jsonb(Payload *payload)
{
	JsonbValue	object = {.type = jbvObject};

	object.val.object.nPairs = payload->count;
	object.val.object.pairs = payload->members;
	return JsonbValueToJsonb(&object);
}

Event *
ot_event_make(const char *order_id, const char *type, Payload *payload, TimestampTz now)
{
	Event	   *event = palloc(sizeof(Event));

	if (payload == NULL)
		payload = ot_payload();
	if (ot_decides())
		put_decider(payload);
	event->id = 0;				/* the store numbers it */
	event->aggregatetype = "order";
	event->order_id = order_id;
	event->type = type;
	event->payload = payload_jsonb(payload);
	event->created_at = now;
	pfree(payload);				/* a batch makes as many as it has orders */
	return event;
}

/* PostgreSQL sends one notification for all of a transaction. */
static void
announce(void)
{
	if (ot_store_notifies())
		Async_Notify("order_timeout_events", "");
}

void
ot_events_end(void)
{
	KeptEvents *kept = ot_kept_events();
	List	   *events = kept->events;

	/* Taken first: a user's trigger may make a call that is in the midst of this one. */
	kept->events = NIL;
	kept->effects_from = 0;
	if (list_length(events) == 1)
		ot_store_add_event(linitial(events));
	else if (events != NIL)
		ot_store_add_events(events);
	if (events != NIL)
		announce();
}

void
ot_event_add(Event *event)
{
	KeptEvents *kept = ot_kept_events();

	if (kept->events == NIL && kept->held == 0)
	{
		ot_store_add_event(event);
		announce();
		return;
	}
	kept->events = list_insert_nth(kept->events, kept->effects_from, event);
	kept->effects_from = list_length(kept->events);
	if (kept->held == 0)
		ot_events_end();
}

/* Of several orders; each one's before its effects. */
void
ot_events_add(List *events)
{
	KeptEvents *kept = ot_kept_events();

	Assert(kept->held == 0 && kept->effects_from == 0);
	kept->events = list_concat(events, kept->events);
	ot_events_end();
}

void
ot_event(const char *order_id, const char *type, Payload *payload, TimestampTz now)
{
	ot_event_add(ot_event_make(order_id, type, payload, now));
}

void
ot_effect(const char *order_id, const char *type, Payload *payload, TimestampTz now)
{
	KeptEvents *kept = ot_kept_events();

	kept->events = lappend(kept->events, ot_event_make(order_id, type, payload, now));
}

/* Answers what ot_events_release() wants to know. */
int
ot_events_hold(void)
{
	KeptEvents *kept = ot_kept_events();
	int			held_from = kept->effects_from;

	kept->held++;
	kept->effects_from = list_length(kept->events);
	return held_from;
}

void
ot_events_release(int held_from)
{
	KeptEvents *kept = ot_kept_events();

	kept->held--;
	kept->effects_from = held_from;
}

Payload *
ot_order_payload(const Order *order)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "state", ot_order_states[order->state]);
	ot_payload_int(payload, "amount", order->amount);
	ot_payload_text(payload, "currency", order->currency);
	ot_payload_int(payload, "paid", order->funds.paid);
	ot_payload_int(payload, "refund_pending", order->funds.refund_pending);
	ot_payload_time(payload, "expires_at", order->expires_at);
	ot_payload_time(payload, "open_until", order->open_until);
	ot_payload_text(payload, "reason", order->close_reason);
	return payload;
}

Payload *
ot_attempt_payload(const Attempt *attempt)
{
	Payload    *payload = ot_payload();

	ot_payload_text(payload, "gateway", attempt->gateway);
	ot_payload_text(payload, "attempt_ref", attempt->attempt_ref);
	ot_payload_text(payload, "state", ot_attempt_states[attempt->state]);
	if (attempt->authorized > 0)
		ot_payload_int(payload, "amount", attempt->authorized);
	ot_payload_text(payload, "currency", attempt->currency);
	ot_payload_time(payload, "valid_until", attempt->valid_until);
	ot_payload_time(payload, "holds_until", attempt->holds_until);
	ot_payload_int(payload, "attempts", attempt->attempts);
	ot_payload_time(payload, "next_attempt_at", attempt->next_attempt_at);
	ot_payload_text(payload, "worker", attempt->lease.worker);
	ot_payload_text(payload, "error", attempt->last_error);
	return payload;
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
	ot_payload_text(payload, "worker", refund->lease.worker);
	ot_payload_text(payload, "gateway_refund_ref", refund->gateway_refund_ref);
	ot_payload_text(payload, "error", refund->last_error);
	ot_payload_text(payload, "note", refund->note);
	return payload;
}

void
ot_refund_event(const Refund *refund, const char *type, TimestampTz now)
{
	ot_event(refund->order_id, type, ot_refund_payload(refund), now);
}

void
ot_refund_effect(const Refund *refund, const char *type, TimestampTz now)
{
	ot_effect(refund->order_id, type, ot_refund_payload(refund), now);
}
