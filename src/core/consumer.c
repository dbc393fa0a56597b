/*
 * consumer.c
 *    Named readers of the events. What a position is, and how events are found, stands in sql/install/49_consumers.sql.
 *
 *    no lease --read_events: a batch--> leased --ack_events, or the lease is over--> no lease
 *
 * A batch never spans two windows: the next one is opened when nothing is left of the last. A look without a lock comes
 * first, so that a reader that finds nothing writes nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "consumer.h"
#include "errors.h"
#include "random_key.h"
#include "store.h"
#include "words.h"

pg_noreturn static void
no_such_consumer(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("consumer \"%s\" does not exist", name),
			 errhint("Create it with order_timeout.create_consumer(consumer).")));
}

static bool
same_types(List *a, List *b)
{
	ListCell   *cell;

	if (list_length(a) != list_length(b))
		return false;
	foreach(cell, a)
	{
		if (strcmp(lfirst(cell), list_nth(b, foreach_current_index(cell))) != 0)
			return false;
	}
	return true;
}

/* Not refused: it may be a type that the next version has. */
static void
warn_of_unknown_types(const char *name, List *types)
{
	ListCell   *cell;

	foreach(cell, types)
	{
		const char *type = lfirst(cell);

		if (ot_word_find(ot_event_types, type) < 0)
			ereport(WARNING,
					(errmsg("\"%s\" is no type of event", type),
					 errdetail("Consumer \"%s\" was created, and gets only events whose type is exactly one of its types.", name),
					 errhint("Write each type in full, such as order.paid. To change them, drop the consumer with "
							 "order_timeout.drop_consumer(consumer) and create it again.")));
	}
}

const char *
ot_consumer_create(const char *name, List *types, bool from_now, bool notify)
{
	EventMark	mark = ot_store_mark_events();	/* before the row gives this transaction its number */
	const Consumer *known;

	if (ot_store_add_consumer(name, types, from_now, notify, mark))
	{
		warn_of_unknown_types(name, types);
		return "created";
	}
	known = ot_store_lock_consumer(name);
	if (known != NULL && (known->notify != notify || !same_types(known->types, types)))
		ereport(WARNING,
				(errmsg("consumer \"%s\" exists with other types or another notify", name),
				 errdetail("It stays as it is."),
				 errhint("To change it, drop it with order_timeout.drop_consumer(consumer) and create it again.")));
	return "exists";
}

const char *
ot_consumer_drop(const char *name)
{
	return ot_store_drop_consumer(name) ? "dropped" : "not_found";
}

static Consumer *
lock_consumer(const char *name)
{
	Consumer   *consumer = ot_store_lock_consumer(name);

	if (consumer == NULL)
		no_such_consumer(name);
	return consumer;
}

static List *
next_events(const Consumer *consumer, int max_events, EventMark mark)
{
	List	   *events = NIL;

	if (consumer->has_window)
		events = ot_store_window_events(consumer->name, max_events);
	if (events != NIL)
		return events;
	ot_store_open_window(consumer->name, mark);
	return ot_store_window_events(consumer->name, max_events);
}

EventBatch
ot_consumer_read(const char *name, int max_events, int64 lease)
{
	EventMark	mark = ot_store_mark_events();	/* before the lock gives this transaction its number */
	EventBatch	batch = {NIL, NULL};
	Consumer   *consumer = ot_store_find_consumer(name);

	if (consumer == NULL)
		no_such_consumer(name);
	if (consumer->leased_until > GetCurrentTimestamp() || !ot_store_has_unread(name))
		return batch;
	consumer = lock_consumer(name);
	if (consumer->leased_until > GetCurrentTimestamp())
		return batch;
	batch.events = next_events(consumer, max_events, mark);
	if (batch.events != NIL)
	{
		batch.lease_token = ot_random_key("");
		ot_store_hand_out_events(name, batch.events, list_length(batch.events) < max_events, batch.lease_token,
								 GetCurrentTimestamp() + lease);
	}
	ForceSyncCommit();			/* what is handed out must not be handed out otherwise after a crash */
	return batch;
}

static bool
was_handed_out(const Consumer *consumer, int64 id)
{
	for (int i = 0; i < consumer->batch_size; i++)
		if (consumer->batch[i] == id)
			return true;
	return false;
}

const char *
ot_consumer_acknowledge(const char *name, const char *lease_token, int64 up_to)
{
	Consumer   *consumer = lock_consumer(name);

	if (consumer->lease_token == NULL || strcmp(consumer->lease_token, lease_token) != 0)
		return "stale";
	if (up_to == 0)
		up_to = consumer->batch[consumer->batch_size - 1];
	if (!was_handed_out(consumer, up_to))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid up_to: %lld", (long long) up_to),
				 errdetail("No event with this id was handed out with this lease_token."),
				 errhint("Give an id of the batch, or leave up_to out for all of it.")));
	if (consumer->acknowledged_to == 0)
		ot_store_acknowledge_events(name, up_to);
	else if (consumer->acknowledged_to != up_to)
		return "stale";
	return "acknowledged";
}
