/*
 * replay.c
 *    replay_orders: what the engine would have done with orders that were not its own.
 *
 * Each order is made, paid and closed in memory, by the functions that do so for real orders, at the times that its rows
 * give. Whatever is decided is decided by src/rules. Nothing is written, so no row is left unwritten either.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "check.h"
#include "currency.h"
#include "decide.h"
#include "errors.h"
#include "money.h"
#include "order_create.h"
#include "order_state.h"
#include "payment.h"
#include "replay.h"
#include "rules.h"
#include "store.h"
#include "unwritten.h"

typedef struct Replay
{
	const ReplayTerms *terms;
	const Policy *policy;
	TimestampTz now;
	ReplayVisitor visit;
	void	   *visit_state;
	MemoryContext context;		/* holds the current order */
	Order	   *order;			/* NULL: none yet */
	int64		first_row;
	List	   *payments;		/* that are still to come, oldest first */
	List	   *joined;			/* that have come */
} Replay;

/* What happens. */

static void
report(Replay *replay, const char *outcome, TimestampTz at, int64 paid, int64 owed, int64 held)
{
	const Order *order = replay->order;
	ReplayStep	step = {order->order_id, at, outcome, order->state, order->currency, paid, owed, held};

	replay->visit(&step, replay->visit_state);
}

static void
close_order(Replay *replay, TimestampTz at)
{
	Order	   *order = replay->order;
	Funds		before = order->funds;
	ListCell   *cell;

	foreach(cell, replay->joined)
	{
		Payment    *payment = lfirst(cell);
		int64		kept = ot_kept_for_order(payment);

		if (kept > 0 && ot_holds_short(replay->policy))
			ot_funds_hold(order, payment, at);
		else if (kept > 0)
			ot_funds_move(order, payment, BUCKET_KEPT, BUCKET_REFUND_PENDING, kept);
	}
	ot_order_become_expired(order, at);
	report(replay, ot_order_states[order->state], at, 0,
		   ot_money_subtract(order->funds.refund_pending, before.refund_pending),
		   ot_money_subtract(order->funds.held, before.held));
}

/* The sweeper closes orders at their deadline and sweep_lag, if nothing came before. */
static void
sweep_until(Replay *replay, TimestampTz now)
{
	int64		lag = replay->terms->sweep_lag;

	if (ot_is_due(replay->order, now - lag))
		close_order(replay, replay->order->closes_at + lag);
}

/* As record_payment does it. */
static void
pay(Replay *replay, Payment *payment, TimestampTz now)
{
	Order	   *order = replay->order;
	const Policy *policy = ot_policy_decides(order, payment, now) ? replay->policy : NULL;
	PaymentOutcome outcome;
	int64		owed;

	if (ot_closes_first(order, policy, now))
		close_order(replay, now);
	outcome = ot_decide_payment(order, payment, policy);
	ot_payment_settle(order, payment, outcome, now);
	owed = ot_owed_at_once(order, payment, outcome);
	if (owed > 0)
		ot_funds_move(order, payment, BUCKET_KEPT, BUCKET_REFUND_PENDING, owed);
	replay->joined = lappend(replay->joined, payment);
	report(replay, ot_payment_outcomes[outcome], now, payment->funds.paid, payment->funds.refund_pending, payment->funds.held);
}

/* What has yet to happen stays open. */
static void
play(Replay *replay)
{
	Order	   *order = replay->order;
	ListCell   *cell;
	Changes		changes;

	ot_changes_begin(&changes);
	if (order->state == ORDER_PAID) /* it costs nothing */
		report(replay, ot_order_states[order->state], order->created_at, 0, 0, 0);
	foreach(cell, replay->payments)
	{
		Payment    *payment = lfirst(cell);
		TimestampTz reported_at = payment->paid_at + replay->terms->report_lag;

		sweep_until(replay, reported_at);
		pay(replay, payment, reported_at);
	}
	sweep_until(replay, replay->now);
	if (ot_order_is_open(order))
		report(replay, ot_order_states[order->state], order->created_at, 0, 0, 0);
	ot_changes_end(&changes);
}

static void
end_order(Replay *replay)
{
	if (replay->order == NULL)
		return;
	play(replay);
	replay->order = NULL;
	replay->payments = replay->joined = NIL;
	MemoryContextReset(replay->context);
}

/* Rows of the query. */

static void
invalid(const char *name, const char *problem, const char *hint)
{
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s: %s", name, problem),
				 errhint("%s", hint)));
}

static void
require(const char *name, bool is_there)
{
	if (!is_there)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("Leave such rows out, or give a value for %s.", name)));
}

