-- Tries to pay that were begun at a gateway.

CREATE FUNCTION begin_attempt(
    order_id text, gateway text, attempt_ref text, holds_for interval DEFAULT NULL, details jsonb DEFAULT NULL,
    can_void boolean DEFAULT true,
    OUT outcome text, OUT state text, OUT expires_at timestamptz, OUT open_until timestamptz)
AS 'MODULE_PATHNAME', 'ot_begin_attempt' LANGUAGE C;
COMMENT ON FUNCTION begin_attempt(text, text, text, interval, jsonb, boolean) IS
'Notes, before the buyer is sent to pay, that an attempt was begun at a gateway. holds_for: how long it keeps the order open, as far as the policy''s attempt_hold allows; null: no longer than the deadline. can_void: false if the gateway cannot end it (a bank transfer). Outcomes: begun, exists (look at state), already_paid, already_closed (nothing is written: do not send the buyer). Errors: OT001 no such order, OT003 it was begun for another order, 22023, 22004. Locks: the order.';

CREATE FUNCTION end_attempt(gateway text, attempt_ref text, result text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_end_attempt' LANGUAGE C;
COMMENT ON FUNCTION end_attempt(text, text, text) IS
'The gateway reports that an attempt ended without money. result: failed, cancelled, expired. What it kept open is open no longer, an order that it authorised is pending again, and a closing order that waited for nothing else is closed. Outcomes: ended, already_ended. Errors: OT010 no such attempt, 22023, 22004. Locks: the order, the attempt, when it closes the payments.';

CREATE FUNCTION authorize_attempt(
    gateway text, attempt_ref text, amount bigint, currency text, valid_until timestamptz, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_authorize_attempt' LANGUAGE C;
COMMENT ON FUNCTION authorize_attempt(text, text, bigint, text, timestamptz) IS
'The gateway promises amount (minor units, 1 or more) until valid_until; it is captured later, which record_payment reports. Outcomes: duplicate (a later valid_until is noted), wrong_currency, surplus (paid, or authorised by another attempt), late (closed, or the attempt had ended: its void is due), authorized (it covers what the order lacks: the order may be shipped), partial (it does not). Errors: OT003 other terms, OT010 no such attempt, 22023, 22003, 22004. Locks: the order, the attempt.';
