-- Orders and payments.

CREATE FUNCTION create_order(
    order_id text, amount bigint, currency text,
    expires_in interval DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    policy text DEFAULT 'default', metadata jsonb DEFAULT NULL,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_create_order' LANGUAGE C;
COMMENT ON FUNCTION create_order(text, bigint, text, interval, timestamptz, text, jsonb) IS
'Creates an order of amount (minor units, 0 or more) that must be paid by a deadline: expires_in from now, or expires_at, or the policy''s pay_within. Outcomes: created; exists (same amount, currency and policy; state and expires_at are its current ones, so let the buyer pay only if it is pending). Amount 0 is paid at once; waiting orphan payments of this order_id are applied. Errors: OT002 other terms, OT008 no such policy, 22023, 22004. Locks: the order_id (advisory lock, so that record_payment of it waits), then the orphan payments.';

CREATE FUNCTION record_payment(
    order_id text, gateway text, payment_ref text, amount bigint, currency text,
    paid_at timestamptz DEFAULT NULL, details jsonb DEFAULT NULL, attempt_ref text DEFAULT NULL,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint,
    OUT late_reason text)
AS 'MODULE_PATHNAME', 'ot_record_payment_2' LANGUAGE C;
COMMENT ON FUNCTION record_payment(text, text, text, bigint, text, timestamptz, jsonb, text) IS
'Records that a gateway received amount (minor units, above 0), identified by (gateway, payment_ref) however often the gateway reports it; paid_at is the gateway''s clock and decides nothing. Outcomes: duplicate, orphan (no such order yet), wrong_currency, paid, partial, surplus, late, reopened, held. What cannot be kept becomes a refund in the same transaction: refund_ref, refund_amount. late_reason: notified_late or paid_late, when the order was closed. Errors: OT003 recorded with other terms, 22023, 22004. Locks: the order, then the payment; for an unknown order the order_id (advisory).';

CREATE FUNCTION cancel_order(order_id text, reason text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_cancel_order' LANGUAGE C;
COMMENT ON FUNCTION cancel_order(text, text) IS
'Closes a pending order; what was paid becomes refunds, or is held by the policy''s on_short. An expired order becomes cancelled, so that nothing reopens it. Outcomes: cancelled, already_closed, already_paid. Errors: OT001 no such order, 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION expire_order(order_id text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_expire_order' LANGUAGE C;
COMMENT ON FUNCTION expire_order(text) IS
'Closes one order if its deadline has passed, for applications with a timer of their own; safe to repeat. What was paid becomes refunds, or is held by the policy''s on_short. Outcomes: expired, closing (under before_close void its attempts are to be ended first), not_due, already_paid, already_closed, not_found. Errors: 22023, 22004. Locks: the order, then its attempts and payments.';

CREATE FUNCTION extend_order(order_id text, expires_at timestamptz,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_extend_order' LANGUAGE C;
COMMENT ON FUNCTION extend_order(text, timestamptz) IS
'Moves the deadline of a pending order to a later time, also after the deadline if it is not closed yet. Outcomes: extended, unchanged (not later than the current deadline, or a repeat), already_paid, already_closed. Errors: OT001 no such order, 22023 not in the future, 22004. Locks: the order.';

CREATE FUNCTION set_deadline(order_id text, expires_at timestamptz,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_set_deadline' LANGUAGE C;
COMMENT ON FUNCTION set_deadline(text, timestamptz) IS
'Moves the deadline of a pending order to an earlier or a later time. Outcomes: set, unchanged (it is that already, or a repeat), already_paid, already_closed. Errors: OT001 no such order, 22023 not in the future, 22004. Locks: the order.';

CREATE FUNCTION reopen_order(order_id text, expires_in interval DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_reopen_order' LANGUAGE C;
COMMENT ON FUNCTION reopen_order(text, interval, timestamptz) IS
'Makes an expired order pending again, with a new deadline: expires_in from now, or expires_at, or the policy''s pay_within. Its refunds stay on their way. Outcomes: reopened, not_closed, already_paid. Errors: OT001 no such order, OT005 it was cancelled, 22023 not in the future or two deadlines, 22004. Locks: the order.';

CREATE FUNCTION change_order(order_id text, amount bigint, OUT outcome text, OUT state text, OUT amount bigint)
AS 'MODULE_PATHNAME', 'ot_change_order' LANGUAGE C;
COMMENT ON FUNCTION change_order(text, bigint) IS
'Changes the amount of a pending order (minor units, 0 or more). Outcomes: changed; paid (what is paid reaches the new amount; a surplus becomes refunds, newest payment first); unchanged; already_paid; already_closed. Errors: OT001 no such order, OT005 it is authorized, 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION minor_units(amount numeric, currency text) RETURNS bigint
AS 'MODULE_PATHNAME', 'ot_minor_units' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION minor_units(numeric, text) IS
'An amount of major units in minor units, by the currency''s ISO 4217 exponent: 12.34 EUR is 1234, 500 JPY is 500. Never rounded. Null for null. Errors: 22023 it does not convert exactly, or the currency is not known; 22003 not a bigint. Locks: none.';

CREATE FUNCTION resolve_held(gateway text, payment_ref text, decision text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_resolve_held' LANGUAGE C;
COMMENT ON FUNCTION resolve_held(text, text, text) IS
'Decides about a payment that is held: a late one, or a part payment under on_short = hold. decision refund: refunded. decision accept: accepted (with what else of its order is held it reaches the amount; the order is paid, a surplus refunded), surplus (the order was paid meanwhile: refunded), short (stays held). already_resolved (it is not held any more, whatever was decided). Errors: OT005 was never held, OT009 no such payment, 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION accept_payment(gateway text, payment_ref text, note text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_accept_payment' LANGUAGE C;
COMMENT ON FUNCTION accept_payment(text, text, text) IS
'Takes late money after all, as long as it is surely here: held, or owed by clear refunds (never handed out, or failed since they were). These become reversed. Part payments that are owed because the order closed count as well. Outcomes: accepted (together with such money of its order it reaches the amount; the order is paid, a surplus refunded), short (nothing changes), surplus (the order was paid meanwhile; nothing changes), too_late (nothing of it is here any more), already_accepted. Errors: OT005 was never late, held or owed by closing, OT009 no such payment, 22023, 22004. Locks: the order, its payments, their refunds.';

CREATE FUNCTION accept_short(order_id text, note text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_accept_short' LANGUAGE C;
COMMENT ON FUNCTION accept_short(text, text) IS
'Makes a pending order paid although only a part of its amount was paid. Outcomes: accepted, already_paid, already_closed. Errors: OT001 no such order, OT005 nothing is paid, 22023, 22004. Locks: the order.';

CREATE FUNCTION refund_orphan(gateway text, payment_ref text, OUT outcome text, OUT refund_ref text)
AS 'MODULE_PATHNAME', 'ot_refund_orphan' LANGUAGE C;
COMMENT ON FUNCTION refund_orphan(text, text) IS
'Gives back a payment whose order is unknown. Outcomes: refunded, already_refunded. Errors: OT005 not an orphan, OT009 no such payment, 22023, 22004. Locks: the order if there is one, then the payment.';

CREATE FUNCTION assign_orphan(gateway text, payment_ref text, order_id text,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint,
    OUT late_reason text)
AS 'MODULE_PATHNAME', 'ot_assign_orphan_2' LANGUAGE C;
COMMENT ON FUNCTION assign_orphan(text, text, text) IS
'Says which order an orphan payment was meant for, and applies it as if it arrived now; answers like record_payment, a repeat duplicate. Errors: OT001 no such order, OT005 not an orphan or being refunded, OT009 no such payment, 22023, 22004. Locks: the order, then the payment.';
