\echo Use "CREATE EXTENSION order_timeout" to load this file. \quit
-- The schema is created here and not by `schema = ` in the control file: only so is it a member of the extension, goes
-- when the extension is dropped, and is refused when somebody else has made one of that name before us: who owns it
-- could replace what the functions call.
CREATE SCHEMA order_timeout;
REVOKE ALL ON SCHEMA order_timeout FROM PUBLIC;
SET LOCAL search_path TO order_timeout, pg_temp;

-- The tables. They are written only through the functions (policies apart), so that what holds between rows
-- (the funds identity) is kept in one place; what one row can show is a CHECK, so that no bug and no hand-written
-- UPDATE can commit a row that breaks it.
--
-- There are no foreign keys on purpose: a key to a hot policy row costs a third of the insert rate, an orphan payment
-- has no order to point at, and a dump restores in any order. funds_violations() finds rows that point nowhere.

CREATE TABLE policies (
    policy               text COLLATE "C" PRIMARY KEY
                         CHECK (octet_length(policy) BETWEEN 1 AND 255 AND policy !~ '[[:cntrl:]]'),
    pay_within           interval NOT NULL DEFAULT '30 minutes'
                         CHECK (pay_within > interval '0' AND pay_within <= interval '1000 years'),
    late_rule            text NOT NULL DEFAULT 'until_closed' CHECK (late_rule IN ('until_closed', 'at_deadline')),
    on_late              text NOT NULL DEFAULT 'refund' CHECK (on_late IN ('refund', 'reopen', 'hold')),
    refund_max_attempts  integer NOT NULL DEFAULT 10 CHECK (refund_max_attempts BETWEEN 1 AND 1000),
    refund_backoff       interval NOT NULL DEFAULT '1 minute'
                         CHECK (refund_backoff > interval '0' AND refund_backoff <= interval '365 days'),
    refund_backoff_max   interval NOT NULL DEFAULT '1 day' CHECK (refund_backoff_max <= interval '365 days'),
    refund_jitter        double precision NOT NULL DEFAULT 0.1 CHECK (refund_jitter BETWEEN 0 AND 1),
    refund_lease         interval NOT NULL DEFAULT '5 minutes'
                         CHECK (refund_lease > interval '0' AND refund_lease <= interval '365 days'),
    refund_settle_within interval NOT NULL DEFAULT '14 days'
                         CHECK (refund_settle_within > interval '0' AND refund_settle_within <= interval '1000 years'),
    orphan_after         interval CHECK (orphan_after > interval '0' AND orphan_after <= interval '1000 years'),
    CONSTRAINT policies_backoff_order CHECK (refund_backoff <= refund_backoff_max)
);
INSERT INTO policies (policy) VALUES ('default');

CREATE TABLE orders (
    order_id       text COLLATE "C" PRIMARY KEY,
    policy         text COLLATE "C" NOT NULL,
    state          text NOT NULL,
    amount         bigint NOT NULL,
    currency       text NOT NULL,
    paid           bigint NOT NULL DEFAULT 0,
    refunded       bigint NOT NULL DEFAULT 0,
    refund_pending bigint NOT NULL DEFAULT 0,
    held           bigint NOT NULL DEFAULT 0,
    expires_at     timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    settled_at     timestamptz,
    close_reason   text,
    metadata       jsonb,
    -- The funds identity of one row; kept = paid - refunded - refund_pending - held. Written for few nodes: each statement
    -- that writes a row parses the CHECKs' trees anew, and with one branch a state this one cost more than all else.
    CONSTRAINT orders_funds CHECK (
        least(amount, refunded, refund_pending, held, paid - refunded - refund_pending - held) >= 0
        AND paid - refunded - refund_pending - held <= CASE state WHEN 'paid' THEN amount
                                                                  WHEN 'pending' THEN amount - 1
                                                                  WHEN 'expired' THEN 0
                                                                  WHEN 'cancelled' THEN 0
                                                                  ELSE -1 END),
    CONSTRAINT orders_settled CHECK ((state = 'pending') = (settled_at IS NULL))
);
-- Only orders that can still fall due are in it, so that the sweeper's cost does not grow with the orders of the past.
CREATE INDEX orders_due ON orders (expires_at) WHERE settled_at IS NULL;

