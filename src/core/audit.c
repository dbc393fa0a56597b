/*
 * audit.c
 *    The proof: payments and refunds added up, and held against the orders.
 *
 * What one row can show, its CHECKs refuse. Here rows are held against each other, as they stand and not as the
 * functions should have written them:
 *  1. A payment's refunded is the sum of its refunds that succeeded, its refund_pending the sum of its open ones.
 *  2. An order's sums are the sums over its payments; those in another currency, uncounted ones and orphans apart.
 *  3. A closed order keeps nothing; a paid one at most its amount; a pending one less than its amount.
 *  4. Nothing is kept of a payment that is late, surplus, held, uncounted, or in another currency.
 *  5. No orphan that could be applied stands next to its order; no other payment stands without one.
 *  6. Order, payment and refund agree about currency and order.
 *  7. A paid order has a payment that is applied; if these are less than its amount, its events say what made it paid.
 *  8. For the money of a reversed refund another refund of its payment stands, or nobody owes it (withdrawn), or it
 *     came back (external, chargeback). No other refund is replaced or withdrawn. One that succeeded was returned.
 *
 *  9. A refund has a payment.
 *
 * Rows come sorted by order, payment, refund; the audit remembers the order and the payment it is in.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "audit.h"
#include "errors.h"
#include "money.h"
#include "progress.h"
#include "store.h"

typedef struct Audit
{
	ViolationVisitor visit;
	void	   *visit_state;
	MemoryContext context;		/* holds order and payment */
	bool		balanced;		/* no violation of the current order so far */
	uint64		orders;			/* order_ids that the walk has come to, the current one included */
	int64		estimate;		/* of how many it will come to, or OT_TOTAL_UNKNOWN */
	Progress	progress;
	AuditRow	order;			/* order_id NULL: none yet */
	Funds		order_sums;
	AuditRow	payment;		/* gateway NULL: none yet */
	Funds		payment_sums;
	int64		applied;		/* what the order's applied payments add up to */
} Audit;

static void
report(Audit *audit, const char *kind, const AuditRow *row, const char *refund_ref, const char *problem)
{
	Violation	violation = {kind, audit->order.order_id, NULL, NULL, refund_ref, problem};

	audit->balanced = false;
	if (row != NULL)
	{
		violation.gateway = row->gateway;
		violation.payment_ref = row->payment_ref;
	}
	if (audit->visit != NULL)
		audit->visit(&violation, audit->visit_state);
}

static void
add(Audit *audit, int64 *sum, int64 by, const AuditRow *row)
{
	if (!ot_money_accumulate(sum, by))
		report(audit, "overflow", row, row->refund_ref, "the sum does not fit into bigint");
}

static void
compare(Audit *audit, const char *kind, const AuditRow *row, const char *what, int64 recorded, int64 sum)
{
	if (recorded != sum)
		report(audit, kind, row, NULL,
			   psprintf("%s is %lld, its rows add up to %lld", what, (long long) recorded, (long long) sum));
}

/* One refund. */

static bool
needs_successor(const AuditRow *row)
{
	return !row->withdrawn && row->refund_reason != REASON_EXTERNAL && row->refund_reason != REASON_CHARGEBACK;
}

static void
check_refund_alone(Audit *audit, const AuditRow *row)
{
	bool		reversed = row->refund_state == REFUND_REVERSED;

	if (reversed && !row->has_successor && (needs_successor(row) || row->replaced_by != NULL))
		report(audit, "refund_successor", row, row->refund_ref, "it is reversed, and no refund stands for its money");
	if (!reversed && (row->replaced_by != NULL || row->withdrawn))
		report(audit, "refund_replaced", row, row->refund_ref, "it is replaced or withdrawn, and not reversed");
	if (row->refund_state == REFUND_SUCCEEDED && row->returned_at == OT_NO_TIME && !row->by_hand)
		report(audit, "refund_returned", row, row->refund_ref, "it succeeded, and nothing says when the money went back");
}

