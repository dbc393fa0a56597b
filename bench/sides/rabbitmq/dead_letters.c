/*
 * dead_letters.c
 *    Order timeouts by RabbitMQ, as bench/sides/rabbitmq.sh needs them.
 *
 * publish: one persistent message an order into the durable queue "waiting", with publisher confirms and a time to live
 * that ends at the order's deadline. The queue has no consumer: what expires is dead-lettered into the durable queue "due".
 *
 * consume: processes that take from "due", close the order in PostgreSQL, write its event, and acknowledge after the
 * commit. A consumer takes all that it has at hand (at most BATCH) and acknowledges it at once; it closes them "together",
 * in one statement, or "each" in a transaction of its own, sent to the database without waiting for the one before.
 *
 * The message is the order's number and its deadline in microseconds.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <libpq-fe.h>

#define CHANNEL        1
#define UNCONFIRMED    2000		/* messages on their way at most */
#define RING           (4 * UNCONFIRMED)
#define LONGEST_BATCH  5000
#define NUMBER_LENGTH  24
#define MOST_CONSUMERS 64
#define PIPELINE       50	/* transactions on their way at most */

static const char *const close_orders =
	"WITH closed AS ("
	" UPDATE order_timeout.orders o SET state = 'expired', settled_at = clock_timestamp(), close_reason = 'deadline'"
	" WHERE o.order_id = ANY ($1) AND o.state = 'pending' AND o.expires_at <= clock_timestamp()"
	" RETURNING o.order_id, o.state, o.amount, o.currency, o.paid, o.refund_pending, o.expires_at, o.close_reason, o.settled_at)"
	" INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)"
	" SELECT c.order_id, 'order.expired', jsonb_build_object('state', c.state, 'amount', c.amount, 'currency', c.currency,"
	" 'paid', c.paid, 'refund_pending', c.refund_pending, 'expires_at', c.expires_at, 'reason', c.close_reason), c.settled_at"
	" FROM closed c";

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "dead_letters: %s: %s\n", what, why);
	exit(1);
}

static int64_t
now(void)
{
	struct timeval t;

	gettimeofday(&t, NULL);
	return t.tv_sec * INT64_C(1000000) + t.tv_usec;
}

static void
sleep_until(int64_t time)
{
	int64_t		wait = time - now();

	if (wait > 0)
		usleep(wait);
}

/* The broker. */

static void
check(amqp_rpc_reply_t reply, const char *what)
{
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return;
	die(what, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? amqp_error_string2(reply.library_error)
		: "the broker refused");
}

static void
check_status(int status, const char *what)
{
	if (status != AMQP_STATUS_OK)
		die(what, amqp_error_string2(status));
}