CREATE TABLE payments (
    gateway        text COLLATE "C" NOT NULL,
    payment_ref    text COLLATE "C" NOT NULL,
    order_id       text COLLATE "C" NOT NULL,
    amount         bigint NOT NULL,
    currency       text NOT NULL,
    paid_at        timestamptz,
    received_at    timestamptz NOT NULL,
    disposition    text NOT NULL,
    late_reason    text,
    refunded       bigint NOT NULL DEFAULT 0,
    refund_pending bigint NOT NULL DEFAULT 0,
    held           bigint NOT NULL DEFAULT 0,
    held_at        timestamptz,                 -- when it was put on hold; stays when the hold is resolved
    told_order_id  text COLLATE "C",            -- what the gateway said, when assign_orphan gave it another order
    details        jsonb,
    PRIMARY KEY (gateway, payment_ref),
    CONSTRAINT payments_disposition CHECK
        (disposition IN ('applied', 'late', 'surplus', 'wrong_currency', 'orphan', 'held')),
    CONSTRAINT payments_funds CHECK
        (least(amount - 1, refunded, refund_pending, held, amount - refunded - refund_pending - held) >= 0),
    CONSTRAINT payments_held CHECK ((held > 0) = (disposition = 'held'))
);
CREATE INDEX payments_order ON payments (order_id);
-- What waits for an order or for a person: small, so that looking for it costs nothing.
CREATE INDEX payments_waiting ON payments (received_at) WHERE disposition IN ('orphan', 'held');

CREATE TABLE refunds (
    refund_ref         text COLLATE "C" PRIMARY KEY,
    order_id           text COLLATE "C" NOT NULL,
    gateway            text COLLATE "C" NOT NULL,
    payment_ref        text COLLATE "C" NOT NULL,
    amount             bigint NOT NULL,
    currency           text NOT NULL,
    reason             text NOT NULL,
    note               text,
    state              text NOT NULL,
    attempts           integer NOT NULL DEFAULT 0,
    next_attempt_at    timestamptz,             -- of a leased refund: when the lease lapses, so that one index finds all due work
    leased_until       timestamptz,
    lease_token        text,
    worker             text,
    gateway_refund_ref text COLLATE "C",
    last_error         text,
    request_key        text COLLATE "C",
    asked              bigint NOT NULL,         -- the amount that it was created with; a partial refund makes amount less
    handed_out_at      timestamptz,             -- first time that a worker got it: from then on it is queried, never replaced
    submitted_at       timestamptz,             -- first time that the gateway said it took it
    returned_at        timestamptz,             -- when the money went back; stays when the refund is reversed after that
    replaced_by        text COLLATE "C",        -- of a reversed refund: the one that owes the money now
    by_hand            boolean NOT NULL DEFAULT false,  -- a person paid it out another way (settle_refund)
    attention_at       timestamptz,             -- since when a person must look
    created_at         timestamptz NOT NULL,
    settled_at         timestamptz,
    CONSTRAINT refunds_amount CHECK (amount BETWEEN 1 AND asked),
    CONSTRAINT refunds_reason CHECK (reason IN ('late', 'surplus', 'wrong_currency', 'expired', 'cancelled', 'requested',
                                                'orphan', 'reversed', 'external', 'chargeback')),
    -- Each state has its time, and only one of the three: it is at its end, waits for a person, or is due.
    CONSTRAINT refunds_state CHECK (
        num_nonnulls(settled_at, attention_at, next_attempt_at) = 1
        AND CASE state WHEN 'pending' THEN next_attempt_at
                       WHEN 'processing' THEN leased_until
                       WHEN 'submitted' THEN next_attempt_at
                       WHEN 'unknown' THEN next_attempt_at
                       WHEN 'failed' THEN next_attempt_at
                       WHEN 'needs_attention' THEN attention_at
                       WHEN 'succeeded' THEN settled_at
                       WHEN 'reversed' THEN settled_at END IS NOT NULL),
    CONSTRAINT refunds_lease CHECK (num_nonnulls(lease_token, leased_until) <> 1)
);
CREATE INDEX refunds_open ON refunds (next_attempt_at, gateway) WHERE settled_at IS NULL;
-- Of a key what differs comes first: comparing the same gateway at each step costs.
CREATE INDEX refunds_payment ON refunds (payment_ref);
CREATE INDEX refunds_request ON refunds (order_id, request_key) WHERE request_key IS NOT NULL;
-- The gateway's own number names one refund; two rows with it would count the same money twice.
CREATE UNIQUE INDEX refunds_gateway_refund ON refunds (gateway_refund_ref, gateway) WHERE gateway_refund_ref IS NOT NULL;

-- Identity columns, because their sequences ask no rights of the caller as whom the statements are carried out.
CREATE TABLE events (
    id            bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    aggregatetype text NOT NULL DEFAULT 'order',
    aggregateid   text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    payload       jsonb NOT NULL,
    created_at    timestamptz NOT NULL
);
-- Without the id: an order has few events, and each of them pays for the width.
CREATE INDEX events_aggregate ON events (aggregateid);

