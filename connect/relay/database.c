/*
 * database.c
 *    The JSON is made in SQL: what jsonb writes needs no escaping of ours.
 *
 *    The statements are sent and not waited for here, since the broker wants its heartbeats meanwhile: a read that passes
 *    over many events of other types takes its time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "database.h"
#include "log.h"

#ifndef RELAY_SCHEMA
#define RELAY_SCHEMA "order_timeout"	/* bench/ measures it with another source */
#endif

/* The times are written in UTC, whatever the session's zone is: a pooler may hand us somebody else's. */
static const char *const read_events =
"SELECT id, type, pg_catalog.floor(extract(epoch FROM created_at))::pg_catalog.int8, lease_token, pg_catalog.jsonb_build_object("
"'id', id, 'aggregateid', aggregateid, 'type', type, 'created_at',"
" pg_catalog.to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'payload', payload)::pg_catalog.text"
" FROM " RELAY_SCHEMA ".read_events($1::pg_catalog.text, $2::pg_catalog.int4, $3::pg_catalog.interval)";
enum
{
	EVENT_ID, EVENT_TYPE, EVENT_CREATED, EVENT_LEASE, EVENT_BODY
};
static const char *const ack_events = "SELECT outcome FROM " RELAY_SCHEMA ".ack_events($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.int8)";
static const char *const create_consumer = "SELECT order_timeout.create_consumer(consumer => $1::pg_catalog.text, notify => $2::pg_catalog.bool)";

static void
take_notice(void *database, const PGresult *notice)
{
	(void) database;
	log_line(LOG_WARNING, "database: %s", PQresultErrorMessage(notice));
}

/* What to do about the mistakes of a first start. */
static const char *
advice(const char *problem)
{
	static const char *const known[][2] = {
		{"Peer authentication failed", "name a host in PGHOST, and give the role a password"},
		{"no password supplied", "set PGPASSWORD, or write ~/.pgpass"},
		{"schema \"order_timeout\" does not exist", "is PGDATABASE the database that has the extension?"},
		{"function create_consumer", "let the operator create it, and leave out --create-consumer"},
		{"permission denied for", "SELECT order_timeout.grant_access('...', 'consumer')"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strstr(problem, known[i][0]) != NULL)
			return known[i][1];
	}
	return NULL;
}

static bool
refused(Database *database, PGresult *result)
{
	const char *error = result == NULL ? "" : PQresultErrorMessage(result);
	const char *state = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *hint = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	size_t		length;

	copy_line(database->problem, LONGEST_PROBLEM, "%s%s%s", state == NULL ? "" : state, state == NULL ? "" : " ",
			  *error != '\0' ? error : PQerrorMessage(database->connection));
	if (hint == NULL)
		hint = advice(database->problem);
	length = strlen(database->problem);
	if (hint != NULL)
		copy_line(database->problem + length, LONGEST_PROBLEM - length, ": %s", hint);
	PQclear(result);
	return false;
}

/* The last statement's answer, or NULL: it was refused, and the problem says why. */
static PGresult *
take_rows(Database *database)
{
	PGresult   *result = PQgetResult(database->connection);
	PGresult   *next;

	while ((next = PQgetResult(database->connection)) != NULL)
	{
		PQclear(result);
		result = next;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
		return result;
	refused(database, result);
	return NULL;
}

static bool
execute(Database *database, const char *statement, int count, const char *const *values)
{
	PGresult   *result = PQexecParams(database->connection, statement, count, NULL, values, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		return refused(database, result);
	PQclear(result);
	return true;
}

static bool
prepare_session(Database *database)
{
	const char *values[] = {database->options->consumer, database->options->listen ? "t" : "f"};

	if (database->options->create_consumer && !database->consumer_created)
	{
		if (!execute(database, create_consumer, 2, values))
			return false;
		database->consumer_created = true;
	}
	return !database->options->listen || execute(database, "LISTEN order_timeout_events", 0, NULL);
}

/* What the conninfo says wins, since it comes after these. A dead server is noticed within 40 seconds. */
bool
database_connect(Database *database)
{
	const char *keywords[] = {"fallback_application_name", "connect_timeout", "keepalives_idle", "keepalives_interval",
	"keepalives_count", "tcp_user_timeout", "target_session_attrs", "client_encoding", "dbname", NULL};
	const char *values[] = {"order_timeout_relay", "10", "10", "10", "3", "40000", "read-write", "UTF8",
	database->options->conninfo, NULL};

	database->connection = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(database->connection) != CONNECTION_OK)
		return refused(database, NULL);
	PQsetNoticeReceiver(database->connection, take_notice, database);
	database->notified = true;
	return prepare_session(database);
}

void
database_close(Database *database)
{
	PQfinish(database->connection);
	database->connection = NULL;
}

int
database_descriptor(const Database *database)
{
	return database->connection == NULL ? -1 : PQsocket(database->connection);
}

bool
database_receive(Database *database)
{
	PGnotify   *notify;

	if (!PQconsumeInput(database->connection) || PQstatus(database->connection) != CONNECTION_OK)
		return refused(database, NULL);
	while ((notify = PQnotifies(database->connection)) != NULL)
	{
		database->notified = true;
		PQfreemem(notify);
	}
	return true;
}

bool
database_is_busy(Database *database)
{
	return PQisBusy(database->connection);
}

static bool
ask(Database *database, const char *statement, int count, const char *const *values)
{
	return PQsendQueryParams(database->connection, statement, count, NULL, values, NULL, NULL, 0) || refused(database, NULL);
}

bool
database_ask_events(Database *database)
{
	char		count[16];
	char		lease[32];
	const char *values[] = {database->options->consumer, count, lease};

	snprintf(count, sizeof(count), "%d", database->options->batch);
	snprintf(lease, sizeof(lease), "%d seconds", database->options->lease);
	database->notified = false;
	return ask(database, read_events, 3, values);
}

static void
fill_message(Message *message, const PGresult *rows, int row)
{
	message->id = PQgetvalue(rows, row, EVENT_ID);
	message->type = PQgetvalue(rows, row, EVENT_TYPE);
	message->created_at = strtoull(PQgetvalue(rows, row, EVENT_CREATED), NULL, 10);
	message->body = PQgetvalue(rows, row, EVENT_BODY);
	message->length = PQgetlength(rows, row, EVENT_BODY);
}

bool
database_take_events(Database *database, Batch *batch)
{
	PGresult   *rows = take_rows(database);

	if (rows == NULL)
		return false;
	batch->rows = rows;
	batch->count = PQntuples(rows);
	batch->confirmed = 0;
	batch->messages = calloc(batch->count + 1, sizeof(Message));
	if (batch->messages == NULL)
		abort();
	for (int row = 0; row < batch->count; row++)
		fill_message(&batch->messages[row], rows, row);
	return true;
}

/* What the broker has confirmed. */
bool
database_ask_ack(Database *database, const Batch *batch)
{
	const char *values[] = {database->options->consumer, PQgetvalue(batch->rows, 0, EVENT_LEASE),
	batch->messages[batch->confirmed - 1].id};

	return ask(database, ack_events, 3, values);
}

bool
database_take_ack(Database *database, bool *stale)
{
	PGresult   *rows = take_rows(database);

	if (rows == NULL)
		return false;
	*stale = PQgetvalue(rows, 0, 0)[0] == 's';
	PQclear(rows);
	return true;
}

void
batch_free(Batch *batch)
{
	PQclear(batch->rows);
	free(batch->messages);
	memset(batch, 0, sizeof(Batch));
}
