/*
 * database.h
 *    The connection to PostgreSQL: one statement at a time, each in a transaction of its own.
 */
#ifndef RELAY_DATABASE_H
#define RELAY_DATABASE_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "message.h"
#include "options.h"

#define LONGEST_PROBLEM 512

typedef struct Database
{
	const Options *options;
	PGconn	   *connection;		/* NULL: there is none */
	bool		consumer_created;
	bool		notified;		/* an event was written since the last read */
	char		problem[LONGEST_PROBLEM];	/* why the last call failed */
} Database;

/* Events that are read and not acknowledged yet, in their order. */
typedef struct Batch
{
	PGresult   *rows;			/* holds what messages point to */
	Message    *messages;
	int			count;
	int			confirmed;		/* so many of the first are at the broker */
	int64_t		deadline;
} Batch;

extern bool database_connect(Database *database);
extern void database_close(Database *database);
extern int	database_descriptor(const Database *database);

/* False: the connection is lost. */
extern bool database_receive(Database *database);

/* Of each pair, the first sends, and the second takes the answer once database_is_busy says false. Both are false if the
 * database refused, or the connection is lost. */
extern bool database_is_busy(Database *database);
extern bool database_ask_events(Database *database);
extern bool database_take_events(Database *database, Batch *batch);
extern bool database_ask_ack(Database *database, const Batch *batch);
extern bool database_take_ack(Database *database, bool *stale);

extern void batch_free(Batch *batch);

#endif