-- What a gateway said that contradicts what is recorded: money may have gone twice. Nothing is overwritten; a person looks.
CREATE TABLE conflicts (
    conflict_id        bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    order_id           text COLLATE "C" NOT NULL,
    gateway            text COLLATE "C" NOT NULL,
    payment_ref        text COLLATE "C" NOT NULL,
    refund_ref         text COLLATE "C",
    gateway_refund_ref text COLLATE "C",
    amount             bigint NOT NULL,         -- what the gateway says it returned, or the part of it that nothing is recorded for
    problem            text NOT NULL,
    created_at         timestamptz NOT NULL,
    resolved_at        timestamptz,
    note               text
);
CREATE INDEX conflicts_payment ON conflicts (gateway, payment_ref);
CREATE INDEX conflicts_open ON conflicts (created_at) WHERE resolved_at IS NULL;

-- Orders whose closing failed: left alone until retry_at, so that one bad order does not hold up the others.
CREATE TABLE set_aside (
    order_id text COLLATE "C" PRIMARY KEY,
    since    timestamptz NOT NULL,
    failures integer NOT NULL,
    retry_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    error    text NOT NULL
);

CREATE TABLE sweeps (
    sweep_id        bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    pid             integer NOT NULL,
    started_at      timestamptz NOT NULL,
    active_at       timestamptz NOT NULL,       -- last sign of life
    ended_at        timestamptz,                -- null: still running, or it was stopped in the middle
    batches         bigint NOT NULL DEFAULT 0,
    expired         bigint NOT NULL DEFAULT 0,
    failed          bigint NOT NULL DEFAULT 0,
    leases_returned bigint NOT NULL DEFAULT 0,
    orphans_settled bigint NOT NULL DEFAULT 0,
    max_lag         interval NOT NULL DEFAULT '0',  -- the latest closing: closed at, minus the deadline
    behind          interval NOT NULL DEFAULT '0',  -- age of the oldest overdue order at active_at
    last_error      text
);
CREATE INDEX sweeps_started ON sweeps (started_at);

