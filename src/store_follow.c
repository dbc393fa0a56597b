/*
 * store_follow.c
 *    What follows a change of an order's state: the hooks that policies name, the links, and those follow-ups that failed.
 *
 * Hooks and links are kept for the session, so that a payment pays nothing when there are none. A trigger tells when they
 * change (ot_following_changed): it makes PostgreSQL tell every session that the table's relcache entry is not valid any
 * more. They are read in the latest snapshot, because they are kept for longer than the transaction's. What was kept before
 * lives on until the transaction ends: a hook may change it while it is used.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store.h"
#include "store_statement.h"

PG_FUNCTION_INFO_V1(ot_following_changed);

typedef struct PolicyHooks
{
	char	   *policy;
	char	   *hooks[OT_HOOKS];
} PolicyHooks;

static bool kept_is_valid = false;
static Oid	policies_table = InvalidOid;
static Oid	links_table = InvalidOid;
static MemoryContext kept_context = NULL;
static List *kept_hooks = NIL;
static List *kept_links = NIL;

static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == policies_table || relid == links_table)
		kept_is_valid = false;
}

void
ot_follow_init(void)
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
read_hooks(Columns *columns)
{
	PolicyHooks *row = palloc(sizeof(PolicyHooks));

	row->policy = ot_column_text(columns);
	for (int i = 0; i < OT_HOOKS; i++)
		row->hooks[i] = ot_column_text(columns);
	return row;
}

static List *
find_hooks(void)
{
	static Statement find = {"SELECT p.policy, p.on_close, p.on_paid, p.on_reopen FROM order_timeout.policies p "
	"WHERE pg_catalog.num_nonnulls(p.on_close, p.on_paid, p.on_reopen)" GT "0", SNAPSHOT_LATEST};
	Args		none = {0};

	return ot_run_list(&find, &none, read_hooks);
}

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
	Oid			namespace = get_namespace_oid("order_timeout", false);

	policies_table = get_relname_relid("policies", namespace);
	links_table = get_relname_relid("links", namespace);
	kept_is_valid = true;
	PG_TRY();
	{
		List	   *hooks = find_hooks();

		keep(context, hooks, ot_find_links());
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

List *
ot_store_links(void)
{
	refresh();
	return kept_links;
}

List *
ot_store_shadow_prefixes(void)
{
	List	   *prefixes = NIL;
	ListCell   *cell;

	foreach(cell, ot_store_links())
	{
		const Link *link = lfirst(cell);

		if (link->shadow)
			prefixes = lappend(prefixes, link->prefix);
	}
	return prefixes;
}

const char *
ot_store_find_hook(const char *policy, FollowKind kind)
{
	ListCell   *cell;

	refresh();
	foreach(cell, kept_hooks)
	{
		PolicyHooks *row = lfirst(cell);

		if (strcmp(row->policy, policy) == 0)
			return row->hooks[kind];
	}
	return NULL;
}

static void
say_which_hook(void *hook)
{
	errcontext("hook %s of order_timeout", (char *) hook);
}

void
ot_store_call_hook(const char *hook, List *orders)
{
	Statement	call = {.sql = psprintf("SELECT %s($1)", hook), .as_caller = true, .once = true};
	ErrorContextCallback context = {error_context_stack, say_which_hook, unconstify(char *, hook)};
	int			count = list_length(orders);
	Datum	   *ids = palloc(count * sizeof(Datum));
	Args		args = {0};

	for (int i = 0; i < count; i++)
		ids[i] = CStringGetTextDatum(((Order *) list_nth(orders, i))->order_id);
	ot_arg_array(&args, TEXTOID, ids, NULL, count);
	error_context_stack = &context;
	ot_run(&call, &args);
	error_context_stack = context.previous;
}

/* Follow-ups. */

#define FOLLOW_UP_COLUMNS "f.follow_up_id, f.order_id, f.kind, f.since, f.failures"

void
ot_store_add_follow_up(const FollowUp *follow_up)
{
	static Statement insert = {"INSERT INTO order_timeout.follow_ups (order_id, kind, since, failures, retry_at, sqlstate, error) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7)"};
	Args		args = {0};

	ot_arg_text(&args, follow_up->order_id);
	ot_arg_text(&args, ot_follow_kinds[follow_up->kind]);
	ot_arg_time(&args, follow_up->since);
	ot_arg_int4(&args, follow_up->failures);
	ot_arg_time(&args, follow_up->retry_at);
	ot_arg_text(&args, follow_up->sqlstate);
	ot_arg_text(&args, follow_up->error);
	ot_run_write(&insert, &args);
}

bool
ot_store_has_hook_waiting(const char *order_id)
{
	static Statement find = {"SELECT f.follow_up_id FROM order_timeout.follow_ups f WHERE f.order_id" EQ "$1 AND f.kind" NE "'row'"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run(&find, &args) > 0;
}

static void *
read_follow_up(Columns *columns)
{
	FollowUp   *follow_up = palloc0(sizeof(FollowUp));

	follow_up->follow_up_id = ot_column_int8(columns);
	follow_up->order_id = ot_column_text(columns);
	follow_up->kind = ot_column_word(columns, ot_follow_kinds);
	follow_up->since = ot_column_time(columns);
	follow_up->failures = ot_column_int4(columns);
	follow_up->retry_at = OT_NO_TIME;
	return follow_up;
}

List *
ot_store_due_follow_ups(TimestampTz now, int limit)
{
	static Statement find = {"SELECT " FOLLOW_UP_COLUMNS " FROM order_timeout.follow_ups f "
		"WHERE f.retry_at" LE "$1 AND (f.kind" EQ "'row' OR NOT EXISTS (SELECT FROM order_timeout.follow_ups e "
		"WHERE e.order_id" EQ "f.order_id AND e.kind" NE "'row' AND f.follow_up_id" GT "e.follow_up_id)) "
	"ORDER BY f.retry_at, f.follow_up_id LIMIT $2"};
	Args		args = {0};

	ot_arg_time(&args, now);
	ot_arg_int4(&args, limit);
	return ot_run_list(&find, &args, read_follow_up);
}

bool
ot_store_lock_follow_up_if_free(int64 follow_up_id)
{
	static Statement lock = {"SELECT f.follow_up_id FROM order_timeout.follow_ups f WHERE f.follow_up_id" EQ "$1 "
	"FOR UPDATE SKIP LOCKED"};
	Args		args = {0};

	ot_arg_int8(&args, follow_up_id);
	return ot_run(&lock, &args) > 0;
}

void
ot_store_update_follow_up(const FollowUp *follow_up)
{
	static Statement update = {"UPDATE order_timeout.follow_ups f SET failures = $2, retry_at = $3, sqlstate = $4, error = $5 "
	"WHERE f.follow_up_id" EQ "$1"};
	Args		args = {0};

	ot_arg_int8(&args, follow_up->follow_up_id);
	ot_arg_int4(&args, follow_up->failures);
	ot_arg_time(&args, follow_up->retry_at);
	ot_arg_text(&args, follow_up->sqlstate);
	ot_arg_text(&args, follow_up->error);
	ot_run(&update, &args);
}

FollowUp *
ot_store_delete_follow_up(int64 follow_up_id)
{
	static Statement delete = {"DELETE FROM order_timeout.follow_ups f WHERE f.follow_up_id" EQ "$1 "
	"RETURNING " FOLLOW_UP_COLUMNS};
	Args		args = {0};

	ot_arg_int8(&args, follow_up_id);
	return ot_run_one(&delete, &args, read_follow_up);
}
