-- Refunds.

CREATE FUNCTION request_refund(
    order_id text, request_key text, amount bigint DEFAULT NULL, reason text DEFAULT NULL, payment_ref text DEFAULT NULL,
    gateway text DEFAULT NULL)
RETURNS TABLE (outcome text, refund_ref text, gateway text, payment_ref text, amount bigint)
AS 'MODULE_PATHNAME', 'ot_request_refund_2' LANGUAGE C;
COMMENT ON FUNCTION request_refund(text, text, bigint, text, text, text) IS
'Asks to give back amount (minor units; null: all that is kept) of a paid order, newest payment first, a refund row for each payment; request_key makes it safe to repeat. payment_ref: only from that payment; gateway: of that gateway, needed (22023) where two gateways of the order have the payment_ref. Outcomes: accepted, duplicate (the key was used before: nothing is refunded again, not even if that refund was withdrawn). Errors: OT001 no such order, OT004 more than is kept, OT005 order not paid, OT007 key used for another amount, OT009 no such payment of this order, 22023, 22003, 22004. Locks: the order, then its payments.';

CREATE FUNCTION claim_refunds(
    worker text, max_refunds integer DEFAULT 10, lease interval DEFAULT NULL, gateway text DEFAULT NULL)
RETURNS TABLE (refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text,
               payment_amount bigint, action text, attempt integer, lease_token text, leased_until timestamptz)
AS 'MODULE_PATHNAME', 'ot_claim_refunds' LANGUAGE C;
COMMENT ON FUNCTION claim_refunds(text, integer, interval, text) IS
'Leases up to max_refunds due refunds to a worker, oldest first, none to two workers; refunds whose lease lapsed are taken back. lease: how long, null for the policy''s refund_lease. gateway: only this one. action is submit the first time a refund is handed out and query after that (ask the gateway before sending it again). Commit before calling the gateway. Errors: 22023, 22004. Locks: the refunds (SKIP LOCKED).';

