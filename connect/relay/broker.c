/*
 * broker.c
 *    The broker numbers the messages of a channel from 1 (their tags), and confirms them in any order, one by one or all
 *    up to a tag. One that it cannot route comes back (basic.return) before it is confirmed.
 */
#include <stdlib.h>
#include <string.h>

#include "broker.h"
#include "log.h"
#include "stop.h"

#define CHANNEL        1
#define HEARTBEAT      30		/* seconds; a broker that is silent for two of them is lost */
#define LONGEST_CALL   (10 * SECOND)
#define LARGEST_FRAME  131072
#define PERSISTENT     2

static const struct timeval call_limit = {LONGEST_CALL / SECOND, 0};

/* ------------------------------------------------------------ what went wrong */

static bool
failed(Broker *broker, const char *what, int status)
{
	copy_line(broker->problem, LONGEST_BROKER_PROBLEM, "%s: %s", what, amqp_error_string2(status));
	return false;
}

static void
note_close(Broker *broker, const char *what, const amqp_method_t *method)
{
	const amqp_channel_close_t *channel = method->decoded;	/* both begin with code and text */
	const amqp_connection_close_t *connection = method->decoded;
	bool		is_channel = method->id == AMQP_CHANNEL_CLOSE_METHOD;
	amqp_bytes_t text = is_channel ? channel->reply_text : connection->reply_text;

	copy_line(broker->problem, LONGEST_BROKER_PROBLEM, "%s%s%d %.*s", what, *what == '\0' ? "" : ": ",
			  is_channel ? channel->reply_code : connection->reply_code, (int) text.len, (const char *) text.bytes);
}

static bool
is_close(const amqp_method_t *method)
{
	return method->id == AMQP_CHANNEL_CLOSE_METHOD || method->id == AMQP_CONNECTION_CLOSE_METHOD;
}

/* The answer to the last call. */
static bool
answered(Broker *broker, const char *what)
{
	amqp_rpc_reply_t reply = amqp_get_rpc_reply(broker->connection);

	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && is_close(&reply.reply))
		note_close(broker, what, &reply.reply);
	else
		failed(broker, what, reply.library_error);
	return false;
}

/* ------------------------------------------------------------ connecting */

/* It writes into its argument, and points to it. */
static bool
parse_url(Broker *broker, char *url, int size, struct amqp_connection_info *parts)
{
	copy_line(url, size, "%s", broker->options->amqp_url);
	return amqp_parse_url(url, parts) == AMQP_STATUS_OK || failed(broker, "the broker's URL", AMQP_STATUS_BAD_URL);
}

bool
broker_url_is_valid(Broker *broker)
{
	char		url[LONGEST_URL];
	struct amqp_connection_info parts;

	return parse_url(broker, url, sizeof(url), &parts);
}

static amqp_socket_t *
tls_socket(Broker *broker)
{
	const Options *options = broker->options;
	amqp_socket_t *socket = amqp_ssl_socket_new(broker->connection);

	if (socket == NULL)
		abort();
	amqp_ssl_socket_set_verify_peer(socket, true);
	amqp_ssl_socket_set_verify_hostname(socket, true);
	if (amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST) != AMQP_STATUS_OK ||
		amqp_ssl_socket_set_cacert(socket, options->cacert) != AMQP_STATUS_OK)
	{
		failed(broker, options->cacert, AMQP_STATUS_SSL_ERROR);
		return NULL;
	}
	if (options->cert != NULL && amqp_ssl_socket_set_key(socket, options->cert, options->key) != AMQP_STATUS_OK)
	{
		failed(broker, options->cert, AMQP_STATUS_SSL_ERROR);
		return NULL;
	}
	return socket;
}

static bool
open_socket(Broker *broker, const struct amqp_connection_info *parts)
{
	amqp_socket_t *socket = parts->ssl ? tls_socket(broker) : amqp_tcp_socket_new(broker->connection);
	char		where[LONGEST_BROKER_PROBLEM / 2];
	int			status;

	if (socket == NULL)
		return false;
	status = amqp_socket_open_noblock(socket, parts->host, parts->port, &call_limit);
	copy_line(where, sizeof(where), "connect to %s, port %d", parts->host, parts->port);
	return status == AMQP_STATUS_OK || failed(broker, where, status);
}

