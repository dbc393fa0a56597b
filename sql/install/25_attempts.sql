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
'The gateway reports that an attempt ended without money. result: failed, cancelled, expired. What it kept open is open no longer, an order that it authorised is pending again, and a closing order that waited for nothing else is closed. Outcomes: ended, already_ended. Errors: OT010 no such attempt, 22023, 22004. Locks: the order, the attempt, all attempts of a closing order, when it closes the payments.';

CREATE FUNCTION authorize_attempt(
    gateway text, attempt_ref text, amount bigint, currency text, valid_until timestamptz, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_authorize_attempt' LANGUAGE C;
COMMENT ON FUNCTION authorize_attempt(text, text, bigint, text, timestamptz) IS
'The gateway promises amount (minor units, 1 or more) until valid_until; it is captured later, which record_payment reports. Outcomes: duplicate (a later valid_until is noted), wrong_currency, surplus (paid, or authorised by another attempt), late (closed, or the attempt had ended: its void is due), authorized (it covers what the order lacks: the order may be shipped), partial (it does not). Errors: OT003 other terms, OT010 no such attempt, 22023, 22003, 22004. Locks: the order, the attempt.';

CREATE FUNCTION claim_voids(
    worker text, max_voids integer DEFAULT 10, lease interval DEFAULT NULL, gateway text DEFAULT NULL)
RETURNS TABLE (order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer,
               lease_token text, leased_until timestamptz)
AS 'MODULE_PATHNAME', 'ot_claim_voids' LANGUAGE C;
COMMENT ON FUNCTION claim_voids(text, integer, interval, text) IS
'Leases up to max_voids due voids to a worker, oldest first, none to two workers; voids whose lease lapsed are taken back. The worker ends the attempt at its gateway. lease: how long, null for the refund_lease of the order''s policy. gateway: only this one. amount (minor units): what is authorised and not captured, null if the attempt never was authorised. action is submit the first time a void is handed out and query after that (ask the gateway what became of it first). Commit before calling the gateway. Errors: 22023, 22004. Locks: the attempts (SKIP LOCKED).';

CREATE FUNCTION complete_void(
    gateway text, attempt_ref text, result text, lease_token text DEFAULT NULL, error text DEFAULT NULL,
    OUT outcome text, OUT state text, OUT next_attempt_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_complete_void' LANGUAGE C;
COMMENT ON FUNCTION complete_void(text, text, text, text, text) IS
'Reports what became of an attempt that was to be ended. result: voided (it brings nothing more), paid (it brought money; record_payment reports that) (these from any caller, at any time), failed, unknown, deferred, rejected (these with the current lease; failed and rejected also without one, when the gateway may have the void and no worker does). An order that it authorised is pending again, and a closing order that waited for nothing else is closed by voided. Outcomes: recorded, duplicate, stale (not the current lease), ignored (already at its end). state is the attempt''s. Errors: OT010 no such attempt, 22023, 22004. Locks: the order, the attempt, all attempts of a closing order, when it closes the payments.';

CREATE FUNCTION retry_void(gateway text, attempt_ref text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_retry_void' LANGUAGE C;
COMMENT ON FUNCTION retry_void(text, text) IS
'Makes a void that needs attention due again: now, attempts from zero. state is the attempt''s, what it was before. Outcomes: retried, already_due (it is due, or a worker has it). Errors: OT005 no void of it is due, OT010 no such attempt, 22023, 22004. Locks: the order, the attempt.';
