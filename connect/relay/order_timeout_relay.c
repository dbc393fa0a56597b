/*
 * order_timeout_relay.c
 *    Publishes the events of order_timeout to RabbitMQ. doc/relay.md says what receivers may rely on.
 *
 *    no batch --read--> read --publish--> confirmed --acknowledge--> no batch
 *
 * 1. An event is acknowledged in the database only after the broker has confirmed it. So the process may die at any
 *    moment: what it had in hand comes again when its lease is over.
 * 2. Nothing is published after half of the lease: another relay may get the batch when the lease is over. What is not
 *    confirmed by then is given up together with the connection, which may still have it in its buffers.
 * 3. Of a batch, the first are acknowledged that are confirmed. The first one that is not, and all after it, are
 *    published again, so that the last copies come in order.
 * 4. A batch outlives both connections; what fails is tried again after a wait.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backoff.h"
#include "broker.h"
#include "database.h"
#include "log.h"
#include "options.h"
#include "stop.h"

#define REPORT_EVERY   (60 * SECOND)
#define LONGEST_PAUSE  SECOND

typedef struct Relay
{
	Options		options;
	Database	database;
	Backoff		database_backoff;
	Broker		broker;
	Backoff		broker_backoff;
	Batch		batch;			/* without rows: there is none */
	bool		one_by_one;		/* the broker closes because of one event: which one? */
	int64_t		next_read;
	int64_t		relayed;		/* events, since the last report */
	int64_t		relayed_in_all;
	int64_t		next_report;
} Relay;

/* ------------------------------------------------------------ the connections */

static void
database_failed(Relay *relay)
{
	database_close(&relay->database);
	log_line(LOG_ERROR, "database: %s; again in %.1f s", relay->database.problem, backoff_failed(&relay->database_backoff));
}

static void
broker_failed(Relay *relay)
{
	broker_close(&relay->broker);
	log_line(LOG_ERROR, "broker: %s; again in %.1f s", relay->broker.problem, backoff_failed(&relay->broker_backoff));
}

static bool
has_database(Relay *relay)
{
	if (relay->database.connection != NULL)
		return true;
	if (!backoff_is_over(&relay->database_backoff))
		return false;
	if (!database_connect(&relay->database))
	{
		database_failed(relay);
		return false;
	}
	backoff_connected(&relay->database_backoff);
	log_line(LOG_INFO, "database: connected");
	relay->next_read = 0;
	return true;
}

/* Also false while a message that was refused waits for its next try. */
static bool
has_broker(Relay *relay)
{
	if (!backoff_is_over(&relay->broker_backoff))
		return false;
	if (relay->broker.connection != NULL)
		return true;
	if (!broker_connect(&relay->broker))
	{
		broker_failed(relay);
		return false;
	}
	backoff_connected(&relay->broker_backoff);
	log_line(LOG_INFO, "broker: connected");
	return true;
}

/* Waits until something comes, or the time is over; takes notice of what came. */
static void
pause_for(Relay *relay, int64_t microseconds)
{
	struct pollfd inputs[] = {
		{.fd = stop_is_asked() ? -1 : stop_descriptor(), .events = POLLIN},
		{.fd = database_descriptor(&relay->database), .events = POLLIN},
		{.fd = broker_descriptor(&relay->broker), .events = POLLIN}
	};

	poll(inputs, 3, (microseconds + MILLISECOND - 1) / MILLISECOND);
	if (relay->broker.connection != NULL && !broker_serve(&relay->broker))
		broker_failed(relay);
	if (inputs[1].revents != 0 && !database_receive(&relay->database))
		database_failed(relay);
}

/* False: the connection is lost, or we have to stop. */
static bool
await_answer(Relay *relay)
{
	while (database_is_busy(&relay->database))
	{
		if (stop_is_due())
			return false;
		pause_for(relay, LONGEST_PAUSE);
		if (relay->database.connection == NULL)
			return false;
	}
	return true;
}

/* ------------------------------------------------------------ the arrows */

/* No batch -> read. */
static void
read_batch(Relay *relay)
{
	int64_t		deadline = now() + relay->options.lease * SECOND / 2;

	relay->next_read = now() + relay->options.poll_interval * MILLISECOND;
	if (!database_ask_events(&relay->database))
		database_failed(relay);
	else if (await_answer(relay))
	{
		if (!database_take_events(&relay->database, &relay->batch))
		{
			database_failed(relay);
			return;
		}
		backoff_succeeded(&relay->database_backoff);
		relay->batch.deadline = deadline;
		if (relay->batch.count == 0)
			batch_free(&relay->batch);
	}
}

static void
name_refused(const Relay *relay)
{
	const Message *message = &relay->batch.messages[relay->batch.confirmed];

	log_line(LOG_ERROR, "the broker closes because of event %s (%s); it is published again, and what follows waits",
			 message->id, message->type);
}

/* Read -> confirmed, or a part of it. */
static void
publish_batch(Relay *relay)
{
	Batch	   *batch = &relay->batch;
	int			count = relay->one_by_one ? 1 : batch->count - batch->confirmed;
	int			confirmed;
	PublishOutcome outcome = broker_publish(&relay->broker, batch->messages + batch->confirmed, count, batch->deadline,
											&confirmed);

	batch->confirmed += confirmed;
	if (confirmed > 0)
		backoff_succeeded(&relay->broker_backoff);
	if (outcome == PUBLISH_REFUSED)
		log_line(LOG_WARNING, "%d events are published again in %.1f s", batch->count - batch->confirmed,
				 backoff_failed(&relay->broker_backoff));
	else if (outcome != PUBLISH_CONFIRMED)
		broker_failed(relay);
	if (outcome == PUBLISH_CLOSED && count == 1)
		name_refused(relay);
	if (outcome == PUBLISH_CLOSED)
		relay->one_by_one = true;
	else if (batch->confirmed == batch->count)
		relay->one_by_one = false;
}

