/*
 * store_audit.c
 *    Rows for the proof.
 */
#include "postgres.h"

#include "store.h"
#include "store_statement.h"

#define AUDIT_COLUMNS \
	"o.state, o.amount, o.currency, o.paid, o.refunded, o.refund_pending, o.held, " \
	"p.gateway, p.payment_ref, p.currency, p.disposition, p.amount, p.refunded, p.refund_pending, p.held, " \
	"r.refund_ref, r.order_id, r.amount, r.currency, r.state, r.reason, r.returned_at, " \
	"COALESCE(r.by_hand, false), COALESCE(r.withdrawn, false), r.replaced_by, " \
	"CASE WHEN r.state" SQL_EQ "'reversed' THEN EXISTS (SELECT FROM order_timeout.refunds n WHERE n.refund_ref" SQL_EQ \
	"r.replaced_by AND n.gateway" SQL_EQ "r.gateway AND n.payment_ref" SQL_EQ "r.payment_ref) ELSE false END"

#define WITH_REFUNDS \
	" LEFT JOIN order_timeout.refunds r ON r.gateway" SQL_EQ "p.gateway AND r.payment_ref" SQL_EQ "p.payment_ref "

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
	row.disposition = word_or_first(columns, ot_dispositions, &found);
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

/* The order_ids that something happened to; also those that only orphans know. */
#define CHANGED_SINCE "SELECT DISTINCT e.aggregateid FROM order_timeout.events e WHERE e.created_at" SQL_GE "$1"

void
ot_store_audit(const char *order_id, TimestampTz since, AuditVisitor visit, void *state)
{
	static Statement one = {"SELECT o.order_id, " AUDIT_COLUMNS " FROM order_timeout.orders o "
		"LEFT JOIN order_timeout.payments p ON p.order_id" SQL_EQ "o.order_id" WITH_REFUNDS
	"WHERE o.order_id" SQL_EQ "$1 ORDER BY p.gateway, p.payment_ref, r.refund_ref", SNAPSHOT_OF_CALLER};
	static Statement changed = {"SELECT c.id, " AUDIT_COLUMNS " FROM (" CHANGED_SINCE ") AS c (id) "
		"LEFT JOIN order_timeout.orders o ON o.order_id" SQL_EQ "c.id "
		"LEFT JOIN order_timeout.payments p ON p.order_id" SQL_EQ "c.id" WITH_REFUNDS
	"ORDER BY c.id, p.gateway, p.payment_ref, r.refund_ref", SNAPSHOT_OF_CALLER};
	static Statement all = {"SELECT COALESCE(o.order_id, p.order_id) AS id, " AUDIT_COLUMNS " FROM order_timeout.orders o "
		"FULL JOIN order_timeout.payments p ON p.order_id" SQL_EQ "o.order_id" WITH_REFUNDS
	"ORDER BY id, p.gateway, p.payment_ref, r.refund_ref", SNAPSHOT_OF_CALLER};
	Audit		audit = {visit, state};
	Args		args = {0};
	Statement  *statement = &all;

	if (order_id != NULL)
	{
		statement = &one;
		ot_arg_text(&args, order_id);
	}
	else if (since != OT_NO_TIME)
	{
		statement = &changed;
		ot_arg_time(&args, since);
	}
	ot_run_cursor(statement, &args, visit_audit_row, &audit);
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

static void *
read_refund_key(Columns *columns)
{
	Refund	   *refund = palloc0(sizeof(Refund));

	refund->refund_ref = ot_column_text(columns);
	refund->order_id = ot_column_text(columns);
	refund->gateway = ot_column_text(columns);
	refund->payment_ref = ot_column_text(columns);
	return refund;
}

List *
ot_store_refunds_without_payment(TimestampTz since)
{
	static Statement find_changed = {"SELECT r.refund_ref, r.order_id, r.gateway, r.payment_ref FROM order_timeout.refunds r "
		"WHERE r.order_id" SQL_EQ "ANY (" CHANGED_SINCE ") AND NOT EXISTS (SELECT FROM order_timeout.payments p "
	"WHERE p.gateway" SQL_EQ "r.gateway AND p.payment_ref" SQL_EQ "r.payment_ref) ORDER BY r.refund_ref", SNAPSHOT_OF_CALLER};
	static Statement find = {"SELECT r.refund_ref, r.order_id, r.gateway, r.payment_ref FROM order_timeout.refunds r "
		"WHERE NOT EXISTS (SELECT FROM order_timeout.payments p "
	"WHERE p.gateway" SQL_EQ "r.gateway AND p.payment_ref" SQL_EQ "r.payment_ref) ORDER BY r.refund_ref", SNAPSHOT_OF_CALLER};
	Args		args = {0};

	if (since != OT_NO_TIME)
		ot_arg_time(&args, since);
	return ot_run_list(since != OT_NO_TIME ? &find_changed : &find, &args, read_refund_key);
}
