/*
 * store_consumer.c
 *    Consumers of the events: their positions, and the windows between two snapshots.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/xid8.h"

#include "advisory_lock.h"
#include "store.h"
#include "store_statement.h"

PG_FUNCTION_INFO_V1(ot_sees);

/*
 * A restored row keeps the number of a transaction of another database. If that lies ahead of the row's own writer, the
 * restore, the writer decides: a row of ours is never written by a transaction before the one that it names. Of the
 * writer's number the row has the lower half; it is the last one that was given out.
 */
Datum
ot_sees(PG_FUNCTION_ARGS)
{
	uint64		named = U64FromFullTransactionId(PG_GETARG_FULLTRANSACTIONID(1));
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	uint64		writer = next - (uint32) ((uint32) next - PG_GETARG_TRANSACTIONID(2));

	return DirectFunctionCall2(pg_visible_in_snapshot,
							   FullTransactionIdGetDatum(FullTransactionIdFromU64(Min(named, writer))), PG_GETARG_DATUM(0));
}

#define COUNTING "\001counting" /* no order has this id */

/*
 * The id first: what begins later writes a higher one. Sessions that keep ids to themselves would write lower ones, and
 * last_value itself comes next while it is not called.
 */
EventMark
ot_store_mark_events(void)
{
	static Statement last = {"SELECT CASE WHEN s.is_called AND q.seqcache" SQL_EQ "1 THEN s.last_value ELSE 0 END "
		"FROM order_timeout.events_id_seq s, pg_catalog.pg_sequence q "
	"WHERE q.seqrelid" SQL_EQ "'order_timeout.events_id_seq'::pg_catalog.regclass"};
	Args		none = {0};
	EventMark	mark;

	mark.id = *(int64 *) ot_run_one(&last, &none, ot_read_int8);
	mark.xid = ReadNextFullTransactionId();
	return mark;
}

static void
mark_args(Args *args, EventMark mark)
{
	ot_arg_int8(args, mark.id);
	ot_arg_xid8(args, mark.xid);
	ot_arg_xid8(args, GetTopFullTransactionId());
}

/* Other consumers' marks hold for all, so that what is open now need not be looked for from the first event on. */
bool
ot_store_add_consumer(const char *name, List *types, bool from_now, bool notify, EventMark mark)
{
	static Statement insert = {"INSERT INTO order_timeout.consumer_positions "
		"(consumer, types, notify, created_at, epoch, read_snapshot, mark_ids, mark_xids) "
		"SELECT $4, $5, $6, pg_catalog.clock_timestamp(), s.last_value, "
		"CASE WHEN $7 THEN order_timeout._snapshot_without($3) END, "
		"pg_catalog.array_append(m.ids, $1), pg_catalog.array_append(m.xids, $2) "
		"FROM order_timeout.event_epoch s, "
		"LATERAL (SELECT pg_catalog.array_agg(k.id) AS ids, pg_catalog.array_agg(k.xid) AS xids "
		"FROM order_timeout.consumer_positions c, LATERAL ROWS FROM (pg_catalog.unnest(c.mark_xids), pg_catalog.unnest(c.mark_ids)) k(xid, id) "
		"WHERE c.epoch" SQL_EQ "s.last_value AND k.xid" SQL_GT "'0') m "
	"ON CONFLICT DO NOTHING"};
	Args		args = {0};

	mark_args(&args, mark);
	ot_arg_text(&args, name);
	ot_arg_texts_or_null(&args, types);
	ot_arg_bool(&args, notify);
	ot_arg_bool(&args, from_now);
	return ot_run(&insert, &args) > 0;
}