static bool
log_in(Broker *broker, const struct amqp_connection_info *parts)
{
	amqp_rpc_reply_t reply;

	amqp_set_handshake_timeout(broker->connection, &call_limit);
	amqp_set_rpc_timeout(broker->connection, &call_limit);
	reply = amqp_login(broker->connection, parts->vhost, 0, LARGEST_FRAME, HEARTBEAT, AMQP_SASL_METHOD_PLAIN, parts->user,
					   parts->password);
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && is_close(&reply.reply))
		note_close(broker, "log in", &reply.reply);
	else if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		failed(broker, "log in", reply.library_error);
	return reply.reply_type == AMQP_RESPONSE_NORMAL;
}

static bool
open_channel(Broker *broker)
{
	const Options *options = broker->options;

	amqp_channel_open(broker->connection, CHANNEL);
	if (!answered(broker, "channel"))
		return false;
	amqp_exchange_declare(broker->connection, CHANNEL, amqp_cstring_bytes(options->exchange), amqp_cstring_bytes("topic"),
						  !options->declare, true, false, false, amqp_empty_table);
	if (!answered(broker, "exchange"))
		return false;
	amqp_confirm_select(broker->connection, CHANNEL);
	return answered(broker, "confirms");
}

bool
broker_connect(Broker *broker)
{
	char		url[LONGEST_URL];
	struct amqp_connection_info parts;

	if (!parse_url(broker, url, sizeof(url), &parts))
		return false;
	broker->published = 0;
	broker->connection = amqp_new_connection();
	return open_socket(broker, &parts) && log_in(broker, &parts) && open_channel(broker);
}

/* Without a word of goodbye: what the broker has not confirmed is published again in any case. */
void
broker_close(Broker *broker)
{
	if (broker->connection != NULL)
		amqp_destroy_connection(broker->connection);
	broker->connection = NULL;
}

int
broker_descriptor(const Broker *broker)
{
	return broker->connection == NULL ? -1 : amqp_get_sockfd(broker->connection);
}

bool
broker_serve(Broker *broker)
{
	struct timeval at_once = {0};
	amqp_frame_t frame;
	int			status;

	while ((status = amqp_simple_wait_frame_noblock(broker->connection, &frame, &at_once)) == AMQP_STATUS_OK)
	{
		if (frame.frame_type == AMQP_FRAME_METHOD && is_close(&frame.payload.method))
		{
			note_close(broker, "", &frame.payload.method);
			return false;
		}
		amqp_maybe_release_buffers(broker->connection);
	}
	return status == AMQP_STATUS_TIMEOUT || failed(broker, "connection", status);
}

/* ------------------------------------------------------------ confirms */

typedef enum Fate
{
	FATE_OPEN, FATE_CONFIRMED, FATE_REFUSED
} Fate;

/* What becomes of the messages of one call. */
typedef struct Confirms
{
	Broker	   *broker;
	const Message *messages;
	int			count;
	uint64_t	first_tag;
	int			lowest_open;	/* none before it is open */
	int			open_count;
	Fate	   *fates;
	bool		is_returned;	/* the next header is that of a message that came back */
} Confirms;

static void
settle(Confirms *confirms, int row, Fate fate)
{
	if (row >= confirms->count || confirms->fates[row] != FATE_OPEN)
		return;
	confirms->fates[row] = fate;
	confirms->open_count--;
	if (fate == FATE_REFUSED)
		log_line(LOG_ERROR, "the broker refuses event %s (%s)", confirms->messages[row].id, confirms->messages[row].type);
}

/* Of another call: that was given up, with its connection. */
static void
settle_tag(Confirms *confirms, uint64_t tag, bool multiple, Fate fate)
{
	int			row;

	if (tag < confirms->first_tag)
		return;
	row = tag - confirms->first_tag;
	if (multiple)
	{
		for (int i = confirms->lowest_open; i < row; i++)
			settle(confirms, i, fate);
	}
	settle(confirms, row, fate);
	while (confirms->lowest_open < confirms->count && confirms->fates[confirms->lowest_open] != FATE_OPEN)
		confirms->lowest_open++;
}

/* The broker confirms it afterwards: it did what it was asked to. */
static void
settle_returned(Confirms *confirms, const amqp_basic_properties_t *properties)
{
	amqp_bytes_t id = properties->message_id;

	confirms->is_returned = false;
	for (int row = 0; row < confirms->count; row++)
	{
		const Message *message = &confirms->messages[row];

		if (confirms->fates[row] != FATE_OPEN || strlen(message->id) != id.len || memcmp(message->id, id.bytes, id.len) != 0)
			continue;
		log_line(LOG_WARNING, "no queue is bound for event %s (%s)", message->id, message->type);
		settle(confirms, row, FATE_REFUSED);
	}
}