static void
count_relayed(Relay *relay)
{
	const Batch *batch = &relay->batch;

	relay->relayed += batch->confirmed;
	relay->relayed_in_all += batch->confirmed;
	log_line(LOG_DEBUG, "relayed %d events, %s to %s", batch->confirmed, batch->messages[0].id,
			 batch->messages[batch->confirmed - 1].id);
}

/* Confirmed -> no batch. */
static void
acknowledge_batch(Relay *relay)
{
	bool		stale;

	if (!database_ask_ack(&relay->database, &relay->batch))
		database_failed(relay);
	else if (await_answer(relay))
	{
		if (!database_take_ack(&relay->database, &stale))
		{
			database_failed(relay);
			return;
		}
		if (stale)
			log_line(LOG_WARNING, "events %s to %s come again: their lease was over", relay->batch.messages[0].id,
					 relay->batch.messages[relay->batch.confirmed - 1].id);
		else
			count_relayed(relay);
		batch_free(&relay->batch);
		relay->next_read = 0;
	}
}

/* Read -> confirmed as far as it is, or no batch. */
static void
give_up_late(Relay *relay)
{
	Batch	   *batch = &relay->batch;

	if (batch->rows == NULL || batch->confirmed == batch->count || now() < batch->deadline)
		return;
	log_line(LOG_WARNING, "events from %s on were not confirmed within half of the lease; they come again when it is over",
			 batch->messages[batch->confirmed].id);
	batch->count = batch->confirmed;
	if (batch->count == 0)
		batch_free(&relay->batch);
}

/* ------------------------------------------------------------ the loop */

/* True: there is more to do at once. */
static bool
advance(Relay *relay)
{
	give_up_late(relay);
	if (relay->batch.rows != NULL && relay->batch.confirmed == relay->batch.count)
	{
		if (has_database(relay))
			acknowledge_batch(relay);
		return relay->batch.rows == NULL;
	}
	if (relay->batch.rows != NULL)
	{
		if (has_broker(relay))
			publish_batch(relay);
		return relay->broker.connection != NULL && backoff_is_over(&relay->broker_backoff);
	}
	if (stop_is_asked() || !has_broker(relay) || !has_database(relay))
		return false;
	if (now() >= relay->next_read || relay->database.notified)
		read_batch(relay);
	return relay->batch.rows != NULL;
}

static int64_t
sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Until the next read, the next try to connect, or the end of the batch. */
static int64_t
idle_time(const Relay *relay)
{
	int64_t		until = now() + LONGEST_PAUSE;

	if (!backoff_is_over(&relay->broker_backoff))
		until = sooner(until, relay->broker_backoff.retry_at);
	if (relay->database.connection == NULL && !backoff_is_over(&relay->database_backoff))
		until = sooner(until, relay->database_backoff.retry_at);
	if (relay->batch.rows != NULL)
		until = sooner(until, relay->batch.deadline);
	else if (relay->broker.connection != NULL && relay->database.connection != NULL)
		until = sooner(until, relay->next_read);
	return until > now() ? until - now() : MILLISECOND;
}

static void
report(Relay *relay)
{
	if (now() < relay->next_report)
		return;
	if (relay->relayed > 0)
		log_line(LOG_INFO, "relayed %lld events in the last minute", (long long) relay->relayed);
	relay->relayed = 0;
	relay->next_report = now() + REPORT_EVERY;
}

static bool
is_finished(const Relay *relay)
{
	return stop_is_asked() && (relay->batch.rows == NULL || stop_is_due());
}

static void
run(Relay *relay)
{
	relay->next_report = now() + REPORT_EVERY;
	while (!is_finished(relay))
	{
		if (!advance(relay) && !is_finished(relay))
			pause_for(relay, idle_time(relay));
		report(relay);
	}
	log_line(LOG_INFO, "stopped: %lld events were relayed%s", (long long) relay->relayed_in_all,
			 relay->batch.rows == NULL ? "" : "; those in hand come again");
}

int
main(int count, char **words)
{
	static Relay relay;

	setvbuf(stderr, NULL, _IOLBF, 0);
	relay.options = read_options(count, words);
	relay.database.options = relay.broker.options = &relay.options;
	if (!broker_url_is_valid(&relay.broker))
	{
		log_line(LOG_ERROR, "%s; it has the form amqp://USER:PASSWORD@HOST:PORT/VHOST, the vhost / as %%2F", relay.broker.problem);
		return EXIT_WRONG_OPTIONS;
	}
	relay.database_backoff.longest = relay.broker_backoff.longest = relay.options.longest_wait * SECOND;
	srandom(time(NULL) ^ getpid());
	stop_on_signals();
	log_line(LOG_INFO, "relaying the events of consumer \"%s\" to exchange \"%s\"", relay.options.consumer,
			 relay.options.exchange);
	run(&relay);
	batch_free(&relay.batch);
	database_close(&relay.database);
	broker_close(&relay.broker);
	return 0;
}
