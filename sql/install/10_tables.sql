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
    refund_max_attempts  integer NOT NULL DEFAULT 20 CHECK (refund_max_attempts BETWEEN 1 AND 1000),
    refund_backoff       interval NOT NULL DEFAULT '1 minute'
                         CHECK (refund_backoff > interval '0' AND refund_backoff <= interval '365 days'),
    refund_backoff_max   interval NOT NULL DEFAULT '1 day' CHECK (refund_backoff_max <= interval '365 days'),
    refund_jitter        double precision NOT NULL DEFAULT 0.1 CHECK (refund_jitter BETWEEN 0 AND 1),
    refund_lease         interval NOT NULL DEFAULT '5 minutes'
                         CHECK (refund_lease > interval '0' AND refund_lease <= interval '365 days'),
    refund_settle_within interval NOT NULL DEFAULT '14 days'
                         CHECK (refund_settle_within > interval '0' AND refund_settle_within <= interval '1000 years'),
    orphan_after         interval CHECK (orphan_after > interval '0' AND orphan_after <= interval '1000 years'),
    short_tolerance      bigint NOT NULL DEFAULT 0 CHECK (short_tolerance >= 0),
    on_short             text NOT NULL DEFAULT 'refund' CHECK (on_short IN ('refund', 'hold')),
    on_notified_late     text CHECK (on_notified_late IN ('refund', 'reopen', 'hold')),
    attempt_hold         interval CHECK (attempt_hold > interval '0' AND attempt_hold <= interval '1000 years'),
    before_close         text NOT NULL DEFAULT 'close' CHECK (before_close IN ('close', 'void')),
    void_within          interval NOT NULL DEFAULT '5 minutes' CHECK (void_within > interval '0' AND void_within <= interval '365 days'),
    remind_before        interval CHECK (remind_before > interval '0' AND remind_before <= interval '1000 years'),
    CONSTRAINT policies_backoff_order CHECK (refund_backoff <= refund_backoff_max),
    -- At the deadline a payment is late, whatever is asked of the gateway.
    CONSTRAINT policies_before_close CHECK (before_close = 'close' OR late_rule = 'until_closed')
);
COMMENT ON TABLE policies IS
'A named set of rules that orders follow: how long they wait for payment, what becomes of late payments, how refunds are tried again.';
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
    open_until     timestamptz,                 -- attempts, an authorisation or voids keep it open until then
    -- When it falls due.
    closes_at      timestamptz NOT NULL GENERATED ALWAYS AS (greatest(expires_at, open_until)) STORED,
    due_since      timestamptz,                 -- of a closing order: the closes_at that passed
    reminded_of    timestamptz,                 -- the deadline that order.due_soon was written for
    has_attempts   boolean NOT NULL DEFAULT false,  -- one was begun, whatever became of it
    -- The funds identity of one row, and which states are settled; kept = paid - refunded - refund_pending - held. A state
    -- that is in neither list leaves the limit null. Written for few nodes, because each statement that writes a row parses
    -- the CHECKs' trees again: one CHECK, no branch for each state, and '0', which needs no cast to bigint.
    CONSTRAINT orders_funds CHECK (
        least(amount, refunded, refund_pending, held, paid - refunded - refund_pending - held) >= 0
        AND (paid - refunded - refund_pending - held
             <= CASE WHEN settled_at IS NOT NULL
                     THEN CASE WHEN state = 'paid' THEN amount WHEN state = ANY ('{expired,cancelled}') THEN '0' END
                     WHEN state = ANY ('{pending,authorized,closing}') THEN amount - 1 END) IS TRUE)
);
COMMENT ON TABLE orders IS
'An order that must be paid before closes_at: its state, and the sums of what was paid, returned, is owed back and is held.';
-- Only orders that can still fall due are in it, so that the sweeper's cost does not grow with the orders of the past.
CREATE INDEX orders_due ON orders (closes_at) WHERE settled_at IS NULL;

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
    told_order_id  text COLLATE "C",            -- what the gateway reported, when assign_orphan gave it another order
    details        jsonb,
    accepted_at    timestamptz,                 -- when the operator took late money after all (accept_payment, resolve_held)
    attempt_ref    text COLLATE "C",            -- the attempt that brought it, as far as that was said
    PRIMARY KEY (gateway, payment_ref),
    CONSTRAINT payments_disposition CHECK
        (disposition IN ('applied', 'late', 'surplus', 'wrong_currency', 'orphan', 'held', 'uncounted')),
    CONSTRAINT payments_funds CHECK
        (least(amount - 1, refunded, refund_pending, held, amount - refunded - refund_pending - held) >= 0),
    CONSTRAINT payments_held CHECK ((held > 0) = (disposition = 'held'))
);
COMMENT ON TABLE payments IS
'A payment that a gateway received, once for each (gateway, payment_ref), and what became of it.';
CREATE INDEX payments_order ON payments (order_id);
-- What waits for an order or for the operator: small, so that looking for it costs nothing.
CREATE INDEX payments_waiting ON payments (received_at) WHERE disposition IN ('orphan', 'held');