/* False: the broker closes. */
static bool
take_method(Confirms *confirms, const amqp_method_t *method)
{
	if (is_close(method))
	{
		note_close(confirms->broker, "", method);
		return false;
	}
	if (method->id == AMQP_BASIC_ACK_METHOD)
	{
		const amqp_basic_ack_t *ack = method->decoded;

		settle_tag(confirms, ack->delivery_tag, ack->multiple, FATE_CONFIRMED);
	}
	else if (method->id == AMQP_BASIC_NACK_METHOD)
	{
		const amqp_basic_nack_t *nack = method->decoded;

		settle_tag(confirms, nack->delivery_tag, nack->multiple, FATE_REFUSED);
	}
	else if (method->id == AMQP_BASIC_RETURN_METHOD)
		confirms->is_returned = true;
	return true;
}

/* ------------------------------------------------------------ publishing */

static int
publish_one(Broker *broker, const Message *message)
{
	amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
		AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG,
		.content_type = amqp_cstring_bytes("application/json"),
		.delivery_mode = PERSISTENT,
		.message_id = amqp_cstring_bytes(message->id),
		.timestamp = message->created_at,
		.type = amqp_cstring_bytes(message->type),
		.app_id = amqp_cstring_bytes("order_timeout_relay")
	};
	amqp_bytes_t body = {message->length, (void *) message->body};

	return amqp_basic_publish(broker->connection, CHANNEL, amqp_cstring_bytes(broker->options->exchange),
							  amqp_cstring_bytes(message->type), broker->options->mandatory, false, &properties, body);
}

/* Why a send failed may stand in what the broker has sent before it closed. */
static PublishOutcome
after_failed_send(Confirms *confirms, int status)
{
	struct timeval at_once = {0};
	amqp_frame_t frame;

	while (amqp_simple_wait_frame_noblock(confirms->broker->connection, &frame, &at_once) == AMQP_STATUS_OK)
	{
		if (frame.frame_type == AMQP_FRAME_METHOD && !take_method(confirms, &frame.payload.method))
			return PUBLISH_CLOSED;
	}
	failed(confirms->broker, "publish", status);
	return PUBLISH_LOST;
}

static PublishOutcome
await_confirms(Confirms *confirms, int64_t deadline)
{
	while (confirms->open_count > 0)
	{
		int64_t		left = deadline - now();
		struct timeval limit = {left / SECOND, left % SECOND};
		amqp_frame_t frame;
		int			status;

		status = left <= 0 ? AMQP_STATUS_TIMEOUT :
			amqp_simple_wait_frame_noblock(confirms->broker->connection, &frame, &limit);
		if (status != AMQP_STATUS_OK)
		{
			failed(confirms->broker, status == AMQP_STATUS_TIMEOUT ? "no confirm came in time" : "confirms", status);
			return PUBLISH_LOST;
		}
		if (frame.frame_type == AMQP_FRAME_METHOD && !take_method(confirms, &frame.payload.method))
			return PUBLISH_CLOSED;
		if (frame.frame_type == AMQP_FRAME_HEADER && confirms->is_returned)
			settle_returned(confirms, frame.payload.properties.decoded);
		amqp_maybe_release_buffers(confirms->broker->connection);
	}
	return PUBLISH_CONFIRMED;
}

static PublishOutcome
publish_all(Confirms *confirms, int64_t deadline)
{
	Broker	   *broker = confirms->broker;

	for (int row = 0; row < confirms->count; row++)
	{
		int			status = publish_one(broker, &confirms->messages[row]);

		if (status != AMQP_STATUS_OK)
			return after_failed_send(confirms, status);
		broker->published++;
	}
	return await_confirms(confirms, deadline);
}

static int
first_unconfirmed(const Confirms *confirms)
{
	int			row = 0;

	while (row < confirms->count && confirms->fates[row] == FATE_CONFIRMED)
		row++;
	return row;
}

PublishOutcome
broker_publish(Broker *broker, const Message *messages, int count, int64_t deadline, int *confirmed)
{
	Confirms	confirms = {
		.broker = broker, .messages = messages, .count = count, .open_count = count,
		.first_tag = broker->published + 1, .fates = calloc(count, sizeof(Fate))
	};
	PublishOutcome outcome;

	if (confirms.fates == NULL)
		abort();
	watch_socket(broker_descriptor(broker), deadline - now());
	outcome = publish_all(&confirms, deadline);
	unwatch_socket();
	*confirmed = first_unconfirmed(&confirms);
	if (outcome == PUBLISH_CONFIRMED && *confirmed < count)
		outcome = PUBLISH_REFUSED;
	if (outcome == PUBLISH_CLOSED || outcome == PUBLISH_LOST)
		broker_close(broker);
	free(confirms.fates);
	return outcome;
}
