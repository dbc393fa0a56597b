/*
 * store_audit.c
 *    Rows for the proof.
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "store.h"
#include "store_statement.h"

#define CLOCK_MARGIN (10 * USECS_PER_MINUTE)

/*
 * A refund without its payment names it all the same. The successor is no EXISTS, which the planner may turn into a hash
 * of all refunds in memory.
 */
#define AUDIT_COLUMNS \
	"o.state, o.amount, o.currency, o.paid, o.refunded, o.refund_pending, o.held, " \
	"COALESCE(p.gateway, r.gateway), COALESCE(p.payment_ref, r.payment_ref), p.currency, p.disposition, p.amount, p.refunded, p.refund_pending, p.held, " \
	"r.refund_ref, r.order_id, r.amount, r.currency, r.state, r.reason, r.returned_at, " \
	"COALESCE(r.by_hand, false), COALESCE(r.withdrawn, false), r.replaced_by, " \
	"CASE WHEN r.state" SQL_EQ "'reversed' THEN (SELECT true FROM order_timeout.refunds n WHERE n.refund_ref" SQL_EQ \
	"r.replaced_by AND n.gateway" SQL_EQ "r.gateway AND n.payment_ref" SQL_EQ "r.payment_ref) IS NOT NULL ELSE false END"

#define OF_PAYMENT " ON r.gateway" SQL_EQ "p.gateway AND r.payment_ref" SQL_EQ "p.payment_ref "

/* Order, payment, refund: places among the columns. */
#define SORTED "ORDER BY 1, 9, 10, 17"

typedef struct Audit
{
	AuditVisitor visit;
	void	   *state;
} Audit;

static int
word_or_first(Columns *columns, const char *const *words, bool *found)
{
	int			index = ot_column_word(columns, words);

	*found = index >= 0;
	return *found ? index : 0;
}

static void
visit_audit_row(Columns *columns, void *state)
{
	Audit	   *audit = state;
	AuditRow	row = {0};
	bool		found;

	row.order_id = ot_column_text(columns);
	row.state = word_or_first(columns, ot_order_states, &row.has_order);
	row.amount = ot_column_int8_or_zero(columns);
	row.currency = ot_column_text(columns);
	row.funds.paid = ot_column_int8_or_zero(columns);
	row.funds.refunded = ot_column_int8_or_zero(columns);
	row.funds.refund_pending = ot_column_int8_or_zero(columns);
	row.funds.held = ot_column_int8_or_zero(columns);
	row.gateway = ot_column_text(columns);
	row.payment_ref = ot_column_text(columns);
	row.payment_currency = ot_column_text(columns);
	row.disposition = word_or_first(columns, ot_dispositions, &row.has_payment);
	row.payment_funds.paid = ot_column_int8_or_zero(columns);
	row.payment_funds.refunded = ot_column_int8_or_zero(columns);
	row.payment_funds.refund_pending = ot_column_int8_or_zero(columns);
	row.payment_funds.held = ot_column_int8_or_zero(columns);
	row.refund_ref = ot_column_text(columns);
	row.refund_order_id = ot_column_text(columns);
	row.refund_amount = ot_column_int8_or_zero(columns);
	row.refund_currency = ot_column_text(columns);
	row.refund_state = word_or_first(columns, ot_refund_states, &found);
	row.refund_reason = word_or_first(columns, ot_refund_reasons, &found);
	row.returned_at = ot_column_time(columns);
	row.by_hand = ot_column_bool(columns);
	row.withdrawn = ot_column_bool(columns);
	row.replaced_by = ot_column_text(columns);
	row.has_successor = ot_column_bool(columns);
	audit->visit(&row, audit->state);
}

/*
 * An id below those of all events since then; 0 if none is known. A sweep notes the last id before it reads the clock that
 * it starts at: whatever reads the clock later takes a higher id, however long it is open before it writes or commits. That
 * holds if the sequence never went back below it. Sessions that keep ids to themselves make the mark 0. A clock may be
 * set back by as much as the margin.
 */