CREATE TABLE attempts (
    gateway         text COLLATE "C" NOT NULL,
    attempt_ref     text COLLATE "C" NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    state           text NOT NULL,
    authorized      bigint CHECK (authorized > 0),  -- what the gateway promised; null: nothing yet
    currency        text,
    valid_until     timestamptz,                -- the promise
    holds_until     timestamptz,                -- while it is open, it keeps its order open until then, as far as the policy lets it
    can_void        boolean NOT NULL,
    details         jsonb,
    covers          boolean NOT NULL DEFAULT false, -- it authorised its order
    captured        bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),    -- what its payments brought
    attempts        integer NOT NULL DEFAULT 0, -- how often its void was tried
    next_attempt_at timestamptz,                -- its void is due then; of a leased one: when the lease lapses
    leased_until    timestamptz,
    lease_token     text,
    worker          text,
    last_error      text,
    handed_out_at   timestamptz,                -- first time that a worker got its void: from then on it is queried
    maybe_sent      boolean NOT NULL DEFAULT false,
    ended_leases    text,                       -- as in refunds
    attention_at    timestamptz,                -- since when the operator must look
    created_at      timestamptz NOT NULL,
    settled_at      timestamptz,                -- since when nothing more is to be done about it
    PRIMARY KEY (gateway, attempt_ref),
    CONSTRAINT attempts_state CHECK (
        CASE WHEN state = ANY ('{open,authorized}') THEN settled_at IS NULL AND attention_at IS NULL
             WHEN state = 'needs_attention' THEN settled_at IS NULL AND attention_at IS NOT NULL AND next_attempt_at IS NULL
             WHEN state = ANY ('{captured,failed,cancelled,expired,voided}') THEN settled_at IS NULL OR next_attempt_at IS NULL
             ELSE false END),
    CONSTRAINT attempts_lease CHECK (num_nonnulls(lease_token, leased_until) <> 1)
);
COMMENT ON TABLE attempts IS
'A try to pay that was begun at a gateway, once for each (gateway, attempt_ref): its state, what it may still bring, and the lease of its void.';
CREATE INDEX attempts_order ON attempts (order_id);
CREATE INDEX attempts_due ON attempts (next_attempt_at, gateway) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX attempts_attention ON attempts (attention_at) WHERE attention_at IS NOT NULL;

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
    by_hand            boolean NOT NULL DEFAULT false,  -- the operator paid it out another way (settle_refund)
    attention_at       timestamptz,             -- since when the operator must look
    created_at         timestamptz NOT NULL,
    settled_at         timestamptz,
    maybe_sent         boolean NOT NULL DEFAULT false,  -- leases apart: the gateway may have it, so it is not sent again unasked
    ended_leases       text,                    -- tokens of leases that ended, each with its result: by these a repeat is known
    from_kept          bigint NOT NULL DEFAULT 0,   -- of one that record_refund wrote: what it took from kept and from held money;
    from_held          bigint NOT NULL DEFAULT 0,   -- the rest of amount it took from refunds, which name it in replaced_by
    withdrawn          boolean NOT NULL DEFAULT false,  -- reversed without a successor: the buyer does not want it any more
    was_requested      boolean NOT NULL DEFAULT false,  -- of reason reversed: it goes back to a request, wholly or in part
    CONSTRAINT refunds_amount CHECK (amount BETWEEN 1 AND asked),
    CONSTRAINT refunds_reason CHECK (reason IN ('late', 'surplus', 'wrong_currency', 'expired', 'cancelled', 'requested',
                                                'orphan', 'reversed', 'external', 'chargeback')),
    -- Each state has its time, and only one of the three: it is at its end, waits for the operator, or is due.
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
COMMENT ON TABLE refunds IS
'An obligation to give back money of one payment: its amount, its state, and which worker has it until when. Rows are never deleted.';
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
    created_at    timestamptz NOT NULL,
    xid           xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);