SELECT pg_catalog.pg_extension_config_dump('policies', '');
SELECT pg_catalog.pg_extension_config_dump('orders', '');
SELECT pg_catalog.pg_extension_config_dump('payments', '');
SELECT pg_catalog.pg_extension_config_dump('refunds', '');
SELECT pg_catalog.pg_extension_config_dump('events', '');
SELECT pg_catalog.pg_extension_config_dump('events_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('conflicts', '');
SELECT pg_catalog.pg_extension_config_dump('conflicts_conflict_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('set_aside', '');
SELECT pg_catalog.pg_extension_config_dump('sweeps', '');
SELECT pg_catalog.pg_extension_config_dump('sweeps_sweep_id_seq', '');

-- A restore brings a row `default` into a table that CREATE EXTENSION has just filled with one: the untouched seed gives way.
-- An edited one does not: then a second `default` is a duplicate key like any other.
CREATE FUNCTION policies_restore_default() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE order_timeout.policies p
       SET pay_within = NEW.pay_within, late_rule = NEW.late_rule, on_late = NEW.on_late,
           refund_max_attempts = NEW.refund_max_attempts, refund_backoff = NEW.refund_backoff,
           refund_backoff_max = NEW.refund_backoff_max, refund_jitter = NEW.refund_jitter,
           refund_lease = NEW.refund_lease, refund_settle_within = NEW.refund_settle_within,
           orphan_after = NEW.orphan_after
     WHERE p.policy = 'default'
       AND (p.pay_within, p.late_rule, p.on_late, p.refund_max_attempts, p.refund_backoff, p.refund_backoff_max,
            p.refund_jitter, p.refund_lease, p.refund_settle_within)
         = ('30 minutes', 'until_closed', 'refund', 10, '1 minute', '1 day', 0.1, '5 minutes', '14 days')
       AND p.orphan_after IS NULL;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER restore_default BEFORE INSERT ON policies
    FOR EACH ROW WHEN (NEW.policy = 'default') EXECUTE FUNCTION policies_restore_default();

CREATE FUNCTION policy_in_use(policy text) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_policy_in_use' LANGUAGE C;
COMMENT ON FUNCTION policy_in_use(text) IS
'Whether any order follows the policy, looked up among all that is committed by now, also where the transaction''s own snapshot is older; used when a policy is deleted or renamed. Errors: 22023, 22004. Locks: none.';

-- An order without its policy could not be closed. The lock keeps create_order from taking the policy meanwhile:
-- it inserts the order and reads the policy in one statement, whose snapshot is newer than its lock on orders.
CREATE FUNCTION policies_keep_used() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.policy = OLD.policy THEN
        RETURN NEW;
    END IF;
    IF OLD.policy = 'default' THEN
        RAISE EXCEPTION 'policy "default" cannot be deleted or renamed'
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'Orphan payments, and orders that name no policy, follow it.';
    END IF;
    LOCK TABLE order_timeout.orders IN SHARE ROW EXCLUSIVE MODE;
    IF order_timeout.policy_in_use(OLD.policy) THEN
        RAISE EXCEPTION 'policy "%" is still in use', OLD.policy
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'There are orders that follow it.',
                  HINT = 'Change its settings instead, and give new orders another policy.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER keep_used BEFORE DELETE OR UPDATE OF policy ON policies
    FOR EACH ROW EXECUTE FUNCTION policies_keep_used();
-- Orders and payments.

CREATE FUNCTION create_order(
    order_id text, amount bigint, currency text,
    expires_in interval DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    policy text DEFAULT 'default', metadata jsonb DEFAULT NULL,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_create_order' LANGUAGE C;
COMMENT ON FUNCTION create_order(text, bigint, text, interval, timestamptz, text, jsonb) IS
'Creates an order of amount (minor units, 0 or more) that must be paid by a deadline: expires_in from now, or expires_at, or the policy''s pay_within. Outcomes: created; exists (same amount, currency and policy; answers its real deadline). Amount 0 is paid at once; waiting orphan payments of this order_id are applied. Errors: OT002 other terms, OT008 no such policy, 22023, 22003, 22004. Locks: the order_id (advisory, to meet record_payment), then the orphan payments.';

CREATE FUNCTION record_payment(
    order_id text, gateway text, payment_ref text, amount bigint, currency text,
    paid_at timestamptz DEFAULT NULL, details jsonb DEFAULT NULL,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint)
AS 'MODULE_PATHNAME', 'ot_record_payment' LANGUAGE C;
COMMENT ON FUNCTION record_payment(text, text, text, bigint, text, timestamptz, jsonb) IS
'Records that a gateway received amount (minor units, above 0), identified by (gateway, payment_ref) however often it is told; paid_at is the gateway''s clock and decides nothing. Outcomes: duplicate, orphan (no such order yet), wrong_currency, paid, partial, surplus, late, reopened, held. What cannot be kept becomes a refund in the same transaction: refund_ref, refund_amount. Errors: OT003 recorded with other terms, 22023, 22003, 22004. Locks: the order, then the payment; for an unknown order the order_id (advisory).';

CREATE FUNCTION cancel_order(order_id text, reason text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_cancel_order' LANGUAGE C;
COMMENT ON FUNCTION cancel_order(text, text) IS
'Closes a pending order; what was paid becomes refunds. An expired order becomes cancelled, so that nothing reopens it. Outcomes: cancelled, already_closed, already_paid. Errors: OT001 no such order, 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION expire_order(order_id text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_expire_order' LANGUAGE C;
COMMENT ON FUNCTION expire_order(text) IS
'Closes one order if its deadline has passed, for those who bring their own timer; safe to repeat. Outcomes: expired, not_due, already_paid, already_closed, not_found. Errors: 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION extend_order(order_id text, expires_at timestamptz,
    OUT outcome text, OUT state text, OUT expires_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_extend_order' LANGUAGE C;
COMMENT ON FUNCTION extend_order(text, timestamptz) IS
'Moves the deadline of a pending order further away, also when it is past due but not yet closed. Outcomes: extended, unchanged (not later than the present deadline), already_paid, already_closed. Errors: OT001 no such order, 22023 not in the future, 22004. Locks: the order.';

CREATE FUNCTION resolve_held(gateway text, payment_ref text, decision text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_resolve_held' LANGUAGE C;
COMMENT ON FUNCTION resolve_held(text, text, text) IS
'Decides about a late payment that is held. decision refund: refunded. decision accept: accepted (with what else of its order is held it reaches the amount; the order is paid, a surplus refunded), surplus (the order was paid meanwhile: refunded), short (stays held). Again: already_resolved. Errors: OT005 was never held, OT009 no such payment, 22023, 22004. Locks: the order, then its payments.';

CREATE FUNCTION refund_orphan(gateway text, payment_ref text, OUT outcome text, OUT refund_ref text)
AS 'MODULE_PATHNAME', 'ot_refund_orphan' LANGUAGE C;
COMMENT ON FUNCTION refund_orphan(text, text) IS
'Gives back a payment whose order is unknown. Outcomes: refunded, already_refunded. Errors: OT005 not an orphan, OT009 no such payment, 22023, 22004. Locks: the order if there is one, then the payment.';

CREATE FUNCTION assign_orphan(gateway text, payment_ref text, order_id text,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint)
AS 'MODULE_PATHNAME', 'ot_assign_orphan' LANGUAGE C;
COMMENT ON FUNCTION assign_orphan(text, text, text) IS
'Says which order an orphan payment was meant for, and applies it as if it came now; answers like record_payment, a repeat duplicate. Errors: OT001 no such order, OT005 not an orphan or being refunded, OT009 no such payment, 22023, 22003, 22004. Locks: the order, then the payment.';
-- Refunds.

CREATE FUNCTION request_refund(
    order_id text, request_key text, amount bigint DEFAULT NULL, reason text DEFAULT NULL, payment_ref text DEFAULT NULL)
RETURNS TABLE (outcome text, refund_ref text, gateway text, payment_ref text, amount bigint)
AS 'MODULE_PATHNAME', 'ot_request_refund' LANGUAGE C;
COMMENT ON FUNCTION request_refund(text, text, bigint, text, text) IS
'Asks to give back amount (minor units; null: all that is kept) of a paid order, newest payment first, a refund row for each payment; request_key makes it safe to repeat. payment_ref: only from that payment. Outcomes: accepted, duplicate. Errors: OT001 no such order, OT004 more than is kept, OT005 order not paid, OT007 key used for another amount, OT009 no such payment of this order, 22023, 22003, 22004. Locks: the order, then its payments.';

CREATE FUNCTION claim_refunds(
    worker text, max_refunds integer DEFAULT 10, lease interval DEFAULT NULL, gateway text DEFAULT NULL)
RETURNS TABLE (refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text,
               payment_amount bigint, action text, attempt integer, lease_token text, leased_until timestamptz)
AS 'MODULE_PATHNAME', 'ot_claim_refunds' LANGUAGE C;
COMMENT ON FUNCTION claim_refunds(text, integer, interval, text) IS
'Leases up to max_refunds due refunds to a worker, oldest first, none to two workers; refunds whose lease lapsed are taken back. lease: how long, null for the policy''s refund_lease. gateway: only this one. action is submit the first time a refund is handed out and query ever after (ask the gateway before sending again). Commit before calling the gateway. Errors: 22023, 22004. Locks: the refunds (SKIP LOCKED).';

CREATE FUNCTION complete_refund(
    refund_ref text, result text, lease_token text DEFAULT NULL, gateway_refund_ref text DEFAULT NULL,
    error text DEFAULT NULL, refunded_amount bigint DEFAULT NULL,
    OUT outcome text, OUT state text, OUT next_attempt_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_complete_refund' LANGUAGE C;
COMMENT ON FUNCTION complete_refund(text, text, text, text, text, bigint) IS
'Reports what the gateway did. result: succeeded (from anyone, at any time), failed, unknown, submitted, deferred, rejected (these with the current lease; failed and rejected of a submitted refund from anyone). refunded_amount (minor units, before fees): what the gateway really returned. Outcomes: recorded, duplicate, stale (not the current lease), ignored (already at its end), conflict (contradicts what is recorded: nothing is overwritten, see view attention). Errors: OT006 no such refund, 22023, 22003, 22004. Locks: succeeded takes the order, the payment, the refund; the others the refund.';

CREATE FUNCTION retry_refund(refund_ref text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_retry_refund' LANGUAGE C;
COMMENT ON FUNCTION retry_refund(text) IS
'Puts a refund that needs attention back to work: same key, attempts from zero, due now. Outcomes: retried, already_due (it is open). Errors: OT005 it is at its end, OT006 no such refund, 22023, 22004. Locks: the refund.';

CREATE FUNCTION settle_refund(refund_ref text, note text, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_settle_refund' LANGUAGE C;
COMMENT ON FUNCTION settle_refund(text, text) IS
'A person paid the money out another way: a refund that needs attention becomes succeeded, with a note. Outcomes: settled, already_settled. Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

CREATE FUNCTION reverse_refund(refund_ref text, reason text, OUT outcome text, OUT state text, OUT new_refund_ref text)
AS 'MODULE_PATHNAME', 'ot_reverse_refund' LANGUAGE C;
COMMENT ON FUNCTION reverse_refund(text, text) IS
'The money is owed again, under a new key: from succeeded (the bank sent it back; the new refund needs attention) or from needs_attention (the gateway declared the key dead; the new refund is pending). Outcomes: reversed, already_reversed (same new_refund_ref). Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

CREATE FUNCTION record_refund(
    gateway text, payment_ref text, gateway_refund_ref text, amount bigint, reason text DEFAULT 'external',
    OUT outcome text, OUT refund_ref text)
AS 'MODULE_PATHNAME', 'ot_record_refund' LANGUAGE C;
COMMENT ON FUNCTION record_refund(text, text, text, bigint, text) IS
'Records money (minor units) that went back without us: reason external (the gateway''s dashboard) or chargeback. It replaces refunds of that payment that were never handed out, then comes out of what is kept, then of what is held. Outcomes: recorded, duplicate (same gateway and gateway_refund_ref), conflict (part or all of it exceeds all that; refund_ref is the part that was recorded). Errors: OT009 no such payment, 22023, 22003, 22004. Locks: the order, the payment, its refunds.';

CREATE FUNCTION resolve_conflict(conflict_id bigint, note text DEFAULT NULL, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_resolve_conflict' LANGUAGE C;
COMMENT ON FUNCTION resolve_conflict(bigint, text) IS
'A person looked at a conflict; it leaves the view attention, the row stays. Outcomes: resolved, already_resolved. Errors: OT006 no such conflict, 22004. Locks: the conflict.';
-- The proof, the history, and the sweeper.

CREATE FUNCTION funds(order_id text,
    OUT state text, OUT amount bigint, OUT currency text, OUT paid bigint, OUT refunded bigint,
    OUT refund_pending bigint, OUT held bigint, OUT kept bigint, OUT balanced boolean)
AS 'MODULE_PATHNAME', 'ot_funds' LANGUAGE C STABLE;
COMMENT ON FUNCTION funds(text) IS
'What became of an order''s money (minor units), added up from its payments and refunds; balanced says that the rows agree with each other and with the funds identity. Errors: OT001 no such order, 22003, 22023, 22004. Locks: none.';

CREATE FUNCTION funds_violations()
RETURNS TABLE (kind text, order_id text, gateway text, payment_ref text, refund_ref text, problem text)
AS 'MODULE_PATHNAME', 'ot_funds_violations' LANGUAGE C STABLE;
COMMENT ON FUNCTION funds_violations() IS
'Every row and sum that disagrees, in the whole database; empty is the proof that all money is accounted for. Reads all orders, payments and refunds in one snapshot. Locks: none.';

CREATE FUNCTION history(order_id text) RETURNS SETOF events
AS 'MODULE_PATHNAME', 'ot_history' LANGUAGE C STABLE;
COMMENT ON FUNCTION history(text) IS
'The events of one order, in order; also of an order_id that only orphan payments know. Errors: 22023, 22004. Locks: none.';

CREATE PROCEDURE sweep(
    run_for interval DEFAULT '1 minute', batch_size integer DEFAULT 1000, poll_interval interval DEFAULT '100 ms')
AS 'MODULE_PATHNAME', 'ot_sweep_procedure' LANGUAGE C;
COMMENT ON PROCEDURE sweep(interval, integer, interval) IS
'Closes due orders, oldest deadline first, in batches of batch_size with a commit each; takes lapsed leases back, refunds old orphans, applies stray ones. Works for run_for, looking for work at each deadline and at least every poll_interval; ends before statement_timeout would. Called alone: 2D000 inside a transaction block or a function. Errors: 22023. Locks: the orders of a batch (SKIP LOCKED), their payments; none while it waits.';

CREATE FUNCTION sweep_once(max_orders integer DEFAULT 1000,
    OUT expired bigint, OUT failed bigint, OUT leases_returned bigint)
AS 'MODULE_PATHNAME', 'ot_sweep_function' LANGUAGE C;
COMMENT ON FUNCTION sweep_once(integer) IS
'One batch of sweep inside the caller''s transaction: up to max_orders due orders, and as many lapsed leases and orphans. Answers how many orders expired, how many failed and were set aside, how many leases were taken back. Errors: 22023. Locks: the orders (SKIP LOCKED), their payments; the refunds taken back (SKIP LOCKED).';
-- pg_cron and rights. All of it runs as the caller: what pg_cron or GRANT refuses, stays refused.


-- pg_cron lives in one database. From another one its functions cannot be called, but a line can be named that does
-- the same there. Jobs are told apart by name and role only, so the name says which database they are for.
CREATE FUNCTION require_pg_cron(line text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It lives in one database, the one that cron.database_name names, and needs to be in shared_preload_libraries.',
                  HINT = 'Run in that database: ' || line;
    END IF;
END
$$;
COMMENT ON FUNCTION require_pg_cron(text) IS
'Raises 55000 with a line to run elsewhere if pg_cron is not in this database; used by schedule_sweeper and unschedule_sweeper.';

-- A pg_cron that is installed but not preloaded says so only when it is called, and with no SQLSTATE of its own.
CREATE FUNCTION call_pg_cron(statement text, VARIADIC arguments text[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer bigint;
BEGIN
    EXECUTE statement INTO answer USING arguments;
    RETURN answer;
EXCEPTION WHEN internal_error OR object_not_in_prerequisite_state OR undefined_file THEN
    IF SQLERRM !~ 'shared_preload_libraries' THEN
        RAISE;
    END IF;
    RAISE EXCEPTION 'pg_cron is installed but not loaded'
        USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = SQLERRM,
              HINT = 'Add pg_cron to shared_preload_libraries, restart the server, then run here: SELECT * FROM order_timeout.schedule_sweeper();';
END
$$;
COMMENT ON FUNCTION call_pg_cron(text, text[]) IS
'Runs a statement of pg_cron''s and answers its number; 55000 if pg_cron is not preloaded. Used by schedule_sweeper and unschedule_sweeper.';

CREATE FUNCTION schedule_sweeper(
    OUT jobid bigint, INOUT schedule text DEFAULT NULL, IN job_name text DEFAULT 'order_timeout', OUT command text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    schedule := coalesce(schedule, '* * * * *');
    job_name := coalesce(job_name, 'order_timeout');
    -- A lone CALL: pg_cron runs several statements as one transaction, in which sweep could not commit.
    command := 'CALL order_timeout.sweep()';
    PERFORM order_timeout.require_pg_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
                                                 job_name || ' in ' || current_database(), schedule, command, current_database()));
    jobid := order_timeout.call_pg_cron('SELECT cron.schedule($1[1], $1[2], $1[3])', job_name, schedule, command);
END
$$;
COMMENT ON FUNCTION schedule_sweeper(text, text) IS
'Puts CALL order_timeout.sweep() into pg_cron under job_name, or changes its schedule; safe to repeat. schedule: pg_cron''s words, null for every minute (each run works through its minute, so closing does not wait for the tick). Errors: 55000 with the line to run when pg_cron is elsewhere or not loaded; pg_cron''s own for a bad schedule.';

CREATE FUNCTION unschedule_sweeper(job_name text DEFAULT 'order_timeout', OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_job bigint;
BEGIN
    job_name := coalesce(job_name, 'order_timeout');
    PERFORM order_timeout.require_pg_cron(format('SELECT cron.unschedule(%L);', job_name || ' in ' || current_database()));
    EXECUTE 'SELECT j.jobid FROM cron.job j WHERE j.jobname = $1 AND j.username = current_user' INTO found_job USING job_name;
    IF found_job IS NULL THEN
        outcome := 'not_scheduled';
        RETURN;
    END IF;
    PERFORM order_timeout.call_pg_cron('SELECT cron.unschedule($1[1]::bigint)::integer::bigint', found_job::text);
    outcome := 'unscheduled';
END
$$;
COMMENT ON FUNCTION unschedule_sweeper(text) IS
'Takes the caller''s job of that name out of pg_cron; safe to repeat. Outcomes: unscheduled, not_scheduled. Errors: 55000 with the line to run when pg_cron is elsewhere.';

-- What each kind of access may call; one list for grant_access and revoke_access.
CREATE FUNCTION access_grants(access text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[] := CASE access
        WHEN 'application' THEN ARRAY['create_order', 'record_payment', 'cancel_order', 'expire_order', 'extend_order',
                                      'request_refund', 'funds', 'history']
        WHEN 'worker' THEN ARRAY['claim_refunds', 'complete_refund', 'record_refund']
        WHEN 'reader' THEN ARRAY['funds', 'funds_violations', 'history']
        WHEN 'operator' THEN ARRAY['create_order', 'record_payment', 'cancel_order', 'expire_order', 'extend_order',
                                   'request_refund', 'funds', 'history', 'claim_refunds', 'complete_refund', 'record_refund',
                                   'funds_violations', 'retry_refund', 'settle_refund', 'reverse_refund', 'resolve_held',
                                   'refund_orphan', 'assign_orphan', 'resolve_conflict', 'sweep', 'sweep_once',
                                   'schedule_sweeper', 'unschedule_sweeper', 'require_pg_cron', 'call_pg_cron']
        END;
BEGIN
    IF names IS NULL THEN
        RAISE EXCEPTION 'unknown access: %', quote_nullable(access)
            USING ERRCODE = CASE WHEN access IS NULL THEN '22004' ELSE '22023' END,
                  HINT = 'Use application, worker, operator or reader.';
    END IF;
    RETURN NEXT 'USAGE ON SCHEMA order_timeout';
    RETURN QUERY SELECT format('EXECUTE ON ROUTINE %s', p.oid::regprocedure)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'order_timeout' AND p.proname = ANY (names);
    IF access IN ('reader', 'operator') THEN
        RETURN QUERY SELECT format('SELECT ON order_timeout.%I', t)
            FROM unnest(ARRAY['policies', 'orders', 'payments', 'refunds', 'events', 'conflicts', 'set_aside', 'sweeps',
                              'health', 'attention']) AS t;
    END IF;
    IF access = 'operator' THEN
        RETURN NEXT 'INSERT, UPDATE, DELETE ON order_timeout.policies';
    END IF;
END
$$;
COMMENT ON FUNCTION access_grants(text) IS
'The privileges that grant_access and revoke_access give and take for an access.';

-- GRANT takes "public" for everybody, and nothing here is everybody's.
CREATE FUNCTION change_access(statement text, role_name text, access text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    privileges text[] := ARRAY(SELECT order_timeout.access_grants(access));
    privilege text;
BEGIN
    IF role_name IS NULL THEN
        RAISE EXCEPTION 'role_name must not be null' USING ERRCODE = '22004';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name) THEN
        RAISE EXCEPTION 'role "%" does not exist', role_name USING ERRCODE = 'undefined_object';
    END IF;
    FOREACH privilege IN ARRAY privileges LOOP
        EXECUTE format(statement, privilege, role_name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION change_access(text, text, text) IS
'Runs statement, a format for a privilege and a role, for each privilege of an access; 42704 if there is no such role. Used by grant_access and revoke_access.';

CREATE FUNCTION grant_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout.change_access('GRANT %s TO %I', role_name, access);
    outcome := 'granted';
END
$$;
COMMENT ON FUNCTION grant_access(text, text) IS
'Gives a role what it needs. access: application (orders, payments, asking for refunds), worker (claiming and completing refunds), operator (everything, policies too), reader (tables, views, proof). Safe to repeat. Outcome: granted. Errors: 22023 unknown access, 42704 no such role, 22004.';

CREATE FUNCTION revoke_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout.change_access('REVOKE %s FROM %I', role_name, access);
    outcome := 'revoked';
END
$$;
COMMENT ON FUNCTION revoke_access(text, text) IS
'Takes from a role what grant_access gave it for that access. What two kinds of access share goes too: grant the other one again. Safe to repeat. Outcome: revoked. Errors: 22023 unknown access, 42704 no such role, 22004.';
-- What an operator looks at.

CREATE VIEW health AS
SELECT o.pending,
       o.overdue,
       o.oldest_overdue,
       r.refunds_by_state,
       m.owed_by_currency,
       r.oldest_refund_owed,
       (SELECT count(*) FROM refunds x WHERE x.settled_at IS NULL AND x.state = 'needs_attention') AS refunds_needing_attention,
       (SELECT count(*) FROM payments p WHERE p.disposition = 'held') AS payments_held,
       (SELECT count(*) FROM payments p
         WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending) AS payments_orphaned,
       (SELECT count(*) FROM set_aside s JOIN orders so ON so.order_id = s.order_id AND so.settled_at IS NULL
                                                                   AND so.expires_at <= s.since) AS orders_set_aside,
       (SELECT count(*) FROM conflicts c WHERE c.resolved_at IS NULL) AS conflicts_open,
       w.active_at AS last_sweep,
       w.behind AS last_sweep_lag
FROM (SELECT count(*) AS pending,
             count(*) FILTER (WHERE expires_at <= clock_timestamp()) AS overdue,
             clock_timestamp() - min(expires_at) FILTER (WHERE expires_at <= clock_timestamp()) AS oldest_overdue
        FROM orders WHERE settled_at IS NULL) o
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.state, s.n), '{}') AS refunds_by_state,
                   clock_timestamp() - min(s.oldest) AS oldest_refund_owed
              FROM (SELECT state, count(*) AS n, min(created_at) AS oldest
                      FROM refunds WHERE settled_at IS NULL GROUP BY state) s) r
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.currency, s.owed), '{}') AS owed_by_currency
              FROM (SELECT currency, sum(amount) AS owed
                      FROM refunds WHERE settled_at IS NULL GROUP BY currency) s) m
LEFT JOIN (SELECT active_at, behind FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w ON true;
COMMENT ON VIEW health IS
'One row: pending and overdue orders, the oldest overdue order''s age, open refunds by state, money owed by currency, the age of the oldest refund owed, what needs a person, the last sweep''s last sign of life and how far behind it was.';

CREATE VIEW attention AS
SELECT 'needs_attention' AS kind, r.order_id, r.gateway, r.payment_ref, r.refund_ref, NULL::bigint AS conflict_id,
       r.amount, r.currency, r.attention_at AS since,
       coalesce(r.last_error, r.note, r.reason) AS why,
       'retry_refund, settle_refund, reverse_refund or complete_refund' AS resolved_by
  FROM refunds r WHERE r.settled_at IS NULL AND r.state = 'needs_attention'
UNION ALL
SELECT 'held', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.held, p.currency, p.held_at,
       'a late payment waits for a decision (' || p.late_reason || ')', 'resolve_held'
  FROM payments p WHERE p.disposition = 'held'
UNION ALL
SELECT 'orphan', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.amount - p.refunded - p.refund_pending, p.currency,
       p.received_at, 'no order with this id is known', 'create_order, assign_orphan or refund_orphan'
  FROM payments p WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending
UNION ALL
SELECT 'set_aside', s.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, s.since,
       s.sqlstate || ': ' || s.error, 'expire_order or cancel_order, once the cause is mended; the sweeper tries again by itself'
  FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.expires_at <= s.since
UNION ALL
SELECT 'conflict', c.order_id, c.gateway, c.payment_ref, c.refund_ref, c.conflict_id, c.amount, p.currency, c.created_at,
       c.problem, 'resolve_conflict'
  FROM conflicts c LEFT JOIN payments p ON p.gateway = c.gateway AND p.payment_ref = c.payment_ref
 WHERE c.resolved_at IS NULL;
COMMENT ON VIEW attention IS
'Everything that waits for a person: kind (needs_attention, held, orphan, set_aside, conflict), the ids, since when, why, and which function resolves it.';
-- Nothing is PUBLIC's: roles get what grant_access or a plain GRANT gives them.
REVOKE ALL ON ALL TABLES IN SCHEMA order_timeout FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA order_timeout FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA order_timeout FROM PUBLIC;
