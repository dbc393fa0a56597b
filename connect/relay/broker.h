/*
 * broker.h
 *    The connection to RabbitMQ, and messages with publisher confirms.
 */
#ifndef RELAY_BROKER_H
#define RELAY_BROKER_H

#include <stdbool.h>
#include <stdint.h>

/* Before 0.12 librabbitmq's headers had no folder of their own; since then the old names warn. */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#include "message.h"
#include "options.h"

#define LONGEST_BROKER_PROBLEM 512

typedef struct Broker
{
	const Options *options;
	amqp_connection_state_t connection; /* NULL: there is none */
	uint64_t	published;		/* the tag of the last message of this connection */
	char		problem[LONGEST_BROKER_PROBLEM];	/* why the last call failed */
} Broker;

typedef enum PublishOutcome
{
	PUBLISH_CONFIRMED,
	PUBLISH_REFUSED,			/* the broker did not take one; the connection stands */
	PUBLISH_CLOSED,				/* the broker closed because of one */
	PUBLISH_LOST				/* the connection is lost, or no confirm came in time */
} PublishOutcome;

/* Whether the URL can be read; the problem says why not. */
extern bool broker_url_is_valid(Broker *broker);

extern bool broker_connect(Broker *broker);
extern void broker_close(Broker *broker);
extern int	broker_descriptor(const Broker *broker);

/* Sends and takes heartbeats. False: the connection is lost. */
extern bool broker_serve(Broker *broker);

/* Publishes them and waits until all are confirmed; *confirmed is how many of the first are, whatever the outcome. After
 * PUBLISH_CLOSED and PUBLISH_LOST the connection is closed. */
extern PublishOutcome broker_publish(Broker *broker, const Message *messages, int count, int64_t deadline, int *confirmed);

#endif