bool
ot_store_drop_consumer(const char *name)
{
	static Statement delete = {"DELETE FROM order_timeout.consumer_positions c WHERE c.consumer" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_text(&args, name);
	return ot_run(&delete, &args) > 0;
}

static void *
read_consumer(Columns *columns)
{
	Consumer   *row = palloc0(sizeof(Consumer));

	row->name = ot_column_text(columns);
	row->types = ot_column_text_list(columns);
	row->notify = ot_column_bool(columns);
	row->has_window = ot_column_bool(columns);
	row->batch = ot_column_int8s(columns, &row->batch_size);
	row->lease_token = ot_column_text(columns);
	row->leased_until = ot_column_time(columns);
	row->acknowledged_to = ot_column_int8_or_zero(columns);
	return row;
}

/* A window of another database is none. */
#define SELECT_CONSUMER "SELECT c.consumer, c.types, c.notify, " \
	"c.window_snapshot IS NOT NULL AND c.epoch" SQL_EQ "(SELECT s.last_value FROM order_timeout.event_epoch s), " \
	"c.batch, c.lease_token, c.leased_until, c.acknowledged_to " \
	"FROM order_timeout.consumer_positions c WHERE c.consumer" SQL_EQ "$1"

Consumer *
ot_store_find_consumer(const char *name)
{
	static Statement find = {SELECT_CONSUMER};
	Args		args = {0};

	ot_arg_text(&args, name);
	return ot_run_one(&find, &args, read_consumer);
}

Consumer *
ot_store_lock_consumer(const char *name)
{
	static Statement lock = {SELECT_CONSUMER " FOR NO KEY UPDATE"};
	Args		args = {0};

	ot_arg_text(&args, name);
	return ot_run_one(&lock, &args, read_consumer);
}

/* Also where there is none, but the search went far back for what an old transaction may have written. */
bool
ot_store_has_unread(const char *name)
{
	static Statement look = {"SELECT FROM order_timeout._unread_events($1, true, 1) "
		"UNION ALL SELECT FROM order_timeout.consumer_positions c, order_timeout.events_id_seq s, "
		"LATERAL pg_catalog.pg_snapshot_xip(coalesce(c.window_snapshot, c.read_snapshot)) x "
		"WHERE c.consumer" SQL_EQ "$1 AND pg_catalog.pg_visible_in_snapshot(x, pg_catalog.pg_current_snapshot()) "
	"AND order_timeout._mark_of(x, c.mark_xids, c.mark_ids)" SQL_PLUS "10000" SQL_LT "s.last_value LIMIT 1"};
	Args		args = {0};

	ot_arg_text(&args, name);
	return ot_run(&look, &args) > 0;
}

/*
 * Of the marks stay those that the transactions need which were open at the window's beginning or end, and all later ones.
 * A position of another database begins again below all that it had not read. The last acknowledgement is still recognised;
 * a lease that ended without one must not move the new window.
 */
void
ot_store_open_window(const char *name, EventMark mark)
{
	static Statement open = {"UPDATE order_timeout.consumer_positions c "
		"SET epoch = n.epoch, read_snapshot = n.read_snapshot, window_snapshot = n.window_snapshot, window_from = n.base, "
		"window_to = n.last_id, lease_token = CASE WHEN c.acknowledged_to IS NOT NULL THEN c.lease_token END, leased_until = NULL, "
		"mark_xids = ARRAY(SELECT m.xid FROM order_timeout._marks_for(n.read_snapshot, n.window_snapshot, n.mark_xids, n.mark_ids) m), "
		"mark_ids = ARRAY(SELECT m.id FROM order_timeout._marks_for(n.read_snapshot, n.window_snapshot, n.mark_xids, n.mark_ids) m) "
	"FROM order_timeout._next_window($4, $1, $2, $3) n WHERE c.consumer" SQL_EQ "$4"};
	Args		args = {0};

	mark_args(&args, mark);
	ot_arg_text(&args, name);
	ot_run_write(&open, &args);
}

static void *
read_event(Columns *columns)
{
	Event	   *row = palloc0(sizeof(Event));

	row->id = ot_column_int8(columns);
	row->order_id = ot_column_text(columns);
	row->type = ot_column_text(columns);
	row->payload = ot_column_jsonb(columns);
	row->created_at = ot_column_time(columns);
	return row;
}

List *
ot_store_window_events(const char *name, int max_events)
{
	static Statement find = {"SELECT e.id, e.aggregateid, e.type, e.payload, e.created_at "
		"FROM order_timeout.consumer_positions c, LATERAL order_timeout._events_between(c.read_snapshot, c.window_snapshot, "
		"c.window_from, c.window_to, c.mark_xids, c.mark_ids, c.types, $2) e "
	"WHERE c.consumer" SQL_EQ "$1 ORDER BY e.id"};
	Args		args = {0};

	ot_arg_text(&args, name);
	ot_arg_int4(&args, max_events);
	return ot_run_list(&find, &args, read_event);
}

static void
ids_arg(Args *args, List *events)
{
	Datum	   *ids = palloc(list_length(events) * sizeof(Datum));
	ListCell   *cell;

	foreach(cell, events)
		ids[foreach_current_index(cell)] = Int64GetDatum(((Event *) lfirst(cell))->id);
	ot_arg_array(args, INT8OID, ids, NULL, list_length(events));
}

/* If these are the last of their window, it ends with them: what lies between here and its end is not gone through again. */
void
ot_store_hand_out_events(const char *name, List *events, bool are_last, const char *lease_token, TimestampTz leased_until)
{
	static Statement update = {"UPDATE order_timeout.consumer_positions c "
		"SET batch = $2, window_to = CASE WHEN $5 THEN $6 ELSE c.window_to END, "
	"lease_token = $3, leased_until = $4, acknowledged_to = NULL WHERE c.consumer" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_text(&args, name);
	ids_arg(&args, events);
	ot_arg_text(&args, lease_token);
	ot_arg_time(&args, leased_until);
	ot_arg_bool(&args, are_last);
	ot_arg_int8(&args, ((Event *) llast(events))->id);
	ot_run_write(&update, &args);
}

void
ot_store_acknowledge_events(const char *name, int64 up_to)
{
	static Statement update = {"UPDATE order_timeout.consumer_positions c "
	"SET window_from = $2, acknowledged_to = $2, leased_until = NULL WHERE c.consumer" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_text(&args, name);
	ot_arg_int8(&args, up_to);
	ot_run_write(&update, &args);
}

static void *
read_backlog(Columns *columns)
{
	EventBacklog *row = palloc(sizeof(EventBacklog));

	row->unread = ot_column_int8(columns);
	row->oldest_unread = ot_column_time(columns);
	return row;
}

/*
 * A consumer of rare types may have millions of others to pass over, and a look must stay cheap. If none of those looked at
 * is for it, the last one says how long ago it was looked for at least: reading moves on over what is for others.
 */
static EventBacklog *
look_at_backlog(const char *name, int looks_at)
{
	static Statement look = {"SELECT pg_catalog.count(*) FILTER (WHERE x.wanted), "
		"coalesce((pg_catalog.array_agg(x.created_at) FILTER (WHERE x.wanted))[1], "
		"CASE WHEN pg_catalog.count(*)" SQL_EQ "$2 THEN pg_catalog.max(x.created_at) END) "
		"FROM (SELECT e.created_at, c.types IS NULL OR e.type OPERATOR(pg_catalog.=) ANY (c.types) AS wanted "
		"FROM order_timeout.consumer_positions c, LATERAL order_timeout._unread_events($1, true, $2) e "
	"WHERE c.consumer" SQL_EQ "$1) x", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_text(&args, name);
	ot_arg_int4(&args, looks_at);
	return ot_run_one(&look, &args, read_backlog);
}

EventBacklog
ot_store_consumer_backlog(const char *name, int looks_at)
{
	static Statement count = {"SELECT pg_catalog.count(*), (pg_catalog.array_agg(e.created_at))[1] "
	"FROM order_timeout._unread_events($1, false, 10000) e", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	if (looks_at > 0)
		return *look_at_backlog(name, looks_at);
	ot_arg_text(&args, name);
	return *(EventBacklog *) ot_run_one(&count, &args, read_backlog);
}

int
ot_store_begin_walk(void)
{
	int			settings = NewGUCNestLevel();

	(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return settings;
}

void
ot_store_end_walk(int settings)
{
	AtEOXact_GUC(true, settings);
}

bool
ot_store_may_count_events(void)
{
	return ot_try_advisory_lock(COUNTING);
}

bool
ot_store_has_position(const char *name)
{
	static Statement find = {"SELECT FROM order_timeout.consumer_positions c, order_timeout.event_epoch s "
	"WHERE c.consumer" SQL_EQ "$1 AND c.epoch" SQL_EQ "s.last_value"};
	Args		args = {0};

	ot_arg_text(&args, name);
	return ot_run(&find, &args) > 0;
}

/* Only functions write events. If a row came otherwise, whatever it holds must not keep all later ones from being counted. */
bool
ot_store_count_events(const char *name, int max_events)
{
	static Statement count = {"WITH batch AS MATERIALIZED (SELECT e.id, e.type, e.payload "
		"FROM order_timeout.consumer_positions c, LATERAL order_timeout._events_between(c.read_snapshot, c.window_snapshot, "
		"c.window_from, c.window_to, c.mark_xids, c.mark_ids, NULL, $2) e WHERE c.consumer" SQL_EQ "$1), "
		"counted AS (INSERT INTO order_timeout.event_totals AS t (type, currency, events, amount) "
		"SELECT b.type, CASE WHEN pg_catalog.octet_length(b.payload OPERATOR(pg_catalog.->>) 'currency')" SQL_EQ "3 "
		"THEN b.payload OPERATOR(pg_catalog.->>) 'currency' ELSE '' END, pg_catalog.count(*), "
		"coalesce(pg_catalog.sum(CASE WHEN pg_catalog.jsonb_typeof(b.payload OPERATOR(pg_catalog.->) 'amount')" SQL_EQ "'number' "
		"THEN (b.payload OPERATOR(pg_catalog.->>) 'amount')::pg_catalog.numeric END), 0) FROM batch b GROUP BY 1, 2 "
		"ON CONFLICT (type, currency) DO UPDATE SET events = t.events" SQL_PLUS "excluded.events, amount = t.amount" SQL_PLUS "excluded.amount) "
		"UPDATE order_timeout.consumer_positions c SET window_from = b.id "
	"FROM (SELECT pg_catalog.max(id) AS id FROM batch) b WHERE c.consumer" SQL_EQ "$1 AND b.id IS NOT NULL"};
	Args		args = {0};

	ot_arg_text(&args, name);
	ot_arg_int4(&args, max_events);
	return ot_run(&count, &args) > 0;
}