COMMENT ON TABLE events IS
'Something that happened to an order, written in the same transaction; an outbox for other systems.';
-- Without the id: an order has few events, and each of them pays for the width.
CREATE INDEX events_aggregate ON events (aggregateid);

-- Reports of a gateway that contradict what is recorded. Nothing is overwritten; the operator looks.
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
    note               text,
    reason             text,                    -- of the report: external or chargeback; null where complete_refund reported
    is_failure         boolean NOT NULL DEFAULT false,  -- the buyer may have nothing, rather than something twice
    counted_once       bigint NOT NULL DEFAULT 0,   -- what was taken for money that is recorded already; book counts it again
    booked_by          text COLLATE "C",        -- the refund that resolve_conflict booked
    reported           bigint                   -- all that was reported; amount is the part that is counted nowhere
);
COMMENT ON TABLE conflicts IS
'A report of a gateway that contradicts what is recorded. Nothing was overwritten; the operator looks and calls resolve_conflict.';
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
COMMENT ON TABLE set_aside IS
'An order that the sweeper could not close, and why; it is left alone until retry_at.';

-- The same for refunds that could not be handed out or taken back.
CREATE TABLE set_aside_refunds (
    refund_ref text COLLATE "C" PRIMARY KEY,
    due_at     timestamptz NOT NULL,            -- the refund's next_attempt_at: once that is another, this row is over
    since      timestamptz NOT NULL,
    failures   integer NOT NULL,
    retry_at   timestamptz NOT NULL,
    sqlstate   text NOT NULL,
    error      text NOT NULL
);
COMMENT ON TABLE set_aside_refunds IS
'A refund that could not be handed out, or taken back from a worker, and why; it is left alone until retry_at.';

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
    last_error      text,
    last_event      bigint                      -- the last id of events that was given out before started_at; 0: not known
);
COMMENT ON TABLE sweeps IS
'A run of the procedure sweep: when it worked, what it did, how far behind it was. Kept for 7 days.';
CREATE INDEX sweeps_started ON sweeps (started_at);

