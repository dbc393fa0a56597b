/*
 * store_follow.c
 *    What follows a change of an order's state: the hooks of policies, the links, and those steps that failed and are
 *    tried again.
 *
 * Hooks and links are kept for the session, so that a payment pays nothing when there are none, and whether a consumer of
 * events wants to be notified. A trigger on their tables
 * (ot_following_changed) makes PostgreSQL report to every session that the table's relcache entry is not valid any more;
 * then they are read again, in the latest snapshot, because they are kept for longer than the transaction's.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "empty_table.h"
#include "store.h"
#include "store_statement.h"

PG_FUNCTION_INFO_V1(ot_following_changed);

typedef struct Hook
{
	char	   *policy;
	char	   *hook;
	char	   *function_name;
} Hook;

static bool kept_is_valid = false;
static Oid	hooks_table = InvalidOid;
static Oid	links_table = InvalidOid;
static Oid	consumers_table = InvalidOid;
static MemoryContext kept_context = NULL;
static List *kept_hooks = NIL;
static List *kept_links = NIL;
static bool kept_notifies = false;

static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == hooks_table || relid == links_table || relid == consumers_table)
		kept_is_valid = false;
}

void
ot_store_follow_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

Datum
ot_following_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "ot_following_changed is called as a trigger only");
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

static void *
read_hook(Columns *columns)
{
	Hook	   *row = palloc(sizeof(Hook));

	row->policy = ot_column_text(columns);
	row->hook = ot_column_text(columns);
	row->function_name = ot_column_text(columns);
	return row;
}

static List *
find_hooks(void)
{
	static Statement find = {"SELECT h.policy, h.hook, h.function_name FROM order_timeout.hooks h", SNAPSHOT_LATEST};
	Args		none = {0};

	return ot_run_list(&find, &none, read_hook);
}

/* In the order of the enum; only settled states have a time. */
#define WORDS_OF(state) "ARRAY(SELECT pg_catalog.jsonb_array_elements_text(l.statuses OPERATOR(pg_catalog.->) '" state "'))"
#define TIME_OF(state) "l.time_columns OPERATOR(pg_catalog.->>) '" state "'"

static void *
read_link(Columns *columns)
{
	Link	   *link = palloc(sizeof(Link));

	link->table_name = ot_column_text(columns);
	link->order_prefix = ot_column_text(columns);
	link->key_column = ot_column_text(columns);
	link->key_type = ot_column_text(columns);
	link->status_column = ot_column_text(columns);
	link->status_type = ot_column_text(columns);
	link->reason_column = ot_column_text(columns);
	link->amount_column = ot_column_text(columns);
	link->currency_column = ot_column_text(columns);
	link->currency = ot_column_text(columns);
	link->deadline_column = ot_column_text(columns);
	link->policy_column = ot_column_text(columns);
	link->policy = ot_column_text(columns);
	link->amount_is_major = ot_column_bool(columns);
	link->notes_contradictions = ot_column_bool(columns);
	link->adopted_to = ot_column_text(columns);
	for (OrderState state = 0; state < OT_ORDER_STATES; state++)
		link->words[state] = ot_column_texts(columns);
	for (OrderState state = 0; state < OT_ORDER_STATES; state++)
		link->time_columns[state] = ot_column_text(columns);
	return link;
}

static List *
find_links(void)
{
	static Statement find = {"SELECT l.table_name, l.order_prefix, l.key_column, l.key_type, l.status_column, l.status_type, "
		"l.reason_column, l.amount_column, l.currency_column, l.currency, l.deadline_column, l.policy_column, l.policy, "
		"l.amount_is_major, l.on_contradiction" SQL_EQ "'note', l.adopted_to, "
		WORDS_OF("pending") ", " WORDS_OF("authorized") ", " WORDS_OF("closing") ", "
		WORDS_OF("paid") ", " WORDS_OF("expired") ", " WORDS_OF("cancelled") ", "
		TIME_OF("pending") ", " TIME_OF("authorized") ", " TIME_OF("closing") ", "
		TIME_OF("paid") ", " TIME_OF("expired") ", " TIME_OF("cancelled")
	" FROM order_timeout.links l", SNAPSHOT_LATEST};
	Args		none = {0};

	return ot_run_list(&find, &none, read_link);
}