static void
take_refund(Audit *audit, const AuditRow *row)
{
	if (row->refund_state == REFUND_SUCCEEDED)
		add(audit, &audit->payment_sums.refunded, row->refund_amount, row);
	else if (row->refund_state != REFUND_REVERSED)
		add(audit, &audit->payment_sums.refund_pending, row->refund_amount, row);
	if (strcmp(row->refund_currency, row->payment_currency) != 0)
		report(audit, "refund_currency", row, row->refund_ref, "refund and payment are in different currencies");
	if (strcmp(row->refund_order_id, row->order_id) != 0)
		report(audit, "refund_order", row, row->refund_ref, "refund and payment name different orders");
	check_refund_alone(audit, row);
}

/* One payment, after its last refund. */

static bool
row_counts(const AuditRow *row)
{
	Payment		payment = {.disposition = row->disposition};

	return ot_counts_for_order(&payment);
}

static void
check_payment_alone(Audit *audit, const AuditRow *row)
{
	int64		kept = ot_kept(&row->payment_funds);
	bool		orphan = row->disposition == PAYMENT_ORPHAN;

	if (kept < 0)
		report(audit, "payment_funds", row, NULL, "more is refunded, owed and held than was paid");
	if (kept > 0 && row->disposition != PAYMENT_APPLIED && !orphan)
		report(audit, "payment_kept", row, NULL,
			   psprintf("%lld is kept of a payment that is %s", (long long) kept, ot_dispositions[row->disposition]));
	if (orphan && row->has_order && kept > 0)
		report(audit, "orphan_beside_order", row, NULL, "the order exists; the next sweep applies the payment");
	if (!orphan && !row->has_order)
		report(audit, "payment_without_order", row, NULL, "the order does not exist");
}

static void
finish_payment(Audit *audit)
{
	AuditRow   *row = &audit->payment;

	if (row->gateway == NULL)
		return;
	compare(audit, "payment_sums", row, "refunded", row->payment_funds.refunded, audit->payment_sums.refunded);
	compare(audit, "payment_sums", row, "refund_pending", row->payment_funds.refund_pending,
			audit->payment_sums.refund_pending);
	check_payment_alone(audit, row);
	if (row_counts(row))
	{
		add(audit, &audit->order_sums.paid, row->payment_funds.paid, row);
		add(audit, &audit->order_sums.refunded, audit->payment_sums.refunded, row);
		add(audit, &audit->order_sums.refund_pending, audit->payment_sums.refund_pending, row);
		add(audit, &audit->order_sums.held, row->payment_funds.held, row);
		if (row->disposition == PAYMENT_APPLIED)
			add(audit, &audit->applied, row->payment_funds.paid, row);
		if (row->has_order && strcmp(row->payment_currency, row->currency) != 0)
			report(audit, "payment_currency", row, NULL, "payment and order are in different currencies");
	}
	row->gateway = NULL;
}

/* One order, after its last payment. */

static const char *
broken_identity(const AuditRow *order)
{
	int64		kept = ot_kept(&order->funds);

	switch (order->state)
	{
		case ORDER_PENDING:
		case ORDER_AUTHORIZED:
		case ORDER_CLOSING:
			return kept >= 0 && kept < order->amount ? NULL : "an open order keeps its whole amount, or less than nothing";
		case ORDER_PAID:
			return kept >= 0 && kept <= order->amount ? NULL : "a paid order keeps more than its amount, or less than nothing";
		default:
			return kept == 0 ? NULL : "a closed order keeps money";
	}
}

/* A tolerance, or the operator, may have made it paid with less than its amount: then an event says so. */
static void
check_paid(Audit *audit, const AuditRow *order)
{
	if (order->state != ORDER_PAID || audit->applied >= order->amount)
		return;
	if (audit->applied == 0)
		report(audit, "order_paid", NULL, NULL, "a paid order without any payment that was applied");
	else if (ot_store_was_never_paid(order->order_id))
		report(audit, "order_paid", NULL, NULL,
			   psprintf("a paid order of %lld with %lld applied, and no event that says why",
						(long long) order->amount, (long long) audit->applied));
}