SELECT pg_catalog.pg_extension_config_dump('policies', '');
SELECT pg_catalog.pg_extension_config_dump('orders', '');
SELECT pg_catalog.pg_extension_config_dump('payments', '');
SELECT pg_catalog.pg_extension_config_dump('attempts', '');
SELECT pg_catalog.pg_extension_config_dump('refunds', '');
SELECT pg_catalog.pg_extension_config_dump('events', '');
SELECT pg_catalog.pg_extension_config_dump('events_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('conflicts', '');
SELECT pg_catalog.pg_extension_config_dump('conflicts_conflict_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('set_aside', '');
SELECT pg_catalog.pg_extension_config_dump('set_aside_refunds', '');
SELECT pg_catalog.pg_extension_config_dump('sweeps', '');
SELECT pg_catalog.pg_extension_config_dump('sweeps_sweep_id_seq', '');

-- A CHECK's message says neither which words there are nor which range. This says it first; the CHECKs stay behind it.
CREATE FUNCTION _policies_check_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    -- A null is right here: a column that cannot hold it says so itself.
    SELECT c.setting, c.value, c.rule INTO wrong
      FROM (VALUES
        ('policy', NEW.policy, octet_length(NEW.policy) BETWEEN 1 AND 255 AND NEW.policy !~ '[[:cntrl:]]',
         'Use 1 to 255 bytes, without control characters.'),
        ('late_rule', NEW.late_rule, NEW.late_rule IN ('until_closed', 'at_deadline'), 'Use one of: until_closed, at_deadline.'),
        ('on_late', NEW.on_late, NEW.on_late IN ('refund', 'reopen', 'hold'), 'Use one of: refund, reopen, hold.'),
        ('on_short', NEW.on_short, NEW.on_short IN ('refund', 'hold'), 'Use one of: refund, hold.'),
        ('on_notified_late', NEW.on_notified_late, NEW.on_notified_late IN ('refund', 'reopen', 'hold'),
         'Use one of: refund, reopen, hold; or null, then on_late counts.'),
        ('pay_within', NEW.pay_within::text, NEW.pay_within > interval '0' AND NEW.pay_within <= interval '1000 years',
         'Use more than 0 and at most 1000 years.'),
        ('refund_max_attempts', NEW.refund_max_attempts::text, NEW.refund_max_attempts BETWEEN 1 AND 1000, 'Use 1 to 1000.'),
        ('refund_backoff', NEW.refund_backoff::text,
         NEW.refund_backoff > interval '0' AND NEW.refund_backoff <= interval '365 days', 'Use more than 0 and at most 365 days.'),
        ('refund_backoff_max', NEW.refund_backoff_max::text,
         NEW.refund_backoff_max >= NEW.refund_backoff AND NEW.refund_backoff_max <= interval '365 days',
         format('Use at least refund_backoff, which is %s, and at most 365 days.', NEW.refund_backoff)),
        ('refund_jitter', NEW.refund_jitter::text, NEW.refund_jitter BETWEEN 0 AND 1, 'Use 0 to 1.'),
        ('refund_lease', NEW.refund_lease::text,
         NEW.refund_lease > interval '0' AND NEW.refund_lease <= interval '365 days', 'Use more than 0 and at most 365 days.'),
        ('refund_settle_within', NEW.refund_settle_within::text,
         NEW.refund_settle_within > interval '0' AND NEW.refund_settle_within <= interval '1000 years',
         'Use more than 0 and at most 1000 years.'),
        ('orphan_after', NEW.orphan_after::text, NEW.orphan_after > interval '0' AND NEW.orphan_after <= interval '1000 years',
         'Use more than 0 and at most 1000 years; or null, then orphans are kept.'),
        ('short_tolerance', NEW.short_tolerance::text, NEW.short_tolerance >= 0, 'Use 0 or more, in minor units.'),
        ('attempt_hold', NEW.attempt_hold::text, NEW.attempt_hold > interval '0' AND NEW.attempt_hold <= interval '1000 years',
         'Use more than 0 and at most 1000 years; or null, then attempts keep no order open.'),
        ('before_close', NEW.before_close, NEW.before_close IN ('close', 'void'), 'Use one of: close, void.'),
        ('before_close', NEW.before_close, NEW.before_close <> 'void' OR NEW.late_rule = 'until_closed',
         'It needs late_rule until_closed: at_deadline lets nothing be paid after the deadline.'),
        ('void_within', NEW.void_within::text, NEW.void_within > interval '0' AND NEW.void_within <= interval '365 days',
         'Use more than 0 and at most 365 days.'),
        ('remind_before', NEW.remind_before::text, NEW.remind_before > interval '0' AND NEW.remind_before <= interval '1000 years',
         'Use more than 0 and at most 1000 years; or null, then nobody is reminded.')
      ) AS c (setting, value, is_right, rule)
     WHERE NOT c.is_right LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invalid %: "%"', wrong.setting, wrong.value
            USING ERRCODE = 'check_violation', HINT = wrong.rule,
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = wrong.setting;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION _policies_check_settings() IS
'Says what a setting may be: 23514. Used by trigger check_settings of policies.';
CREATE TRIGGER check_settings BEFORE INSERT OR UPDATE ON policies
    FOR EACH ROW EXECUTE FUNCTION _policies_check_settings();

-- A restore brings a row `default` into a table that CREATE EXTENSION has just filled with one: the untouched seed gives way.
-- An edited one does not: then a second `default` is a duplicate key like any other.
CREATE FUNCTION _policies_restore_default() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE order_timeout.policies p
       SET pay_within = NEW.pay_within, late_rule = NEW.late_rule, on_late = NEW.on_late,
           refund_max_attempts = NEW.refund_max_attempts, refund_backoff = NEW.refund_backoff,
           refund_backoff_max = NEW.refund_backoff_max, refund_jitter = NEW.refund_jitter,
           refund_lease = NEW.refund_lease, refund_settle_within = NEW.refund_settle_within,
           orphan_after = NEW.orphan_after, short_tolerance = NEW.short_tolerance, on_short = NEW.on_short,
           on_notified_late = NEW.on_notified_late, attempt_hold = NEW.attempt_hold, before_close = NEW.before_close,
           void_within = NEW.void_within, remind_before = NEW.remind_before
     WHERE p.policy = 'default'
       AND (p.pay_within, p.late_rule, p.on_late, p.refund_max_attempts, p.refund_backoff, p.refund_backoff_max,
            p.refund_jitter, p.refund_lease, p.refund_settle_within, p.short_tolerance, p.on_short,
            p.before_close, p.void_within)
         = ('30 minutes', 'until_closed', 'refund', 20, '1 minute', '1 day', 0.1, '5 minutes', '14 days', 0, 'refund',
            'close', '5 minutes')
       AND num_nonnulls(p.orphan_after, p.on_notified_late, p.attempt_hold, p.remind_before) = 0;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION _policies_restore_default() IS
'Lets the row default of a dump take the place of the one that CREATE EXTENSION made. Used by trigger restore_default of policies.';
CREATE TRIGGER restore_default BEFORE INSERT ON policies
    FOR EACH ROW WHEN (NEW.policy = 'default') EXECUTE FUNCTION _policies_restore_default();

CREATE FUNCTION _policy_in_use(policy text) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_policy_in_use' LANGUAGE C;
COMMENT ON FUNCTION _policy_in_use(text) IS
'Whether any order follows the policy, looked up among all that is committed by now, also where the transaction''s own snapshot is older. Errors: 22023, 22004. Locks: none. Used by trigger keep_used of policies.';

-- An order without its policy could not be closed. The lock keeps create_order from taking the policy meanwhile:
-- it inserts the order and reads the policy in one statement, whose snapshot is newer than its lock on orders.
CREATE FUNCTION _policies_keep_used() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.policy = OLD.policy THEN
        RETURN NEW;
    END IF;
    IF OLD.policy = 'default' THEN
        RAISE EXCEPTION 'policy "default" cannot be deleted or renamed'
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'Orphan payments, and orders that name no policy, follow it.',
                  HINT = 'Change its settings instead, or name another policy when you create orders.';
    END IF;
    IF EXISTS (SELECT FROM order_timeout.hooks h WHERE h.policy = OLD.policy) THEN
        RAISE EXCEPTION 'policy "%" has hooks', OLD.policy
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'Its rows in order_timeout.hooks would belong to no policy.',
                  HINT = 'Remove them with order_timeout.set_hook(policy, hook, NULL) first.';
    END IF;
    LOCK TABLE order_timeout.orders IN SHARE ROW EXCLUSIVE MODE;
    IF order_timeout._policy_in_use(OLD.policy) THEN
        RAISE EXCEPTION 'policy "%" is still in use', OLD.policy
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'There are orders that follow it.',
                  HINT = 'Change its settings instead, and give new orders another policy.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION _policies_keep_used() IS
'Refuses to delete or rename a policy that is the default, that has hooks or that orders follow: 23503. Used by trigger keep_used of policies.';
CREATE TRIGGER keep_used BEFORE DELETE OR UPDATE OF policy ON policies
    FOR EACH ROW EXECUTE FUNCTION _policies_keep_used();