static bool
find_notifies(void)
{
	static Statement find = {"SELECT FROM order_timeout.consumer_positions c WHERE c.notify LIMIT 1", SNAPSHOT_LATEST};
	Args		none = {0};

	return ot_run(&find, &none) > 0;
}

/* A hook that is called now may change the hooks: what was kept so far lives on until the transaction ends. */
static void
keep(MemoryContext context, List *hooks, List *links)
{
	if (kept_context != NULL)
		MemoryContextSetParent(kept_context, TopTransactionContext);
	MemoryContextSetParent(context, CacheMemoryContext);
	kept_context = context;
	kept_hooks = hooks;
	kept_links = links;
}

/* Marked valid before it is read: what changes in between makes it not valid again. */
static void
read_following(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout following", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	Oid			namespace = get_namespace_oid("order_timeout", true);

	hooks_table = get_relname_relid("hooks", namespace);
	links_table = get_relname_relid("links", namespace);
	consumers_table = get_relname_relid("consumer_positions", namespace);
	kept_is_valid = true;
	PG_TRY();
	{
		List	   *hooks = find_hooks();

		keep(context, hooks, find_links());
		kept_notifies = find_notifies();
	}
	PG_CATCH();
	{
		kept_is_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(previous);
}

static void
refresh(void)
{
	AcceptInvalidationMessages();
	if (!kept_is_valid)
		read_following();
}

bool
ot_store_follows(void)
{
	refresh();
	return kept_hooks != NIL || kept_links != NIL;
}

bool
ot_store_notifies(void)
{
	refresh();
	return kept_notifies;
}

List *
ot_store_links(void)
{
	refresh();
	return kept_links;
}

static void *
read_text(Columns *columns)
{
	return ot_column_text(columns);
}

#define LINK_VERSIONS "SELECT pg_catalog.concat(pg_catalog.array_agg(l.xmin)) FROM order_timeout.links l"

void
ot_store_require_links_seen(void)
{
	static Statement seen = {LINK_VERSIONS};
	static Statement latest = {LINK_VERSIONS, SNAPSHOT_LATEST};
	Args		none = {0};

	if (strcmp(ot_run_one(&seen, &none, read_text), ot_run_one(&latest, &none, read_text)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent linking of a table"),
				 errhint("Run the whole transaction again.")));
}

/* InvalidOid if there is no such table. */
static Oid
oid_of(const char *table_name)
{
	LOCAL_FCINFO(call, 1);
	Datum		oid;

	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = CStringGetTextDatum(table_name);
	call->args[0].isnull = false;
	oid = to_regclass(call);
	return call->isnull ? InvalidOid : DatumGetObjectId(oid);
}

const Link *
ot_store_find_link(const char *table_name)
{
	ListCell   *cell;
	Oid			oid;

	foreach(cell, ot_store_links())
	{
		if (strcmp(((Link *) lfirst(cell))->table_name, table_name) == 0)
			return lfirst(cell);
	}
	oid = oid_of(table_name);
	foreach(cell, ot_store_links())
	{
		if (OidIsValid(oid) && oid_of(((Link *) lfirst(cell))->table_name) == oid)
			return lfirst(cell);
	}
	return NULL;
}

static bool
is_hook(const Hook *row, const char *policy, const char *hook)
{
	return (policy == NULL || strcmp(row->policy, policy) == 0) && strcmp(row->hook, hook) == 0;
}

const char *
ot_store_find_hook(const char *policy, const char *hook)
{
	ListCell   *cell;

	refresh();
	foreach(cell, kept_hooks)
	{
		const Hook *row = lfirst(cell);

		if (is_hook(row, policy, hook))
			return row->function_name;
	}
	return NULL;
}

List *
ot_store_find_policies_with(const char *hook)
{
	List	   *policies = NIL;
	ListCell   *cell;

	refresh();
	foreach(cell, kept_hooks)
	{
		const Hook *row = lfirst(cell);

		if (strcmp(row->hook, hook) == 0)
			policies = lappend(policies, row->policy);
	}
	return policies;
}

static void
add_context(void *function_name)
{
	errcontext("hook %s of order_timeout", (char *) function_name);
}

void
ot_store_call_hook(const char *function_name, List *order_ids)
{
	Statement	call = {.sql = psprintf("SELECT %s($1)", function_name), .as_caller = true, .once = true};
	ErrorContextCallback context = {error_context_stack, add_context, unconstify(char *, function_name)};
	Args		args = {0};

	ot_arg_texts(&args, order_ids);
	error_context_stack = &context;
	ot_run(&call, &args);
	error_context_stack = context.previous;
}

static void *
read_handler_answer(Columns *columns)
{
	HandlerAnswer *answer = palloc(sizeof(HandlerAnswer));

	answer->result = ot_column_text(columns);
	answer->gateway_refund_ref = ot_column_text(columns);
	answer->has_amount = ot_column_bool(columns);
	answer->refunded_amount = ot_column_int8_or_zero(columns);
	answer->error = ot_column_text(columns);
	return answer;
}

static List *
call_handler(const char *sql, const char *function_name, Args *args)
{
	Statement	call = {.sql = sql, .as_caller = true, .once = true};
	ErrorContextCallback context = {error_context_stack, add_context, unconstify(char *, function_name)};
	List	   *answers;

	error_context_stack = &context;
	answers = ot_run_list(&call, args, read_handler_answer);
	error_context_stack = context.previous;
	return answers;
}

/* The casts say what is wrong if the function was replaced by one that answers something else. */
#define CALL_REFUND_HANDLER \
	"SELECT h.result::pg_catalog.text, h.gateway_refund_ref::pg_catalog.text, h.refunded_amount IS NOT NULL, " \
	"h.refunded_amount::pg_catalog.int8, h.error::pg_catalog.text FROM %s($1, $2, $3, $4, $5, $6, $7, $8) AS h"
#define CALL_VOID_HANDLER \
	"SELECT h.result::pg_catalog.text, NULL::pg_catalog.text, false, NULL::pg_catalog.int8, h.error::pg_catalog.text " \
	"FROM %s($1, $2, $3, $4, $5, $6, $7) AS h"

List *
ot_store_call_refund_handler(const char *function_name, const Refund *refund, const char *action)
{
	Args		args = {0};

	ot_arg_text(&args, refund->refund_ref);
	ot_arg_text(&args, refund->order_id);
	ot_arg_text(&args, refund->gateway);
	ot_arg_text(&args, refund->payment_ref);
	ot_arg_int8(&args, refund->amount);
	ot_arg_text(&args, refund->currency);
	ot_arg_text(&args, action);
	ot_arg_int4(&args, refund->attempts + 1);
	return call_handler(psprintf(CALL_REFUND_HANDLER, function_name), function_name, &args);
}

List *
ot_store_call_void_handler(const char *function_name, const Attempt *attempt, int64 amount, const char *action)
{
	Args		args = {0};

	ot_arg_text(&args, attempt->order_id);
	ot_arg_text(&args, attempt->gateway);
	ot_arg_text(&args, attempt->attempt_ref);
	ot_arg_int8_or_null(&args, amount);
	ot_arg_text(&args, attempt->currency);
	ot_arg_text(&args, action);
	ot_arg_int4(&args, attempt->attempts + 1);
	return call_handler(psprintf(CALL_VOID_HANDLER, function_name), function_name, &args);
}

/* What failed and is tried again. */

#define FOLLOW_UP_COLUMNS "f.follow_up_id, f.order_id, f.kind, f.left_state, f.since, f.failures, f.retry_at, f.sqlstate, f.error"

void
ot_store_add_follow_up(const FollowUp *follow_up)
{
	static Statement insert = {"INSERT INTO order_timeout.follow_ups "
		"(order_id, kind, left_state, since, failures, retry_at, sqlstate, error) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"};
	Args		args = {0};

	ot_arg_text(&args, follow_up->order_id);
	ot_arg_text(&args, ot_follow_kinds[follow_up->kind]);
	ot_arg_text(&args, ot_order_states[follow_up->left_state]);
	ot_arg_time(&args, follow_up->since);
	ot_arg_int4(&args, follow_up->failures);
	ot_arg_time(&args, follow_up->retry_at);
	ot_arg_text(&args, follow_up->sqlstate);
	ot_arg_text(&args, follow_up->error);
	ot_run_write(&insert, &args);
}

bool
ot_store_has_follow_ups(void)
{
	return !ot_is_surely_empty("follow_ups");
}

static void *
read_follow_up(Columns *columns)
{
	FollowUp   *follow_up = palloc0(sizeof(FollowUp));

	follow_up->follow_up_id = ot_column_int8(columns);
	follow_up->order_id = ot_column_text(columns);
	follow_up->kind = ot_column_word(columns, ot_follow_kinds);
	follow_up->left_state = ot_column_word(columns, ot_order_states);
	follow_up->since = ot_column_time(columns);
	follow_up->failures = ot_column_int4(columns);
	follow_up->retry_at = ot_column_time(columns);
	follow_up->sqlstate = ot_column_text(columns);
	follow_up->error = ot_column_text(columns);
	return follow_up;
}

List *
ot_store_find_follow_ups(const char *order_id)
{
	static Statement find = {"SELECT " FOLLOW_UP_COLUMNS " FROM order_timeout.follow_ups f WHERE f.order_id" SQL_EQ "$1 "
	"ORDER BY f.follow_up_id"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run_list(&find, &args, read_follow_up);
}

/* Of the hooks of one order the oldest one only. */
List *
ot_store_find_due_follow_ups(TimestampTz now, int limit)
{
	static Statement find = {"SELECT " FOLLOW_UP_COLUMNS " FROM order_timeout.follow_ups f "
		"WHERE f.retry_at" SQL_LE "$1 AND (f.kind" SQL_EQ "'link' OR NOT EXISTS (SELECT FROM order_timeout.follow_ups e "
		"WHERE e.order_id" SQL_EQ "f.order_id AND e.kind" SQL_NE "'link' AND f.follow_up_id" SQL_GT "e.follow_up_id)) "
	"ORDER BY f.retry_at, f.follow_up_id LIMIT $2"};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_list(&find, &args, read_follow_up);
}

static void *
read_order_id(Columns *columns)
{
	return ot_column_text(columns);
}

List *
ot_store_find_hooks_waiting(List *order_ids)
{
	static Statement find = {"SELECT DISTINCT f.order_id FROM order_timeout.follow_ups f "
	"WHERE f.order_id" SQL_EQ "ANY ($1) AND f.kind" SQL_NE "'link'"};
	Args		args = {0};

	ot_arg_texts(&args, order_ids);
	return ot_run_list(&find, &args, read_order_id);
}

List *
ot_store_take_kept_links(List *order_ids)
{
	static Statement delete = {"DELETE FROM order_timeout.follow_ups f WHERE f.order_id" SQL_EQ "ANY ($1) AND f.kind" SQL_EQ "'link' "
	"RETURNING " FOLLOW_UP_COLUMNS};
	Args		args = {0};

	ot_arg_texts(&args, order_ids);
	return ot_run_list(&delete, &args, read_follow_up);
}

bool
ot_store_lock_follow_up_if_free(int64 follow_up_id)
{
	static Statement lock = {"SELECT f.follow_up_id FROM order_timeout.follow_ups f WHERE f.follow_up_id" SQL_EQ "$1 "
	"FOR UPDATE SKIP LOCKED"};
	Args		args = {0};

	ot_arg_int8(&args, follow_up_id);
	return ot_run(&lock, &args) > 0;
}

void
ot_store_update_follow_up(const FollowUp *follow_up)
{
	static Statement update = {"UPDATE order_timeout.follow_ups f SET failures = $2, retry_at = $3, sqlstate = $4, error = $5 "
	"WHERE f.follow_up_id" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, follow_up->follow_up_id);
	ot_arg_int4(&args, follow_up->failures);
	ot_arg_time(&args, follow_up->retry_at);
	ot_arg_text(&args, follow_up->sqlstate);
	ot_arg_text(&args, follow_up->error);
	ot_run_write(&update, &args);
}

void
ot_store_delete_follow_up(int64 follow_up_id)
{
	static Statement delete = {"DELETE FROM order_timeout.follow_ups f WHERE f.follow_up_id" SQL_EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, follow_up_id);
	ot_run_write(&delete, &args);
}
