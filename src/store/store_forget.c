/*
 * store_forget.c
 *    Empties what people wrote about an order. The caller holds the order and its payments.
 */
#include "postgres.h"

#include "store.h"
#include "store_statement.h"

#define REFUNDS_OF_ORDER "order_timeout.payments p WHERE p.order_id" SQL_EQ "$1 " \
	"AND r.gateway" SQL_EQ "p.gateway AND r.payment_ref" SQL_EQ "p.payment_ref"

/* Members of payloads that are free text. An order's reason is one, a refund's is a word of ours. */
#define WITHOUT_TEXT "(CASE WHEN e.type" SQL_LIKE "'order.%' THEN e.payload OPERATOR(pg_catalog.-) 'reason'::pg_catalog.text " \
	"ELSE e.payload END OPERATOR(pg_catalog.-) '{note,error,worker}'::pg_catalog.text[])"

static uint64
run(Statement *statement, const char *order_id)
{
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run(statement, &args);
}

/* An orphan that was given to this order has left its first events under the order_id that the gateway reported. */
static uint64
empty_events(const char *order_id)
{
	static Statement own = {"UPDATE order_timeout.events e SET payload = " WITHOUT_TEXT " WHERE e.aggregateid" SQL_EQ "$1 "
	"AND e.payload" SQL_NE WITHOUT_TEXT};
	static Statement told = {"UPDATE order_timeout.events e SET payload = " WITHOUT_TEXT
		" FROM (SELECT p.told_order_id, r.refund_ref FROM order_timeout.refunds r, " REFUNDS_OF_ORDER
		" AND p.told_order_id IS NOT NULL) AS t WHERE e.aggregateid" SQL_EQ "t.told_order_id "
	"AND e.payload OPERATOR(pg_catalog.->>) 'refund_ref'" SQL_EQ "t.refund_ref AND e.payload" SQL_NE WITHOUT_TEXT};
	static Statement decided = {"UPDATE order_timeout.events e SET payload = " WITHOUT_TEXT
		" FROM (SELECT p.told_order_id, c.conflict_id FROM order_timeout.conflicts c, order_timeout.payments p "
		"WHERE p.order_id" SQL_EQ "$1 AND p.told_order_id IS NOT NULL AND c.gateway" SQL_EQ "p.gateway "
		"AND c.payment_ref" SQL_EQ "p.payment_ref) AS t WHERE e.aggregateid" SQL_EQ "t.told_order_id "
		"AND e.payload OPERATOR(pg_catalog.->>) 'conflict_id'" SQL_EQ "t.conflict_id::pg_catalog.text "
	"AND e.payload" SQL_NE WITHOUT_TEXT};

	return run(&own, order_id) + run(&told, order_id) + run(&decided, order_id);
}

bool
ot_store_forget_order(const char *order_id)
{
	static Statement order = {"UPDATE order_timeout.orders o SET metadata = NULL, close_reason = NULL WHERE o.order_id" SQL_EQ "$1 "
	"AND pg_catalog.num_nonnulls(o.metadata, o.close_reason)" SQL_GT "0"};
	static Statement payments = {"UPDATE order_timeout.payments p SET details = NULL WHERE p.order_id" SQL_EQ "$1 "
	"AND p.details IS NOT NULL"};
	static Statement attempts = {"UPDATE order_timeout.attempts a SET details = NULL, last_error = NULL, worker = NULL "
	"WHERE a.order_id" SQL_EQ "$1 AND pg_catalog.num_nonnulls(a.details, a.last_error, a.worker)" SQL_GT "0"};
	static Statement refunds = {"UPDATE order_timeout.refunds r SET note = NULL, last_error = NULL, worker = NULL FROM "
	REFUNDS_OF_ORDER " AND pg_catalog.num_nonnulls(r.note, r.last_error, r.worker)" SQL_GT "0"};
	static Statement conflicts = {"UPDATE order_timeout.conflicts c SET note = NULL WHERE c.order_id" SQL_EQ "$1 "
	"AND c.note IS NOT NULL"};
	static Statement set_aside = {"DELETE FROM order_timeout.set_aside s WHERE s.order_id" SQL_EQ "$1"};
	static Statement follow_ups = {"UPDATE order_timeout.follow_ups f SET error = '' WHERE f.order_id" SQL_EQ "$1 "
	"AND f.error" SQL_NE "''"};
	static Statement set_aside_refunds = {"DELETE FROM order_timeout.set_aside_refunds s USING order_timeout.refunds r, "
	REFUNDS_OF_ORDER " AND s.refund_ref" SQL_EQ "r.refund_ref"};
	static Statement forgotten = {"SELECT FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 "
	"AND e.type" SQL_EQ "'order.forgotten'"};
	uint64		emptied = run(&order, order_id);

	emptied += run(&payments, order_id);
	emptied += run(&attempts, order_id);
	emptied += run(&refunds, order_id);
	emptied += run(&conflicts, order_id);
	emptied += run(&set_aside, order_id);
	emptied += run(&follow_ups, order_id);
	emptied += run(&set_aside_refunds, order_id);
	emptied += empty_events(order_id);
	return emptied > 0 || run(&forgotten, order_id) == 0;
}