CREATE FUNCTION complete_refund(
    refund_ref text, result text, lease_token text DEFAULT NULL, gateway_refund_ref text DEFAULT NULL,
    error text DEFAULT NULL, refunded_amount bigint DEFAULT NULL,
    OUT outcome text, OUT state text, OUT next_attempt_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_complete_refund' LANGUAGE C;
COMMENT ON FUNCTION complete_refund(text, text, text, text, text, bigint) IS
'Reports what the gateway did. result: succeeded (from any caller, at any time), failed, unknown, submitted, deferred, rejected (these with the current lease; failed and rejected also without one, when the gateway may have the refund and no worker does). refunded_amount (minor units, before fees): what the gateway really returned. Outcomes: recorded, duplicate, stale (not the current lease), ignored (already at its end), conflict (contradicts what is recorded: nothing is overwritten, do not pay, see view attention). Errors: OT006 no such refund, 22023, 22003, 22004. Locks: succeeded takes the order, the payment, the refund; the others the refund.';

CREATE FUNCTION retry_refund(refund_ref text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_retry_refund' LANGUAGE C;
COMMENT ON FUNCTION retry_refund(text) IS
'Makes a refund that needs attention due again: now, with the same key, attempts from zero. Outcomes: retried, already_due (it is open, and is tried at its next_attempt_at). Errors: OT005 it is at its end, OT006 no such refund, 22023, 22004. Locks: the refund.';

CREATE FUNCTION settle_refund(refund_ref text, note text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_settle_refund' LANGUAGE C;
COMMENT ON FUNCTION settle_refund(text, text) IS
'The operator paid the money out another way: a refund that needs attention becomes succeeded, with a note. Call stop_refund before paying. Outcomes: settled, already_settled. Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

CREATE FUNCTION reverse_refund(refund_ref text, reason text, OUT outcome text, OUT state text, OUT new_refund_ref text)
AS 'MODULE_PATHNAME', 'ot_reverse_refund' LANGUAGE C;
COMMENT ON FUNCTION reverse_refund(text, text) IS
'The money is owed again, under a new key: from succeeded (the bank sent it back; the new refund needs attention) or from needs_attention (the gateway declared the key dead; the new refund is pending). What record_refund recorded goes back to where it was taken from, as with reverse_chargeback; new_refund_ref is null if nothing is owed. Outcomes: reversed, already_reversed (same new_refund_ref). Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

CREATE FUNCTION record_refund(
    gateway text, payment_ref text, gateway_refund_ref text, amount bigint, reason text DEFAULT 'external',
    currency text DEFAULT NULL, OUT outcome text, OUT refund_ref text)
AS 'MODULE_PATHNAME', 'ot_record_refund_2' LANGUAGE C;
COMMENT ON FUNCTION record_refund(text, text, text, bigint, text, text) IS
'Records money (minor units) that went back without us: reason external (the gateway''s dashboard) or chargeback. It takes the place of clear refunds of that payment (the gateway surely does not have them), then comes out of what is kept, then of what is held. Refunds that may be this money stop: they need attention. currency: if given, it must be the payment''s. Outcomes: recorded, duplicate (same gateway and gateway_refund_ref), conflict (part or all of it exceeds all that, or it may be counted twice: see view attention; refund_ref is what was recorded). Errors: OT003 another currency than the payment''s, OT009 no such payment, 22023, 22003, 22004. Locks: the order, the payment, its refunds.';

CREATE FUNCTION resolve_conflict(conflict_id bigint, note text DEFAULT NULL, book boolean DEFAULT false, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_resolve_conflict_2' LANGUAGE C;
COMMENT ON FUNCTION resolve_conflict(bigint, text, boolean) IS
'Records that the operator has handled a conflict; it leaves the view attention, the row stays. book: the reported money went back in addition to what is recorded; the amount that is counted nowhere, or was counted once, is recorded as an external refund out of kept, then of held money. Outcomes: resolved, already_resolved. Errors: OT004 with book: nothing to book, or more than there is, OT005 with book: the conflict reports a failure, OT006 no such conflict, 22004. Locks: the order, the payment, the conflict.';

CREATE FUNCTION stop_refund(refund_ref text, note text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_stop_refund' LANGUAGE C;
COMMENT ON FUNCTION stop_refund(text, text) IS
'An open refund is not sent any more until the operator decides: it needs attention. A worker that has it keeps its lease for its report. Then: retry_refund, settle_refund, reverse_refund. Outcomes: stopped, already_stopped (it needs attention already). Errors: OT005 it is at its end, OT006 no such refund, 22023, 22004. Locks: the refund.';

CREATE FUNCTION withdraw_refund(refund_ref text, note text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_withdraw_refund' LANGUAGE C;
COMMENT ON FUNCTION withdraw_refund(text, text) IS
'A requested refund that the gateway surely does not have is not wanted any more: it becomes reversed, nothing takes its place, and the money is kept again; what exceeds the order''s amount is owed as surplus. Outcomes: withdrawn, already_withdrawn. Errors: OT005 any other refund, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

CREATE FUNCTION reverse_chargeback(
    gateway text, gateway_refund_ref text, note text DEFAULT NULL, refund_ref text DEFAULT NULL,
    OUT outcome text, OUT state text, OUT new_refund_ref text)
AS 'MODULE_PATHNAME', 'ot_reverse_chargeback' LANGUAGE C;
COMMENT ON FUNCTION reverse_chargeback(text, text, text, text) IS
'Money that record_refund recorded came back, or never went (a chargeback was won, a dashboard refund bounced). gateway_refund_ref names it, or refund_ref if it has no number. Its money goes back to where it was taken from: refunds are owed again, kept money is kept (on a paid order up to its amount, the rest owed as surplus), held money is held; on a closed order all of it needs attention as a refund. Outcomes: reversed, already_reversed. Errors: OT005 not recorded by record_refund, OT006 no such refund, 22023, 22004. Locks: the order, the payment, its refunds.';
