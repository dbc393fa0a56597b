/*
 * store_row.c
 *    Rows of the tables from and into the structs of rows.h, columns in the order of the tables: the same for both
 *    stores.
 */
#include "postgres.h"

#include "rules.h"
#include "store_row.h"

void *
ot_read_order(Columns *columns)
{
	Order	   *order = palloc0(sizeof(Order));

	order->order_id = ot_column_text(columns);
	order->policy = ot_column_text(columns);
	order->state = ot_column_word(columns, ot_order_states);
	order->amount = ot_column_int8(columns);
	order->currency = ot_column_text(columns);
	order->funds.paid = ot_column_int8(columns);
	order->funds.refunded = ot_column_int8(columns);
	order->funds.refund_pending = ot_column_int8(columns);
	order->funds.held = ot_column_int8(columns);
	order->expires_at = ot_column_time(columns);
	order->created_at = ot_column_time(columns);
	order->settled_at = ot_column_time(columns);
	order->close_reason = ot_column_text(columns);
	return order;
}

void *
ot_read_payment(Columns *columns)
{
	Payment    *payment = palloc0(sizeof(Payment));

	payment->gateway = ot_column_text(columns);
	payment->payment_ref = ot_column_text(columns);
	payment->order_id = ot_column_text(columns);
	payment->funds.paid = ot_column_int8(columns);
	payment->currency = ot_column_text(columns);
	payment->paid_at = ot_column_time(columns);
	payment->received_at = ot_column_time(columns);
	payment->disposition = ot_column_word(columns, ot_dispositions);
	payment->late_reason = ot_column_text(columns);
	payment->funds.refunded = ot_column_int8(columns);
	payment->funds.refund_pending = ot_column_int8(columns);
	payment->funds.held = ot_column_int8(columns);
	payment->held_at = ot_column_time(columns);
	payment->told_order_id = ot_column_text(columns);
	return payment;
}

void *
ot_read_refund(Columns *columns)
{
	Refund	   *refund = palloc0(sizeof(Refund));

	refund->refund_ref = ot_column_text(columns);
	refund->order_id = ot_column_text(columns);
	refund->gateway = ot_column_text(columns);
	refund->payment_ref = ot_column_text(columns);
	refund->amount = ot_column_int8(columns);
	refund->currency = ot_column_text(columns);
	refund->reason = ot_column_word(columns, ot_refund_reasons);
	refund->note = ot_column_text(columns);
	refund->state = ot_column_word(columns, ot_refund_states);
	refund->attempts = ot_column_int4(columns);
	refund->next_attempt_at = ot_column_time(columns);
	refund->leased_until = ot_column_time(columns);
	refund->lease_token = ot_column_text(columns);
	refund->worker = ot_column_text(columns);
	refund->gateway_refund_ref = ot_column_text(columns);
	refund->last_error = ot_column_text(columns);
	refund->request_key = ot_column_text(columns);
	refund->asked = ot_column_int8(columns);
	refund->handed_out_at = ot_column_time(columns);
	refund->submitted_at = ot_column_time(columns);
	refund->returned_at = ot_column_time(columns);
	refund->replaced_by = ot_column_text(columns);
	refund->by_hand = ot_column_bool(columns);
	refund->attention_at = ot_column_time(columns);
	refund->created_at = ot_column_time(columns);
	refund->settled_at = ot_column_time(columns);
	return refund;
}

static int64
column_usecs(Columns *columns)
{
	Interval   *interval = ot_column_interval(columns);

	return interval == NULL ? 0 : ot_interval_usecs(interval);
}

void *
ot_read_policy(Columns *columns)
{
	Policy	   *policy = palloc0(sizeof(Policy));

	policy->policy = ot_column_text(columns);
	policy->pay_within = ot_column_interval(columns);
	policy->late_rule = ot_column_word(columns, ot_late_rules);
	policy->on_late = ot_column_word(columns, ot_on_lates);
	policy->refund_max_attempts = ot_column_int4(columns);
	policy->refund_backoff = column_usecs(columns);
	policy->refund_backoff_max = column_usecs(columns);
	policy->refund_jitter = ot_column_float8(columns);
	policy->refund_lease = column_usecs(columns);
	policy->refund_settle_within = column_usecs(columns);
	policy->orphan_after = column_usecs(columns);
	return policy;
}

void
ot_order_args(Args *args, const Order *order)
{
	ot_arg_text(args, order->order_id);
	ot_arg_text(args, order->policy);
	ot_arg_text(args, ot_order_states[order->state]);
	ot_arg_int8(args, order->amount);
	ot_arg_text(args, order->currency);
	ot_arg_int8(args, order->funds.paid);
	ot_arg_int8(args, order->funds.refunded);
	ot_arg_int8(args, order->funds.refund_pending);
	ot_arg_int8(args, order->funds.held);
	ot_arg_time(args, order->expires_at);
	ot_arg_time(args, order->created_at);
	ot_arg_time(args, order->settled_at);
	ot_arg_text(args, order->close_reason);
}

void
ot_payment_args(Args *args, const Payment *payment)
{
	ot_arg_text(args, payment->gateway);
	ot_arg_text(args, payment->payment_ref);
	ot_arg_text(args, payment->order_id);
	ot_arg_int8(args, payment->funds.paid);
	ot_arg_text(args, payment->currency);
	ot_arg_time(args, payment->paid_at);
	ot_arg_time(args, payment->received_at);
	ot_arg_text(args, ot_dispositions[payment->disposition]);
	ot_arg_text(args, payment->late_reason);
	ot_arg_int8(args, payment->funds.refunded);
	ot_arg_int8(args, payment->funds.refund_pending);
	ot_arg_int8(args, payment->funds.held);
	ot_arg_time(args, payment->held_at);
	ot_arg_text(args, payment->told_order_id);
}

void
ot_refund_args(Args *args, const Refund *refund)
{
	ot_arg_text(args, refund->refund_ref);
	ot_arg_text(args, refund->order_id);
	ot_arg_text(args, refund->gateway);
	ot_arg_text(args, refund->payment_ref);
	ot_arg_int8(args, refund->amount);
	ot_arg_text(args, refund->currency);
	ot_arg_text(args, ot_refund_reasons[refund->reason]);
	ot_arg_text(args, refund->note);
	ot_arg_text(args, ot_refund_states[refund->state]);
	ot_arg_int4(args, refund->attempts);
	ot_arg_time(args, refund->next_attempt_at);
	ot_arg_time(args, refund->leased_until);
	ot_arg_text(args, refund->lease_token);
	ot_arg_text(args, refund->worker);
	ot_arg_text(args, refund->gateway_refund_ref);
	ot_arg_text(args, refund->last_error);
	ot_arg_text(args, refund->request_key);
	ot_arg_int8(args, refund->asked);
	ot_arg_time(args, refund->handed_out_at);
	ot_arg_time(args, refund->submitted_at);
	ot_arg_time(args, refund->returned_at);
	ot_arg_text(args, refund->replaced_by);
	ot_arg_bool(args, refund->by_hand);
	ot_arg_time(args, refund->attention_at);
	ot_arg_time(args, refund->created_at);
	ot_arg_time(args, refund->settled_at);
}