static int64
events_before(TimestampTz since)
{
	static Statement find = {"SELECT COALESCE((SELECT m.last_event FROM "
		"(SELECT s.started_at, s.last_event FROM order_timeout.sweeps s WHERE s.started_at" SQL_LE "$1 "
		"ORDER BY s.started_at DESC LIMIT 1) m WHERE m.last_event" SQL_LE "$2 AND NOT EXISTS "
		"(SELECT FROM order_timeout.sweeps n WHERE n.started_at" SQL_GT "m.started_at AND n.last_event" SQL_LT "m.last_event)), 0)",
	SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_time(&args, since - CLOCK_MARGIN);
	ot_arg_int8(&args, ot_store_mark_events().id);
	return *(int64 *) ot_run_one(&find, &args, ot_read_int8);
}

/*
 * Those that something happened to, also order_ids that only orphans know. The refunds without their payment are joined to
 * them: as a condition, the planner would think that half of all refunds meet it.
 */
static Statement changed = {"WITH changed (id) AS MATERIALIZED "
	"(SELECT DISTINCT e.aggregateid FROM order_timeout.events e WHERE e.id" SQL_GT "$2 AND e.created_at" SQL_GE "$1) "
	"SELECT c.id, " AUDIT_COLUMNS " FROM changed c LEFT JOIN order_timeout.orders o ON o.order_id" SQL_EQ "c.id "
	"LEFT JOIN order_timeout.payments p ON p.order_id" SQL_EQ "c.id LEFT JOIN order_timeout.refunds r" OF_PAYMENT
	"UNION ALL SELECT c.id, " AUDIT_COLUMNS " FROM changed c JOIN order_timeout.refunds r ON r.order_id" SQL_EQ "c.id "
	"LEFT JOIN order_timeout.payments p" OF_PAYMENT "LEFT JOIN order_timeout.orders o ON false "
"WHERE p.gateway IS NULL " SORTED, SNAPSHOT_OF_CALLER};

static Statement all = {"SELECT COALESCE(o.order_id, p.order_id, r.order_id), " AUDIT_COLUMNS " FROM order_timeout.orders o "
	"FULL JOIN order_timeout.payments p ON p.order_id" SQL_EQ "o.order_id FULL JOIN order_timeout.refunds r" OF_PAYMENT SORTED,
SNAPSHOT_OF_CALLER};

int64
ot_store_estimate_orders(void)
{
	static Statement find = {"SELECT c.reltuples::pg_catalog.int8 FROM pg_catalog.pg_class c "
	"WHERE c.oid" SQL_EQ "'order_timeout.orders'::pg_catalog.regclass", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	return *(int64 *) ot_run_one(&find, &args, ot_read_int8);
}

void
ot_store_audit(TimestampTz since, AuditVisitor visit, void *state)
{
	Audit		audit = {visit, state};
	Args		args = {0};

	if (since != OT_NO_TIME)
	{
		ot_arg_time(&args, since);
		ot_arg_int8(&args, events_before(since));
	}
	ot_run_cursor(since != OT_NO_TIME ? &changed : &all, &args, visit_audit_row, &audit);
}

void
ot_store_audit_order(const char *order_id, AuditVisitor visit, void *state)
{
	static Statement one = {"SELECT o.order_id, " AUDIT_COLUMNS " FROM order_timeout.orders o "
		"LEFT JOIN order_timeout.payments p ON p.order_id" SQL_EQ "o.order_id LEFT JOIN order_timeout.refunds r" OF_PAYMENT
	"WHERE o.order_id" SQL_EQ "$1 " SORTED, SNAPSHOT_OF_CALLER};
	Audit		audit = {visit, state};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	ot_run_cursor(&one, &args, visit_audit_row, &audit);
}

bool
ot_store_was_never_paid(const char *order_id)
{
	static Statement find = {"SELECT FROM order_timeout.events e WHERE e.aggregateid" SQL_EQ "$1 AND e.type" SQL_EQ "'order.created' "
		"AND NOT EXISTS (SELECT FROM order_timeout.events p WHERE p.aggregateid" SQL_EQ "$1 "
	"AND p.type" SQL_EQ "ANY ('{order.paid,order.reopened}'::pg_catalog.text[]))", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run(&find, &args) > 0;
}