static int64
amount_of(const char *name, const char *text, const ReplayRow *row, int64 least)
{
	int64		amount = ot_minor_units_of(text, row->currency, false);

	invalid(name, ot_amount_problem(amount, least), "Give minor units, as in 1234 for 12.34 EUR.");
	return amount;
}

static Payment *
payment_of(const ReplayRow *row)
{
	Payment    *payment = palloc0(sizeof(Payment));

	require("paid_amount of a row with paid_at", row->paid_amount != NULL);
	invalid("paid_at", ot_time_problem(row->paid_at), "Give a time in these years.");
	if (row->paid_at < row->created_at)
		invalid("paid_at", "it lies before created_at", "If the clocks differ a little, let the query take the later of the two.");
	payment->gateway = payment->payment_ref = "";
	payment->order_id = row->order_id;
	payment->currency = row->currency;
	payment->funds.paid = amount_of("paid_amount", row->paid_amount, row, 1);
	payment->paid_at = row->paid_at;
	payment->held_at = payment->accepted_at = OT_NO_TIME;
	return payment;
}

static Order *
order_of(const ReplayRow *row, const Replay *replay)
{
	OrderTerms	terms = {.order_id = row->order_id, .policy = replay->policy->policy, .currency = row->currency,
	.expires_in = replay->terms->pay_within, .expires_at = OT_NO_TIME};

	terms.amount = amount_of("amount", row->amount, row, 0);
	return ot_order_make(&terms, replay->policy, row->created_at);
}

static void
check_row(const ReplayRow *row)
{
	require("order_id", row->order_id != NULL);
	require("created_at", row->created_at != OT_NO_TIME);
	require("amount", row->amount != NULL);
	require("currency", row->currency != NULL);
	invalid("order_id", ot_id_problem(row->order_id), "Give 1 to 255 bytes without control characters.");
	invalid("created_at", ot_time_problem(row->created_at), "Give a time in these years.");
	invalid("currency", ot_currency_problem(row->currency), "Give the code of ISO 4217, for example EUR.");
	require("paid_at of a row with paid_amount", row->paid_at != OT_NO_TIME || row->paid_amount == NULL);
}

/* A further payment of the order before. */
static void
check_same_terms(const Replay *replay, const ReplayRow *row)
{
	const Order *order = replay->order;

	if (row->created_at == order->created_at && strcmp(row->currency, order->currency) == 0 &&
		amount_of("amount", row->amount, row, 0) == order->amount)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("order \"%s\" has other terms in row %lld", order->order_id, (long long) replay->first_row),
			 errdetail("That row has %lld %s, created at %s.",
					   (long long) order->amount, order->currency, timestamptz_to_str(order->created_at)),
			 errhint("Give each order an order_id of its own, and rows of its further payments the same created_at, amount and currency.")));
}

static void
add_row(Replay *replay, ReplayRow *row)
{
	MemoryContext previous;

	check_row(row);
	if (replay->order != NULL && strcmp(replay->order->order_id, row->order_id) == 0)
		check_same_terms(replay, row);
	else
		end_order(replay);
	previous = MemoryContextSwitchTo(replay->context);
	if (replay->order == NULL)
	{
		Changes		changes;

		ot_changes_begin(&changes);
		replay->order = order_of(row, replay);
		ot_changes_end(&changes);
		replay->first_row = row->number;
	}
	row->order_id = replay->order->order_id;	/* which lives as long as the order */
	row->currency = replay->order->currency;
	if (row->paid_at != OT_NO_TIME)
		replay->payments = lappend(replay->payments, payment_of(row));
	MemoryContextSwitchTo(previous);
}

static void
say_which_row(void *row)
{
	errcontext("row %lld of orders_query", (long long) ((ReplayRow *) row)->number);
}

static void
visit_row(ReplayRow *row, void *state)
{
	ErrorContextCallback context = {error_context_stack, say_which_row, row};

	error_context_stack = &context;
	add_row(state, row);
	error_context_stack = context.previous;
}

void
ot_replay(const ReplayTerms *terms, ReplayVisitor visit, void *state)
{
	Replay		replay = {.terms = terms, .visit = visit, .visit_state = state};

	replay.policy = ot_store_find_policy(terms->policy);
	if (replay.policy == NULL)
		ot_no_such_policy(terms->policy);
	replay.now = GetCurrentTransactionStartTimestamp();
	replay.context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout replayed order", ALLOCSET_DEFAULT_SIZES);
	ot_store_visit_replay(terms->query, visit_row, &replay);
	end_order(&replay);
	MemoryContextDelete(replay.context);
}