static void
finish_order(Audit *audit)
{
	AuditRow   *order = &audit->order;
	const char *broken;

	finish_payment(audit);
	if (order->order_id == NULL || !order->has_order)
		return;
	compare(audit, "order_sums", NULL, "paid", order->funds.paid, audit->order_sums.paid);
	compare(audit, "order_sums", NULL, "refunded", order->funds.refunded, audit->order_sums.refunded);
	compare(audit, "order_sums", NULL, "refund_pending", order->funds.refund_pending, audit->order_sums.refund_pending);
	compare(audit, "order_sums", NULL, "held", order->funds.held, audit->order_sums.held);
	check_paid(audit, order);
	broken = broken_identity(order);
	if (broken != NULL)
		report(audit, "order_funds", NULL, NULL, broken);
}

/* The walk. */

static char *
copy(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

static void
remember(Audit *audit, AuditRow *to, const AuditRow *row)
{
	MemoryContext row_context = MemoryContextSwitchTo(audit->context);

	*to = *row;
	to->order_id = copy(row->order_id);
	to->currency = copy(row->currency);
	to->gateway = copy(row->gateway);
	to->payment_ref = copy(row->payment_ref);
	to->payment_currency = copy(row->payment_currency);
	to->refund_ref = NULL;
	MemoryContextSwitchTo(row_context);
}

static bool
same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static void
begin_order(Audit *audit, const AuditRow *row)
{
	finish_order(audit);
	MemoryContextReset(audit->context);
	remember(audit, &audit->order, row);
	audit->payment.gateway = NULL;
	memset(&audit->order_sums, 0, sizeof(Funds));
	audit->applied = 0;
	if (audit->orders == 0)
		ot_progress_phase(&audit->progress, 2, audit->estimate);
	audit->orders++;
	ot_progress_add(&audit->progress, 1);
}

static void
begin_payment(Audit *audit, const AuditRow *row)
{
	finish_payment(audit);
	remember(audit, &audit->payment, row);
	memset(&audit->payment_sums, 0, sizeof(Funds));
}

static void
report_refund_alone(Audit *audit, const AuditRow *row)
{
	Violation	violation = {"refund_without_payment", row->order_id, row->gateway, row->payment_ref, row->refund_ref,
	"the payment does not exist"};

	audit->visit(&violation, audit->visit_state);
}

static void
take_row(const AuditRow *row, void *state)
{
	Audit	   *audit = state;

	if (row->refund_ref != NULL && !row->has_payment)
	{
		report_refund_alone(audit, row);
		return;
	}
	if (!same(audit->order.order_id, row->order_id))
		begin_order(audit, row);
	if (row->gateway != NULL &&
		!(same(audit->payment.payment_ref, row->payment_ref) && same(audit->payment.gateway, row->gateway)))
		begin_payment(audit, row);
	if (row->refund_ref != NULL)
		take_refund(audit, row);
}

static Audit
new_audit(ViolationVisitor visit, void *state)
{
	Audit		audit = {.visit = visit, .visit_state = state, .balanced = true};

	audit.context = AllocSetContextCreate(CurrentMemoryContext, "order_timeout audit", ALLOCSET_DEFAULT_SIZES);
	return audit;
}

OrderFunds
ot_audit_order(const char *order_id)
{
	Audit		audit = new_audit(NULL, NULL);
	OrderFunds	result;

	ot_store_audit_order(order_id, take_row, &audit);
	if (audit.orders == 0)
		ot_no_such_order(order_id);
	finish_order(&audit);
	result.state = audit.order.state;
	result.amount = audit.order.amount;
	result.currency = audit.order.currency;
	result.funds = audit.order_sums;
	result.balanced = audit.balanced;
	return result;
}

void
ot_audit_all(TimestampTz since, ViolationVisitor visit, void *state)
{
	Audit		audit = new_audit(visit, state);

	audit.estimate = since == OT_NO_TIME ? ot_store_estimate_orders() : OT_TOTAL_UNKNOWN;
	ot_progress_begin(&audit.progress, WORK_FUNDS_VIOLATIONS, OT_TOTAL_UNKNOWN);
	ot_store_audit(since, take_row, &audit);
	finish_order(&audit);
	ot_progress_end(&audit.progress);
}
