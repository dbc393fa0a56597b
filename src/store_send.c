/*
 * store_send.c
 *    The SQL store: the functions that policies name for sending refunds.
 */
#include "postgres.h"

#include "store.h"
#include "store_statement.h"

static void *
read_name(Columns *columns)
{
	return ot_column_text(columns);
}

char *
ot_store_find_sender(const char *order_id)
{
	static Statement find = {"SELECT p.send_refund FROM order_timeout.policies p WHERE p.policy" EQ
		"COALESCE((SELECT o.policy FROM order_timeout.orders o WHERE o.order_id" EQ "$1), 'default')"};
	Args		args = {0};

	ot_arg_text(&args, order_id);
	return ot_run_one(&find, &args, read_name);
}

static void *
read_answer(Columns *columns)
{
	SendAnswer *answer = palloc(sizeof(SendAnswer));

	answer->result = ot_column_text(columns);
	answer->gateway_refund_ref = ot_column_text(columns);
	answer->error = ot_column_text(columns);
	answer->refunded_amount = ot_column_text(columns);
	return answer;
}

static void
say_which_sender(void *sender)
{
	errcontext("send_refund %s of order_timeout", (char *) sender);
}

/*
 * The answer is a text or a row with some of the columns, of any types: as JSON it is read by name, and its values are
 * there when the statement's snapshot is gone. The alias is no name that a column of the user's would have, or that
 * column would be read instead of the row.
 */
#define FIELD(name) "a.answer OPERATOR(pg_catalog.->>) '" name "'::pg_catalog.text"

#define CALL_SENDER \
	"SELECT CASE WHEN pg_catalog.jsonb_typeof(a.answer)" EQ "'object' THEN " FIELD("result") " " \
	"ELSE a.answer OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[] END, " \
	FIELD("gateway_refund_ref") ", " FIELD("error") ", " FIELD("refunded_amount") " " \
	"FROM (SELECT pg_catalog.to_jsonb(order_timeout_answer) AS answer " \
	"FROM %s($1, $2, $3, $4, $5, $6, $7, $8) AS order_timeout_answer) AS a"

List *
ot_store_call_sender(const char *sender, const Refund *refund, const char *action)
{
	Statement	call = {.sql = psprintf(CALL_SENDER, sender), .as_caller = true, .once = true};
	ErrorContextCallback context = {error_context_stack, say_which_sender, unconstify(char *, sender)};
	Args		args = {0};
	List	   *answers;

	ot_arg_text(&args, refund->refund_ref);
	ot_arg_text(&args, refund->order_id);
	ot_arg_text(&args, refund->gateway);
	ot_arg_text(&args, refund->payment_ref);
	ot_arg_int8(&args, refund->amount);
	ot_arg_text(&args, refund->currency);
	ot_arg_text(&args, action);
	ot_arg_int4(&args, refund->attempts + 1);
	error_context_stack = &context;
	answers = ot_run_list(&call, &args, read_answer);
	error_context_stack = context.previous;
	return answers;
}