static amqp_connection_state_t
connect_broker(void)
{
	amqp_connection_state_t broker = amqp_new_connection();
	amqp_socket_t *socket = amqp_tcp_socket_new(broker);

	check_status(amqp_socket_open(socket, "127.0.0.1", atoi(getenv("RABBITMQ_NODE_PORT"))), "connect");
	check(amqp_login(broker, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
	amqp_channel_open(broker, CHANNEL);
	check(amqp_get_rpc_reply(broker), "channel");
	return broker;
}

static int
declare_queue(amqp_connection_state_t broker, const char *name, amqp_table_t arguments)
{
	amqp_queue_declare_ok_t *queue = amqp_queue_declare(broker, CHANNEL, amqp_cstring_bytes(name), false, true, false, false,
														arguments);

	check(amqp_get_rpc_reply(broker), name);
	return queue->message_count;
}

/* Declares both queues; returns how many messages are due. */
static int
declare(amqp_connection_state_t broker)
{
	amqp_table_entry_t entries[2] = {0};
	amqp_table_t waiting = {2, entries};
	const char *keys[] = {"x-dead-letter-exchange", "x-dead-letter-routing-key"};
	const char *values[] = {"", "due"};

	for (int i = 0; i < 2; i++)
	{
		entries[i].key = amqp_cstring_bytes(keys[i]);
		entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
		entries[i].value.value.bytes = amqp_cstring_bytes(values[i]);
	}
	declare_queue(broker, "waiting", waiting);
	return declare_queue(broker, "due", amqp_empty_table);
}

/* Publishing. */

/* They may come in any order: each message is ticked off by itself. */
typedef struct Confirms
{
	uint64_t	published;		/* the last one's tag */
	uint64_t	lowest;			/* none below it is open */
	int			open_count;
	bool		open[RING];
} Confirms;

static void
confirm(Confirms *confirms, uint64_t tag)
{
	confirms->open_count -= confirms->open[tag % RING];
	confirms->open[tag % RING] = false;
}

/* Reads one confirmation; waits for it at most so long. */
static bool
read_confirm(amqp_connection_state_t broker, Confirms *confirms, struct timeval *wait)
{
	amqp_frame_t frame;
	int			status = amqp_simple_wait_frame_noblock(broker, &frame, wait);
	amqp_basic_ack_t *ack;

	if (status == AMQP_STATUS_TIMEOUT)
		return false;
	check_status(status, "confirm");
	if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
		die("confirm", "something else came");
	ack = frame.payload.method.decoded;
	confirm(confirms, ack->delivery_tag);
	for (; ack->multiple && confirms->lowest < ack->delivery_tag; confirms->lowest++)
		confirm(confirms, confirms->lowest);
	while (confirms->lowest <= confirms->published && !confirms->open[confirms->lowest % RING])
		confirms->lowest++;
	amqp_maybe_release_buffers(broker);
	return true;
}

static void
publish_one(amqp_connection_state_t broker, int64_t number, int64_t deadline)
{
	char		body[64];
	char		time_to_live[24];
	int64_t		left = deadline - now();
	amqp_basic_properties_t properties = {0};

	snprintf(body, sizeof(body), "%lld %lld", (long long) number, (long long) deadline);
	/* Rounded up: it must not come before the deadline. */
	snprintf(time_to_live, sizeof(time_to_live), "%lld", (long long) (left > 0 ? (left + 999) / 1000 : 0));
	properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_EXPIRATION_FLAG;
	properties.delivery_mode = 2;
	properties.expiration = amqp_cstring_bytes(time_to_live);
	check_status(amqp_basic_publish(broker, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes("waiting"), false, false, &properties,
									amqp_cstring_bytes(body)), "publish");
}

/*
 * publish FIRST COUNT DEADLINE STEP LEAD: order FIRST + i has its deadline at DEADLINE + i * STEP (microseconds since
 * 1970) and is published LEAD before, or at once when that is past.
 */
static void
publish(char **arguments)
{
	int64_t		first = atoll(arguments[0]);
	int64_t		count = atoll(arguments[1]);
	int64_t		deadline = atoll(arguments[2]);
	int64_t		step = atoll(arguments[3]);
	int64_t		lead = atoll(arguments[4]);
	amqp_connection_state_t broker = connect_broker();
	Confirms	confirms = {.lowest = 1};
	struct timeval at_once = {0, 0};
	struct timeval long_enough = {30, 0};

	declare(broker);
	amqp_confirm_select(broker, CHANNEL);
	check(amqp_get_rpc_reply(broker), "confirms");
	for (int64_t i = 0; i < count; i++)
	{
		sleep_until(deadline + i * step - lead);
		publish_one(broker, first + i, deadline + i * step);
		confirms.open[++confirms.published % RING] = true;
		confirms.open_count++;
		while (read_confirm(broker, &confirms, &at_once))
			;
		/* The next one needs the place of the oldest in the ring. */
		while (confirms.open_count >= UNCONFIRMED || confirms.published + 1 - confirms.lowest >= RING)
			if (!read_confirm(broker, &confirms, &long_enough))
				die("publish", "no confirms for 30 seconds");
	}
	while (confirms.open_count > 0)
		if (!read_confirm(broker, &confirms, &long_enough))
			die("publish", "no confirms for 30 seconds");
}

/* Consuming. */

typedef struct Shared
{
	volatile int ready;
	volatile int go;
	volatile int64_t done;		/* messages closed and acknowledged */
} Shared;

typedef struct Batch
{
	int			length;
	uint64_t	last_tag;
	int64_t		deadline;		/* the last one of them */
	char		numbers[LONGEST_BATCH][NUMBER_LENGTH];
} Batch;

/* Takes the next message, if one comes in time. */
static bool
take(amqp_connection_state_t broker, Batch *batch, struct timeval *wait)
{
	amqp_envelope_t envelope;
	amqp_rpc_reply_t reply;
	char		body[64];
	long long	number;
	long long	deadline;

	amqp_maybe_release_buffers(broker);
	reply = amqp_consume_message(broker, &envelope, wait, 0);
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && reply.library_error == AMQP_STATUS_TIMEOUT)
		return false;
	check(reply, "consume");
	snprintf(body, sizeof(body), "%.*s", (int) envelope.message.body.len, (char *) envelope.message.body.bytes);
	if (sscanf(body, "%lld %lld", &number, &deadline) != 2)
		die("consume", "what message is this");
	snprintf(batch->numbers[batch->length++], NUMBER_LENGTH, "%lld", number);
	batch->last_tag = envelope.delivery_tag;
	if (deadline > batch->deadline)
		batch->deadline = deadline;
	amqp_destroy_envelope(&envelope);
	return true;
}

static PGconn *
connect_database(void)
{
	PGconn	   *database = PQconnectdb("");
	PGresult   *result = PQprepare(database, "close", close_orders, 1, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("database", PQerrorMessage(database));
	PQclear(result);
	return database;
}

static void
close_together(PGconn *database, Batch *batch)
{
	static char literal[LONGEST_BATCH * NUMBER_LENGTH + 2];
	const char *values[] = {literal};
	size_t		used = 0;
	PGresult   *result;

	for (int i = 0; i < batch->length; i++)
		used += sprintf(literal + used, "%c%s", i == 0 ? '{' : ',', batch->numbers[i]);
	strcpy(literal + used, "}");
	result = PQexecPrepared(database, "close", 1, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("database", PQerrorMessage(database));
	PQclear(result);
}

/* Results come in groups: that of a statement, a NULL, that of its sync. */
static void
read_closing(PGconn *database)
{
	ExecStatusType wanted[] = {PGRES_COMMAND_OK, PGRES_PIPELINE_SYNC};

	for (int i = 0; i < 2; i++)
	{
		PGresult   *result = PQgetResult(database);

		if (PQresultStatus(result) != wanted[i])
			die("database", PQerrorMessage(database));
		PQclear(result);
		if (i == 0 && PQgetResult(database) != NULL)
			die("database", "more than one result");
	}
}

static void
close_each(PGconn *database, Batch *batch)
{
	int			on_their_way = 0;

	for (int i = 0; i < batch->length; i++)
	{
		char		literal[NUMBER_LENGTH + 2];
		const char *values[] = {literal};

		snprintf(literal, sizeof(literal), "{%s}", batch->numbers[i]);
		if (PQsendQueryPrepared(database, "close", 1, values, NULL, NULL, 0) != 1 || PQpipelineSync(database) != 1)
			die("database", PQerrorMessage(database));
		if (++on_their_way == PIPELINE)
		{
			read_closing(database);
			on_their_way--;
		}
	}
	while (on_their_way-- > 0)
		read_closing(database);
}

static void
consumer(Shared *shared, int64_t count, bool together, int longest_batch, int prefetch)
{
	amqp_connection_state_t broker = connect_broker();
	PGconn	   *database = connect_database();
	static Batch batch;
	struct timeval a_while = {0, 100000};
	struct timeval at_once = {0, 0};

	if (!together && PQenterPipelineMode(database) != 1)
		die("database", PQerrorMessage(database));
	amqp_basic_qos(broker, CHANNEL, 0, prefetch, false);
	check(amqp_get_rpc_reply(broker), "prefetch");
	__sync_fetch_and_add(&shared->ready, 1);
	while (!shared->go)
		usleep(1000);
	amqp_basic_consume(broker, CHANNEL, amqp_cstring_bytes("due"), amqp_empty_bytes, false, false, false, amqp_empty_table);
	check(amqp_get_rpc_reply(broker), "consume");
	while (shared->done < count)
	{
		memset(&batch, 0, offsetof(Batch, numbers));
		if (!take(broker, &batch, &a_while))
			continue;
		while (batch.length < longest_batch && take(broker, &batch, &at_once))
			;
		sleep_until(batch.deadline);
		(together ? close_together : close_each) (database, &batch);
		check_status(amqp_basic_ack(broker, CHANNEL, batch.last_tag, true), "acknowledge");
		__sync_fetch_and_add(&shared->done, batch.length);
	}
	PQfinish(database);
	check(amqp_connection_close(broker, AMQP_REPLY_SUCCESS), "close");
}

/* Takes note of a consumer's end; one that failed ends all. */
static bool
reap(const pid_t *children, int count, int options)
{
	int			status;
	pid_t		ended = waitpid(-1, &status, options);

	if (ended <= 0 || status == 0)
		return ended > 0;
	for (int i = 0; i < count; i++)
		if (children[i] != ended)
			kill(children[i], SIGTERM);
	die("consume", "a consumer failed");
	return false;
}

/* consume CONSUMERS each|together BATCH PREFETCH COUNT: prints when they began, and ends when COUNT messages are done. */
static void
consume(char **arguments)
{
	int			consumers = atoi(arguments[0]);
	int			longest_batch = atoi(arguments[2]);
	Shared	   *shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t		children[MOST_CONSUMERS];

	if (longest_batch < 1 || longest_batch > LONGEST_BATCH || consumers < 1 || consumers > MOST_CONSUMERS)
		die("consume", "no such batch or number of consumers");
	for (int i = 0; i < consumers; i++)
		if ((children[i] = fork()) == 0)
		{
			consumer(shared, atoll(arguments[4]), strcmp(arguments[1], "together") == 0, longest_batch, atoi(arguments[3]));
			exit(0);
		}
	while (shared->ready < consumers)
	{
		usleep(1000);
		reap(children, consumers, WNOHANG);
	}
	printf("%.6f\n", now() / 1e6);
	fflush(stdout);
	shared->go = 1;
	while (reap(children, consumers, 0))
		;
}

int
main(int count, char **arguments)
{
	if (count == 7 && strcmp(arguments[1], "publish") == 0)
		publish(arguments + 2);
	else if (count == 7 && strcmp(arguments[1], "consume") == 0)
		consume(arguments + 2);
	else if (count == 2 && strcmp(arguments[1], "due") == 0)
		printf("%d\n", declare(connect_broker()));
	else
		die("usage", "publish FIRST COUNT DEADLINE STEP LEAD | consume CONSUMERS each|together BATCH PREFETCH COUNT | due");
	return 0;
}
