\echo Use "ALTER EXTENSION order_timeout UPDATE TO '0.2.0'" to load this file. \quit
-- From 0.1.0 to 0.2.0. Every change of an object in sql/install/ has its counterpart here; test/tap/upgrade.pl compares an
-- upgraded database with a fresh one. README.md in this folder says how each kind of change is written. In short: IF NOT
-- EXISTS for tables and indexes, new columns last, CREATE OR REPLACE for bodies, REVOKE on nothing but what this script
-- creates. The first part drops the functions whose signature changes and notes what roles were granted, the last part
-- grants it again.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Each of these is created below with its new signature.
CREATE TEMPORARY TABLE order_timeout_dropped ON COMMIT DROP AS
SELECT p.oid AS function, p.proname AS name, p.proacl AS rights
  FROM pg_proc p
 WHERE p.oid = ANY (ARRAY['order_timeout.record_payment(text, text, text, bigint, text, timestamptz, jsonb)',
                          'order_timeout.request_refund(text, text, bigint, text, text)',
                          'order_timeout.record_refund(text, text, text, bigint, text)',
                          'order_timeout.assign_orphan(text, text, text)',
                          'order_timeout.resolve_conflict(bigint, text)',
                          'order_timeout.funds_violations()']::regprocedure[]);

-- What users made on top of them, and on top of that: DROP would name the first part of it only.
DO $script$
DECLARE
    objects text;
    uses text;
BEGIN
    WITH RECURSIVE member AS (
        SELECT d.classid, d.objid
          FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
         WHERE e.extname = 'order_timeout' AND d.deptype = 'e'
    ), part AS (
        -- A view depends through its rule, a generated column through its expression.
        SELECT 'pg_rewrite'::regclass AS classid, r.oid AS objid, r.ev_class AS relation, 0 AS number
          FROM pg_rewrite r WHERE r.rulename = '_RETURN'
        UNION ALL
        SELECT 'pg_attrdef'::regclass, e.oid, e.adrelid, e.adnum
          FROM pg_attrdef e JOIN pg_attribute a ON (a.attrelid, a.attnum) = (e.adrelid, e.adnum) WHERE a.attgenerated <> ''
    ), whole AS (
        SELECT CASE WHEN p.objid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AS classid,
               coalesce(p.relation, d.objid) AS objid, coalesce(p.number, d.objsubid) AS objsubid,
               d.refclassid, d.refobjid, d.refobjsubid
          FROM pg_depend d LEFT JOIN part p ON (p.classid, p.objid) = (d.classid, d.objid) WHERE d.deptype IN ('n', 'a')
    ), dependency AS (
        SELECT w.* FROM whole w
         WHERE (w.classid, w.objid) NOT IN (TABLE member) AND (w.classid, w.objid) <> (w.refclassid, w.refobjid)
    ), found AS (
        SELECT d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid, d.refobjsubid
          FROM pg_temp.order_timeout_dropped f
          JOIN dependency d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.function
        UNION
        SELECT d.classid, d.objid, d.objsubid, f.classid, f.objid, f.objsubid
          FROM found f
          JOIN dependency d ON (d.refclassid, d.refobjid) = (f.classid, f.objid) AND f.objsubid IN (0, d.refobjsubid)
    ), named AS (
        SELECT DISTINCT pg_describe_object(f.classid, f.objid, f.objsubid) AS object,
               pg_describe_object(f.refclassid, f.refobjid, f.refobjsubid) AS used
          FROM found f
    )
    SELECT string_agg(DISTINCT n.object, ', '), string_agg(n.object || ' uses ' || n.used, E'\n' ORDER BY n.object, n.used)
      INTO objects, uses
      FROM named n;
    IF objects IS NOT NULL THEN
        RAISE EXCEPTION 'cannot update order_timeout because other objects use functions that change: %', objects
            USING ERRCODE = 'dependent_objects_still_exist', DETAIL = uses,
                  HINT = 'Save the definition and the rights of each (pg_dump --schema-only, or for a view pg_get_viewdef), drop it, run ALTER EXTENSION order_timeout UPDATE, and create it again.';
    END IF;
END
$script$;

-- A role has an access if it was granted all that grant_access gives for it, itself and not through another role.
CREATE TEMPORARY TABLE order_timeout_accesses ON COMMIT DROP AS
WITH granted AS (
    SELECT x.grantee, format('%s ON ROUTINE %s', x.privilege_type, p.oid::regprocedure) AS privilege
      FROM pg_proc p, aclexplode(p.proacl) x WHERE p.pronamespace = 'order_timeout'::regnamespace
    UNION ALL
    SELECT x.grantee, format('%s ON order_timeout.%I', x.privilege_type, c.relname)
      FROM pg_class c, aclexplode(c.relacl) x WHERE c.relnamespace = 'order_timeout'::regnamespace
    UNION ALL
    SELECT x.grantee, format('%s ON SCHEMA %I', x.privilege_type, n.nspname)
      FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'order_timeout'
), needed AS (
    -- A line of access_grants may have several, as in INSERT, UPDATE ON order_timeout.policies.
    SELECT a.access, line, verb || substring(line FROM ' ON .*') AS privilege
      FROM unnest(ARRAY['application', 'worker', 'operator', 'reader']) AS a (access),
           order_timeout.access_grants(a.access) AS line,
           regexp_split_to_table(substring(line FROM '^(.*?) ON '), ', ') AS verb
)
SELECT g.grantee AS role, n.access, n.lines
  FROM (SELECT grantee, array_agg(privilege) AS privileges FROM granted WHERE grantee <> 0 GROUP BY grantee) g
  JOIN (SELECT access, array_agg(privilege) AS privileges, array_agg(line) AS lines FROM needed GROUP BY access) n
    ON n.privileges <@ g.privileges;

DO $script$
DECLARE
    dropped regprocedure;
BEGIN
    FOR dropped IN SELECT f.function FROM pg_temp.order_timeout_dropped f LOOP
        EXECUTE format('DROP FUNCTION %s', dropped);
    END LOOP;
END
$script$;

SET LOCAL search_path TO order_timeout, pg_temp;

-- What only the extension calls has a name that says so.
ALTER FUNCTION policies_restore_default() RENAME TO _policies_restore_default;
ALTER FUNCTION policies_keep_used() RENAME TO _policies_keep_used;
ALTER FUNCTION policy_in_use(text) RENAME TO _policy_in_use;
ALTER FUNCTION require_pg_cron(text) RENAME TO _require_pg_cron;
ALTER FUNCTION call_pg_cron(text, text[]) RENAME TO _call_pg_cron;
ALTER FUNCTION access_grants(text) RENAME TO _access_grants;
ALTER FUNCTION change_access(text, text, text) RENAME TO _change_access;
COMMENT ON FUNCTION _policy_in_use(text) IS
'Whether any order follows the policy, looked up among all that is committed by now, also where the transaction''s own snapshot is older. Errors: 22023, 22004. Locks: none. Used by trigger keep_used of policies.';
COMMENT ON FUNCTION _access_grants(text) IS
'The privileges of an access, as GRANT and REVOKE take them. Used by grant_access and revoke_access.';

-- What the schema is for, and what a row of each table is. The extension's comment is the control file's of the version that
-- was created.
COMMENT ON EXTENSION order_timeout IS
'close unpaid orders at their deadline, and give back what is paid too late (schema order_timeout)';
COMMENT ON SCHEMA order_timeout IS
'Orders with a deadline, their payments and refunds. The tables are written through the functions only, policies apart.';
COMMENT ON TABLE policies IS
'A named set of rules that orders follow: how long they wait for payment, what becomes of late payments, how refunds are tried again.';
COMMENT ON TABLE orders IS
'An order that must be paid before closes_at: its state, and the sums of what was paid, returned, is owed back and is held.';
COMMENT ON TABLE payments IS
'A payment that a gateway received, once for each (gateway, payment_ref), and what became of it.';
COMMENT ON TABLE refunds IS
'An obligation to give back money of one payment: its amount, its state, and which worker has it until when. Rows are never deleted.';
COMMENT ON TABLE events IS
'Something that happened to an order, written in the same transaction; an outbox for other systems.';
COMMENT ON TABLE conflicts IS
'A report of a gateway that contradicts what is recorded. Nothing was overwritten; the operator looks and calls resolve_conflict.';
COMMENT ON TABLE set_aside IS
'An order that the sweeper could not close, and why; it is left alone until retry_at.';
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS last_event bigint;
COMMENT ON TABLE sweeps IS
'A run of the procedure sweep: when it worked, what it did, how far behind it was. Kept for 7 days.';

-- More about what a gateway may have, what a report took, and what a person decided.
ALTER TABLE policies ADD COLUMN IF NOT EXISTS short_tolerance bigint NOT NULL DEFAULT 0 CHECK (short_tolerance >= 0);
ALTER TABLE policies ADD COLUMN IF NOT EXISTS on_short text NOT NULL DEFAULT 'refund' CHECK (on_short IN ('refund', 'hold'));
ALTER TABLE policies ADD COLUMN IF NOT EXISTS on_notified_late text CHECK (on_notified_late IN ('refund', 'reopen', 'hold'));
ALTER TABLE policies ADD COLUMN IF NOT EXISTS attempt_hold interval
    CHECK (attempt_hold > interval '0' AND attempt_hold <= interval '1000 years');
ALTER TABLE policies ADD COLUMN IF NOT EXISTS before_close text NOT NULL DEFAULT 'close' CHECK (before_close IN ('close', 'void'));
ALTER TABLE policies ADD COLUMN IF NOT EXISTS void_within interval NOT NULL DEFAULT '5 minutes'
    CHECK (void_within > interval '0' AND void_within <= interval '365 days');
ALTER TABLE policies ADD COLUMN IF NOT EXISTS remind_before interval
    CHECK (remind_before > interval '0' AND remind_before <= interval '1000 years');
ALTER TABLE policies ADD CONSTRAINT policies_before_close CHECK (before_close = 'close' OR late_rule = 'until_closed');
ALTER TABLE policies ALTER COLUMN refund_max_attempts SET DEFAULT 20;
-- Ten attempts ended after 8.5 hours. A default that was never edited gets what a fresh one has.
UPDATE policies SET refund_max_attempts = 20
 WHERE policy = 'default'
   AND (pay_within, late_rule, on_late, refund_max_attempts, refund_backoff, refund_backoff_max, refund_jitter, refund_lease,
        refund_settle_within) = ('30 minutes', 'until_closed', 'refund', 10, '1 minute', '1 day', 0.1, '5 minutes', '14 days')
   AND orphan_after IS NULL;
CREATE OR REPLACE FUNCTION _policies_restore_default() RETURNS trigger
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
REVOKE ALL ON FUNCTION _policies_check_settings() FROM PUBLIC;

-- One statement, because closes_at writes the table again.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS open_until timestamptz,
    ADD COLUMN IF NOT EXISTS closes_at timestamptz NOT NULL GENERATED ALWAYS AS (greatest(expires_at, open_until)) STORED,
    ADD COLUMN IF NOT EXISTS due_since timestamptz,
    ADD COLUMN IF NOT EXISTS reminded_of timestamptz,
    ADD COLUMN IF NOT EXISTS has_attempts boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT orders_funds,
    DROP CONSTRAINT orders_settled,
    ADD CONSTRAINT orders_funds CHECK (
        least(amount, refunded, refund_pending, held, paid - refunded - refund_pending - held) >= 0
        AND (paid - refunded - refund_pending - held
             <= CASE WHEN settled_at IS NOT NULL
                     THEN CASE WHEN state = 'paid' THEN amount WHEN state = ANY ('{expired,cancelled}') THEN '0' END
                     WHEN state = ANY ('{pending,authorized,closing}') THEN amount - 1 END) IS TRUE);
COMMENT ON TABLE orders IS
'An order that must be paid before closes_at: its state, and the sums of what was paid, returned, is owed back and is held.';
DROP INDEX orders_due;
CREATE INDEX IF NOT EXISTS orders_due ON orders (closes_at) WHERE settled_at IS NULL;

-- Tries to pay, and the leases of their voids.
CREATE TABLE IF NOT EXISTS attempts (
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
CREATE INDEX IF NOT EXISTS attempts_order ON attempts (order_id);
CREATE INDEX IF NOT EXISTS attempts_due ON attempts (next_attempt_at, gateway) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS attempts_attention ON attempts (attention_at) WHERE attention_at IS NOT NULL;
SELECT pg_catalog.pg_extension_config_dump('attempts', '');
REVOKE ALL ON TABLE attempts FROM PUBLIC;

ALTER TABLE payments ADD COLUMN IF NOT EXISTS accepted_at timestamptz;
ALTER TABLE payments ADD COLUMN IF NOT EXISTS attempt_ref text COLLATE "C";
ALTER TABLE payments DROP CONSTRAINT payments_disposition;
ALTER TABLE payments ADD CONSTRAINT payments_disposition CHECK
    (disposition IN ('applied', 'late', 'surplus', 'wrong_currency', 'orphan', 'held', 'uncounted'));

ALTER TABLE refunds ADD COLUMN IF NOT EXISTS maybe_sent boolean NOT NULL DEFAULT false;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS ended_leases text;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS from_kept bigint NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS from_held bigint NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS withdrawn boolean NOT NULL DEFAULT false;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS was_requested boolean NOT NULL DEFAULT false;
-- Open refunds that go back to a request: as successors of reversed ones, or as their rests.
WITH RECURSIVE origin AS (
    SELECT r.refund_ref AS owed, r.refund_ref, r.gateway, r.payment_ref, r.note, r.reason
      FROM refunds r WHERE r.settled_at IS NULL AND r.reason = 'reversed'
    UNION
    SELECT o.owed, b.refund_ref, b.gateway, b.payment_ref, b.note, b.reason
      FROM origin o JOIN refunds b ON b.gateway = o.gateway AND b.payment_ref = o.payment_ref
                                  AND (b.replaced_by = o.refund_ref OR o.note = 'rest of ' || b.refund_ref))
UPDATE refunds r SET was_requested = true FROM origin o WHERE o.owed = r.refund_ref AND o.reason = 'requested';
-- Of the open refunds that a worker ever had, only failed ones are surely not with the gateway.
UPDATE refunds SET maybe_sent = true WHERE settled_at IS NULL AND handed_out_at IS NOT NULL AND state <> 'failed';
-- What record_refund took from refunds is what these owed, less what a rest still owes; all else came from kept or held money.
WITH taken AS (
    SELECT e.refund_ref, p.held_at IS NOT NULL AS was_held,
           e.amount - coalesce((SELECT sum(r.amount - coalesce((SELECT sum(x.asked) FROM refunds x
                                                                 WHERE x.note = 'rest of ' || r.refund_ref), 0))
                                  FROM refunds r WHERE r.replaced_by = e.refund_ref), 0) AS elsewhere
      FROM refunds e JOIN payments p ON p.gateway = e.gateway AND p.payment_ref = e.payment_ref
     WHERE e.reason IN ('external', 'chargeback') AND e.state = 'succeeded')
UPDATE refunds e SET from_kept = CASE WHEN t.was_held THEN 0 ELSE greatest(t.elsewhere, 0) END,
                     from_held = CASE WHEN t.was_held THEN greatest(t.elsewhere, 0) ELSE 0 END
  FROM taken t WHERE t.refund_ref = e.refund_ref;

ALTER TABLE conflicts ADD COLUMN IF NOT EXISTS reason text;
ALTER TABLE conflicts ADD COLUMN IF NOT EXISTS is_failure boolean NOT NULL DEFAULT false;
ALTER TABLE conflicts ADD COLUMN IF NOT EXISTS counted_once bigint NOT NULL DEFAULT 0;
ALTER TABLE conflicts ADD COLUMN IF NOT EXISTS booked_by text COLLATE "C";
ALTER TABLE conflicts ADD COLUMN IF NOT EXISTS reported bigint;

-- Errors whose message names what it is about, and whose HINT says what to do.
CREATE OR REPLACE FUNCTION _policies_keep_used() RETURNS trigger
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

CREATE OR REPLACE FUNCTION _change_access(statement text, role_name text, access text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    privileges text[] := ARRAY(SELECT order_timeout._access_grants(access));
    privilege text;
BEGIN
    IF role_name IS NULL THEN
        RAISE EXCEPTION 'role_name must not be null' USING ERRCODE = '22004', HINT = 'Give a value for role_name.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name) THEN
        RAISE EXCEPTION 'role "%" does not exist', role_name
            USING ERRCODE = 'undefined_object', HINT = 'Give the name of a role, or create it first with CREATE ROLE.';
    END IF;
    FOREACH privilege IN ARRAY privileges LOOP
        EXECUTE format(statement, privilege, role_name);
    END LOOP;
END
$$;

-- What operators decide about refunds; signatures that got an argument.
COMMENT ON FUNCTION reverse_refund(text, text) IS
'The money is owed again, under a new key: from succeeded (the bank sent it back; the new refund needs attention) or from needs_attention (the gateway declared the key dead; the new refund is pending). What record_refund recorded goes back to where it was taken from, as with reverse_chargeback; new_refund_ref is null if nothing is owed. Outcomes: reversed, already_reversed (same new_refund_ref). Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';

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
REVOKE ALL ON FUNCTION stop_refund(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION withdraw_refund(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION reverse_chargeback(text, text, text, text) FROM PUBLIC;

CREATE FUNCTION record_refund(
    gateway text, payment_ref text, gateway_refund_ref text, amount bigint, reason text DEFAULT 'external',
    currency text DEFAULT NULL, OUT outcome text, OUT refund_ref text)
AS 'MODULE_PATHNAME', 'ot_record_refund_2' LANGUAGE C;
COMMENT ON FUNCTION record_refund(text, text, text, bigint, text, text) IS
'Records money (minor units) that went back without us: reason external (the gateway''s dashboard) or chargeback. It takes the place of clear refunds of that payment (the gateway surely does not have them), then comes out of what is kept, then of what is held. Refunds that may be this money stop: they need attention. currency: if given, it must be the payment''s. Outcomes: recorded, duplicate (same gateway and gateway_refund_ref), conflict (part or all of it exceeds all that, or it may be counted twice: see view attention; refund_ref is what was recorded). Errors: OT003 another currency than the payment''s, OT009 no such payment, 22023, 22003, 22004. Locks: the order, the payment, its refunds.';
REVOKE ALL ON FUNCTION record_refund(text, text, text, bigint, text, text) FROM PUBLIC;

CREATE FUNCTION resolve_conflict(conflict_id bigint, note text DEFAULT NULL, book boolean DEFAULT false, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_resolve_conflict_2' LANGUAGE C;
COMMENT ON FUNCTION resolve_conflict(bigint, text, boolean) IS
'Records that the operator has handled a conflict; it leaves the view attention, the row stays. book: the reported money went back in addition to what is recorded; the amount that is counted nowhere, or was counted once, is recorded as an external refund out of kept, then of held money. Outcomes: resolved, already_resolved. Errors: OT004 with book: nothing to book, or more than there is, OT005 with book: the conflict reports a failure, OT006 no such conflict, 22004. Locks: the order, the payment, the conflict.';
REVOKE ALL ON FUNCTION resolve_conflict(bigint, text, boolean) FROM PUBLIC;

-- The same for refunds that could not be handed out or taken back.
CREATE TABLE IF NOT EXISTS set_aside_refunds (
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
REVOKE ALL ON set_aside_refunds FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('set_aside_refunds', '');

-- funds_violations(since): only orders with an event since then.
CREATE FUNCTION funds_violations(since timestamptz DEFAULT NULL)
RETURNS TABLE (kind text, order_id text, gateway text, payment_ref text, refund_ref text, problem text)
AS 'MODULE_PATHNAME', 'ot_funds_violations_2' LANGUAGE C STABLE;
COMMENT ON FUNCTION funds_violations(timestamptz) IS
'Every row and sum that disagrees, in the whole database; empty is the proof that all money is accounted for. Reads all orders, payments and refunds in one snapshot. since: only orders with an event since then. Errors: 22023. Locks: none.';
REVOKE ALL ON FUNCTION funds_violations(timestamptz) FROM PUBLIC;

-- What people wrote about an order is emptied.
CREATE FUNCTION forget_order(order_id text, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_forget_order' LANGUAGE C;
COMMENT ON FUNCTION forget_order(text) IS
'Empties what people wrote about a settled order: metadata, details, notes, reasons, errors and worker names of the order, its payments, refunds, conflicts and events. The money''s rows and the proof stay. Safe to repeat. Outcome: forgotten. Errors: OT001 no such order, OT005 it is open, or money of it is owed or held, 22023, 22004. Locks: the order, then its payments, refunds, events.';
REVOKE ALL ON FUNCTION forget_order(text) FROM PUBLIC;

-- late_reason in the answers of record_payment and assign_orphan, and request_refund of one gateway's payment.
CREATE FUNCTION record_payment(
    order_id text, gateway text, payment_ref text, amount bigint, currency text,
    paid_at timestamptz DEFAULT NULL, details jsonb DEFAULT NULL, attempt_ref text DEFAULT NULL,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint,
    OUT late_reason text)
AS 'MODULE_PATHNAME', 'ot_record_payment_2' LANGUAGE C;
COMMENT ON FUNCTION record_payment(text, text, text, bigint, text, timestamptz, jsonb, text) IS
'Records that a gateway received amount (minor units, above 0), identified by (gateway, payment_ref) however often the gateway reports it; paid_at is the gateway''s clock and decides nothing. Outcomes: duplicate, orphan (no such order yet), wrong_currency, paid, partial, surplus, late, reopened, held. What cannot be kept becomes a refund in the same transaction: refund_ref, refund_amount. late_reason: notified_late or paid_late, when the order was closed. Errors: OT003 recorded with other terms, 22023, 22004. Locks: the order, then the payment; for an unknown order the order_id (advisory).';
REVOKE ALL ON FUNCTION record_payment(text, text, text, bigint, text, timestamptz, jsonb, text) FROM PUBLIC;

CREATE FUNCTION assign_orphan(gateway text, payment_ref text, order_id text,
    OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint,
    OUT late_reason text)
AS 'MODULE_PATHNAME', 'ot_assign_orphan_2' LANGUAGE C;
COMMENT ON FUNCTION assign_orphan(text, text, text) IS
'Says which order an orphan payment was meant for, and applies it as if it arrived now; answers like record_payment, a repeat duplicate. Errors: OT001 no such order, OT005 not an orphan or being refunded, OT009 no such payment, 22023, 22004. Locks: the order, then the payment.';
REVOKE ALL ON FUNCTION assign_orphan(text, text, text) FROM PUBLIC;

CREATE FUNCTION request_refund(
    order_id text, request_key text, amount bigint DEFAULT NULL, reason text DEFAULT NULL, payment_ref text DEFAULT NULL,
    gateway text DEFAULT NULL)
RETURNS TABLE (outcome text, refund_ref text, gateway text, payment_ref text, amount bigint)
AS 'MODULE_PATHNAME', 'ot_request_refund_2' LANGUAGE C;
COMMENT ON FUNCTION request_refund(text, text, bigint, text, text, text) IS
'Asks to give back amount (minor units; null: all that is kept) of a paid order, newest payment first, a refund row for each payment; request_key makes it safe to repeat. payment_ref: only from that payment; gateway: of that gateway, needed (22023) where two gateways of the order have the payment_ref. Outcomes: accepted, duplicate (the key was used before: nothing is refunded again, not even if that refund was withdrawn). Errors: OT001 no such order, OT004 more than is kept, OT005 order not paid, OT007 key used for another amount, OT009 no such payment of this order, 22023, 22003, 22004. Locks: the order, then its payments.';
REVOKE ALL ON FUNCTION request_refund(text, text, bigint, text, text, text) FROM PUBLIC;

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
REVOKE ALL ON FUNCTION begin_attempt(text, text, text, interval, jsonb, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION end_attempt(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION authorize_attempt(text, text, bigint, text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION claim_voids(text, integer, interval, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION complete_void(text, text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION retry_void(text, text) FROM PUBLIC;

-- Late money and part payments that a person takes after all.
CREATE FUNCTION accept_payment(gateway text, payment_ref text, note text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_accept_payment' LANGUAGE C;
COMMENT ON FUNCTION accept_payment(text, text, text) IS
'Takes late money after all, as long as it is surely here: held, or owed by clear refunds (never handed out, or failed since they were). These become reversed. Part payments that are owed because the order closed count as well. Outcomes: accepted (together with such money of its order it reaches the amount; the order is paid, a surplus refunded), short (nothing changes), surplus (the order was paid meanwhile; nothing changes), too_late (nothing of it is here any more), already_accepted. Errors: OT005 was never late, held or owed by closing, OT009 no such payment, 22023, 22004. Locks: the order, its payments, their refunds.';
REVOKE ALL ON FUNCTION accept_payment(text, text, text) FROM PUBLIC;
CREATE FUNCTION accept_short(order_id text, note text DEFAULT NULL, OUT outcome text, OUT state text)
AS 'MODULE_PATHNAME', 'ot_accept_short' LANGUAGE C;
COMMENT ON FUNCTION accept_short(text, text) IS
'Makes a pending order paid although only a part of its amount was paid. Outcomes: accepted, already_paid, already_closed. Errors: OT001 no such order, OT005 nothing is paid, 22023, 22004. Locks: the order.';
REVOKE ALL ON FUNCTION accept_short(text, text) FROM PUBLIC;

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
REVOKE ALL ON FUNCTION set_deadline(text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION reopen_order(text, interval, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION change_order(text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION minor_units(numeric, text) FROM PUBLIC;

-- Held part payments have no late_reason.

COMMENT ON FUNCTION create_order(text, bigint, text, interval, timestamptz, text, jsonb) IS
'Creates an order of amount (minor units, 0 or more) that must be paid by a deadline: expires_in from now, or expires_at, or the policy''s pay_within. Outcomes: created; exists (same amount, currency and policy; state and expires_at are its current ones, so let the buyer pay only if it is pending). Amount 0 is paid at once; waiting orphan payments of this order_id are applied. Errors: OT002 other terms, OT008 no such policy, 22023, 22004. Locks: the order_id (advisory lock, so that record_payment of it waits), then the orphan payments.';
COMMENT ON FUNCTION cancel_order(text, text) IS
'Closes a pending order; what was paid becomes refunds, or is held by the policy''s on_short. An expired order becomes cancelled, so that nothing reopens it. Outcomes: cancelled, already_closed, already_paid. Errors: OT001 no such order, 22023, 22004. Locks: the order, then its payments.';
COMMENT ON FUNCTION expire_order(text) IS
'Closes one order if its deadline has passed, for applications with a timer of their own; safe to repeat. What was paid becomes refunds, or is held by the policy''s on_short. Outcomes: expired, closing (under before_close void its attempts are to be ended first), not_due, already_paid, already_closed, not_found. Errors: 22023, 22004. Locks: the order, then its attempts and payments.';
COMMENT ON FUNCTION extend_order(text, timestamptz) IS
'Moves the deadline of a pending order to a later time, also after the deadline if it is not closed yet. Outcomes: extended, unchanged (not later than the current deadline, or a repeat), already_paid, already_closed. Errors: OT001 no such order, 22023 not in the future, 22004. Locks: the order.';
COMMENT ON FUNCTION resolve_held(text, text, text) IS
'Decides about a payment that is held: a late one, or a part payment under on_short = hold. decision refund: refunded. decision accept: accepted (with what else of its order is held it reaches the amount; the order is paid, a surplus refunded), surplus (the order was paid meanwhile: refunded), short (stays held). already_resolved (it is not held any more, whatever was decided). Errors: OT005 was never held, OT009 no such payment, 22023, 22004. Locks: the order, then its payments.';

-- Functions of the user's that follow a change of an order's state, and what of that failed and is tried again.

CREATE TABLE IF NOT EXISTS hooks (
    policy        text COLLATE "C" NOT NULL,
    hook          text NOT NULL,
    function_name text NOT NULL,                -- qualified and quoted, resolved at each use
    PRIMARY KEY (policy, hook),
    CONSTRAINT hooks_hook CHECK (hook IN ('close_hook', 'paid_hook', 'reopen_hook', 'refund_handler', 'void_handler'))
);
COMMENT ON TABLE hooks IS
'A function that the orders of a policy call when they are closed, paid or reopened, or that sends their refunds or voids. Written by set_hook only.';
REVOKE ALL ON hooks FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('hooks', '');

-- Money is never refused because of what follows it: a linked row or a hook that failed is kept here for the sweeper.
CREATE TABLE IF NOT EXISTS follow_ups (
    follow_up_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    order_id     text COLLATE "C" NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('link', 'close_hook', 'reopen_hook', 'paid_hook')),
    left_state   text NOT NULL,                 -- of the order: what the linked row may still say
    since        timestamptz NOT NULL,
    failures     integer NOT NULL,              -- 0: it only waits for an older one of its order
    retry_at     timestamptz NOT NULL,
    sqlstate     text NOT NULL,
    error        text NOT NULL
);
COMMENT ON TABLE follow_ups IS
'A hook that was not called, or a linked row that was not written, after a payment: the money is recorded, and the sweeper tries this again.';
CREATE INDEX IF NOT EXISTS follow_ups_order ON follow_ups (order_id);
REVOKE ALL ON follow_ups FROM PUBLIC;
REVOKE ALL ON SEQUENCE follow_ups_follow_up_id_seq FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('follow_ups', '');
SELECT pg_catalog.pg_extension_config_dump('follow_ups_follow_up_id_seq', '');

-- Sessions keep the hooks and links that they read, and read them again when this trigger says so, however they changed.
CREATE FUNCTION _following_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'ot_following_changed' LANGUAGE C;
COMMENT ON FUNCTION _following_changed() IS
'Makes sessions read hooks, links and who is notified again. Used by trigger following_changed of hooks, of links and of consumer_positions.';
CREATE TRIGGER following_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON hooks
    FOR EACH STATEMENT EXECUTE FUNCTION _following_changed();
ALTER TABLE hooks ENABLE ALWAYS TRIGGER following_changed;

-- Links and hooks run with the rights of whoever calls the extension's functions, so they are not for everybody to make.
CREATE FUNCTION _require_owner(action text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (SELECT pg_has_role(current_user, e.extowner, 'USAGE') FROM pg_extension e WHERE e.extname = 'order_timeout') THEN
        RAISE EXCEPTION 'permission denied to %', action
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'It acts with the rights of each role that calls a function of order_timeout.',
                  HINT = 'Run this as a superuser or as the owner of extension order_timeout.';
    END IF;
END
$$;
COMMENT ON FUNCTION _require_owner(text) IS
'Raises 42501 unless the caller is a superuser or the owner of the extension. Used by set_hook, link_table and unlink_table.';

-- The arguments that a hook's function takes.
CREATE FUNCTION _hook_arguments(hook text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN hook IN ('close_hook', 'paid_hook', 'reopen_hook') THEN '(text[])'
                WHEN hook = 'refund_handler' THEN '(text,text,text,text,bigint,text,text,integer)'
                WHEN hook = 'void_handler' THEN '(text,text,text,bigint,text,text,integer)' END
$$;
COMMENT ON FUNCTION _hook_arguments(text) IS
'The types of the arguments that the function of a hook takes; null for an unknown hook. Used by set_hook.';

CREATE FUNCTION _require_hook_function(hook text, function_name text, resolved regprocedure) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answers CONSTANT text[] := CASE hook
        WHEN 'refund_handler' THEN '{"result text","gateway_refund_ref text","refunded_amount bigint","error text"}'
        WHEN 'void_handler' THEN '{"result text","error text"}' ELSE '{}' END;
    function pg_proc;
BEGIN
    SELECT p.* INTO function FROM pg_proc p WHERE p.oid = resolved;
    IF NOT FOUND OR function.prokind <> 'f' OR function.proretset AND answers <> '{}' THEN
        RAISE EXCEPTION 'function % does not exist', function_name || order_timeout._hook_arguments(hook)
            USING ERRCODE = 'undefined_function', DETAIL = format('It was given as %s.', hook),
                  HINT = 'Create it first, with exactly these arguments, and give its name without them. A procedure does not serve.';
    END IF;
    IF NOT answers <@ ARRAY(
            SELECT a.name || ' ' || format_type(a.type, NULL)
              FROM unnest(function.proargnames, function.proargmodes, function.proallargtypes) AS a (name, mode, type)
             WHERE a.mode = 'o') THEN
        RAISE EXCEPTION 'function % does not answer as a %', resolved, hook
            USING ERRCODE = 'datatype_mismatch', HINT = format('Give it the OUT parameters %s.', array_to_string(answers, ', '));
    END IF;
END
$$;
COMMENT ON FUNCTION _require_hook_function(text, text, regprocedure) IS
'Raises 42883 or 42804 if a function cannot serve as that hook. Used by set_hook.';

CREATE FUNCTION _write_hook(policy text, hook text, function_name text, resolved regprocedure) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed boolean;
BEGIN
    PERFORM order_timeout._require_owner('set a hook');
    IF _write_hook.policy IS NULL OR _write_hook.hook IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN _write_hook.policy IS NULL THEN 'policy' ELSE 'hook' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF order_timeout._hook_arguments(_write_hook.hook) IS NULL THEN
        RAISE EXCEPTION 'invalid hook: "%"', _write_hook.hook
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use one of: close_hook, paid_hook, reopen_hook, refund_handler, void_handler.';
    END IF;
    PERFORM FROM order_timeout.policies p WHERE p.policy = _write_hook.policy FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'policy "%" does not exist', _write_hook.policy
            USING ERRCODE = 'OT008', HINT = 'Name a row of order_timeout.policies, or insert the policy there first.';
    END IF;
    IF _write_hook.function_name IS NULL THEN
        DELETE FROM order_timeout.hooks h WHERE h.policy = _write_hook.policy AND h.hook = _write_hook.hook;
        RETURN CASE WHEN FOUND THEN 'removed' ELSE 'unchanged' END;
    END IF;
    PERFORM order_timeout._require_hook_function(_write_hook.hook, _write_hook.function_name, resolved);
    INSERT INTO order_timeout.hooks AS h
    SELECT _write_hook.policy, _write_hook.hook, format('%I.%I', n.nspname, p.proname)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = resolved
        ON CONFLICT ON CONSTRAINT hooks_pkey DO UPDATE SET function_name = excluded.function_name
     WHERE h.function_name <> excluded.function_name;
    changed := FOUND;
    UPDATE order_timeout.set_aside s SET retry_at = clock_timestamp()
      FROM order_timeout.orders o WHERE o.order_id = s.order_id AND o.policy = _write_hook.policy;
    UPDATE order_timeout.follow_ups f SET retry_at = clock_timestamp()
      FROM order_timeout.orders o WHERE o.order_id = f.order_id AND o.policy = _write_hook.policy AND f.kind <> 'link';
    RETURN CASE WHEN changed THEN 'set' ELSE 'unchanged' END;
END
$$;
COMMENT ON FUNCTION _write_hook(text, text, text, regprocedure) IS
'What set_hook does once the function is found. Used by set_hook.';

-- The caller's search_path finds the function, and nothing else.
CREATE FUNCTION set_hook(policy text, hook text, function_name text, OUT outcome text)
LANGUAGE plpgsql AS $$
BEGIN
    outcome := order_timeout._write_hook(
        policy, hook, function_name,
        pg_catalog.to_regprocedure(function_name OPERATOR(pg_catalog.||) order_timeout._hook_arguments(hook)));
END
$$;
COMMENT ON FUNCTION set_hook(text, text, text) IS
'Names a function that the orders of a policy call: close_hook, paid_hook, reopen_hook: function(order_ids text[]), once for each hook of a call or of the sweeper''s batch, in the same transaction and with the rights of the caller. refund_handler: function(refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text, action text, attempt integer, OUT result text, OUT gateway_refund_ref text, OUT refunded_amount bigint, OUT error text), void_handler: function(order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer, OUT result text, OUT error text); send_refunds calls both. function_name: null removes it. What was set aside or kept for the policy''s hooks is due at once. Outcomes: set, unchanged, removed. Errors: 42501 not the extension''s owner, OT008 no such policy, 22023 no such hook, 42883 no such function, 42804 it does not answer as such a handler, 22004. Locks: the row of the hook.';

CREATE PROCEDURE send_refunds(run_for interval DEFAULT '1 minute')
AS 'MODULE_PATHNAME', 'ot_send_refunds' LANGUAGE C;
COMMENT ON PROCEDURE send_refunds(interval) IS
'Does a worker''s work for refunds whose policy has a refund_handler, and in turn for voids whose policy has a void_handler: leases one that is due, commits, calls the handler as the caller, records its answer as complete_refund or complete_void does, commits, and goes on for run_for. An error of the handler, or an answer that is no result of that function, is recorded as unknown. If the call is cancelled, the lease lapses. Several calls share the work. Ends before statement_timeout would. Called alone: 2D000 inside a transaction block or a function. Errors: 22023. Locks: the refund or attempt (SKIP LOCKED), none while the handler runs and while it waits; what complete_refund or complete_void locks.';

CREATE FUNCTION resolve_link(order_id text, kind text, note text, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_resolve_link' LANGUAGE C;
COMMENT ON FUNCTION resolve_link(text, text, text) IS
'The operator gives up a linked row that was not written or hooks that were not called for an order, and does by hand what they would have done. kind: link, or hook for all hooks of that order that wait. note: what was done, at most 4 kB. Outcomes: resolved, already_resolved (nothing waits, or it was done meanwhile). Errors: OT001 no such order, 22023, 22004. Locks: the order.';

REVOKE ALL ON FUNCTION _following_changed() FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_owner(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _hook_arguments(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_hook_function(text, text, regprocedure) FROM PUBLIC;
REVOKE ALL ON FUNCTION _write_hook(text, text, text, regprocedure) FROM PUBLIC;
REVOKE ALL ON FUNCTION set_hook(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION resolve_link(text, text, text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE send_refunds(interval) FROM PUBLIC;

-- Their job in pg_cron.
-- A pg_cron that is installed but not preloaded says so only when it is called, and with no SQLSTATE of its own.
CREATE OR REPLACE FUNCTION _call_pg_cron(statement text, VARIADIC arguments text[]) RETURNS bigint
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
              HINT = 'Add pg_cron to shared_preload_libraries, restart the server, then run here: SELECT * FROM order_timeout.schedule_sweeper(); or schedule_refunds.';
END
$$;
COMMENT ON FUNCTION _call_pg_cron(text, text[]) IS
'Runs a statement of pg_cron''s and answers its number; 55000 if pg_cron is not preloaded. Used by schedule_sweeper, schedule_refunds and unschedule_sweeper.';

CREATE FUNCTION schedule_refunds(
    OUT jobid bigint, INOUT schedule text DEFAULT NULL, IN job_name text DEFAULT 'order_timeout refunds', OUT command text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    schedule := coalesce(schedule, '* * * * *');
    -- A lone CALL: pg_cron runs several statements as one transaction, in which it could not commit.
    command := 'CALL order_timeout.send_refunds()';
    jobid := order_timeout._schedule_job(coalesce(job_name, 'order_timeout refunds'), schedule, command);
    PERFORM order_timeout._warn_about_job(jobid, 'order_timeout.send_refunds(interval)',
                                          'Look whether the job runs within two minutes: SELECT status, return_message FROM cron.job_run_details ORDER BY runid DESC LIMIT 1;');
END
$$;
COMMENT ON FUNCTION schedule_refunds(text, text) IS
'Puts CALL order_timeout.send_refunds() into pg_cron under job_name, or changes its schedule; safe to repeat. schedule: pg_cron''s words, null for every minute. Several jobs share the work. A WARNING says what keeps the job from running, a NOTICE what cannot be seen as this role; the HINT is what to do. Errors: 55000 with the line to run when pg_cron is elsewhere, not created or not loaded; pg_cron''s own for a bad schedule.';

CREATE FUNCTION unschedule_refunds(job_name text DEFAULT 'order_timeout refunds', OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    outcome := order_timeout.unschedule_sweeper(coalesce(job_name, 'order_timeout refunds'));
END
$$;
COMMENT ON FUNCTION unschedule_refunds(text) IS
'Takes the caller''s job of that name out of pg_cron; safe to repeat. Outcomes: unscheduled, not_scheduled. Errors: 55000 with the line to run when pg_cron is elsewhere.';
REVOKE ALL ON FUNCTION schedule_refunds(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION unschedule_refunds(text) FROM PUBLIC;

-- Tables of the user's whose rows are orders.

CREATE TABLE IF NOT EXISTS links (
    table_name      text COLLATE "C" PRIMARY KEY,   -- these names are qualified and quoted, resolved at each use
    order_prefix    text COLLATE "C" NOT NULL,      -- an order_id is the prefix and the key
    key_column      text NOT NULL,
    key_type        text NOT NULL,
    status_column   text NOT NULL,
    status_type     text NOT NULL,
    statuses        jsonb NOT NULL,                 -- of each state its words: the first is written, all are read
    amount_column   text,
    amount_is_major boolean NOT NULL,               -- numeric of major units, else a whole number of minor ones
    currency_column text,
    currency        text,
    deadline_column text,
    policy_column   text,
    policy          text COLLATE "C" NOT NULL,
    time_columns    jsonb,                          -- of each state its column
    reason_column   text,
    track           boolean NOT NULL,
    on_contradiction text NOT NULL,
    linked_at       timestamptz NOT NULL,
    adopted_to      text,                           -- the last key of an adopt_orders that has not come to its end
    adopted         bigint NOT NULL DEFAULT 0,      -- orders that adopt_orders has created
    adopted_at      timestamptz,                    -- when it came to its end last
    CONSTRAINT links_on_contradiction CHECK (on_contradiction IN ('refuse', 'note'))
);
COMMENT ON TABLE links IS
'A table of yours whose rows are orders: its columns, the words of its status, and what its rows do. Written by link_table and unlink_table.';
REVOKE ALL ON links FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('links', '');
CREATE TRIGGER following_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON links
    FOR EACH STATEMENT EXECUTE FUNCTION _following_changed();
ALTER TABLE links ENABLE ALWAYS TRIGGER following_changed;

CREATE FUNCTION _linked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _linked() IS
'Does nothing. DROP EXTENSION stops at its trigger, so that a table is unlinked first. Used by link_table, which makes the trigger.';

CREATE FUNCTION _track() RETURNS trigger
AS 'MODULE_PATHNAME', 'ot_track_row' LANGUAGE C;
COMMENT ON FUNCTION _track() IS
'Creates and cancels orders as the rows of a tracked table say. Used by link_table, which makes the trigger.';

-- The type of a column that a link uses, qualified; null for no column.
CREATE FUNCTION _link_column(linked_table regclass, argument text, column_name text, types text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    col record;
BEGIN
    IF _link_column.column_name IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT format('%I.%I', n.nspname, t.typname) AS type, a.attgenerated, a.atttypmod,
           CASE WHEN b.typtype = 'e' THEN 'enum' WHEN bn.nspname = 'pg_catalog' THEN b.typname END AS kind
      INTO col
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
      JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' AND 'domain' = ANY (types) THEN t.typbasetype ELSE t.oid END
      JOIN pg_namespace bn ON bn.oid = b.typnamespace
     WHERE a.attrelid = linked_table AND a.attname = _link_column.column_name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of table % does not exist', _link_column.column_name, linked_table
            USING ERRCODE = 'undefined_column', DETAIL = format('It was given as %s.', argument);
    END IF;
    IF col.kind IS NULL OR NOT col.kind = ANY (types) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as %', _link_column.column_name, linked_table, argument
            USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type is %s.', col.type),
                  HINT = format('These types can: %s.', array_to_string(types, ', '));
    END IF;
    IF col.attgenerated <> '' AND argument IN ('status_column', 'time_columns', 'reason_column') THEN
        RAISE EXCEPTION 'column "%" of table % cannot be written', _link_column.column_name, linked_table
            USING ERRCODE = 'generated_always', DETAIL = 'It is a generated column.', HINT = format('Give another %s.', argument);
    END IF;
    IF argument = 'key_column' AND col.kind = 'numeric' AND (col.atttypmod = -1 OR (col.atttypmod - 4) & 2047 <> 0) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as key_column', _link_column.column_name, linked_table
            USING ERRCODE = 'datatype_mismatch', DETAIL = 'It may have decimals, so that one number has several forms.',
                  HINT = 'A numeric key needs a scale of 0, as in numeric(20).';
    END IF;
    RETURN col.type;
END
$$;
COMMENT ON FUNCTION _link_column(regclass, text, text, text[]) IS
'The type of a column that link_table was given, qualified. Errors: 42703 no such column, 42804 a type that cannot serve, 428C9 a generated column. Used by link_table.';

-- The words of each state as an array. Each must be one that the column can hold, as it is.
CREATE FUNCTION _link_statuses(linked_table regclass, status_column text, statuses jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    states CONSTANT text[] := '{pending,authorized,closing,paid,expired,cancelled}';
    open_states CONSTANT text[] := '{pending,authorized,closing}';
    state text;
    words jsonb;
    word text;
    stored text;
    answer jsonb := '{}';
    -- With its length: a word that is cut off is another one.
    type text := (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                   WHERE a.attrelid = linked_table AND a.attname = _link_statuses.status_column);
BEGIN
    IF jsonb_typeof(_link_statuses.statuses) <> 'object' OR _link_statuses.statuses - states <> '{}'
       OR NOT _link_statuses.statuses ? 'pending' THEN
        RAISE EXCEPTION 'invalid statuses: %', left(_link_statuses.statuses::text, 200)
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'They must be an object of states, pending among them, each with a word or an array of words.',
                  HINT = 'For example {"pending": "new", "paid": ["paid", "shipped"], "expired": "closed", "cancelled": "closed"}.';
    END IF;
    FOR state, words IN SELECT * FROM jsonb_each(_link_statuses.statuses) LOOP
        words := CASE jsonb_typeof(words) WHEN 'array' THEN words ELSE jsonb_build_array(words) END;
        IF jsonb_array_length(words) = 0
           OR EXISTS (SELECT FROM jsonb_array_elements(words) w WHERE jsonb_typeof(w) NOT IN ('string', 'number')) THEN
            RAISE EXCEPTION 'state % needs a word, or an array of words', state USING ERRCODE = 'invalid_parameter_value';
        END IF;
        answer := answer || jsonb_build_object(state, (SELECT jsonb_agg(w) FROM jsonb_array_elements_text(words) w));
    END LOOP;
    FOR word IN SELECT DISTINCT jsonb_array_elements_text(e.value) FROM jsonb_each(answer) e LOOP
        BEGIN
            EXECUTE format('SELECT %L::%s::text', word, type) INTO stored;
        EXCEPTION WHEN data_exception OR check_violation THEN
            stored := NULL;
        END;
        IF stored IS DISTINCT FROM word THEN
            RAISE EXCEPTION 'column "%" of table % cannot hold the word "%"', _link_statuses.status_column, linked_table, word
                USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Its type is %s.', type);
        END IF;
        IF (SELECT count(DISTINCT e.key = ANY (open_states)) FROM jsonb_each(answer) e WHERE e.value ? word) = 2 THEN
            RAISE EXCEPTION 'the word "%" cannot stand for an open and a settled state', word
                USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Pending, authorized and closing are open.',
                      HINT = 'Give the open states words of their own.';
        END IF;
    END LOOP;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION _link_statuses(regclass, text, jsonb) IS
'The statuses of link_table with their words as arrays. Errors: 22023 an unknown state, a word that the column cannot hold or that stands for an open and a settled state. Used by link_table.';

-- What must hold of the key, and of the triggers of the table.
CREATE FUNCTION _require_linkable(link links) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    linked_table CONSTANT regclass := link.table_name::regclass;
    written_names CONSTANT text[] := ARRAY[link.status_column, link.reason_column]
                                     || ARRAY(SELECT t.value FROM jsonb_each_text(link.time_columns) t);
    written CONSTANT smallint[] := ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = linked_table
                                            AND a.attname = ANY (written_names));
    is_partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = linked_table);
    key record;
    deferred text;
    other text;
BEGIN
    SELECT a.attnum, a.attnotnull, coalesce(c.collisdeterministic, true) AS is_deterministic INTO key
      FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
     WHERE a.attrelid = linked_table AND a.attname = link.key_column;
    IF NOT key.attnotnull OR NOT key.is_deterministic OR NOT EXISTS (
            SELECT FROM pg_index i
             WHERE i.indrelid = linked_table AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
               AND i.indkey[0] = key.attnum AND (i.indnkeyatts = 1 OR is_partitioned)) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as key_column', link.key_column, linked_table
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'A key must be NOT NULL, have a deterministic collation and a valid unique index that is neither partial nor deferrable.',
                  HINT = 'Give the table''s primary key.';
    END IF;
    IF link.key_column = ANY (written_names) THEN
        RAISE EXCEPTION 'key_column cannot be a column that is written' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Their errors would come at the commit, when the money is recorded and nobody knows any more which order they are about.
    SELECT t.tgname INTO deferred
      FROM pg_trigger t LEFT JOIN pg_constraint c ON c.oid = t.tgconstraint
     WHERE t.tgrelid IN (SELECT linked_table UNION ALL SELECT p.relid FROM pg_partition_tree(linked_table) p)
       AND t.tginitdeferred AND t.tgtype & 16 <> 0
       AND CASE WHEN t.tgisinternal THEN c.conkey && written AND c.conrelid = t.tgrelid
                                         OR c.confkey && written AND c.confrelid = t.tgrelid
                ELSE t.tgattr = '' OR t.tgattr::smallint[] && written END
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'trigger "%" of table % is initially deferred', deferred, linked_table
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It would raise its errors at the commit, after money was recorded.',
                  HINT = 'Make it INITIALLY IMMEDIATE.';
    END IF;
    SELECT l.table_name INTO other FROM order_timeout.links l
     WHERE l.table_name <> link.table_name
       AND (starts_with(l.order_prefix, link.order_prefix) OR starts_with(link.order_prefix, l.order_prefix));
    IF FOUND THEN
        RAISE EXCEPTION 'invalid order_prefix: "%"', link.order_prefix
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('Table %s is linked with a prefix that begins like this one, or this one begins like it.', other),
                  HINT = 'Give each table a prefix that no other begins with.';
    END IF;
    IF octet_length(link.order_prefix) > 100 OR link.order_prefix ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'order_prefix must have at most 100 bytes and no control characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.currency_column IS NOT NULL AND link.currency IS NOT NULL THEN
        RAISE EXCEPTION 'give currency_column or currency, not both' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.currency !~ '^[A-Z]{3}$' THEN
        RAISE EXCEPTION 'invalid currency: "%"', left(link.currency, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It must be three capital letters.';
    END IF;
    IF link.track AND (link.amount_column IS NULL OR coalesce(link.currency_column, link.currency) IS NULL) THEN
        RAISE EXCEPTION 'track needs amount_column, and currency_column or currency'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'The rows create orders.';
    END IF;
    IF link.on_contradiction NOT IN ('refuse', 'note') THEN
        RAISE EXCEPTION 'invalid on_contradiction: "%"', left(link.on_contradiction, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use one of: refuse, note.';
    END IF;
    IF NOT EXISTS (SELECT FROM order_timeout.policies p WHERE p.policy = link.policy) THEN
        RAISE EXCEPTION 'policy "%" does not exist', link.policy
            USING ERRCODE = 'OT008', HINT = 'Name a row of order_timeout.policies, or insert the policy there first.';
    END IF;
END
$$;
COMMENT ON FUNCTION _require_linkable(links) IS
'Raises an error if a table cannot be linked in this way. Errors: 22023, OT008 no such policy. Used by link_table.';

CREATE FUNCTION _require_links_seen() RETURNS void
AS 'MODULE_PATHNAME', 'ot_require_links_seen' LANGUAGE C;
COMMENT ON FUNCTION _require_links_seen() IS
'Raises 40001 if a link was made, changed or ended since the transaction''s snapshot. Used by link_table.';

CREATE FUNCTION _write_link(link links, linked_table regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    whole CONSTANT text[] := '{int8,int4,int2}';
    words CONSTANT text[] := '{text,varchar}';
    known order_timeout.links;
BEGIN
    PERFORM order_timeout._require_owner('link a table');
    SELECT format('%I.%I', n.nspname, c.relname) INTO link.table_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = linked_table AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('order_timeout', 'pg_catalog', 'information_schema') AND NOT c.relispartition;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% cannot be linked', linked_table
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Link an ordinary or a partitioned table of your own that is not temporary; of a partition, its parent.';
    END IF;
    link.key_type := order_timeout._link_column(linked_table, 'key_column', link.key_column, whole || words || '{uuid,numeric}');
    link.status_type := order_timeout._link_column(linked_table, 'status_column', link.status_column,
                                                  words || '{enum,domain,int4,int2}');
    link.statuses := order_timeout._link_statuses(linked_table, link.status_column, link.statuses);
    link.amount_is_major := coalesce(order_timeout._link_column(linked_table, 'amount_column', link.amount_column,
                                                               whole || '{numeric}') = 'pg_catalog."numeric"', false);
    PERFORM order_timeout._link_column(linked_table, 'currency_column', link.currency_column, words || '{bpchar,enum,domain}');
    PERFORM order_timeout._link_column(linked_table, 'deadline_column', link.deadline_column, '{timestamptz,timestamp}');
    PERFORM order_timeout._link_column(linked_table, 'policy_column', link.policy_column, words || '{enum,domain}');
    IF jsonb_typeof(link.time_columns) <> 'object' OR link.time_columns - '{paid,expired,cancelled}'::text[] <> '{}' THEN
        RAISE EXCEPTION 'invalid time_columns: %', left(link.time_columns::text, 200)
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'They must be an object of settled states, each with a column.',
                  HINT = 'For example {"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}.';
    END IF;
    PERFORM order_timeout._link_column(linked_table, 'time_columns', t.value, '{timestamptz,timestamp}')
       FROM jsonb_each_text(link.time_columns) t;
    PERFORM order_timeout._link_column(linked_table, 'reason_column', link.reason_column, words);
    LOCK TABLE order_timeout.links IN SHARE ROW EXCLUSIVE MODE;     -- two prefixes at the same moment
    PERFORM order_timeout._require_links_seen();
    PERFORM order_timeout._require_linkable(link);

    SELECT * INTO known FROM order_timeout.links l WHERE l.table_name = link.table_name;
    link.linked_at := coalesce(known.linked_at, clock_timestamp());
    link.adopted_to := known.adopted_to;
    link.adopted := coalesce(known.adopted, 0);
    link.adopted_at := known.adopted_at;
    IF known.table_name IS NOT NULL AND known IS DISTINCT FROM link THEN
        RAISE EXCEPTION 'table % is linked in another way', linked_table
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Unlink it first with order_timeout.unlink_table().';
    END IF;
    UPDATE order_timeout.set_aside s SET retry_at = clock_timestamp() WHERE starts_with(s.order_id, link.order_prefix);
    UPDATE order_timeout.follow_ups f SET retry_at = clock_timestamp()
     WHERE f.kind = 'link' AND starts_with(f.order_id, link.order_prefix);
    IF known.table_name IS NOT NULL THEN
        RETURN 'already_linked';
    END IF;
    INSERT INTO order_timeout.links SELECT link.*;
    EXECUTE format('CREATE TRIGGER order_timeout_linked AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION order_timeout._linked(%L)',
                   link.table_name, link.table_name);
    IF link.track THEN
        EXECUTE format('CREATE TRIGGER order_timeout_track AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION order_timeout._track(%L)',
                       link.table_name, link.table_name);
    END IF;
    RETURN 'linked';
END
$$;
COMMENT ON FUNCTION _write_link(links, regclass) IS
'What link_table does once the table is found. Used by link_table.';

-- The caller's search_path finds the table, and nothing else.
CREATE FUNCTION link_table(
    table_name text, key_column text, status_column text, statuses jsonb, order_prefix text DEFAULT '',
    amount_column text DEFAULT NULL, currency_column text DEFAULT NULL, currency text DEFAULT NULL,
    deadline_column text DEFAULT NULL, policy_column text DEFAULT NULL, policy text DEFAULT 'default',
    time_columns jsonb DEFAULT NULL, reason_column text DEFAULT NULL,
    track boolean DEFAULT false, on_contradiction text DEFAULT 'refuse', OUT outcome text)
LANGUAGE plpgsql AS $$
DECLARE
    link order_timeout.links;
    linked_table pg_catalog.regclass;
BEGIN
    IF pg_catalog.num_nulls(table_name, key_column, status_column, statuses) OPERATOR(pg_catalog.>) 0 THEN
        RAISE EXCEPTION 'table_name, key_column, status_column and statuses must not be null' USING ERRCODE = '22004';
    END IF;
    linked_table := pg_catalog.to_regclass(table_name);
    IF linked_table IS NULL THEN
        RAISE EXCEPTION 'table % does not exist', table_name
            USING ERRCODE = '42P01', HINT = 'Give its name with its schema, quoted as in a statement.';
    END IF;
    link.key_column := key_column;
    link.status_column := status_column;
    link.statuses := statuses;
    link.order_prefix := coalesce(order_prefix, '');
    link.amount_column := amount_column;
    link.currency_column := currency_column;
    link.currency := currency;
    link.deadline_column := deadline_column;
    link.policy_column := policy_column;
    link.policy := coalesce(policy, 'default');
    link.time_columns := time_columns;
    link.reason_column := reason_column;
    link.track := coalesce(track, false);
    link.on_contradiction := coalesce(on_contradiction, 'refuse');
    outcome := order_timeout._write_link(link, linked_table);
END
$$;
COMMENT ON FUNCTION link_table(text, text, text, jsonb, text, text, text, text, text, text, text, jsonb, text, boolean, text) IS
'Ties a table of yours to the engine: an order''s id is order_prefix followed by key_column, and every change of its state writes the state''s first word into status_column, in the same transaction, as the caller, if the row still has a word of the state that the order left. statuses: for each state its word, or an array of words, of which the first is written and all are read. time_columns: for each state the column that has its time; the others are null then. reason_column: written with it. track: a new row with a word of pending, or a row that gets one, creates the order with its amount (whole minor units, or numeric major units), currency, deadline (else the policy''s pay_within) and policy; a word of cancelled cancels it; another deadline of a pending or authorized order moves it; what contradicts the order is refused, or with on_contradiction note shown. Outcomes: linked, already_linked (what was set aside or kept for its orders is due at once). Errors: 42501 not the extension''s owner, 42P01 no such table, 42809 not an ordinary table, 42703 no such column, 42804 a type that cannot serve, 428C9 a generated column, 22023, 22004, OT008 no such policy, 55000 linked in another way. Locks: links, and the table while its trigger is made (SHARE ROW EXCLUSIVE).';

CREATE FUNCTION _drop_link(table_name text, linked_table regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link order_timeout.links;
    left_over record;
BEGIN
    PERFORM order_timeout._require_owner('unlink a table');
    -- adopt_orders has rows of the table when it writes the link: the table is locked before the link here, too.
    FOR left_over IN
        SELECT DISTINCT t.tgrelid::regclass AS of_table
          FROM order_timeout.links l JOIN pg_trigger t ON t.tgargs = convert_to(l.table_name, getdatabaseencoding()) || '\x00'::bytea
          JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE (l.table_name = _drop_link.table_name OR to_regclass(l.table_name) = linked_table)
           AND p.pronamespace = 'order_timeout'::regnamespace AND p.proname IN ('_linked', '_track') AND t.tgparentid = 0
    LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', left_over.of_table);
    END LOOP;
    DELETE FROM order_timeout.links l WHERE l.table_name = _drop_link.table_name OR to_regclass(l.table_name) = linked_table
    RETURNING l.* INTO link;
    IF NOT FOUND THEN
        RETURN 'not_linked';
    END IF;
    DELETE FROM order_timeout.follow_ups f WHERE f.kind = 'link' AND starts_with(f.order_id, link.order_prefix);
    UPDATE order_timeout.set_aside s SET retry_at = clock_timestamp() WHERE starts_with(s.order_id, link.order_prefix);
    -- Of this table, whatever its name is by now: its triggers have the name that links had.
    FOR left_over IN
        SELECT t.tgname, t.tgrelid::regclass AS of_table
          FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.proname IN ('_linked', '_track') AND t.tgparentid = 0
           AND t.tgargs = convert_to(link.table_name, getdatabaseencoding()) || '\x00'::bytea
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', left_over.tgname, left_over.of_table);
    END LOOP;
    RETURN 'unlinked';
END
$$;
COMMENT ON FUNCTION _drop_link(text, regclass) IS
'What unlink_table does once the table is found. Used by unlink_table.';

CREATE FUNCTION unlink_table(table_name text, OUT outcome text)
LANGUAGE plpgsql AS $$
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = '22004';
    END IF;
    outcome := order_timeout._drop_link(table_name, pg_catalog.to_regclass(table_name));
END
$$;
COMMENT ON FUNCTION unlink_table(text) IS
'Ends a link: the table is as it was before, and its rows and orders stay. Of a table that is gone, give the name as links shows it. Outcomes: unlinked, not_linked. Errors: 42501 not the extension''s owner, 22004. Locks: the table (ACCESS EXCLUSIVE) while its triggers are dropped.';

CREATE PROCEDURE adopt_orders(table_name text, batch_size integer DEFAULT 1000)
AS 'MODULE_PATHNAME', 'ot_adopt_orders_procedure' LANGUAGE C;
COMMENT ON PROCEDURE adopt_orders(text, integer) IS
'Creates orders for the rows of a linked table that have a word of pending and no order, overdue ones too, in batches of batch_size rows that are each committed; after an interruption it goes on where it was. A row that cannot be taken over is reported as a WARNING and left out. Errors: 55000 not linked, or linked without amount or currency; 2D000 inside a transaction block; 22023, 22004. Locks: the rows of a batch.';

REVOKE ALL ON FUNCTION _linked() FROM PUBLIC;
REVOKE ALL ON FUNCTION _track() FROM PUBLIC;
REVOKE ALL ON FUNCTION _link_column(regclass, text, text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _link_statuses(regclass, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_linkable(links) FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_links_seen() FROM PUBLIC;
REVOKE ALL ON FUNCTION _write_link(links, regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION link_table(text, text, text, jsonb, text, text, text, text, text, text, text, jsonb, text, boolean, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _drop_link(text, regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION unlink_table(text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE adopt_orders(text, integer) FROM PUBLIC;

-- What the engine would have done with orders that were not its own.

CREATE FUNCTION replay_orders(
    orders_query text, policy text DEFAULT 'default', pay_within interval DEFAULT NULL,
    sweep_lag interval DEFAULT '0', report_lag interval DEFAULT '0')
RETURNS TABLE (order_id text, happened_at timestamptz, outcome text, state text, currency text,
               paid bigint, owed bigint, held bigint)
AS 'MODULE_PATHNAME', 'ot_replay_orders' LANGUAGE C STABLE;
COMMENT ON FUNCTION replay_orders(text, text, interval, interval, interval) IS
'What would have become of these orders: a row for each payment, each closing, and each order that is still open or cost nothing, in order of order_id. Writes nothing. orders_query: a SELECT with the columns order_id, created_at, amount, currency, paid_at, paid_amount (null for never paid; a further payment of an order is a row of its own; amounts in minor units), run as the caller. pay_within: instead of the policy''s. sweep_lag: how long after its deadline an order closes. report_lag: how long after paid_at a payment is reported. paid is what the payment brought, owed what had to go back from then on, held what waits for the operator. Outcomes: paid, partial, surplus, late, reopened, held (of payments), expired, pending (of orders). Errors: OT008 no such policy, 22023 and 22004 with the number of the row, and what the query raises. Locks: none.';
REVOKE ALL ON FUNCTION replay_orders(text, text, interval, interval, interval) FROM PUBLIC;

-- The events of old were written by transactions that ended long ago.
ALTER TABLE events ADD COLUMN IF NOT EXISTS xid xid8 NOT NULL DEFAULT '3';
ALTER TABLE events ALTER COLUMN xid SET DEFAULT pg_catalog.pg_current_xact_id();

-- Consumers: named readers of the events, each with a position of its own.
--
-- A position is a snapshot: read are the events whose transactions it sees. The next window are those that a newer
-- snapshot sees and it does not, so nothing is passed over that commits late, and no transaction that is still open
-- holds back another one's events. Within its window a consumer goes by id, batch by batch.
--
-- The functions that read tables are inlined into the statements that use them, so they need no rights of the caller: each
-- is STABLE, has one SELECT, and answers with rows.
--
-- No index finds events by their transaction: it would cost each event an entry. Marks bound the search instead. A mark
-- is a transaction and an id that was given out before any transaction from that one on began: those wrote ids above it.

CREATE TABLE IF NOT EXISTS consumer_positions (
    consumer        text COLLATE "C" PRIMARY KEY,
    types           text[],                     -- null: all
    notify          boolean NOT NULL,
    created_at      timestamptz NOT NULL,
    epoch           bigint NOT NULL,            -- of the database in which the snapshots were taken
    read_snapshot   pg_snapshot,                -- what it sees was acknowledged; null: nothing
    window_snapshot pg_snapshot,                -- the window's end; null: none is open
    window_from     bigint NOT NULL DEFAULT 0,  -- of the window, acknowledged up to this id
    window_to       bigint NOT NULL DEFAULT 0,  -- no event of the window has a higher id
    mark_xids       xid8[] NOT NULL DEFAULT '{}',
    mark_ids        bigint[] NOT NULL DEFAULT '{}',
    batch           bigint[] NOT NULL DEFAULT '{}', -- ids that were handed out with the token
    lease_token     text,                       -- stays when the lease ends, so that a repeat is recognised
    leased_until    timestamptz,
    acknowledged_to bigint                      -- what ended the lease
);
COMMENT ON TABLE consumer_positions IS
'A named reader of the events, and how far it has read. Written by create_consumer, drop_consumer, read_events and ack_events.';
REVOKE ALL ON consumer_positions FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('consumer_positions', '');
CREATE TRIGGER following_changed AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF notify ON consumer_positions
    FOR EACH STATEMENT EXECUTE FUNCTION _following_changed();
ALTER TABLE consumer_positions ENABLE ALWAYS TRIGGER following_changed;

-- Not dumped and not replicated: where a position has another epoch, it came from another database, whose transactions
-- say nothing here. pg_upgrade and physical copies keep it, as they keep the transactions' numbers.
CREATE SEQUENCE IF NOT EXISTS event_epoch AS bigint;
REVOKE ALL ON SEQUENCE event_epoch FROM PUBLIC;
SELECT pg_catalog.setval('event_epoch', 1 + (pg_catalog.random() * 1e15)::bigint);

CREATE FUNCTION _mark_of(xid xid8, mark_xids xid8[], mark_ids bigint[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(max(m.id), 0) FROM unnest(mark_xids, mark_ids) m(xid, id) WHERE m.xid <= _mark_of.xid;
END;
COMMENT ON FUNCTION _mark_of(xid8, xid8[], bigint[]) IS
'An id below all that the transaction, or any that began later, wrote. Used by read_events.';

CREATE FUNCTION _sees(seen pg_snapshot, xid xid8, writer xid) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_sees' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION _sees(pg_snapshot, xid8, xid) IS
'Whether a snapshot sees an event: by the transaction that it names, or for a restored one by its row''s writer. Used by read_events.';

-- No planner can know how many events lie between the bounds. If it thinks few, it reads all of them and sorts them, for each
-- batch. So the functions that call this have enable_sort off: they walk by id and stop when the batch is full. jit is off because
-- what cannot do without a sort looks expensive then.
--
-- One walk by id, from below all that the unseen transactions wrote. A second one for those that were open when seen was
-- taken would go through the whole window again in each batch.
CREATE FUNCTION _events_between(seen pg_snapshot, now_seen pg_snapshot, after_id bigint, up_to bigint,
    mark_xids xid8[], mark_ids bigint[], types text[], max_events integer) RETURNS SETOF events
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.*
      FROM events e
     WHERE e.id > greatest(after_id,
               (SELECT min(_mark_of(u.xid, mark_xids, mark_ids))
                  FROM (SELECT coalesce(pg_snapshot_xmax(seen), '0') UNION ALL
                        SELECT x FROM pg_snapshot_xip(seen) x WHERE pg_visible_in_snapshot(x, now_seen)) u(xid))) AND e.id <= up_to
       AND (seen IS NULL OR e.xid >= pg_snapshot_xmin(seen) AND NOT _sees(seen, e.xid, e.xmin))
       AND _sees(now_seen, e.xid, e.xmin)
       AND (types IS NULL OR e.type = ANY (types))
     ORDER BY e.id LIMIT max_events;
END;
COMMENT ON FUNCTION _events_between(pg_snapshot, pg_snapshot, bigint, bigint, xid8[], bigint[], text[], integer) IS
'The first events, by id, that one snapshot sees and an older one does not (null: sees none). Used by read_events.';

CREATE FUNCTION _unread_events(consumer text, of_all_types boolean, max_events integer) RETURNS SETOF events
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.*
      FROM (SELECT p.*, CASE WHEN NOT of_all_types THEN p.types END AS wanted, p.epoch = s.last_value AS is_ours
              FROM consumer_positions p, event_epoch s WHERE p.consumer = _unread_events.consumer) c,
           LATERAL (SELECT a.* FROM _events_between(c.read_snapshot, c.window_snapshot, c.window_from, c.window_to,
                                                    c.mark_xids, c.mark_ids, c.wanted, max_events) a
                     WHERE c.is_ours AND c.window_snapshot IS NOT NULL
                    UNION ALL
                    SELECT b.* FROM _events_between(CASE WHEN c.is_ours THEN coalesce(c.window_snapshot, c.read_snapshot) END,
                                                    pg_current_snapshot(),
                                                    CASE WHEN c.is_ours THEN 0
                                                         ELSE _mark_of(coalesce(pg_snapshot_xmin(c.read_snapshot), '0'), c.mark_xids, c.mark_ids) END,
                                                    9223372036854775807, c.mark_xids, c.mark_ids, c.wanted, max_events) b) w
     LIMIT max_events;
END;
COMMENT ON FUNCTION _unread_events(text, boolean, integer) IS
'What a consumer has not acknowledged, as of now. Used by read_events.';

-- The marks that are of use while a window is read and after it: for each transaction that its beginning or its end does
-- not see, the last one that was set before it.
CREATE FUNCTION _marks_for(seen pg_snapshot, now_seen pg_snapshot, mark_xids xid8[], mark_ids bigint[]) RETURNS TABLE (xid xid8, id bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT m.xid, m.id
      FROM unnest(mark_xids, mark_ids) m(xid, id)
     WHERE m.xid > pg_snapshot_xmax(now_seen)
        OR (m.xid, m.id) IN (SELECT DISTINCT ON (x.xid) k.xid, k.id
                               FROM unnest(ARRAY[seen, now_seen]) s,
                                    LATERAL (SELECT pg_snapshot_xmax(s) UNION ALL SELECT pg_snapshot_xip(s)) x(xid)
                               JOIN unnest(mark_xids, mark_ids) k(xid, id) ON k.xid <= x.xid
                              ORDER BY x.xid, k.id DESC, k.xid)
     ORDER BY m.xid, m.id;
END;
COMMENT ON FUNCTION _marks_for(pg_snapshot, pg_snapshot, xid8[], bigint[]) IS
'The marks that a position needs. Used by read_events.';

-- The caller's own transaction is still open, so what it writes comes after its commit.
CREATE FUNCTION _snapshot_without(own xid8) RETURNS pg_snapshot
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (pg_snapshot_xmin(s)::text || ':' || pg_snapshot_xmax(s)::text || ':'
            || coalesce((SELECT string_agg(x::text, ',' ORDER BY x)
                           FROM (SELECT pg_snapshot_xip(s) UNION SELECT own WHERE own < pg_snapshot_xmax(s)) u(x)), ''))::pg_snapshot
      FROM pg_current_snapshot() s;
END;
COMMENT ON FUNCTION _snapshot_without(xid8) IS
'The current snapshot, in which the transaction own counts as open. Used by create_consumer and read_events.';

-- What the snapshot sees has no higher id than last_id, which the same one sees: the sequence of a logical replica says
-- nothing about its rows. A position of another database begins again below all that it had not read.
CREATE FUNCTION _next_window(consumer text, mark_id bigint, mark_xid xid8, own xid8)
RETURNS TABLE (epoch bigint, read_snapshot pg_snapshot, window_snapshot pg_snapshot, base bigint,
    mark_xids xid8[], mark_ids bigint[], last_id bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.epoch,
           CASE WHEN e.is_ours THEN coalesce(p.window_snapshot, p.read_snapshot) END,
           _snapshot_without(own),
           CASE WHEN e.is_ours THEN 0 ELSE e.base END,
           CASE WHEN e.is_ours THEN p.mark_xids ELSE ARRAY['0'::xid8] END || mark_xid,
           CASE WHEN e.is_ours THEN p.mark_ids ELSE ARRAY[e.base] END || mark_id,
           (SELECT coalesce(max(i.id), 0) FROM events i)
      FROM consumer_positions p,
           LATERAL (SELECT s.epoch, s.epoch = p.epoch AS is_ours,
                           _mark_of(coalesce(pg_snapshot_xmin(p.read_snapshot), '0'), p.mark_xids, p.mark_ids) AS base
                      FROM (SELECT (SELECT last_value FROM event_epoch) AS epoch) s) e
     WHERE p.consumer = _next_window.consumer;
END;
COMMENT ON FUNCTION _next_window(text, bigint, xid8, xid8) IS
'The position of a consumer after it has read its window, with the next one up to now. Used by read_events.';

CREATE FUNCTION create_consumer(consumer text, types text[] DEFAULT NULL, from_now boolean DEFAULT false,
    notify boolean DEFAULT false, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_create_consumer' LANGUAGE C;
COMMENT ON FUNCTION create_consumer(text, text[], boolean, boolean) IS
'Creates a named reader of the events: of these types, or of all (null); from the first event, or from now on. A WARNING says so if no function writes events of one of the types. notify: each transaction that writes an event sends NOTIFY order_timeout_events; such a transaction cannot be prepared. Outcomes: created, exists (a WARNING says so if its types or notify are others; nothing changes). Errors: 22023, 22004. Locks: the consumer.';

CREATE FUNCTION drop_consumer(consumer text, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_drop_consumer' LANGUAGE C;
COMMENT ON FUNCTION drop_consumer(text) IS
'Removes a consumer and its position; the events stay. Outcomes: dropped, not_found. Errors: 22023, 22004. Locks: the consumer.';

CREATE FUNCTION read_events(consumer text, max_events integer DEFAULT 100, lease interval DEFAULT '1 minute')
RETURNS TABLE (id bigint, aggregateid text, type text, payload jsonb, created_at timestamptz, lease_token text)
AS 'MODULE_PATHNAME', 'ot_read_events' LANGUAGE C SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION read_events(text, integer, interval) IS
'Hands out the next events of a consumer, at most max_events, for the time of the lease (up to 365 days). No rows: there is nothing new, or the last batch is neither acknowledged nor its lease over. Commit, handle the events, then call ack_events with the lease_token. What is not acknowledged comes again: at least once, id is the key. Commits synchronously. Errors: 22023 no such consumer or a bad value, 22004. Locks: the consumer.';

CREATE FUNCTION ack_events(consumer text, lease_token text, up_to bigint DEFAULT NULL, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_ack_events' LANGUAGE C;
COMMENT ON FUNCTION ack_events(text, text, bigint) IS
'Acknowledges the events of a lease up to the one with id up_to and those handed out before it, or all (null), and ends the lease. Outcomes: acknowledged (also the repeat), stale (another lease came after it, or it was acknowledged up to another event; nothing changes). Errors: 22023 up_to is none of its events, or no such consumer; 22004. Locks: the consumer.';

CREATE FUNCTION _consumer_backlog(consumer text, looks_at integer DEFAULT NULL, OUT unread bigint, OUT oldest_unread timestamptz)
AS 'MODULE_PATHNAME', 'ot_consumer_backlog' LANGUAGE C STABLE SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION _consumer_backlog(text, integer) IS
'How many events a consumer has not acknowledged, counted to 10000, and when the first of them was written. looks_at: only among so many events of any type; if none of these is for the consumer, when the last of them was written. Used by views consumers and metrics.';

-- Filled by the sweeper as a consumer without a name, which no caller can take: so a total is exact whenever
-- transactions commit, and writing an event costs nothing more.
CREATE TABLE IF NOT EXISTS event_totals (
    type     text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,                   -- empty: an event without money
    events   bigint NOT NULL,
    amount   numeric NOT NULL,
    PRIMARY KEY (type, currency)
);
COMMENT ON TABLE event_totals IS
'How many events of a type there were since the first sweep, and the sum of their amounts. Written by sweep and sweep_once.';
REVOKE ALL ON event_totals FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('event_totals', '');
REVOKE ALL ON FUNCTION _mark_of(xid8, xid8[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _sees(pg_snapshot, xid8, xid) FROM PUBLIC;
REVOKE ALL ON FUNCTION _events_between(pg_snapshot, pg_snapshot, bigint, bigint, xid8[], bigint[], text[], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION _unread_events(text, boolean, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION _marks_for(pg_snapshot, pg_snapshot, xid8[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _snapshot_without(xid8) FROM PUBLIC;
REVOKE ALL ON FUNCTION _next_window(text, bigint, xid8, xid8) FROM PUBLIC;
REVOKE ALL ON FUNCTION create_consumer(text, text[], boolean, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_consumer(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION read_events(text, integer, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION ack_events(text, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION _consumer_backlog(text, integer) FROM PUBLIC;

-- How far long work is.

CREATE FUNCTION _progress(command text, phase integer, total bigint DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_progress' LANGUAGE C;
COMMENT ON FUNCTION _progress(text, integer, bigint) IS
'The session begins a command (phase 1), comes to another phase of it, or ends it (phase 0). total: how many rows the phase has, null if that is not known. Answers true. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _progress_row(phase integer) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_progress_row' LANGUAGE C;
COMMENT ON FUNCTION _progress_row(integer) IS
'One more row is done, if this is the phase. Answers true. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _progress_rows()
RETURNS TABLE (pid integer, command text, phase text, step integer, steps integer, done bigint, total bigint, unit text, started_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_progress_rows' LANGUAGE C;
COMMENT ON FUNCTION _progress_rows() IS
'A row for each session in this database that is at long work. Used by progress.';

REVOKE ALL ON FUNCTION _progress(text, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION _progress_row(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION _progress_rows() FROM PUBLIC;

-- The gateway's statements: its file of a day next to our rows.
--
-- A line of a statement and a row of ours are the same money by these rules:
--  1. A payment: the line's reference is the payment_ref.
--  2. A refund or a chargeback: the reference is the gateway_refund_ref; of a refund otherwise our_reference is the
--     refund_ref. By our own number it is ours whatever number of the gateway was recorded for it.
--     A line of kind other may be one that is under way there.
--  3. It went back if the row has returned_at, which stays when the refund is reversed after that. What was settled by
--     hand went another way: if the gateway has it too, it went back twice.
--  4. A chargeback that was won: the row of the chargeback is reversed.
--  5. A refund that came back under its number is no money: what the gateway took for it, it gave again. It says nothing of
--     a row that was not returned, or was returned under another number.
--  6. A number again, at another time, is other money; at the same time it is the same line of another statement.
-- No line is written by the gateway's word alone: apply_statement calls the functions that a webhook calls, so a webhook
-- that comes at the same time, or came before, makes it a repeat.

-- No foreign key between the two: a dump restores in any order.
CREATE TABLE IF NOT EXISTS statements (
    gateway     text COLLATE "C" NOT NULL,
    statement   text COLLATE "C" NOT NULL,
    covers_from timestamptz NOT NULL,
    covers_to   timestamptz NOT NULL,           -- the end is not in it
    totals      jsonb,                          -- what the gateway says that it comes to, by currency; null: nothing
    fingerprint text,                           -- of the file: by this a repeat of load_statement is recognised
    loaded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gateway, statement),
    CONSTRAINT statements_covers CHECK (covers_from < covers_to),
    CONSTRAINT statements_totals CHECK (jsonb_typeof(totals) = 'object')
);
COMMENT ON TABLE statements IS
'A statement of a gateway: which time it covers, and what it comes to. Written by load_statement and unload_statement, or by the operator''s own INSERT.';

CREATE TABLE IF NOT EXISTS statement_lines (
    gateway       text COLLATE "C" NOT NULL,
    statement     text COLLATE "C" NOT NULL,
    line          bigint NOT NULL,              -- of the file; its fee is a row of its own with the same number
    kind          text NOT NULL,
    reference     text COLLATE "C",
    payment_ref   text COLLATE "C",
    our_reference text COLLATE "C",
    amount        bigint NOT NULL,
    currency      text NOT NULL,
    at            timestamptz NOT NULL,
    raw           text,
    outcome       text,
    applied_at    timestamptz,
    PRIMARY KEY (gateway, statement, line, kind),
    CONSTRAINT statement_lines_kind CHECK
        (kind IN ('payment', 'refund', 'chargeback', 'chargeback_reversed', 'fee', 'other')),
    CONSTRAINT statement_lines_reference CHECK (reference IS NOT NULL OR kind IN ('fee', 'other')),
    CONSTRAINT statement_lines_lengths CHECK
        (octet_length(reference) <= 255 AND octet_length(payment_ref) <= 255 AND octet_length(our_reference) <= 255),
    CONSTRAINT statement_lines_currency CHECK (currency ~ '^[A-Z]{3}$')
);
COMMENT ON TABLE statement_lines IS
'A line of a statement: what the gateway says that happened, and what apply_statement did about it. Written by load_statement and unload_statement, or by the operator''s own INSERT, and by apply_statement.';
-- Of a key what differs comes first, as in refunds.
CREATE INDEX IF NOT EXISTS statement_lines_reference ON statement_lines (reference, gateway);
CREATE INDEX IF NOT EXISTS statement_lines_our_reference ON statement_lines (our_reference, gateway) WHERE kind IN ('refund', 'other');

REVOKE ALL ON statements, statement_lines FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('statements', '');
SELECT pg_catalog.pg_extension_config_dump('statement_lines', '');

-- Loading.

-- The words of other alphabets stand in escapes, so that the script can be read in a database of any encoding.
CREATE FUNCTION statement_layout(layout text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF layout IS NULL THEN
        RAISE EXCEPTION 'layout must not be null' USING ERRCODE = '22004', HINT = 'Use one of: stripe, wechat_pay.';
    ELSIF layout = 'stripe' THEN
        -- Balance change from activity, itemized: amounts are signed, of each row the fee is taken.
        RETURN '{
            "header": ["balance_transaction_id", "reporting_category", "gross"],
            "kind": "reporting_category",
            "kinds": {"charge": "payment", "refund": "refund", "refund_failure": "refund", "dispute": "chargeback",
                      "dispute_reversal": "chargeback_reversed", "fee": "fee", "network_cost": "fee", "*": "other"},
            "currency": "currency", "units": "major", "at": "created_utc", "time_zone": "UTC",
            "amount": "gross", "fee": "fee", "reference": "source_id", "payment_ref": "charge_id",
            "by_kind": {"payment": {"reference": ["charge_id", "source_id"],
                                    "our_reference": ["payment_metadata[order_id]", "payment_intent_id"]},
                        "refund": {"our_reference": "refund_metadata[refund_ref]"}}}'::jsonb;
    ELSIF layout = 'wechat_pay' THEN
        -- jiaoyi zhangdan, all of a day: a row is a payment or a refund, amounts have no sign.
        RETURN ('{
            "header": ["\u4ea4\u6613\u65f6\u95f4", "\u5fae\u4fe1\u8ba2\u5355\u53f7", "\u4ea4\u6613\u72b6\u6001"],
            "end": "\u603b\u4ea4\u6613\u5355\u6570",
            "kind": ["\u4ea4\u6613\u72b6\u6001", "\u9000\u6b3e\u72b6\u6001"],
            "kinds": {"SUCCESS": "payment", "REFUND/SUCCESS": "refund", "REVOKED/SUCCESS": "refund", "*": "other"},
            "currency": "\u8d27\u5e01\u79cd\u7c7b", "units": "major", "at": "\u4ea4\u6613\u65f6\u95f4", "time_zone": "Asia/Shanghai",
            "fee": "\u624b\u7eed\u8d39",
            "reference": "\u5fae\u4fe1\u9000\u6b3e\u5355\u53f7", "payment_ref": "\u5fae\u4fe1\u8ba2\u5355\u53f7",
            "our_reference": "\u5546\u6237\u9000\u6b3e\u5355\u53f7", "amount": "\u9000\u6b3e\u91d1\u989d", "negate": true,
            "by_kind": {"payment": {"reference": "\u5fae\u4fe1\u8ba2\u5355\u53f7", "our_reference": "\u5546\u6237\u8ba2\u5355\u53f7",
                                    "amount": "\u5e94\u7ed3\u8ba2\u5355\u91d1\u989d", "negate": false}},
            "totals": {"currency": "CNY", "plus": ["\u5e94\u7ed3\u8ba2\u5355\u603b\u91d1\u989d"],
                       "minus": ["\u9000\u6b3e\u603b\u91d1\u989d", "\u624b\u7eed\u8d39\u603b\u91d1\u989d"]}}')::jsonb;
    END IF;
    RAISE EXCEPTION 'no layout is called "%"', layout
        USING ERRCODE = '22023', HINT = 'Use one of: stripe, wechat_pay; or give load_statement a map of your own.';
END
$$;
COMMENT ON FUNCTION statement_layout(text) IS
'The column map of a gateway''s file, for load_statement: stripe (balance change from activity, itemized) or wechat_pay (the bill of all trades). Change a part of it with ||. Errors: 22023 no such layout, 22004. Locks: none.';

-- Two that are inlined, because a call for each value of each line would cost more than all the rest.
CREATE FUNCTION _field(fields text[], place integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT nullif(btrim(CASE WHEN starts_with(fields[place], '"')
                             THEN replace(replace(substr(fields[place], 2, length(fields[place]) - 2), '""', '"'), E'\x1f', ',')
                             ELSE fields[place] END, E' \t\r\n`'), '');
END;
COMMENT ON FUNCTION _field(text[], integer) IS
'A field without quotes, spaces and backticks around it; null if it is empty. Used by load_statement.';

CREATE FUNCTION _first_field(fields text[], places integer[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(_field(fields, places[1]), _field(fields, places[2]), _field(fields, places[3]));
END;
COMMENT ON FUNCTION _first_field(text[], integer[]) IS
'The first of these fields that is not empty. Used by load_statement.';

-- A record goes on in the next line while a quote is open. WeChat Pay puts a backtick before each value and quotes none.
-- A comma between quotes is a unit separator (U+001F) until _field reads the field: to split by a regular expression takes
-- ten times as long.
CREATE FUNCTION _csv_records(csv text, quotes boolean) RETURNS TABLE (line bigint, raw text, fields text[])
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH physical AS (
        SELECT s.n, rtrim(s.t, E'\r') AS t, CASE WHEN starts_with(s.t, '`') OR NOT _csv_records.quotes THEN 0 ELSE length(s.t) - length(replace(s.t, '"', '')) END AS quotes
          FROM string_to_table(CASE WHEN ascii(_csv_records.csv) = 65279 THEN substr(_csv_records.csv, 2) ELSE _csv_records.csv END, E'\n')
               WITH ORDINALITY s(t, n)
    ), opened AS (
        SELECT p.n, p.t, sum(p.quotes) OVER (ORDER BY p.n) - p.quotes AS before FROM physical p
    ), numbered AS (
        SELECT o.n, o.t, sum(CASE WHEN o.before % 2 = 0 THEN 1 ELSE 0 END) OVER (ORDER BY o.n) AS record FROM opened o
    ), records AS (
        SELECT min(n.n) AS n, string_agg(n.t, E'\n' ORDER BY n.n) AS t FROM numbered n GROUP BY n.record
    )
    SELECT r.n, r.t,
           CASE WHEN starts_with(r.t, '`') THEN string_to_array(substr(r.t, 2), ',`')
                WHEN strpos(r.t, '"') = 0 THEN string_to_array(r.t, ',')
                -- As a file with quotes would have them.
                WHEN NOT _csv_records.quotes THEN ARRAY(SELECT '"' || replace(f.t, '"', '""') || '"' FROM string_to_table(r.t, ',') WITH ORDINALITY f(t, n) ORDER BY f.n)
                ELSE string_to_array((SELECT string_agg(CASE WHEN q.n % 2 = 0 THEN replace(q.t, ',', E'\x1f') ELSE q.t END, '"' ORDER BY q.n)
                                        FROM string_to_table(r.t, '"') WITH ORDINALITY q(t, n)), ',') END
      FROM records r WHERE btrim(r.t, E' \t\r') <> '' ORDER BY r.n
$$;
COMMENT ON FUNCTION _csv_records(text, boolean) IS
'The records of a CSV file, each with the number of its first line and its fields. quotes: whether a quote is more than a character. Used by load_statement.';

-- A quote that is not as it must be joins lines, and what it swallowed would be left out in silence.
CREATE FUNCTION _quotes_fit(raw text, fields text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT starts_with(raw, '`')
        OR NOT EXISTS (SELECT FROM unnest(fields) f (field)
                        WHERE strpos(f.field, '"') > 0
                          AND (f.field NOT LIKE '"%"' OR length(f.field) < 2
                               OR strpos(replace(substr(f.field, 2, length(f.field) - 2), '""', ''), '"') > 0));
END;
COMMENT ON FUNCTION _quotes_fit(text, text[]) IS
'Whether each field of a record has its quotes around it, or none. Used by load_statement.';

CREATE FUNCTION _bad_line(line bigint, problem text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'line % of the statement cannot be loaded', line
        USING ERRCODE = '22023', DETAIL = problem, HINT = 'Nothing was loaded. Correct the layout or the line, and load the file again.';
END
$$;
COMMENT ON FUNCTION _bad_line(bigint, text) IS
'Raises 22023 with the number of the line. Used by load_statement.';

-- Where the columns that an entry of a layout names stand in the header; a name or a list of up to three, the first that
-- has a value counts.
CREATE FUNCTION _layout_columns(names jsonb, header text[]) RETURNS integer[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT array_position(header, n.name)
                   FROM jsonb_array_elements_text(CASE jsonb_typeof(names) WHEN 'array' THEN names WHEN 'string' THEN jsonb_build_array(names)
                                                                           ELSE '[]' END) WITH ORDINALITY n(name, nth)
                  WHERE array_position(header, n.name) IS NOT NULL ORDER BY n.nth)
$$;
COMMENT ON FUNCTION _layout_columns(jsonb, text[]) IS
'The positions of columns in a header. Used by load_statement.';

-- A summary stands at the end: a header of its own, and its values in the next record.
CREATE FUNCTION _summary_totals(csv text, layout jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH tail AS (
        SELECT r.fields, lead(r.fields) OVER (ORDER BY r.line) AS values
          FROM order_timeout._csv_records(substr(right(csv, 20000), 1 + CASE WHEN length(csv) > 20000 THEN strpos(right(csv, 20000), E'\n') ELSE 0 END),
                                           (layout -> 'quotes') IS DISTINCT FROM 'false'::jsonb) r
    )
    SELECT jsonb_build_object(layout #>> '{totals,currency}', sum(n.sign * order_timeout.minor_units(
               order_timeout._field(t.values, array_position(t.fields, n.name))::numeric, layout #>> '{totals,currency}')))
      FROM tail t
     CROSS JOIN (SELECT jsonb_array_elements_text(layout #> '{totals,plus}') AS name, 1 AS sign
                 UNION ALL SELECT jsonb_array_elements_text(layout #> '{totals,minus}'), -1) n
     WHERE order_timeout._field(t.fields, 1) = layout ->> 'end' AND t.values IS NOT NULL
    HAVING count(*) > 0
$$;
COMMENT ON FUNCTION _summary_totals(text, jsonb) IS
'What the summary at the end of a file comes to, by currency; null if there is none. Used by load_statement.';

CREATE FUNCTION _require_statement(gateway text, statement text) RETURNS statements
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_statement order_timeout.statements;
BEGIN
    IF gateway IS NULL OR statement IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN gateway IS NULL THEN 'gateway' ELSE 'statement' END USING ERRCODE = '22004';
    END IF;
    SELECT s.* INTO found_statement FROM order_timeout.statements s
     WHERE s.gateway = _require_statement.gateway AND s.statement = _require_statement.statement;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'statement "%" of gateway "%" is not loaded', statement, gateway
            USING ERRCODE = '22023', HINT = 'Load it first with order_timeout.load_statement(); order_timeout.statements shows what is loaded.';
    END IF;
    RETURN found_statement;
END
$$;
COMMENT ON FUNCTION _require_statement(text, text) IS
'A statement; 22023 if it is not loaded, 22004. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _require_loadable(gateway text, statement text, layout jsonb, csv text, covers_from timestamptz, covers_to timestamptz,
    totals jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    argument record;
    wrong text;
BEGIN
    FOR argument IN SELECT * FROM (VALUES ('gateway', gateway IS NULL), ('statement', statement IS NULL), ('layout', layout IS NULL),
                                          ('csv', csv IS NULL), ('covers_from', covers_from IS NULL), ('covers_to', covers_to IS NULL))
                                    v (name, is_null) LOOP
        IF argument.is_null THEN
            RAISE EXCEPTION '% must not be null', argument.name USING ERRCODE = '22004';
        END IF;
    END LOOP;
    wrong := CASE WHEN octet_length(gateway) NOT BETWEEN 1 AND 255 OR gateway ~ '[[:cntrl:]]'
                    OR octet_length(statement) NOT BETWEEN 1 AND 255 OR statement ~ '[[:cntrl:]]'
                  THEN 'Gateway and statement need 1 to 255 bytes, without control characters.'
                  WHEN covers_from >= covers_to THEN 'covers_from must be before covers_to.'
                  WHEN covers_from < '1970-01-01 00:00:00+00' OR covers_to >= '10000-01-01 00:00:00+00'
                  THEN 'Times must be between the years 1970 and 9999.'
                  WHEN jsonb_typeof(totals) <> 'object'
                    OR EXISTS (SELECT FROM jsonb_each_text(CASE jsonb_typeof(totals) WHEN 'object' THEN totals ELSE '{}' END) t
                                WHERE t.key !~ '^[A-Z]{3}$' OR t.value !~ '^-?[0-9]{1,18}$')
                  THEN 'totals must be an object of currencies with minor units, as in {"EUR": 123456}.'
                  WHEN jsonb_typeof(layout) <> 'object' OR jsonb_typeof(layout -> 'header') IS DISTINCT FROM 'array'
                    OR jsonb_typeof(layout -> 'kinds') IS DISTINCT FROM 'object' OR NOT layout ?& '{kind,at,time_zone}'
                    OR layout ->> 'units' IS DISTINCT FROM 'major' AND layout ->> 'units' IS DISTINCT FROM 'minor'
                  THEN 'layout needs header (an array), kind, kinds (an object), at, time_zone, units (major or minor).'
                  WHEN EXISTS (SELECT FROM jsonb_each_text(layout -> 'kinds') k
                                WHERE k.value NOT IN ('payment', 'refund', 'chargeback', 'chargeback_reversed', 'fee', 'other'))
                  THEN 'kinds of layout must be payment, refund, chargeback, chargeback_reversed, fee or other.'
                  WHEN jsonb_typeof(layout -> 'by_kind') <> 'object'
                    OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(layout -> 'by_kind') WHEN 'object' THEN layout -> 'by_kind' ELSE '{}' END) k
                                WHERE jsonb_typeof(k.value) <> 'object')
                  THEN 'by_kind of layout must be an object of kinds, each with an object.'
                  WHEN jsonb_typeof(layout -> 'quotes') <> 'boolean' THEN 'quotes of layout must be true or false.'
                  WHEN NOT EXISTS (SELECT FROM pg_timezone_names z WHERE z.name = layout ->> 'time_zone')
                  THEN format('Time zone "%s" is not known.', layout ->> 'time_zone') END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the statement cannot be loaded' USING ERRCODE = '22023', DETAIL = wrong;
    END IF;
    IF octet_length(csv) < 1000 AND btrim(csv, E' \t\r\n') = '' THEN
        RAISE EXCEPTION 'the file is empty'
            USING ERRCODE = '22023', HINT = 'Did the command that reads it find it, and may it read it? A name with spaces needs quotes.';
    END IF;
END
$$;
COMMENT ON FUNCTION _require_loadable(text, text, jsonb, text, timestamptz, timestamptz, jsonb) IS
'Raises 22023 or 22004 for a wrong argument of load_statement. Used by load_statement.';

-- What was loaded is kept: only a person knows whether it was meant.
CREATE FUNCTION _warn_about_statement(loaded statements) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other text;
    first_at timestamptz;
    last_at timestamptz;
BEGIN
    SELECT s.statement INTO other FROM order_timeout.statements s
     WHERE s.gateway = loaded.gateway AND s.fingerprint = loaded.fingerprint AND s.statement <> loaded.statement
     ORDER BY s.statement LIMIT 1;
    IF FOUND THEN
        RAISE WARNING 'statement "%" of gateway "%" is the same file as statement "%"', loaded.statement, loaded.gateway, other
            USING HINT = 'If that is wrong, call order_timeout.unload_statement() for one of them.';
    END IF;
    IF EXISTS (SELECT FROM order_timeout.statement_lines l
                WHERE l.gateway = loaded.gateway AND l.statement = loaded.statement
                  AND l.at >= loaded.covers_from AND l.at < loaded.covers_to) THEN
        RETURN;
    END IF;
    SELECT min(l.at), max(l.at) INTO first_at, last_at FROM order_timeout.statement_lines l
     WHERE l.gateway = loaded.gateway AND l.statement = loaded.statement;
    IF first_at IS NOT NULL THEN
        RAISE WARNING 'no line of statement "%" of gateway "%" is of the time that it covers', loaded.statement, loaded.gateway
            USING DETAIL = format('Its lines are from %s to %s; it covers %s to %s.', first_at, last_at, loaded.covers_from, loaded.covers_to),
                  HINT = 'If that is wrong, call order_timeout.unload_statement() and load it again.';
    END IF;
END
$$;
COMMENT ON FUNCTION _warn_about_statement(statements) IS
'A WARNING if a statement has no line of the time that it covers, or is the same file as another one. Used by load_statement.';

CREATE FUNCTION load_statement(
    gateway text, statement text, layout jsonb, csv text, covers_from timestamptz, covers_to timestamptz, totals jsonb DEFAULT NULL,
    OUT outcome text, OUT lines bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' AS $$
DECLARE
    file_fingerprint CONSTANT text := md5(csv);
    has_quotes CONSTANT boolean := (layout -> 'quotes') IS DISTINCT FROM 'false'::jsonb;
    found_statement order_timeout.statements;
    first_line bigint;
    columns text[];
    kind_columns integer[];
    -- A comma stands before three digits, or it is a decimal comma; in India also before two that are followed by another one.
    number CONSTANT text := '^-?([0-9]+|[0-9]{1,3}(,[0-9]{2,3})*,[0-9]{3})(\.[0-9]+)?$';
    zone CONSTANT text := '( ?(Z|[+-][0-9]{2}(:?[0-9]{2})?))';
    detail text;
    hint text;
BEGIN
    PERFORM order_timeout._require_loadable(gateway, statement, layout, csv, covers_from, covers_to, totals);
    INSERT INTO order_timeout.statements AS s (gateway, statement, covers_from, covers_to, totals, fingerprint)
    VALUES (load_statement.gateway, load_statement.statement, load_statement.covers_from, load_statement.covers_to,
            coalesce(load_statement.totals, order_timeout._summary_totals(csv, layout)), file_fingerprint)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        found_statement := order_timeout._require_statement(gateway, statement);
        IF found_statement.fingerprint IS DISTINCT FROM file_fingerprint THEN
            RAISE EXCEPTION 'statement "%" of gateway "%" was loaded from another file', statement, gateway
                USING ERRCODE = '22023', HINT = 'Give this one another name, or call order_timeout.unload_statement() first.';
        END IF;
        outcome := 'exists';
        SELECT count(*) INTO lines FROM order_timeout.statement_lines l
         WHERE l.gateway = load_statement.gateway AND l.statement = load_statement.statement;
        RETURN;
    END IF;

    SELECT r.line, r.fields INTO first_line, columns
      FROM (SELECT h.line, ARRAY(SELECT order_timeout._field(h.fields, n) FROM generate_subscripts(h.fields, 1) n ORDER BY n) AS fields
              FROM order_timeout._csv_records(left(csv, 100000), has_quotes) h) r
     WHERE r.fields @> ARRAY(SELECT jsonb_array_elements_text(layout -> 'header')) ORDER BY r.line LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the file has no header of this layout'
            USING ERRCODE = '22023', DETAIL = format('It needs the columns %s. Its first line is "%s".', layout -> 'header',
                                  left(btrim(split_part(left(csv, 1000), E'\n', 1), E'\r'), 200)),
                  HINT = 'Check the layout, the encoding of the file, and that commas separate its fields.';
    END IF;

    kind_columns := order_timeout._layout_columns(layout -> 'kind', columns);

    PERFORM order_timeout._progress('load_statement', 1);
    WITH records AS MATERIALIZED (
        SELECT r.* FROM order_timeout._csv_records(csv, has_quotes) r WHERE r.line > first_line
    ), data AS (
        SELECT r.* FROM records r
         WHERE r.line < coalesce((SELECT min(e.line) FROM records e WHERE order_timeout._field(e.fields, 1) = layout ->> 'end'), 9223372036854775807)
    ), map AS MATERIALIZED (
        -- What a kind does not name, it has from the layout.
        SELECT k.kind, order_timeout._layout_columns(m.map -> 'reference', columns) AS reference,
               order_timeout._layout_columns(m.map -> 'payment_ref', columns) AS payment_ref,
               order_timeout._layout_columns(m.map -> 'our_reference', columns) AS our_reference,
               order_timeout._layout_columns(m.map -> 'amount', columns) AS amount,
               order_timeout._layout_columns(m.map -> 'fee', columns) AS fee,
               order_timeout._layout_columns(m.map -> 'currency', columns) AS currency, m.map ->> 'currency_is' AS currency_is,
               order_timeout._layout_columns(m.map -> 'at', columns) AS at,
               CASE WHEN (m.map ->> 'negate')::boolean THEN -1 ELSE 1 END AS sign
          FROM (SELECT DISTINCT e.value AS kind FROM jsonb_each_text(layout -> 'kinds') e) k
         CROSS JOIN LATERAL (SELECT layout || coalesce(layout -> 'by_kind' -> k.kind, '{}') AS map) m
    -- Materialized, so that what a column stands for is not carried out again at each place that names it.
    ), kind AS MATERIALIZED (
        SELECT w.*, coalesce(layout -> 'kinds' ->> w.word, layout -> 'kinds' ->> '*') AS kind
          FROM (SELECT d.*, concat_ws('/', order_timeout._field(d.fields, kind_columns[1]), order_timeout._field(d.fields, kind_columns[2]),
                                      order_timeout._field(d.fields, kind_columns[3])) AS word FROM data d) w
    ), value AS MATERIALIZED (
        SELECT k.line, k.raw, k.fields, k.word, k.kind, m.sign,
               order_timeout._first_field(k.fields, m.reference) AS reference,
               CASE WHEN k.kind <> 'payment' THEN order_timeout._first_field(k.fields, m.payment_ref) END AS payment_ref,
               order_timeout._first_field(k.fields, m.our_reference) AS our_reference,
               order_timeout._first_field(k.fields, m.amount) AS amount,
               coalesce(order_timeout._first_field(k.fields, m.fee), '0') AS fee,
               upper(coalesce(order_timeout._first_field(k.fields, m.currency), m.currency_is)) AS currency,
               order_timeout._first_field(k.fields, m.at) AS at
          FROM kind k LEFT JOIN map m ON m.kind = k.kind
    ), checked AS MATERIALIZED (
        SELECT v.*, CASE WHEN cardinality(v.fields) <> cardinality(columns)
                         THEN format('It has %s fields, the header has %s.', cardinality(v.fields), cardinality(columns))
                         WHEN strpos(v.raw, '"') > 0 AND NOT order_timeout._quotes_fit(v.raw, v.fields)
                         THEN 'A quote is not closed, or stands in the middle of a field. If the gateway quotes no fields: "quotes": false.'
                         WHEN v.kind IS NULL THEN format('The layout does not say of which kind "%s" is.', v.word)
                         WHEN v.amount IS NULL OR v.currency IS NULL OR v.at IS NULL
                         THEN format('Column %s is empty, or not in the file.',
                                     coalesce((layout || coalesce(layout -> 'by_kind' -> v.kind, '{}'))
                                              ->> CASE WHEN v.amount IS NULL THEN 'amount' WHEN v.currency IS NULL THEN 'currency' ELSE 'at' END,
                                              '(none in the layout)'))
                         WHEN v.amount !~ number THEN format('"%s" is not an amount.', v.amount)
                         WHEN layout ->> 'units' = 'minor' AND strpos(v.amount || v.fee, '.') > 0
                         THEN format('"%s" is not a whole number of minor units.', CASE WHEN strpos(v.amount, '.') > 0 THEN v.amount ELSE v.fee END)
                         WHEN v.fee !~ number THEN format('"%s" is not an amount.', v.fee)
                         WHEN v.currency !~ '^[A-Z]{3}$' THEN format('"%s" is not a currency.', v.currency)
                         WHEN v.at !~ ('^[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}[ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?' || zone || '?$') THEN format('"%s" is not a time.', v.at)
                         WHEN v.reference IS NULL AND v.kind NOT IN ('fee', 'other') THEN 'It has no reference.'
                         WHEN greatest(octet_length(v.reference), octet_length(v.payment_ref), octet_length(v.our_reference)) > 255
                         THEN 'A reference is longer than 255 bytes.' END AS problem
          FROM value v
    ), converted AS MATERIALIZED (
        SELECT c.*, CASE WHEN c.at ~ (':[0-9.:]+' || zone || '$') THEN c.at::timestamptz
                         ELSE c.at::timestamp AT TIME ZONE (layout ->> 'time_zone') END AS happened_at,
               c.sign * CASE layout ->> 'units' WHEN 'major' THEN order_timeout.minor_units(replace(c.amount, ',', '')::numeric, c.currency)
                                                ELSE replace(c.amount, ',', '')::bigint END AS money,
               - CASE layout ->> 'units' WHEN 'major' THEN order_timeout.minor_units(replace(c.fee, ',', '')::numeric, c.currency)
                                         ELSE replace(c.fee, ',', '')::bigint END AS fee_money
          FROM checked c
         WHERE CASE WHEN c.problem IS NULL THEN order_timeout._progress_row(2) ELSE order_timeout._bad_line(c.line, c.problem) END
           -- Asked once, before the first line.
           AND (SELECT order_timeout._progress('load_statement', 2, (SELECT count(*) FROM records)))
    )
    INSERT INTO order_timeout.statement_lines
           (gateway, statement, line, kind, reference, payment_ref, our_reference, amount, currency, at, raw)
    SELECT load_statement.gateway, load_statement.statement, c.line, x.kind, c.reference, c.payment_ref, c.our_reference,
           x.money, c.currency, c.happened_at, x.raw
      FROM converted c
     CROSS JOIN LATERAL (SELECT c.kind, c.money + CASE c.kind WHEN 'fee' THEN c.fee_money ELSE 0 END AS money, c.raw
                         UNION ALL
                         SELECT 'fee', c.fee_money, NULL WHERE c.fee_money <> 0 AND c.kind <> 'fee') x;
    GET DIAGNOSTICS lines = ROW_COUNT;
    PERFORM order_timeout._progress('load_statement', 0);
    outcome := 'loaded';
    PERFORM order_timeout._warn_about_statement(order_timeout._require_statement(gateway, statement));
-- Without the long statement as context.
EXCEPTION WHEN data_exception THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE EXCEPTION '%', SQLERRM USING ERRCODE = CASE WHEN SQLSTATE IN ('22003', '22004') THEN SQLSTATE ELSE '22023' END,
                                       DETAIL = coalesce(nullif(detail, ''), 'Nothing was loaded.'),
                                       HINT = coalesce(nullif(hint, ''), 'Correct the arguments or the file, and load it again.');
END
$$;
COMMENT ON FUNCTION load_statement(text, text, jsonb, text, timestamptz, timestamptz, jsonb) IS
'Loads a gateway''s file: csv is its text, layout says what its columns mean (statement_layout has two), covers_from and covers_to which time it covers. totals: what it comes to, in minor units by currency; null: what its summary says, if the layout knows it. lines: rows of statement_lines, a fee is a row of its own. A WARNING says if no line is of the time covered, or if this file is loaded under another name. Outcomes: loaded, exists (this file was loaded under this name). Errors: 22023 a line that does not fit (DETAIL says why), another file under this name, a wrong argument; 22003, 22004. Locks: the statement.';

CREATE FUNCTION unload_statement(gateway text, statement text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF gateway IS NULL OR statement IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN gateway IS NULL THEN 'gateway' ELSE 'statement' END USING ERRCODE = '22004';
    END IF;
    DELETE FROM order_timeout.statements s
     WHERE s.gateway = unload_statement.gateway AND s.statement = unload_statement.statement;
    outcome := CASE WHEN FOUND THEN 'unloaded' ELSE 'not_loaded' END;
    DELETE FROM order_timeout.statement_lines l
     WHERE l.gateway = unload_statement.gateway AND l.statement = unload_statement.statement;
END
$$;
COMMENT ON FUNCTION unload_statement(text, text) IS
'Deletes a statement and its lines. What apply_statement did stays done. Outcomes: unloaded, not_loaded. Errors: 22004. Locks: the statement.';

-- Comparing.

-- A payment of the order, or a refund of the payment, of the same amount that no statement has may be the same money under
-- another number: of another layout, or noted differently by a webhook. To record it would count it twice, and the engine
-- would refund it as surplus.
CREATE FUNCTION _may_be_known(gateway text, kind text, order_id text, payment_ref text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind WHEN 'payment'
        THEN EXISTS (SELECT FROM order_timeout.payments p
                      WHERE p.order_id = _may_be_known.order_id AND p.gateway = _may_be_known.gateway AND p.amount = _may_be_known.amount
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment'))
        ELSE EXISTS (SELECT FROM order_timeout.refunds r
                      WHERE r.payment_ref = _may_be_known.payment_ref AND r.gateway = _may_be_known.gateway AND r.amount = - _may_be_known.amount
                        AND r.returned_at IS NOT NULL AND r.gateway_refund_ref IS NOT NULL
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback'))
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind = 'refund')) END
$$;
COMMENT ON FUNCTION _may_be_known(text, text, text, text, bigint) IS
'Whether we have money that a line may be about under another number. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _came_back(gateway text, reference text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM order_timeout.statement_lines l
                    WHERE l.reference = _came_back.reference AND l.gateway = _came_back.gateway AND l.kind = 'refund'
                      AND l.amount = - _came_back.amount AND l.amount <> 0);
END;
COMMENT ON FUNCTION _came_back(text, text, bigint) IS
'Whether the statements of a gateway have a refund going and coming back under one number, all of it. Used by apply_statement, check_statement and statement_totals.';

-- Each line with the row that is the same money, what differs (null: nothing), and the call that apply_statement makes. OFFSET 0,
-- so that what differs is not found out again at each place that asks for it.
CREATE FUNCTION _statement_matches(gateway text, statement text)
RETURNS TABLE (line bigint, kind text, reference text, amount bigint, currency text, problem text, order_id text, payment_ref text,
               refund_ref text, here bigint, plays text, is_applied boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT m.line, m.kind, m.reference, m.amount, m.currency, m.problem, m.order_id, m.payment_ref, m.refund_ref, m.here,
           CASE WHEN m.applied_at IS NOT NULL THEN NULL
                WHEN m.kind = 'payment' AND m.problem = 'only_there' AND m.amount > 0 AND m.order_id IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, m.order_id, NULL, m.amount) THEN 'record_payment' END
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' AND m.amount < 0 AND m.payment_ref IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, NULL, m.payment_ref, m.amount) THEN 'record_refund' END
                WHEN m.kind = 'refund' AND m.problem = 'status' AND m.amount < 0 AND m.is_open THEN 'complete_refund'
                WHEN m.kind = 'chargeback_reversed' AND m.problem IN ('only_there', 'status') AND m.amount > 0 THEN 'reverse_chargeback' END,
           m.applied_at IS NOT NULL
      FROM (SELECT l.line, l.kind, l.reference, l.amount, l.currency, l.applied_at,
                   coalesce(p.order_id, n.order_id, o.order_id, a.order_id,
                            CASE l.kind WHEN 'payment' THEN l.our_reference
                                        ELSE (SELECT q.order_id FROM order_timeout.payments q
                                               WHERE q.gateway = l.gateway AND q.payment_ref = l.payment_ref) END) AS order_id,
                   coalesce(p.payment_ref, n.payment_ref, o.payment_ref, CASE l.kind WHEN 'payment' THEN l.reference ELSE l.payment_ref END) AS payment_ref,
                   r.refund_ref, r.is_open, coalesce(p.amount, CASE l.kind WHEN 'chargeback_reversed' THEN r.amount ELSE - r.amount END) AS here,
                   CASE WHEN l.kind = 'fee' THEN NULL
                        WHEN l.kind = 'other' THEN CASE WHEN r.refund_ref IS NULL OR r.amount <> - l.amount OR r.currency <> l.currency
                                                          OR r.state = 'reversed' OR r.by_hand THEN 'only_there' END
                        WHEN l.nth > 1 OR earlier.has_it THEN 'twice'
                        WHEN pair.came_back AND (r.refund_ref IS NULL OR r.returned_at IS NULL OR r.by_hand OR other.stays) THEN NULL
                        WHEN other.has_it THEN 'twice'
                        WHEN p.payment_ref IS NULL AND r.refund_ref IS NULL THEN 'only_there'
                        WHEN p.payment_ref IS NOT NULL AND elsewhere.order_id NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                          OR r.refund_ref IS NOT NULL AND elsewhere.payment_ref IS NOT NULL THEN 'elsewhere'
                        WHEN coalesce(p.currency, r.currency) <> l.currency THEN 'currency'
                        WHEN l.kind = 'payment' THEN CASE WHEN p.amount <> l.amount THEN 'amount' END
                        WHEN r.amount <> abs(l.amount) OR l.kind = 'chargeback' AND l.amount >= 0 OR l.kind = 'chargeback_reversed' AND l.amount <= 0
                        THEN 'amount'
                        WHEN l.amount < 0 THEN CASE WHEN r.returned_at IS NULL OR r.by_hand THEN 'status' END
                        WHEN r.state <> 'reversed' AND r.returned_at IS NOT NULL AND NOT r.by_hand THEN 'status' END AS problem
              FROM (SELECT s.*, row_number() OVER (PARTITION BY CASE s.kind WHEN 'chargeback' THEN 'refund' ELSE s.kind END, s.reference, sign(s.amount)
                                                   ORDER BY s.line) AS nth
                      FROM order_timeout.statement_lines s
                     WHERE s.gateway = _statement_matches.gateway AND s.statement = _statement_matches.statement) l
              LEFT JOIN order_timeout.payments p ON l.kind = 'payment' AND p.gateway = l.gateway AND p.payment_ref = l.reference
              LEFT JOIN order_timeout.refunds n ON l.kind IN ('refund', 'chargeback', 'chargeback_reversed', 'other')
                                               AND n.gateway_refund_ref = l.reference AND n.gateway = l.gateway
              LEFT JOIN order_timeout.refunds o ON l.kind IN ('refund', 'other') AND n.refund_ref IS NULL
                                               AND o.refund_ref = l.our_reference AND o.gateway = l.gateway
              LEFT JOIN order_timeout.attempts a ON l.kind = 'payment' AND p.payment_ref IS NULL
                                                AND a.gateway = l.gateway AND a.attempt_ref = l.our_reference
             CROSS JOIN LATERAL (SELECT coalesce(n.refund_ref, o.refund_ref) AS refund_ref, coalesce(n.amount, o.amount) AS amount,
                                        coalesce(n.currency, o.currency) AS currency, coalesce(n.state, o.state) AS state,
                                        CASE WHEN n.refund_ref IS NULL THEN o.returned_at ELSE n.returned_at END AS returned_at,
                                        CASE WHEN n.refund_ref IS NULL THEN o.by_hand ELSE n.by_hand END AS by_hand,
                                        CASE WHEN n.refund_ref IS NULL THEN o.settled_at IS NULL ELSE n.settled_at IS NULL END AS is_open) r
             -- At the same time it is the same line: of the day and of the month.
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM order_timeout.statement_lines x
                                                 WHERE x.reference = l.reference AND x.gateway = l.gateway AND x.at < l.at
                                                   AND sign(x.amount) = sign(l.amount)
                                                   AND (x.kind = l.kind OR x.kind IN ('refund', 'chargeback') AND l.kind IN ('refund', 'chargeback')) OFFSET 0) AS has_it) earlier
             CROSS JOIN LATERAL (SELECT l.kind = 'refund' AND order_timeout._came_back(l.gateway, l.reference, l.amount) AS came_back) pair
             -- A refund that went back twice has our number twice. The line with the number that we know has it, or else the first that
             -- did not come back. stays: another line has it, or the row has another number.
             CROSS JOIN LATERAL (SELECT o.refund_ref IS NOT NULL
                                    AND (EXISTS (SELECT FROM order_timeout.statement_lines x
                                                  WHERE x.reference = o.gateway_refund_ref AND x.gateway = l.gateway AND x.kind = 'refund'
                                                    AND sign(x.amount) = sign(l.amount))
                                         OR EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND sign(x.amount) = sign(l.amount) AND x.reference <> l.reference
                                                       AND (x.at, x.statement, x.line) < (l.at, l.statement, l.line)
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount))) AS has_it,
                                        o.gateway_refund_ref IS NOT NULL
                                     OR o.refund_ref IS NOT NULL
                                        AND EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND x.amount < 0 AND x.reference <> l.reference
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount)) AS stays) other
             -- What the line names and we know, where that is not what the row has.
             CROSS JOIN LATERAL (SELECT CASE WHEN l.our_reference NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                                             THEN coalesce((SELECT x.order_id FROM order_timeout.attempts x
                                                             WHERE x.gateway = l.gateway AND x.attempt_ref = l.our_reference),
                                                           (SELECT x.order_id FROM order_timeout.orders x WHERE x.order_id = l.our_reference)) END AS order_id,
                                        CASE WHEN l.payment_ref <> coalesce(n.payment_ref, o.payment_ref)
                                             THEN (SELECT x.payment_ref FROM order_timeout.payments x
                                                    WHERE x.gateway = l.gateway AND x.payment_ref = l.payment_ref) END AS payment_ref) elsewhere
            OFFSET 0) m
     WHERE order_timeout._progress_row(1)
$$;
COMMENT ON FUNCTION _statement_matches(text, text) IS
'Each line of a statement with the row of ours that is the same money, and what differs. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _begin_matching(command text, gateway text, statement text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT order_timeout._progress($1, 1, (SELECT count(*) FROM order_timeout.statement_lines l WHERE l.gateway = $2 AND l.statement = $3))
$$;
COMMENT ON FUNCTION _begin_matching(text, text, text) IS
'The session begins a command that matches the lines of a statement. Used by apply_statement, check_statement and statement_totals.';

-- Rows of ours that no statement of their gateway has. OFFSET 0 keeps each look in the index: right after a file is loaded the planner
-- has no statistics of its lines, and would join all of them with all payments.
CREATE FUNCTION _missing_in_statements(gateway text, since timestamptz, before timestamptz)
RETURNS TABLE (kind text, reference text, order_id text, payment_ref text, refund_ref text, amount bigint, currency text, at timestamptz, is_ours boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'payment', p.payment_ref, p.order_id, p.payment_ref, NULL, p.amount, p.currency, coalesce(p.paid_at, p.received_at), false
      FROM order_timeout.payments p
     WHERE p.gateway = _missing_in_statements.gateway
       AND coalesce(p.paid_at, p.received_at) >= since AND coalesce(p.paid_at, p.received_at) < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment' OFFSET 0)
    UNION ALL
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           - r.amount, r.currency, r.returned_at, r.reason NOT IN ('external', 'chargeback')
      FROM order_timeout.refunds r
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state <> 'reversed'
       AND r.returned_at >= since AND r.returned_at < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback', 'other') OFFSET 0)
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'other')
                          AND (r.gateway_refund_ref IS NULL OR NOT order_timeout._came_back(l.gateway, l.reference, l.amount)) OFFSET 0)
    UNION ALL
    -- It came back, as we have it. If the gateway has that it went, it must have this too.
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback_reversed' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           r.amount, r.currency, r.settled_at, false
      FROM order_timeout.refunds r
     CROSS JOIN LATERAL (SELECT count(DISTINCT l.reference) FILTER (WHERE l.amount < 0) AS went,
                                count(DISTINCT l.reference) FILTER (WHERE l.amount > 0) AS came
                           FROM (SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.reference = r.gateway_refund_ref AND x.gateway = r.gateway
                                    AND x.kind IN ('refund', 'chargeback', 'chargeback_reversed')
                                 UNION ALL
                                 SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.our_reference = r.refund_ref AND x.gateway = r.gateway AND x.kind = 'refund') l) stated
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state = 'reversed' AND r.returned_at IS NOT NULL
       AND r.settled_at >= since AND r.settled_at < before AND stated.went > stated.came
$$;
COMMENT ON FUNCTION _missing_in_statements(text, timestamptz, timestamptz) IS
'Payments and refunds of a gateway in a time that no statement of it has. Used by check_statement.';

-- What is younger than lag at the statement's end is looked at again with the next statement, which looks back as far.
CREATE FUNCTION check_statement(gateway text, statement text, lag interval DEFAULT '1 hour')
RETURNS TABLE (problem text, kind text, line bigint, reference text, order_id text, payment_ref text, refund_ref text,
               there bigint, here bigint, currency text, resolved_by text, applies boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
    late interval := coalesce($3, '1 hour');
    looks_from timestamptz;
    before timestamptz := (SELECT max(s.covers_to) FROM order_timeout.statements s WHERE s.gateway = $1 AND s.covers_from < checked.covers_from);
BEGIN
    IF late < interval '0' OR late > interval '365 days' THEN
        RAISE EXCEPTION 'invalid lag: %', late USING ERRCODE = '22023', HINT = 'Use 0 to 365 days.';
    END IF;
    IF before < checked.covers_from THEN
        RAISE WARNING 'no statement of gateway "%" covers % to %', $1, before, checked.covers_from
            USING HINT = 'Load it and check it too. Until then nothing compares our rows of that time.';
    END IF;
    looks_from := checked.covers_from - CASE WHEN before >= checked.covers_from THEN late ELSE '0' END;
    PERFORM order_timeout._begin_matching('check_statement', $1, $2);
    RETURN QUERY
    SELECT m.problem, m.kind, m.line, m.reference, m.order_id, m.payment_ref, m.refund_ref, m.amount, m.here, m.currency,
           CASE WHEN m.plays IS NOT NULL THEN m.plays
                WHEN m.is_applied THEN 'resolve_conflict'
                WHEN m.kind = 'payment' THEN CASE m.problem WHEN 'only_there' THEN 'record_payment' ELSE 'the gateway' END
                WHEN m.kind = 'refund' AND m.amount > 0 THEN 'reverse_refund or reverse_chargeback'
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' THEN 'record_refund'
                WHEN m.problem = 'status' THEN 'complete_refund, then resolve_conflict'
                WHEN m.problem = 'amount' AND m.kind <> 'chargeback_reversed' THEN 'resolve_conflict or record_refund'
                WHEN m.kind = 'chargeback_reversed' THEN 'reverse_chargeback' ELSE 'the gateway' END,
           m.plays IS NOT NULL
      FROM order_timeout._statement_matches($1, $2) m WHERE m.problem IS NOT NULL
    UNION ALL
    SELECT CASE WHEN x.at >= checked.covers_to - late THEN 'too_early' WHEN x.is_ours THEN 'status' ELSE 'only_here' END,
           x.kind, NULL, x.reference, x.order_id, x.payment_ref, x.refund_ref, NULL, x.amount, x.currency,
           CASE WHEN x.at >= checked.covers_to - late THEN 'the next statement'
                WHEN x.is_ours THEN 'reverse_refund' WHEN x.amount > 0 THEN 'the gateway' ELSE 'reverse_chargeback' END,
           false
      FROM order_timeout._missing_in_statements($1, looks_from, checked.covers_to) x
     -- Asked once, before that is looked for.
     WHERE (SELECT order_timeout._progress('check_statement', 2))
     ORDER BY 3, 2, 4;
    PERFORM order_timeout._progress('check_statement', 0);
END
$$;
COMMENT ON FUNCTION check_statement(text, text, interval) IS
'A row for each difference between a statement and our rows: only_there, only_here, amount, currency, status (went back there and is open here, or the other way round), elsewhere (here it is of another order or payment), twice, too_early (here, and younger than lag at the end of the statement: the next one may have it). there and here are amounts in minor units, signed as in the statement. resolved_by: what resolves it; applies: apply_statement does. A WARNING names the time since the statement before that none covers. Errors: 22023 not loaded, or a wrong lag; 22004. Locks: none.';

CREATE FUNCTION statement_totals(gateway text, statement text)
RETURNS TABLE (currency text, lines bigint, payments bigint, refunds bigint, chargebacks bigint, chargebacks_reversed bigint,
               fees bigint, other bigint, total bigint, stated bigint, missing bigint, agreed bigint, differing bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
BEGIN
    PERFORM order_timeout._begin_matching('statement_totals', $1, $2);
    RETURN QUERY
    SELECT coalesce(s.currency, t.key), coalesce(s.lines, 0), coalesce(s.payments, 0), coalesce(s.refunds, 0), coalesce(s.chargebacks, 0),
           coalesce(s.chargebacks_reversed, 0), coalesce(s.fees, 0), coalesce(s.other, 0), coalesce(s.total, 0), t.value::bigint,
           t.value::bigint - coalesce(s.total, 0), coalesce(s.agreed, 0), coalesce(s.differing, 0)
      FROM (SELECT m.currency, count(*) AS lines,
                   (sum(m.amount) FILTER (WHERE m.kind = 'payment'))::bigint AS payments, (sum(m.amount) FILTER (WHERE m.kind = 'refund'))::bigint AS refunds,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback'))::bigint AS chargebacks,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback_reversed'))::bigint AS chargebacks_reversed,
                   (sum(m.amount) FILTER (WHERE m.kind = 'fee'))::bigint AS fees, (sum(m.amount) FILTER (WHERE m.kind = 'other'))::bigint AS other,
                   sum(m.amount)::bigint AS total, (sum(m.amount) FILTER (WHERE m.problem IS NULL))::bigint AS agreed,
                   (sum(m.amount) FILTER (WHERE m.problem IS NOT NULL))::bigint AS differing
              FROM order_timeout._statement_matches($1, $2) m GROUP BY m.currency) s
      FULL JOIN jsonb_each_text(coalesce(checked.totals, '{}')) t ON t.key = s.currency
     ORDER BY 1;
    PERFORM order_timeout._progress('statement_totals', 0);
END
$$;
COMMENT ON FUNCTION statement_totals(text, text) IS
'A row for each currency of a statement, in minor units: the sums of its lines by kind, their total, what the gateway stated, and what is missing to that (0: it adds up; null: nothing was stated). agreed and differing add up to total: lines without and with a difference; a fee agrees. Errors: 22023 not loaded; 22003; 22004. Locks: none.';

-- Applying.

CREATE FUNCTION _apply_line(gateway text, statement text, line bigint, kind text, plays text, order_id text, payment_ref text, refund_ref text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l order_timeout.statement_lines;
    answer text;
    done boolean := true;
    attempt text;
BEGIN
    -- Two sessions that apply the same statement take turns.
    SELECT s.* INTO l FROM order_timeout.statement_lines s
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4 FOR UPDATE;
    IF NOT FOUND OR l.applied_at IS NOT NULL THEN
        RETURN false;
    END IF;
    BEGIN
        CASE $5
        WHEN 'record_payment' THEN
            SELECT a.attempt_ref INTO attempt FROM order_timeout.attempts a WHERE a.gateway = $1 AND a.attempt_ref = l.our_reference;
            SELECT x.outcome INTO answer FROM order_timeout.record_payment($6, $1, l.reference, l.amount, l.currency, l.at,
                jsonb_build_object('statement', $2, 'line', l.line), attempt) x;
        WHEN 'record_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.record_refund($1, $7, l.reference, - l.amount,
                CASE l.kind WHEN 'chargeback' THEN 'chargeback' ELSE 'external' END, l.currency) x;
        WHEN 'complete_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.complete_refund($8, 'succeeded', gateway_refund_ref => l.reference,
                refunded_amount => - l.amount) x;
        WHEN 'reverse_chargeback' THEN
            SELECT x.outcome INTO answer FROM order_timeout.reverse_chargeback($1, l.reference, format('statement %s, line %s', $2, l.line)) x;
        END CASE;
        -- Asked again now that the call has the order's lock: a webhook may have reported the same money meanwhile, under a number
        -- that no statement has. Then the call is undone.
        IF $5 IN ('record_payment', 'record_refund') AND order_timeout._may_be_known($1, l.kind, $6, $7, l.amount) THEN
            RAISE EXCEPTION 'this money may be known under another number' USING ERRCODE = 'OT003';
        END IF;
        -- A chargeback that was won in part came with this statement, so that check_statement could not compare it.
        IF $5 = 'reverse_chargeback' AND EXISTS (SELECT FROM order_timeout.refunds r
                                                  WHERE r.gateway_refund_ref = l.reference AND r.gateway = $1
                                                    AND (r.amount <> l.amount OR r.currency <> l.currency)) THEN
            RAISE EXCEPTION 'the chargeback is of another amount' USING ERRCODE = 'OT003';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE IN ('40001', '40P01') THEN
            RAISE;
        END IF;
        answer := SQLSTATE || ': ' || SQLERRM;
        done := false;
    END;
    UPDATE order_timeout.statement_lines s
       SET outcome = $5 || ': ' || answer, applied_at = CASE WHEN done THEN clock_timestamp() END
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4;
    RETURN done;
END
$$;
COMMENT ON FUNCTION _apply_line(text, text, bigint, text, text, text, text, text) IS
'Makes the call that a line of a statement stands for, and notes its outcome. Used by apply_statement.';

-- It commits, so it can have no SET search_path: each name and operator is qualified. The loop keeps its rows over a commit.
-- The calls of a payment come one after the other, in the sequence of their names: payments before chargebacks before those that
-- were won. There is no commit between them, or a worker would return what the next line says is back already. A batch locks
-- several orders, so they come by their ids, as in each transaction that locks several. Of an order the file's first payment
-- comes first.
CREATE PROCEDURE apply_statement(gateway text, statement text, batch_size integer DEFAULT 100)
LANGUAGE plpgsql AS $$
DECLARE
    difference pg_catalog.record;
    seen pg_catalog.int8 := 0;
    applied pg_catalog.int8 := 0;
    uncommitted pg_catalog.int8 := 0;
    last_payment pg_catalog.text := '';
    size pg_catalog.int4 := COALESCE(batch_size, 100);
BEGIN
    PERFORM order_timeout._require_statement(apply_statement.gateway, apply_statement.statement);
    IF size OPERATOR(pg_catalog.<) 1 OR size OPERATOR(pg_catalog.>) 10000 THEN
        RAISE EXCEPTION 'invalid batch_size: %', size USING ERRCODE = '22023', HINT = 'Use 1 to 10000.';
    END IF;
    PERFORM order_timeout._begin_matching('apply_statement', apply_statement.gateway, apply_statement.statement);
    FOR difference IN
        SELECT m.*, pg_catalog.count(*) OVER () AS differences FROM order_timeout._statement_matches(apply_statement.gateway, apply_statement.statement) m
         WHERE m.plays IS NOT NULL
         ORDER BY pg_catalog.min(m.order_id COLLATE pg_catalog."C") OVER (PARTITION BY m.payment_ref), m.payment_ref IS NULL,
                  pg_catalog.min(m.line) OVER (PARTITION BY m.payment_ref), m.payment_ref, m.plays, m.line
    LOOP
        IF seen OPERATOR(pg_catalog.=) 0 THEN
            PERFORM order_timeout._progress('apply_statement', 2, difference.differences);
        END IF;
        IF uncommitted OPERATOR(pg_catalog.>=) size
           AND (difference.payment_ref IS NULL OR difference.payment_ref OPERATOR(pg_catalog.<>) last_payment) THEN
            COMMIT;
            RAISE NOTICE '% lines seen, % applied', seen, applied;
            uncommitted := 0;
        END IF;
        last_payment := COALESCE(difference.payment_ref, '');
        uncommitted := uncommitted OPERATOR(pg_catalog.+) 1;
        seen := seen OPERATOR(pg_catalog.+) 1;
        IF order_timeout._apply_line(apply_statement.gateway, apply_statement.statement, difference.line, difference.kind, difference.plays,
                                     difference.order_id, difference.payment_ref, difference.refund_ref) THEN
            applied := applied OPERATOR(pg_catalog.+) 1;
        END IF;
        PERFORM order_timeout._progress_row(2);
    END LOOP;
    PERFORM order_timeout._progress('apply_statement', 0);
    COMMIT;
    RAISE NOTICE '% lines seen, % applied, all done', seen, applied;
END
$$;
COMMENT ON PROCEDURE apply_statement(text, text, integer) IS
'Makes the calls that the differences of a statement stand for, as far as that is safe: record_payment, complete_refund, record_refund and reverse_chargeback, in batches of batch_size, and what belongs to their last payment, with a commit each; a NOTICE says how far it is. What it did, or why it could not, is the outcome of the line. Safe to repeat: a line that was applied is not applied again. Called alone: 2D000 inside a transaction block or a function. Errors: 22023 not loaded, or a wrong batch_size; 40P01, 40001: call it again, what was committed stays; 22004. Locks: the line, then those of the calls, orders by their id.';

REVOKE ALL ON FUNCTION statement_layout(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _field(text[], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION _first_field(text[], integer[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _csv_records(text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION _quotes_fit(text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _bad_line(bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _warn_about_statement(statements) FROM PUBLIC;
REVOKE ALL ON FUNCTION _layout_columns(jsonb, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION _summary_totals(text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_statement(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _require_loadable(text, text, jsonb, text, timestamptz, timestamptz, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION load_statement(text, text, jsonb, text, timestamptz, timestamptz, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION unload_statement(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _may_be_known(text, text, text, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION _came_back(text, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION _statement_matches(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _begin_matching(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _missing_in_statements(text, timestamptz, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION check_statement(text, text, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION statement_totals(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _apply_line(text, text, bigint, text, text, text, text, text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE apply_statement(text, text, integer) FROM PUBLIC;

-- pg_cron lives in one database. From another one its functions cannot be called, but a line can be named that does
-- the same there. Jobs differ by name and role only, so the name says which database they are for. Where its setting is
-- hidden from the caller, the row of its launcher still shows which database it is.
CREATE OR REPLACE FUNCTION _require_pg_cron(line text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM pg_settings s WHERE s.name = 'cron.database_name' AND s.setting = current_database())
          OR EXISTS (SELECT FROM pg_stat_activity a
                      WHERE a.application_name = 'pg_cron scheduler' AND a.datname = current_database()) THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The server has loaded it for this database, and the extension was not created.',
                  HINT = 'CREATE EXTENSION pg_cron;';
    ELSE
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It lives in one database, the one that cron.database_name names, and needs to be in shared_preload_libraries.',
                  HINT = 'Run in that database: ' || line;
    END IF;
END
$$;
COMMENT ON FUNCTION _require_pg_cron(text) IS
'Raises 55000 with a line to run, here or elsewhere, if pg_cron is not in this database. Used by schedule_sweeper, schedule_refunds and unschedule_sweeper.';

-- pg_cron answers as if all were well even when its job can never run. What can be seen of that from here is said, and
-- what cannot be seen as this role is said too.
CREATE FUNCTION _warn_about_job(jobid bigint, routine text, look text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    workers CONSTANT text := 'Run as a superuser: ALTER SYSTEM SET cron.use_background_workers = on; then restart the server.';
    setting CONSTANT jsonb := (SELECT jsonb_object_agg(s.name, s.setting) FROM pg_settings s WHERE s.name LIKE 'cron.%');
    host CONSTANT text := setting ->> 'cron.host';
    by_socket CONSTANT boolean := host = '' OR host ~ '^[/@]';
    way_in text;
BEGIN
    IF NOT (SELECT r.rolcanlogin FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE WARNING 'job % cannot run: role "%" may not log in', jobid, current_user
            USING HINT = format('ALTER ROLE %I LOGIN;', current_user);
    END IF;
    IF NOT has_function_privilege(routine, 'EXECUTE') THEN
        RAISE WARNING 'job % cannot run: role "%" may not call %', jobid, current_user, routine
            USING HINT = format('SELECT order_timeout.grant_access(%L, ''operator'');', current_user);
    END IF;
    -- Its name is shown to every role, its type is not.
    IF NOT EXISTS (SELECT FROM pg_stat_activity a
                    WHERE a.backend_type = 'pg_cron launcher' OR a.application_name = 'pg_cron scheduler') THEN
        RAISE WARNING 'job % cannot run: pg_cron''s launcher is not there', jobid
            USING HINT = 'Restart the server, if it did not start some seconds ago. If the launcher is still not there, the server''s log says why, for example that the database of cron.database_name does not exist.';
    END IF;
    IF setting ->> 'cron.launch_active_jobs' = 'off' THEN
        RAISE WARNING 'job % cannot run: cron.launch_active_jobs is off', jobid
            USING HINT = 'ALTER SYSTEM SET cron.launch_active_jobs = on; SELECT pg_reload_conf();';
    END IF;

    IF setting ->> 'cron.use_background_workers' = 'on' THEN
        RETURN;
    ELSIF host IS NULL THEN
        RAISE NOTICE 'role "%" cannot see whether pg_cron is able to start job %', current_user, jobid
            USING DETAIL = 'cron.use_background_workers, cron.host and pg_hba.conf are shown to superusers only.',
                  HINT = look || ' If it does not: ' || workers;
        RETURN;
    ELSIF NOT has_table_privilege('pg_hba_file_rules', 'SELECT') OR NOT has_function_privilege('pg_hba_file_rules()', 'EXECUTE')
          OR NOT by_socket AND host NOT IN ('localhost', '127.0.0.1', '::1') THEN
        RAISE NOTICE 'pg_cron starts job % by connecting to "%" as role "%"', jobid, host, current_user
            USING DETAIL = 'Whether that role is let in there without a password cannot be seen from here.',
                  HINT = look || ' If it does not: ' || workers;
        RETURN;
    END IF;
    -- The first line that speaks of such a connection decides.
    SELECT r.auth_method INTO way_in
      FROM pg_hba_file_rules() WITH ORDINALITY r
     WHERE r.error IS NULL AND r.database && ARRAY['all', current_database()::text] AND r.user_name && ARRAY['all', current_user::text]
       AND CASE WHEN by_socket THEN r.type = 'local'
                ELSE r.type IN ('host', 'hostnossl', 'hostssl')
                     AND r.address IN ('all', 'localhost', 'samehost', 'samenet', '127.0.0.1', '127.0.0.0', '::1', '0.0.0.0', '::') END
     ORDER BY r.ordinality LIMIT 1;
    IF way_in = 'trust' OR way_in = 'peer' AND current_user = (SELECT r.rolname FROM pg_roles r WHERE r.oid = 10) THEN
        RETURN;    -- peer: the server runs as the operating system user of that name, as a rule
    END IF;
    RAISE WARNING 'pg_cron starts job % by connecting to "%" as role "%", and pg_hba.conf %', jobid, host, current_user,
        coalesce('asks for ' || way_in, 'has no line for that')
        USING DETAIL = 'Whether the server finds a password in a file .pgpass cannot be seen from here.',
              HINT = workers || ' ' || look;
END
$$;
COMMENT ON FUNCTION _warn_about_job(bigint, text, text) IS
'Raises a WARNING for what keeps a job of pg_cron from running, and a NOTICE for what the caller''s role cannot see. Used by schedule_sweeper and schedule_refunds.';

CREATE FUNCTION _schedule_job(job_name text, schedule text, command text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._require_pg_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
                                                  job_name || ' in ' || current_database(), schedule, command, current_database()));
    RETURN order_timeout._call_pg_cron('SELECT cron.schedule($1[1], $1[2], $1[3])', job_name, schedule, command);
END
$$;
COMMENT ON FUNCTION _schedule_job(text, text, text) IS
'Puts a command into pg_cron and answers the job''s number; 55000 with the line to run if pg_cron is not here. Used by schedule_sweeper and schedule_refunds.';

CREATE OR REPLACE FUNCTION schedule_sweeper(
    OUT jobid bigint, INOUT schedule text DEFAULT NULL, IN job_name text DEFAULT 'order_timeout', OUT command text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    schedule := coalesce(schedule, '* * * * *');
    -- A lone CALL: pg_cron runs several statements as one transaction, in which it could not commit.
    command := 'CALL order_timeout.sweep()';
    jobid := order_timeout._schedule_job(coalesce(job_name, 'order_timeout'), schedule, command);
    PERFORM order_timeout._warn_about_job(jobid, 'order_timeout.sweep(interval, integer, interval)',
                                          'Look whether last_sweep moves within two minutes: SELECT last_sweep FROM order_timeout.health;');
END
$$;
COMMENT ON FUNCTION schedule_sweeper(text, text) IS
'Puts CALL order_timeout.sweep() into pg_cron under job_name, or changes its schedule; safe to repeat. schedule: pg_cron''s words, null for every minute (each run works through its minute, so closing does not wait for the tick). A WARNING says what keeps the job from running, a NOTICE what cannot be seen as this role; the HINT is what to do. Errors: 55000 with the line to run when pg_cron is elsewhere, not created or not loaded; pg_cron''s own for a bad schedule.';
REVOKE ALL ON FUNCTION _warn_about_job(bigint, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _schedule_job(text, text, text) FROM PUBLIC;

-- These call functions that have a new name.
CREATE OR REPLACE FUNCTION unschedule_sweeper(job_name text DEFAULT 'order_timeout', OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_job bigint;
BEGIN
    job_name := coalesce(job_name, 'order_timeout');
    PERFORM order_timeout._require_pg_cron(format('SELECT cron.unschedule(%L);', job_name || ' in ' || current_database()));
    EXECUTE 'SELECT j.jobid FROM cron.job j WHERE j.jobname = $1 AND j.username = current_user' INTO found_job USING job_name;
    IF found_job IS NULL THEN
        outcome := 'not_scheduled';
        RETURN;
    END IF;
    PERFORM order_timeout._call_pg_cron('SELECT cron.unschedule($1[1]::bigint)::integer::bigint', found_job::text);
    outcome := 'unscheduled';
END
$$;

CREATE OR REPLACE FUNCTION grant_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._change_access('GRANT %s TO %I', role_name, access);
    outcome := 'granted';
END
$$;

CREATE OR REPLACE FUNCTION revoke_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._change_access('REVOKE %s FROM %I', role_name, access);
    outcome := 'revoked';
END
$$;

-- One order's story, for people.

CREATE FUNCTION _amount(amount bigint, currency text) RETURNS text
AS 'MODULE_PATHNAME', 'ot_amount' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION _amount(bigint, text) IS
'An amount of minor units as people write it, "12.34 EUR". Errors: 22023. Locks: none. Used by timeline and attention.';

-- An orphan that was given to the order has its first events under the order_id that the gateway reported.
CREATE FUNCTION _timeline_events(order_id text) RETURNS SETOF events
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.* FROM order_timeout.history(order_id) h
    UNION ALL
    SELECT e.* FROM order_timeout.payments p JOIN order_timeout.events e ON e.aggregateid = p.told_order_id
     WHERE p.order_id = _timeline_events.order_id
       AND e.payload ->> 'gateway' = p.gateway AND e.payload ->> 'payment_ref' = p.payment_ref
$$;
COMMENT ON FUNCTION _timeline_events(text) IS
'The events of an order, with those of its payments from before they were given to it. Errors: 22023, 22004. Locks: none. Used by timeline.';

-- The order's sums after each event, added up from the events alone. Of a payment the latest event says whether it counts
-- and whether it is held; of a refund, how much is owed or back. What is held is all of a held payment that no refund has.
CREATE FUNCTION _timeline_money(order_id text)
RETURNS TABLE (event_id bigint, paid bigint, refunded bigint, refund_pending bigint, held bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e record;
    payments jsonb := '{}';         -- by gateway and payment_ref: amount, disposition, refunded, refund_pending
    refunds jsonb := '{}';          -- by refund_ref: amount, and in which of the two sums it is
    is_paid boolean := false;
    this text;
    payment record;
    refund record;
BEGIN
    paid := 0; refunded := 0; refund_pending := 0; held := 0;
    FOR e IN SELECT t.id, t.type, t.payload FROM order_timeout._timeline_events(_timeline_money.order_id) t ORDER BY t.id LOOP
        IF e.type LIKE 'order.%' AND e.payload ? 'state' THEN
            is_paid := e.payload ->> 'state' = 'paid';
        END IF;
        this := concat_ws(E'\n', e.payload ->> 'gateway', e.payload ->> 'payment_ref');
        SELECT p.* INTO payment
          FROM jsonb_to_record(coalesce(payments -> this, '{}')) AS p (amount bigint, disposition text, refunded bigint, refund_pending bigint);
        payment.refunded := coalesce(payment.refunded, 0);
        payment.refund_pending := coalesce(payment.refund_pending, 0);
        IF e.payload ? 'disposition' OR e.payload ? 'payment_amount' THEN
            payment.amount := coalesce(e.payload ->> 'payment_amount', e.payload ->> 'amount');
            payment.disposition := coalesce(e.payload ->> 'disposition', 'applied');
        ELSIF e.type LIKE 'refund.%' AND e.payload ? 'state' THEN
            -- What comes back to a paid order is kept, also if it had been held; unless more of the payment waits for a decision.
            IF e.payload ->> 'state' = 'reversed' AND e.payload ->> 'reason' IN ('external', 'chargeback') AND is_paid
               AND payment.disposition = 'held' AND payment.amount = payment.refunded + payment.refund_pending THEN
                payment.disposition := 'applied';
            END IF;
            SELECT r.* INTO refund FROM jsonb_to_record(coalesce(refunds -> (e.payload ->> 'refund_ref'), '{}')) AS r (owed bigint, back bigint);
            payment.refund_pending := payment.refund_pending - coalesce(refund.owed, 0);
            payment.refunded := payment.refunded - coalesce(refund.back, 0);
            refund.owed := CASE WHEN e.payload ->> 'state' NOT IN ('succeeded', 'reversed') THEN e.payload ->> 'amount' END;
            refund.back := CASE WHEN e.payload ->> 'state' = 'succeeded' THEN e.payload ->> 'amount' END;
            payment.refund_pending := payment.refund_pending + coalesce(refund.owed, 0);
            payment.refunded := payment.refunded + coalesce(refund.back, 0);
            refunds := jsonb_set(refunds, ARRAY[e.payload ->> 'refund_ref'], to_jsonb(refund));
        END IF;
        IF e.payload ? 'disposition' OR e.payload ? 'payment_amount' OR (e.type LIKE 'refund.%' AND e.payload ? 'state') THEN
            payments := jsonb_set(payments, ARRAY[this], to_jsonb(payment));
            SELECT coalesce(sum(p.amount), 0), coalesce(sum(p.refunded), 0), coalesce(sum(p.refund_pending), 0),
                   coalesce(sum(p.amount - p.refunded - p.refund_pending) FILTER (WHERE p.disposition = 'held'), 0)
              INTO paid, refunded, refund_pending, held
              FROM jsonb_each(payments) AS x, jsonb_to_record(x.value) AS p (amount bigint, disposition text, refunded bigint, refund_pending bigint)
             WHERE p.disposition NOT IN ('orphan', 'wrong_currency', 'uncounted');
        END IF;
        event_id := e.id;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _timeline_money(text) IS
'An order''s sums after each of its events, added up from the events. Errors: 22023, 22004. Locks: none. Used by timeline.';

CREATE FUNCTION _timeline_step(type text, payload jsonb, at timestamptz, closed_at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    what CONSTANT text := split_part(type, '.', 2);
    state CONSTANT text := payload ->> 'state';
    tries CONSTANT integer := payload ->> 'attempts';
    -- Payloads go on with the last error: it is shown where it is new.
    said CONSTANT text := ': ' || nullif(coalesce(payload ->> 'problem',
        CASE WHEN what IN ('failed', 'unknown', 'rejected', 'deferred', 'lease_lapsed', 'needs_attention', 'stopped', 'set_aside', 'follow_up_failed')
             THEN payload ->> 'error' ELSE payload ->> 'note' END), '');
    amount CONSTANT text := order_timeout._amount(
        coalesce(payload ->> 'payment_amount', payload ->> 'authorized', payload ->> 'amount')::bigint, payload ->> 'currency');
    again CONSTANT text := CASE WHEN state = 'needs_attention' THEN ', needs attention' ELSE
        ', again in ' || date_trunc('second', coalesce(payload ->> 'next_attempt_at', payload ->> 'retry_at')::timestamptz - at)::text END;
    deadline CONSTANT text := date_trunc('second', (payload ->> 'expires_at')::timestamptz)::timestamp;
    payment CONSTANT text := concat('payment ', payload ->> 'payment_ref', CASE WHEN what <> 'conflict' THEN ' of ' || amount END);
    attempt CONSTANT text := concat('attempt ', payload ->> 'attempt_ref', ' at ', payload ->> 'gateway');
    refund CONSTANT text := concat('refund ', left(payload ->> 'refund_ref', 9));
    -- A try that has ended is counted.
    ended CONSTANT text := concat(CASE WHEN what NOT IN ('submitted', 'deferred', 'retried', 'due') THEN concat('try ', tries, ' ') END,
                                  replace(what, '_', ' '), again, said);
    late CONSTANT text := CASE WHEN payload ? 'late_reason' THEN
        concat(' arrived ' || date_trunc('second', at - closed_at)::text || ' after closing',
               CASE WHEN payload ->> 'late_reason' = 'notified_late' THEN ', paid in time' END) END;
    follow_up CONSTANT text := CASE WHEN payload ->> 'kind' = 'link' THEN 'linked row' ELSE concat('hook ', payload ->> 'kind') END;
BEGIN
    RETURN CASE split_part(type, '.', 1)
    WHEN 'order' THEN CASE what
        WHEN 'created' THEN concat('created: ', amount, ', to be paid by ', deadline)
        WHEN 'paid' THEN CASE WHEN payload ? 'payment_ref' THEN concat(payment, ': paid') ELSE 'paid' END
        WHEN 'accepted_short' THEN concat('less than its amount was accepted', said)
        WHEN 'reopened' THEN CASE WHEN payload ? 'payment_ref' THEN concat(payment, late, ': reopened and paid')
                                  ELSE concat('reopened, to be paid by ', deadline) END
        WHEN 'extended' THEN concat('extended, to be paid by ', deadline)
        WHEN 'changed' THEN concat('changed: ', state, ', ', amount, ', to be paid by ', deadline)
        WHEN 'authorized' THEN concat(attempt, ' authorised ', amount, ': may be shipped')
        WHEN 'closing' THEN 'due: its attempts are ended first'
        WHEN 'due_soon' THEN concat('reminder: due at ', deadline)
        WHEN 'expired' THEN 'expired: not paid in time'
        WHEN 'cancelled' THEN concat('cancelled', ': ' || nullif(payload ->> 'reason', ''))
        WHEN 'forgotten' THEN 'forgotten: its texts were emptied'
        WHEN 'set_aside' THEN concat('not closed, failure ', payload ->> 'failures', again, said)
        WHEN 'follow_up_failed' THEN concat(follow_up, ' failed, failure ', payload ->> 'failures', said)
        WHEN 'followed_up' THEN concat(follow_up, ' done after ', payload ->> 'failures', ' failures')
        WHEN 'follow_up_resolved' THEN concat(follow_up, ' resolved by hand', said)
        ELSE what END
    WHEN 'attempt' THEN CASE what
        WHEN 'begun' THEN concat(attempt, ' begun')
        WHEN 'authorized' THEN concat(attempt, ' authorised ', amount, ': ', payload ->> 'outcome')
        ELSE concat(attempt, ' ', what, ': ', state) END
    WHEN 'void' THEN concat('void of ', attempt, ': ', CASE what
        WHEN 'claimed' THEN concat('try ', tries + 1, ' claimed')
        WHEN 'voided' THEN 'it brings nothing more'
        WHEN 'paid' THEN 'it was paid'
        WHEN 'due' THEN 'due'
        ELSE ended END)
    WHEN 'payment' THEN concat(payment, CASE what
        WHEN 'partial' THEN ': a part'
        WHEN 'surplus' THEN concat(late, ': a surplus')
        WHEN 'wrong_currency' THEN ': not in the order''s currency'
        WHEN 'late' THEN concat(late, ': goes back')
        WHEN 'held' THEN concat(late, ': held for a decision')
        WHEN 'orphan' THEN ': no such order'
        WHEN 'accepted' THEN ': accepted after all'
        WHEN 'given_back' THEN ' was held: goes back'
        WHEN 'conflict' THEN ': contradiction'
        ELSE concat(': ', replace(what, '_', ' ')) END, said)
    WHEN 'refund' THEN concat(refund, CASE what
        WHEN 'created' THEN concat(' of ', amount, ' owed: ', replace(payload ->> 'reason', '_', ' '), said)
        WHEN 'recorded' THEN concat(' of ', amount, ' went back without us: ', payload ->> 'reason', said)
        WHEN 'succeeded' THEN concat(' of ', amount, ': back with the buyer')
        WHEN 'settled' THEN concat(' of ', amount, ': paid out by hand', said)
        WHEN 'claimed' THEN concat(': try ', tries + 1, ' claimed')
        WHEN 'set_aside' THEN concat(': not handed out, failure ', payload ->> 'failures', again, said)
        WHEN 'retried' THEN ': tried again'
        WHEN 'reversed' THEN concat(': reversed', said)
        WHEN 'withdrawn' THEN concat(': withdrawn', said)
        WHEN 'stopped' THEN coalesce(said, ': stopped')
        WHEN 'conflict' THEN concat(': contradiction', said)
        WHEN 'needs_attention' THEN concat(': needs attention', said)
        ELSE concat(': ', ended) END)
    ELSE concat(replace(type, '.', ' '), ' ', payload ->> 'conflict_id', said)
    END;
END
$$;
COMMENT ON FUNCTION _timeline_step(text, jsonb, timestamptz, timestamptz) IS
'An event in words. Errors: 22023. Locks: none. Used by timeline.';

CREATE FUNCTION timeline(order_id text)
RETURNS TABLE (at timestamptz, after interval, step text, who text, amount bigint, currency text,
               paid bigint, refunded bigint, refund_pending bigint, held bigint, kept bigint, event_id bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH e AS MATERIALIZED (
        SELECT t.id, t.type, t.payload, t.created_at, t.xid, t.aggregateid = timeline.order_id AS is_own,
               max(t.created_at) FILTER (WHERE t.type IN ('order.expired', 'order.cancelled')) OVER (ORDER BY t.id) AS closed_at
          FROM order_timeout._timeline_events(timeline.order_id) t
    ), money AS (
        -- One call may write several events: each of them has the sums that the call left.
        SELECT m.event_id, last_value(m.paid) OVER call AS paid, last_value(m.refunded) OVER call AS refunded,
               last_value(m.refund_pending) OVER call AS refund_pending, last_value(m.held) OVER call AS held,
               last_value((m.paid, m.refunded, m.refund_pending, m.held)) OVER (ORDER BY m.event_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS ended
          FROM order_timeout._timeline_money(timeline.order_id) m JOIN e ON e.id = m.event_id
        WINDOW call AS (PARTITION BY e.xid, e.created_at ORDER BY m.event_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    ), deadlines AS (
        SELECT o.id, o.expires_at FROM (
            SELECT e.id, e.created_at, (e.payload ->> 'expires_at')::timestamptz AS expires_at, e.payload ->> 'state' AS state,
                   lead(e.created_at, 1, clock_timestamp()) OVER (ORDER BY e.id) AS until
              FROM e WHERE e.payload ? 'expires_at') o
         WHERE o.state IN ('pending', 'authorized', 'closing') AND o.expires_at > o.created_at AND o.expires_at <= o.until
    ), steps AS (
        SELECT e.id, false AS is_deadline, e.created_at AS at, 
               regexp_replace(order_timeout._timeline_step(e.type, e.payload, e.created_at, e.closed_at), '[[:cntrl:]]+', ' ', 'g') AS step,
               coalesce(nullif(concat_ws(' as ', e.payload ->> 'session_user', nullif(e.payload ->> 'role', e.payload ->> 'session_user')), ''),
                        e.payload ->> 'worker') AS who,
               coalesce(e.payload ->> 'payment_amount', e.payload ->> 'authorized',
                        CASE WHEN e.type NOT LIKE 'order.%' OR e.type IN ('order.created', 'order.changed') THEN e.payload ->> 'amount' END)::bigint AS amount,
               e.payload ->> 'currency' AS currency, e.id AS event_id
          FROM e
        UNION ALL
        SELECT (SELECT max(e.id) FROM e WHERE e.id >= d.id AND e.created_at < d.expires_at), true, d.expires_at, 'the deadline passed', NULL, NULL, NULL, NULL
          FROM deadlines d
    )
    SELECT date_trunc('milliseconds', s.at), date_trunc('milliseconds', s.at - lag(s.at) OVER story),
           CASE WHEN length(s.step) > 76 THEN left(s.step, 73) || '...' ELSE s.step END, s.who, s.amount, CASE WHEN s.amount IS NOT NULL THEN s.currency END,
           m.paid, m.refunded, m.refund_pending, m.held, m.paid - m.refunded - m.refund_pending - m.held, s.event_id
      FROM steps s LEFT JOIN order_timeout.orders o ON o.order_id = timeline.order_id
      LEFT JOIN money m ON m.event_id = s.id
           AND m.ended = (coalesce(o.paid, 0), coalesce(o.refunded, 0), coalesce(o.refund_pending, 0), coalesce(o.held, 0))
    WINDOW story AS (ORDER BY s.id, s.is_deadline)
     ORDER BY s.id, s.is_deadline
$$;
COMMENT ON FUNCTION timeline(text) IS
'One order''s story, a row for each step: when, how long after the step before, what happened in words, who did it, and the order''s money after the call that did it (minor units). The deadline is a step where it passed while the order was open. The sums are null where the events that are there do not lead to the order''s. No rows for an unknown order_id. Errors: 22023, 22004. Locks: none.';

REVOKE ALL ON FUNCTION _amount(bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _timeline_events(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _timeline_money(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION _timeline_step(text, jsonb, timestamptz, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION timeline(text) FROM PUBLIC;

-- Views and accesses, as they are at the end of all that.
-- Each part looks at 10000 rows at most, so that it takes a few milliseconds however much is open: ORDER BY goes along an
-- index, OFFSET 0 keeps a lookup for each row from becoming a join with all of the table.
CREATE OR REPLACE VIEW health AS
WITH open_orders AS (SELECT state, closes_at FROM orders WHERE settled_at IS NULL ORDER BY closes_at LIMIT 10000),
     owed AS (SELECT state, currency, count(*) AS n, sum(amount) AS amount, min(created_at) AS oldest
                FROM ((SELECT state, amount, currency, created_at FROM refunds
                        WHERE settled_at IS NULL AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 10000)
                      UNION ALL
                      (SELECT state, amount, currency, created_at FROM refunds
                        WHERE settled_at IS NULL AND next_attempt_at IS NULL LIMIT 10000)) x
               GROUP BY state, currency),
     voids AS (SELECT leased_until FROM attempts WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 10000),
     counts AS (
SELECT o.pending,
       o.overdue,
       o.oldest_overdue,
       r.refunds_by_state,
       m.owed_by_currency,
       r.oldest_refund_owed,
       r.refunds_needing_attention,
       (SELECT count(*) FROM (SELECT FROM payments p WHERE p.disposition = 'held' LIMIT 10000) x) AS payments_held,
       (SELECT count(*) FROM (SELECT FROM payments p
         WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending LIMIT 10000) x) AS payments_orphaned,
       (SELECT count(*) FROM (SELECT FROM set_aside s CROSS JOIN LATERAL (SELECT FROM orders so
         WHERE so.order_id = s.order_id AND so.settled_at IS NULL AND so.closes_at <= s.since OFFSET 0) y LIMIT 10000) x) AS orders_set_aside,
       (SELECT count(*) FROM (SELECT FROM conflicts c WHERE c.resolved_at IS NULL LIMIT 10000) x) AS conflicts_open,
       w.active_at AS last_sweep,
       w.behind AS last_sweep_lag,
       (SELECT count(*) FROM (SELECT FROM set_aside_refunds s CROSS JOIN LATERAL (SELECT FROM refunds sr
         WHERE sr.refund_ref = s.refund_ref AND sr.next_attempt_at = s.due_at OFFSET 0) y LIMIT 10000) x) AS refunds_set_aside,
       o.authorized,
       o.closing,
       v.voids_due,
       (SELECT count(*) FROM (SELECT FROM attempts a WHERE a.attention_at IS NOT NULL LIMIT 10000) x) AS voids_needing_attention,
       o.due_soon,
       coalesce(extract(epoch FROM o.oldest_overdue), 0)::double precision AS oldest_overdue_seconds,
       r.refunds_pending,
       r.refunds_processing,
       r.refunds_submitted,
       r.refunds_failed,
       r.refunds_unknown,
       coalesce(extract(epoch FROM r.oldest_refund_owed), 0)::double precision AS oldest_refund_owed_seconds,
       v.voids_processing,
       f.links_waiting,
       f.hooks_waiting,
       extract(epoch FROM clock_timestamp() - w.active_at)::double precision AS last_sweep_age_seconds,
       extract(epoch FROM w.behind)::double precision AS last_sweep_lag_seconds
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
             count(*) FILTER (WHERE closes_at <= clock_timestamp()) AS overdue,
             clock_timestamp() - min(closes_at) FILTER (WHERE closes_at <= clock_timestamp()) AS oldest_overdue,
             count(*) FILTER (WHERE state = 'authorized') AS authorized,
             count(*) FILTER (WHERE state = 'closing') AS closing,
             count(*) FILTER (WHERE state = 'pending' AND closes_at > clock_timestamp()
                                AND closes_at <= clock_timestamp() + interval '5 minutes') AS due_soon
        FROM open_orders) o
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.state, s.n), '{}') AS refunds_by_state,
                   clock_timestamp() - min(s.oldest) AS oldest_refund_owed,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'pending'), 0)::bigint AS refunds_pending,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'processing'), 0)::bigint AS refunds_processing,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'submitted'), 0)::bigint AS refunds_submitted,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'failed'), 0)::bigint AS refunds_failed,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'unknown'), 0)::bigint AS refunds_unknown,
                   coalesce(sum(s.n) FILTER (WHERE s.state = 'needs_attention'), 0)::bigint AS refunds_needing_attention
              FROM (SELECT state, sum(n) AS n, min(oldest) AS oldest FROM owed GROUP BY state) s) r
CROSS JOIN (SELECT coalesce(jsonb_object_agg(s.currency, s.owed), '{}') AS owed_by_currency
              FROM (SELECT currency, sum(amount) AS owed FROM owed GROUP BY currency) s) m
CROSS JOIN (SELECT count(*) AS voids_due, count(leased_until) AS voids_processing FROM voids) v
CROSS JOIN (SELECT count(*) FILTER (WHERE kind = 'link') AS links_waiting, count(*) FILTER (WHERE kind <> 'link') AS hooks_waiting
              FROM (SELECT kind FROM follow_ups LIMIT 10000) x) f
LEFT JOIN (SELECT active_at, behind FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w ON true)
SELECT c.*, p.problems = '{}' AS ok, p.problems
  FROM counts c
 CROSS JOIN LATERAL (SELECT ARRAY(
       SELECT q.problem || CASE WHEN q.counts THEN ': ' || q.n ELSE '' END
         FROM (VALUES (1, 'no sweep for two minutes', false,
                       (coalesce(c.last_sweep_age_seconds, c.oldest_overdue_seconds) > 120)::integer),
                      (2, 'orders overdue, the oldest for more than two minutes', true,
                       CASE WHEN c.oldest_overdue_seconds > 120 THEN c.overdue END),
                      (3, 'the oldest refund is owed for more than two days', false,
                       (c.oldest_refund_owed > interval '2 days')::integer),
                      (4, 'refunds that need attention', true, c.refunds_needing_attention),
                      (5, 'payments held', true, c.payments_held),
                      (6, 'orphan payments', true, c.payments_orphaned),
                      (7, 'orders set aside', true, c.orders_set_aside),
                      (8, 'refunds set aside', true, c.refunds_set_aside),
                      (9, 'open conflicts', true, c.conflicts_open),
                      (10, 'voids that need attention', true, c.voids_needing_attention),
                      (11, 'linked rows not written', true, c.links_waiting),
                      (12, 'hooks that failed', true, c.hooks_waiting)) q(place, problem, counts, n)
        WHERE q.n > 0 ORDER BY q.place) AS problems) p;
CREATE OR REPLACE VIEW attention AS
SELECT 'needs_attention' AS kind, r.order_id, r.gateway, r.payment_ref, r.refund_ref, NULL::bigint AS conflict_id,
       r.amount, r.currency, r.attention_at AS since,
       CASE WHEN r.last_error LIKE 'stopped:%' THEN format('%s (%s)', r.last_error, w.story)
            ELSE concat(w.story, ', last: ' || nullif(r.last_error, ''), ': ' || nullif(r.note, '')) END AS why,
       -- The ids in it are COLLATE "C", and the column keeps the collation that it has had. What was stopped may have gone back: to send it again is the last thing to think of.
       CASE WHEN r.last_error LIKE 'stopped:%'
            THEN concat_ws(E'\n', t.complete, t.settle, t.reverse, t.retry)
            ELSE concat_ws(E'\n', t.retry, t.settle, t.reverse, t.complete) END COLLATE "default" AS resolved_by,
       NULL::text AS attempt_ref
  FROM refunds r LEFT JOIN orders o ON o.order_id = r.order_id
  LEFT JOIN policies y ON y.policy = coalesce(o.policy, 'default')
 CROSS JOIN LATERAL (SELECT format('%s, %s of %s attempts used', CASE r.reason
                                   WHEN 'late' THEN 'late payment' WHEN 'surplus' THEN 'surplus payment'
                                   WHEN 'wrong_currency' THEN 'payment in another currency'
                                   WHEN 'expired' THEN 'part payment of an expired order'
                                   WHEN 'cancelled' THEN 'part payment of a cancelled order'
                                   WHEN 'requested' THEN 'refund that was requested' WHEN 'orphan' THEN 'payment without an order'
                                   WHEN 'reversed' THEN 'refund that came back' ELSE r.reason END,
                                   r.attempts, y.refund_max_attempts) AS story) w
 CROSS JOIN LATERAL (SELECT format('SELECT * FROM order_timeout.retry_refund(refund_ref => %L);', r.refund_ref) AS retry,
                            format('SELECT * FROM order_timeout.settle_refund(refund_ref => %L, note => :''note'');', r.refund_ref) AS settle,
                            format('SELECT * FROM order_timeout.reverse_refund(refund_ref => %L, reason => :''reason'');', r.refund_ref) AS reverse,
                            format('SELECT * FROM order_timeout.complete_refund(refund_ref => %L, result => ''succeeded''); -- if the gateway says that it went back', r.refund_ref) AS complete) t
 WHERE r.settled_at IS NULL AND r.state = 'needs_attention'
UNION ALL
SELECT 'held', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.held, p.currency, p.held_at,
       coalesce('a late payment waits for a decision (' || p.late_reason || ')',
                'the order was closed before all of it was paid'),
       concat_ws(E'\n',
           format('SELECT * FROM order_timeout.resolve_held(gateway => %L, payment_ref => %L, decision => ''accept'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.resolve_held(gateway => %L, payment_ref => %L, decision => ''refund'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.accept_payment(gateway => %L, payment_ref => %L, note => :''note'');', p.gateway, p.payment_ref)) COLLATE "default", NULL
  FROM payments p WHERE p.disposition = 'held'
UNION ALL
SELECT 'orphan', p.order_id, p.gateway, p.payment_ref, NULL, NULL, p.amount - p.refunded - p.refund_pending, p.currency,
       p.received_at, 'no order with this id is known',
       concat_ws(E'\n',
           format('SELECT * FROM order_timeout.create_order(order_id => %L, amount => :amount, currency => %L);', p.order_id, p.currency),
           format('SELECT * FROM order_timeout.assign_orphan(gateway => %L, payment_ref => %L, order_id => :''order_id'');', p.gateway, p.payment_ref),
           format('SELECT * FROM order_timeout.refund_orphan(gateway => %L, payment_ref => %L);', p.gateway, p.payment_ref)) COLLATE "default", NULL
  FROM payments p WHERE p.disposition = 'orphan' AND p.amount > p.refunded + p.refund_pending
UNION ALL
SELECT 'set_aside', s.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, s.since,
       s.sqlstate || ': ' || s.error, concat_ws(E'\n',
           format('SELECT * FROM order_timeout.expire_order(order_id => %L); -- once the cause is mended; the sweeper tries again by itself', s.order_id),
           format('SELECT * FROM order_timeout.cancel_order(order_id => %L, reason => :''reason'');', s.order_id)) COLLATE "default", NULL
  FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
UNION ALL
SELECT 'set_aside', r.order_id, r.gateway, r.payment_ref, r.refund_ref, NULL, r.amount, r.currency, s.since,
       s.sqlstate || ': ' || s.error, format('SELECT * FROM order_timeout.complete_refund(refund_ref => %L, result => ''succeeded''); -- if it went back; workers get it again by itself, once the cause is mended', r.refund_ref) COLLATE "default", NULL
  FROM set_aside_refunds s JOIN refunds r ON r.refund_ref = s.refund_ref AND r.next_attempt_at = s.due_at
UNION ALL
SELECT 'conflict', c.order_id, c.gateway, c.payment_ref, c.refund_ref, c.conflict_id, c.amount, p.currency, c.created_at,
       c.problem,
       concat_ws(E'\n',
           CASE WHEN c.is_failure AND x.reason IN ('external', 'chargeback')
                THEN format('SELECT * FROM order_timeout.reverse_chargeback(gateway => %L, gateway_refund_ref => %L, note => :''note'', refund_ref => %L);', x.gateway, x.gateway_refund_ref, x.refund_ref)
                WHEN c.is_failure
                THEN format('SELECT * FROM order_timeout.reverse_refund(refund_ref => %L, reason => :''reason'');', c.refund_ref) END,
           format('SELECT * FROM order_timeout.resolve_conflict(conflict_id => %s, note => :''note'');', c.conflict_id)) COLLATE "default", NULL
  FROM conflicts c LEFT JOIN payments p ON p.gateway = c.gateway AND p.payment_ref = c.payment_ref
  LEFT JOIN refunds x ON x.refund_ref = c.refund_ref
 WHERE c.resolved_at IS NULL
UNION ALL
SELECT 'void', v.order_id, v.gateway, NULL, NULL, NULL, nullif(coalesce(v.authorized, 0) - v.captured, 0), v.currency, v.attention_at,
       CASE v.state WHEN 'captured' THEN 'the gateway reported paid, and no payment is recorded'
            ELSE format('void of an attempt, %s of %s attempts used%s', v.attempts, y.refund_max_attempts,
                        coalesce(', last: ' || nullif(v.last_error, ''), ': it was rejected, or tried too often')) END,
       CASE v.state WHEN 'captured' THEN concat_ws(E'\n',
                format('SELECT * FROM order_timeout.record_payment(order_id => %L, gateway => %L, payment_ref => :''payment_ref'', amount => :amount, currency => :''currency'', attempt_ref => %L);', v.order_id, v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.end_attempt(gateway => %L, attempt_ref => %L, result => ''cancelled''); -- if it brought nothing', v.gateway, v.attempt_ref))
            ELSE concat_ws(E'\n',
                format('SELECT * FROM order_timeout.retry_void(gateway => %L, attempt_ref => %L);', v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.complete_void(gateway => %L, attempt_ref => %L, result => ''voided'');', v.gateway, v.attempt_ref),
                format('SELECT * FROM order_timeout.end_attempt(gateway => %L, attempt_ref => %L, result => ''cancelled'');', v.gateway, v.attempt_ref)) END COLLATE "default",
       v.attempt_ref
  FROM attempts v LEFT JOIN orders o ON o.order_id = v.order_id LEFT JOIN policies y ON y.policy = o.policy
 WHERE v.attention_at IS NOT NULL
UNION ALL
SELECT 'link', f.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, f.since,
       f.sqlstate || ': ' || f.error, 
       format('SELECT * FROM order_timeout.resolve_link(order_id => %L, kind => ''link'', note => :''note''); -- or mend the cause: the sweeper tries again by itself', f.order_id) COLLATE "default", NULL
  FROM follow_ups f LEFT JOIN orders o ON o.order_id = f.order_id WHERE f.kind = 'link'
UNION ALL
SELECT 'hook', f.order_id, NULL, NULL, NULL, NULL, o.amount, o.currency, f.since,
       f.kind || ': ' || f.sqlstate || ': ' || f.error, 
       format('SELECT * FROM order_timeout.resolve_link(order_id => %L, kind => ''hook'', note => :''note''); -- or mend the cause: the sweeper tries again by itself', f.order_id) COLLATE "default", NULL
  FROM follow_ups f LEFT JOIN orders o ON o.order_id = f.order_id WHERE f.kind <> 'link'
UNION ALL
-- pg_cron's table may not be there, so no view can name it. query_to_xml reads it as the caller, if the caller may.
SELECT 'sweeper', NULL, NULL, NULL, NULL, NULL, NULL, NULL, coalesce(w.last_sweep, d.oldest),
       CASE WHEN w.last_sweep IS NULL THEN 'no sweep has run' ELSE 'no sweep has run since then' END
           || CASE WHEN d.oldest IS NULL THEN ', although pg_cron has a job for it' ELSE ', and orders are overdue' END,
       concat_ws(E'\n', 'SELECT * FROM order_timeout.schedule_sweeper(); -- says what keeps its job from running',
                        'CALL order_timeout.sweep(); -- called in another way') COLLATE "default", NULL
  FROM (SELECT (SELECT active_at FROM sweeps ORDER BY sweep_id DESC LIMIT 1) AS last_sweep) w
 CROSS JOIN (SELECT min(o.closes_at) AS oldest FROM orders o
              WHERE o.settled_at IS NULL AND o.closes_at <= clock_timestamp() - interval '2 minutes'
                AND NOT EXISTS (SELECT FROM set_aside s WHERE s.order_id = o.order_id AND o.closes_at <= s.since)) d
 WHERE coalesce(w.last_sweep, '-infinity') < clock_timestamp() - interval '2 minutes'
   AND (d.oldest IS NOT NULL
        OR (SELECT CASE WHEN has_schema_privilege(j.relnamespace, 'USAGE') AND has_table_privilege(j.oid, 'SELECT')
                        THEN query_to_xml($$SELECT true AS found FROM cron.job j
                             WHERE j.active AND j.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
                               AND j.command OPERATOR(pg_catalog.~) 'order_timeout\.sweep\('
                               AND j.schedule OPERATOR(pg_catalog.~) '^(\*(/1)? \* \* \* \*|\d+ seconds?)$'$$, true, true, '')::text <> '' END
              FROM pg_extension e
              JOIN pg_depend x ON x.refclassid = 'pg_extension'::regclass AND x.refobjid = e.oid AND x.deptype = 'e'
                              AND x.classid = 'pg_class'::regclass
              JOIN pg_class j ON j.oid = x.objid AND j.relname = 'job' AND j.relnamespace = to_regnamespace('cron')
             WHERE e.extname = 'pg_cron'));

-- By the catalogs: to_regclass and to_regprocedure raise an error where the caller has no right to the schema.
CREATE VIEW integrations AS
SELECT 'link' AS kind, l.table_name AS name, l.policy,
       concat_ws(', ', 'order_id: ' || CASE WHEN l.order_prefix <> '' THEN quote_literal(l.order_prefix) || ' and ' ELSE '' END || l.key_column,
                 'status: ' || l.status_column, 'amount: ' || l.amount_column,
                 'currency: ' || coalesce(l.currency_column, l.currency), 'deadline: ' || l.deadline_column,
                 'policy: ' || l.policy_column,
                 'times: ' || (SELECT string_agg(DISTINCT t.value, ' and ') FROM jsonb_each_text(l.time_columns) t),
                 'reason: ' || l.reason_column,
                 CASE WHEN l.track THEN 'track, ' || l.on_contradiction END) AS uses,
       NOT EXISTS (SELECT FROM unnest(ARRAY[l.key_column, l.status_column, l.amount_column, l.currency_column, l.deadline_column,
                                            l.policy_column, l.reason_column]
                                      || ARRAY(SELECT t.value FROM jsonb_each_text(l.time_columns) t)) AS used (name)
                    WHERE used.name IS NOT NULL
                      AND NOT EXISTS (SELECT FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                                        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                       WHERE ARRAY[n.nspname, c.relname]::text[] = parse_ident(l.table_name)
                                         AND a.attname = used.name))
       AND (NOT l.track OR EXISTS (SELECT FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                                     JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'order_timeout_track' AND t.tgenabled <> 'D'
                                    WHERE ARRAY[n.nspname, c.relname]::text[] = parse_ident(l.table_name))) AS is_there,
       (SELECT count(*) FROM follow_ups f WHERE f.kind = 'link' AND starts_with(f.order_id, l.order_prefix)) AS waiting,
       (SELECT count(*) FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
         WHERE starts_with(s.order_id, l.order_prefix)) AS orders_set_aside
  FROM links l
UNION ALL
SELECT 'hook', h.hook, h.policy, h.function_name,
       EXISTS (SELECT FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid
                WHERE ARRAY[n.nspname, p.proname]::text[] = parse_ident(h.function_name) AND p.prokind = 'f'
                  AND oidvectortypes(p.proargtypes) = CASE h.hook
                      WHEN 'refund_handler' THEN 'text, text, text, text, bigint, text, text, integer'
                      WHEN 'void_handler' THEN 'text, text, text, bigint, text, text, integer' ELSE 'text[]' END),
       CASE h.hook WHEN 'refund_handler'
            THEN (SELECT count(*) FROM refunds r JOIN orders o ON o.order_id = r.order_id AND o.policy = h.policy
                   WHERE r.settled_at IS NULL AND r.state IN ('failed', 'unknown', 'needs_attention'))
            WHEN 'void_handler'
            THEN (SELECT count(*) FROM attempts v JOIN orders o ON o.order_id = v.order_id AND o.policy = h.policy
                   WHERE v.next_attempt_at IS NOT NULL)
            ELSE (SELECT count(*) FROM follow_ups f JOIN orders o ON o.order_id = f.order_id AND o.policy = h.policy
                   WHERE f.kind = h.hook) END,
       (SELECT count(*) FROM set_aside s JOIN orders o ON o.order_id = s.order_id AND o.settled_at IS NULL AND o.closes_at <= s.since
         WHERE o.policy = h.policy)
  FROM hooks h;
COMMENT ON VIEW integrations IS
'What of yours the extension uses: a row for each linked table and each hook, with its columns or function, whether all of it is still there, and how much waits.';
REVOKE ALL ON integrations FROM PUBLIC;

CREATE VIEW consumers AS
SELECT p.consumer, p.types, p.notify, p.created_at, b.unread, clock_timestamp() - b.oldest_unread AS oldest_unread,
       CASE WHEN p.leased_until > clock_timestamp() THEN p.leased_until END AS leased_until
  FROM consumer_positions p CROSS JOIN LATERAL _consumer_backlog(p.consumer) b WHERE p.consumer <> '';
COMMENT ON VIEW consumers IS
'A row for each consumer: its unread events, counted to 10000, the age of the first of them, and until when a reader has its batch.';
REVOKE ALL ON consumers FROM PUBLIC;

CREATE VIEW sizes AS
SELECT t.table_name, t.rows, t.bytes, t.index_bytes, (t.bytes / nullif(t.rows, 0))::bigint AS bytes_per_row,
       (t.bytes / nullif(max(t.rows) FILTER (WHERE t.table_name = 'orders') OVER (), 0))::bigint AS bytes_per_order
  FROM (SELECT c.relname::text AS table_name, nullif(c.reltuples, -1)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes,
               pg_indexes_size(c.oid) AS index_bytes
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'order_timeout' AND c.relkind IN ('r', 'p')) t;
COMMENT ON VIEW sizes IS
'How much room each table takes: rows as of the last ANALYZE or VACUUM, bytes with indexes, bytes for a row and for an order. Reads no table.';
REVOKE ALL ON sizes FROM PUBLIC;
COMMENT ON COLUMN sizes.table_name IS
'the table';
COMMENT ON COLUMN sizes.rows IS
'its rows as of the last VACUUM or ANALYZE; null: there was none yet';
COMMENT ON COLUMN sizes.bytes IS
'what it takes on disk, with its indexes and TOAST';
COMMENT ON COLUMN sizes.index_bytes IS
'what its indexes take of that';
COMMENT ON COLUMN sizes.bytes_per_row IS
'bytes for each row; null if there is none';
COMMENT ON COLUMN sizes.bytes_per_order IS
'bytes for each row of orders: their sum over all tables is what an order takes';

-- PostgreSQL keeps it in shared memory. More may be done than was counted: while a sweep runs, more falls due.
CREATE VIEW progress AS
SELECT p.pid, p.command, p.phase, p.step, p.steps, CASE WHEN p.total IS NOT NULL OR p.done > 0 THEN p.done END AS done, p.total,
       CASE WHEN p.total > 0 THEN round(least(100.0 * p.done / p.total, 100), 1) END AS percent, p.unit, p.started_at,
       clock_timestamp() - p.started_at AS running
  FROM _progress_rows() p;
COMMENT ON VIEW progress IS
'How far long work is: a row for each session that is at a sweep with more than a batch to close, adopt_orders, load_statement, check_statement, statement_totals, apply_statement or funds_violations. Reads no table.';
REVOKE ALL ON progress FROM PUBLIC;
COMMENT ON COLUMN progress.pid IS
'process ID of the session, as in pg_stat_activity';
COMMENT ON COLUMN progress.command IS
'sweep, adopt_orders, load_statement, check_statement, statement_totals, apply_statement, funds_violations';
COMMENT ON COLUMN progress.phase IS
'what it does now';
COMMENT ON COLUMN progress.step IS
'the number of that phase, from 1 on';
COMMENT ON COLUMN progress.steps IS
'how many phases the command has';
COMMENT ON COLUMN progress.done IS
'what of the phase is done, in units; null: not counted in this phase';
COMMENT ON COLUMN progress.total IS
'how much the phase has; of funds_violations about, by the last ANALYZE; null: not known, or, of a sweep, more than 1000000';
COMMENT ON COLUMN progress.percent IS
'done as a part of total; null if that is not known';
COMMENT ON COLUMN progress.unit IS
'what is counted: orders, rows, records, lines';
COMMENT ON COLUMN progress.started_at IS
'when the command began; of a sweep when it found more than one batch of due orders';
COMMENT ON COLUMN progress.running IS
'how long ago that was';

-- Each part is bounded: health is, of a consumer's backlog 1000 events are looked at, the totals are few rows.
CREATE VIEW metrics AS
WITH h AS (SELECT * FROM health),
     samples AS (
SELECT m.name, m.labels, m.value
  FROM h CROSS JOIN LATERAL (VALUES
       ('order_timeout_ok', '{}'::jsonb, h.ok::integer::double precision),
       ('order_timeout_clock_seconds', '{}', extract(epoch FROM clock_timestamp())),
       ('order_timeout_orders', '{"state": "pending"}', h.pending),
       ('order_timeout_orders', '{"state": "authorized"}', h.authorized),
       ('order_timeout_orders', '{"state": "closing"}', h.closing),
       ('order_timeout_orders_due_soon', '{}', h.due_soon),
       ('order_timeout_orders_overdue', '{}', h.overdue),
       ('order_timeout_oldest_overdue_seconds', '{}', h.oldest_overdue_seconds),
       ('order_timeout_refunds', '{"state": "pending"}', h.refunds_pending),
       ('order_timeout_refunds', '{"state": "processing"}', h.refunds_processing),
       ('order_timeout_refunds', '{"state": "submitted"}', h.refunds_submitted),
       ('order_timeout_refunds', '{"state": "failed"}', h.refunds_failed),
       ('order_timeout_refunds', '{"state": "unknown"}', h.refunds_unknown),
       ('order_timeout_refunds', '{"state": "needs_attention"}', h.refunds_needing_attention),
       ('order_timeout_oldest_refund_owed_seconds', '{}', h.oldest_refund_owed_seconds),
       ('order_timeout_voids_due', '{}', h.voids_due),
       ('order_timeout_leases', '{"of": "refund"}', h.refunds_processing),
       ('order_timeout_leases', '{"of": "void"}', h.voids_processing),
       ('order_timeout_attention', '{"kind": "needs_attention"}', h.refunds_needing_attention),
       ('order_timeout_attention', '{"kind": "held"}', h.payments_held),
       ('order_timeout_attention', '{"kind": "orphan"}', h.payments_orphaned),
       ('order_timeout_attention', '{"kind": "set_aside"}', h.orders_set_aside + h.refunds_set_aside),
       ('order_timeout_attention', '{"kind": "conflict"}', h.conflicts_open),
       ('order_timeout_attention', '{"kind": "void"}', h.voids_needing_attention),
       ('order_timeout_attention', '{"kind": "link"}', h.links_waiting),
       ('order_timeout_attention', '{"kind": "hook"}', h.hooks_waiting),
       ('order_timeout_last_sweep_age_seconds', '{}', h.last_sweep_age_seconds),
       ('order_timeout_last_sweep_lag_seconds', '{}', h.last_sweep_lag_seconds)) m (name, labels, value)
UNION ALL
SELECT 'order_timeout_owed', jsonb_build_object('currency', o.key), o.value::double precision
  FROM h CROSS JOIN LATERAL jsonb_each_text(h.owed_by_currency) o
UNION ALL
SELECT m.name, jsonb_build_object('consumer', c.consumer), m.value
  FROM consumer_positions c CROSS JOIN LATERAL _consumer_backlog(c.consumer, 1000) b CROSS JOIN LATERAL (VALUES
       ('order_timeout_consumer_unread', b.unread::double precision),
       ('order_timeout_consumer_oldest_unread_seconds', coalesce(extract(epoch FROM clock_timestamp() - b.oldest_unread), 0))) m (name, value)
 WHERE c.consumer <> ''
UNION ALL
SELECT m.name, '{}', m.value
  FROM (SELECT sweep_id, max_lag FROM sweeps ORDER BY sweep_id DESC LIMIT 1) w CROSS JOIN LATERAL (VALUES
       ('order_timeout_sweeps_total', w.sweep_id::double precision),
       ('order_timeout_closing_lag_seconds', extract(epoch FROM w.max_lag))) m (name, value)
UNION ALL
SELECT 'order_timeout_events_total', jsonb_build_object('type', t.type), sum(t.events)::double precision
  FROM event_totals t GROUP BY t.type
UNION ALL
SELECT 'order_timeout_event_amount_total', jsonb_build_object('type', t.type, 'currency', t.currency), t.amount::double precision
  FROM event_totals t WHERE t.currency <> ''
UNION ALL
SELECT m.name, jsonb_build_object('table', c.relname), m.value
  FROM pg_class c CROSS JOIN LATERAL (VALUES
       ('order_timeout_table_bytes', pg_total_relation_size(c.oid)::double precision),
       ('order_timeout_table_rows', pg_stat_get_live_tuples(c.oid)),
       ('order_timeout_table_dead_rows', pg_stat_get_dead_tuples(c.oid))) m (name, value)
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind = 'r')
SELECT s.name, s.labels, s.value, f.help, f.type
  FROM samples s LEFT JOIN (VALUES
       ('order_timeout_ok', 'gauge', '1 if health finds no problem'),
       ('order_timeout_clock_seconds', 'gauge', 'the time of the database'),
       ('order_timeout_orders', 'gauge', 'open orders by state, counted to 10000 of all states'),
       ('order_timeout_orders_due_soon', 'gauge', 'pending orders that fall due within five minutes, counted to 10000'),
       ('order_timeout_orders_overdue', 'gauge', 'open orders that are past their deadline, counted to 10000'),
       ('order_timeout_oldest_overdue_seconds', 'gauge', 'how long the oldest overdue order is past its deadline; 0 if none is'),
       ('order_timeout_refunds', 'gauge', 'open refunds by state, counted to 10000 that are due and 10000 that need attention'),
       ('order_timeout_oldest_refund_owed_seconds', 'gauge', 'the age of the oldest of these refunds; 0 if none is open'),
       ('order_timeout_owed', 'gauge', 'money owed and not yet back, in minor units, by currency: the sum of these refunds'),
       ('order_timeout_voids_due', 'gauge', 'voids that are due, wait for their next attempt, or are with a worker, counted to 10000'),
       ('order_timeout_leases', 'gauge', 'refunds and voids that workers have, counted to 10000'),
       ('order_timeout_attention', 'gauge', 'rows of view attention by kind, each counted to 10000; kind sweeper is order_timeout_last_sweep_age_seconds'),
       ('order_timeout_last_sweep_age_seconds', 'gauge', 'since when the newest sweep has not written its row'),
       ('order_timeout_last_sweep_lag_seconds', 'gauge', 'how far the newest sweep was behind the clock then'),
       ('order_timeout_closing_lag_seconds', 'gauge', 'how late the latest closing of the newest sweep was'),
       ('order_timeout_sweeps_total', 'counter', 'sweeps that have begun'),
       ('order_timeout_consumer_unread', 'gauge', 'events that a consumer has not acknowledged, among the first 1000 of all types'),
       ('order_timeout_consumer_oldest_unread_seconds', 'gauge', 'the age of the first of them, or of the last of these 1000 if none is of its types; 0 if nothing is unread'),
       ('order_timeout_events_total', 'counter', 'events by type, since the first sweep'),
       ('order_timeout_event_amount_total', 'counter', 'the sum of the amounts in these events, in minor units, by type and currency'),
       ('order_timeout_table_bytes', 'gauge', 'the size of a table with its indexes'),
       ('order_timeout_table_rows', 'gauge', 'the rows of a table, estimated'),
       ('order_timeout_table_dead_rows', 'gauge', 'rows of a table that vacuum has not removed yet, estimated')) f (name, type, help) ON f.name = s.name
 WHERE s.value IS NOT NULL;
COMMENT ON VIEW metrics IS
'What a monitoring system records: name, labels, value, help and type (counter or gauge) in the conventions of Prometheus. A few milliseconds, so that it can be read every 15 seconds.';
REVOKE ALL ON metrics FROM PUBLIC;

CREATE OR REPLACE FUNCTION _access_grants(access text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    application CONSTANT text[] := '{create_order,record_payment,cancel_order,expire_order,extend_order,set_deadline,reopen_order,
        change_order,begin_attempt,end_attempt,authorize_attempt,request_refund,funds,history,minor_units}';
    worker CONSTANT text[] := '{claim_refunds,complete_refund,record_refund,claim_voids,complete_void,send_refunds,minor_units}';
    reader CONSTANT text[] := '{funds,funds_violations,history,timeline,_timeline_events,_timeline_money,_timeline_step,_amount,replay_orders,
        minor_units,_consumer_backlog,check_statement,statement_totals,
        _require_statement,_statement_matches,_may_be_known,_came_back,_missing_in_statements,
        _begin_matching,_progress,_progress_row,_progress_rows}';
    consumer CONSTANT text[] := '{read_events,ack_events}';
    names CONSTANT text[] := CASE access
        WHEN 'application' THEN application
        WHEN 'worker' THEN worker
        WHEN 'reader' THEN reader
        WHEN 'consumer' THEN consumer
        WHEN 'operator' THEN application || worker || reader || consumer || '{create_consumer,drop_consumer,retry_refund,settle_refund,reverse_refund,stop_refund,
            withdraw_refund,reverse_chargeback,retry_void,resolve_held,accept_payment,accept_short,refund_orphan,assign_orphan,
            resolve_conflict,resolve_link,adopt_orders,forget_order,sweep,sweep_once,schedule_sweeper,unschedule_sweeper,schedule_refunds,
            unschedule_refunds,statement_layout,load_statement,unload_statement,apply_statement,_apply_line,_bad_line,_warn_about_statement,_quotes_fit,
            _csv_records,
            _field,_first_field,_layout_columns,_require_loadable,_summary_totals,_require_pg_cron,_call_pg_cron,_schedule_job,_warn_about_job}' END;
BEGIN
    IF access IS NULL THEN
        RAISE EXCEPTION 'access must not be null'
            USING ERRCODE = '22004', HINT = 'Use one of: application, worker, consumer, operator, reader.';
    ELSIF names IS NULL THEN
        RAISE EXCEPTION 'invalid access: "%"', access
            USING ERRCODE = '22023', HINT = 'Use one of: application, worker, consumer, operator, reader.';
    END IF;
    RETURN NEXT 'USAGE ON SCHEMA order_timeout';
    RETURN QUERY SELECT format('EXECUTE ON ROUTINE %s', p.oid::regprocedure)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'order_timeout' AND p.proname = ANY (names);
    IF access IN ('reader', 'operator') THEN
        RETURN QUERY SELECT format('SELECT ON order_timeout.%I', t)
            FROM unnest('{policies,orders,attempts,payments,refunds,events,conflicts,set_aside,set_aside_refunds,sweeps,hooks,links,follow_ups,
                statements,statement_lines,event_totals,health,attention,integrations,consumers,metrics,sizes,progress}'::text[]) AS t;
    END IF;
    IF access = 'operator' THEN
        RETURN QUERY SELECT format('INSERT, UPDATE, DELETE ON order_timeout.%I', t)
            FROM unnest('{policies,statements,statement_lines}'::text[]) AS t;
    END IF;
END
$$;

-- Comments of what did not change otherwise.
COMMENT ON FUNCTION grant_access(text, text) IS
'Gives a role what it needs. access: application (orders, payments, asking for refunds), worker (claiming and completing refunds), consumer (reading and acknowledging events), operator (everything, policies too), reader (tables, views, proof). Safe to repeat. Outcome: granted. Errors: 22023 unknown access, 42704 no such role, 22004.';
COMMENT ON FUNCTION claim_refunds(text, integer, interval, text) IS
'Leases up to max_refunds due refunds to a worker, oldest first, none to two workers; refunds whose lease lapsed are taken back. lease: how long, null for the policy''s refund_lease. gateway: only this one. action is submit the first time a refund is handed out and query after that (ask the gateway before sending it again). Commit before calling the gateway. Errors: 22023, 22004. Locks: the refunds (SKIP LOCKED).';
COMMENT ON FUNCTION complete_refund(text, text, text, text, text, bigint) IS
'Reports what the gateway did. result: succeeded (from any caller, at any time), failed, unknown, submitted, deferred, rejected (these with the current lease; failed and rejected also without one, when the gateway may have the refund and no worker does). refunded_amount (minor units, before fees): what the gateway really returned. Outcomes: recorded, duplicate, stale (not the current lease), ignored (already at its end), conflict (contradicts what is recorded: nothing is overwritten, do not pay, see view attention). Errors: OT006 no such refund, 22023, 22003, 22004. Locks: succeeded takes the order, the payment, the refund; the others the refund.';
COMMENT ON FUNCTION retry_refund(text) IS
'Makes a refund that needs attention due again: now, with the same key, attempts from zero. Outcomes: retried, already_due (it is open, and is tried at its next_attempt_at). Errors: OT005 it is at its end, OT006 no such refund, 22023, 22004. Locks: the refund.';
COMMENT ON FUNCTION settle_refund(text, text) IS
'The operator paid the money out another way: a refund that needs attention becomes succeeded, with a note. Call stop_refund before paying. Outcomes: settled, already_settled. Errors: OT005 in any other state, OT006 no such refund, 22023, 22004. Locks: the order, the payment, the refund.';
COMMENT ON FUNCTION history(text) IS
'The events of one order, in order; also of an order_id that only orphan payments have. Errors: 22023, 22004. Locks: none.';
COMMENT ON PROCEDURE sweep(interval, integer, interval) IS
'Closes due orders, oldest deadline first, in batches of batch_size with a commit each; reminds of orders that fall due soon, takes lapsed leases back, refunds old orphans, applies stray ones. Works for run_for, looking for work at each deadline and at least every poll_interval; ends before statement_timeout would. Called alone: 2D000 inside a transaction block or a function. Errors: 22023. Locks: the orders of a batch (SKIP LOCKED), their payments; none while it waits.';
COMMENT ON FUNCTION sweep_once(integer) IS
'One batch of sweep inside the caller''s transaction: up to max_orders due orders, and as many reminders, lapsed leases and orphans. Answers how many orders expired, how many failed and were set aside, how many leases were taken back. Errors: 22023. Locks: the orders (SKIP LOCKED), their payments; the refunds taken back (SKIP LOCKED).';
COMMENT ON VIEW health IS
'One row: is this all right (ok), and if not, why (problems); open orders and the age of the oldest overdue one, open refunds by state, money owed by currency, what needs the operator, when the last sweep last wrote its row and how far behind it was. Counts stop at 10000, sums of money with them.';
COMMENT ON VIEW attention IS
'Everything that needs the operator: kind (needs_attention, held, orphan, set_aside, conflict, void, link, hook, sweeper), the ids, since when, why, and the lines that resolve it.';

-- What each column is, in the words of doc/tables.md.

COMMENT ON COLUMN policies.policy IS
'its name, the key; an identifier';
COMMENT ON COLUMN policies.pay_within IS
'the deadline of an order that is created without one; up to 1000 years';
COMMENT ON COLUMN policies.late_rule IS
'until_closed: a payment is in time until the order is really closed; the first to commit wins. at_deadline: a payment at or after closes_at is late, even if the order is not closed yet';
COMMENT ON COLUMN policies.on_late IS
'what becomes of a late payment: refund, reopen or hold. It counts for every late payment, also of a buyer who paid after the deadline; to treat those who paid in time differently, use on_notified_late';
COMMENT ON COLUMN policies.refund_max_attempts IS
'the number of ended attempts after which the operator must decide; 1 to 1000';
COMMENT ON COLUMN policies.refund_backoff IS
'the wait after the first attempt; doubles with each further attempt; up to 365 days';
COMMENT ON COLUMN policies.refund_backoff_max IS
'the longest wait; not less than refund_backoff, up to 365 days';
COMMENT ON COLUMN policies.refund_jitter IS
'the random spread of a wait, as a part of it, from 0 to 1: 0.1 is a tenth up or down, 1 is from nothing to double. It never raises a wait above refund_backoff_max';
COMMENT ON COLUMN policies.refund_lease IS
'how long a worker may take for a claimed refund; up to 365 days';
COMMENT ON COLUMN policies.refund_settle_within IS
'how long a submitted refund may take; up to 1000 years';
COMMENT ON COLUMN policies.orphan_after IS
'null: orphans are kept until the operator decides. Otherwise the sweeper refunds older orphans; up to 1000 years. Only the value of default counts';
COMMENT ON COLUMN policies.short_tolerance IS
'minor units: when a payment arrives in time and the order then lacks at most this much of its amount, it is paid. A late payment has to reach the amount';
COMMENT ON COLUMN policies.on_short IS
'what becomes of part payments when the order closes, by its deadline or by cancel_order: refund, or hold for a decision';
COMMENT ON COLUMN policies.on_notified_late IS
'what becomes of a late payment whose buyer paid in time (notified_late): refund, reopen or hold; null: as on_late says';
COMMENT ON COLUMN policies.attempt_hold IS
'the longest time that open attempts keep an order open beyond its expires_at; up to 1000 years. null: they keep it open no longer than that';
COMMENT ON COLUMN policies.before_close IS
'close: an order that falls due is closed. void: the gateways are asked first to end its attempts, while it is closing; needs late_rule = ''until_closed''';
COMMENT ON COLUMN policies.void_within IS
'how long an order is closing: after that the sweeper closes it anyway, and its voids go on; up to 365 days';
COMMENT ON COLUMN policies.remind_before IS
'how long before an order falls due the sweeper writes order.due_soon, once for each deadline; up to 1000 years. null: no reminder';

COMMENT ON COLUMN orders.order_id IS
'the application''s order number, the key; one list for the whole database, so give each shop a prefix';
COMMENT ON COLUMN orders.policy IS
'the policy that it follows';
COMMENT ON COLUMN orders.state IS
'pending, authorized, closing, paid, expired, cancelled';
COMMENT ON COLUMN orders.amount IS
'what is to be paid, 0 or more';
COMMENT ON COLUMN orders.currency IS
'three capital letters';
COMMENT ON COLUMN orders.paid IS
'the sum of its payments in its own currency';
COMMENT ON COLUMN orders.refunded IS
'what of paid is back with the buyer';
COMMENT ON COLUMN orders.refund_pending IS
'what of paid is owed and not yet back, whatever the result of the last attempt';
COMMENT ON COLUMN orders.held IS
'what of paid needs a decision';
COMMENT ON COLUMN orders.expires_at IS
'the deadline';
COMMENT ON COLUMN orders.created_at IS
'when it was created';
COMMENT ON COLUMN orders.settled_at IS
'when it was last paid (also by reopening) or closed; null while it is open. Cancelling an expired order does not change it';
COMMENT ON COLUMN orders.close_reason IS
'deadline, or the reason given to cancel_order; null unless closed';
COMMENT ON COLUMN orders.metadata IS
'the application''s own data';
COMMENT ON COLUMN orders.open_until IS
'until when open attempts, an authorisation or, while it is closing, its voids keep it open; null: nothing does';
COMMENT ON COLUMN orders.closes_at IS
'when it falls due: expires_at, or open_until if that is later';
COMMENT ON COLUMN orders.due_since IS
'while closing: when it fell due';
COMMENT ON COLUMN orders.reminded_of IS
'the deadline that order.due_soon was written for';
COMMENT ON COLUMN orders.has_attempts IS
'true once an attempt was begun';

COMMENT ON COLUMN payments.gateway IS
'the gateway''s name; with payment_ref the key. A gateway''s test mode needs a name of its own';
COMMENT ON COLUMN payments.payment_ref IS
'the gateway''s number of the capture';
COMMENT ON COLUMN payments.order_id IS
'the order that it is for';
COMMENT ON COLUMN payments.amount IS
'what the gateway received, more than 0';
COMMENT ON COLUMN payments.currency IS
'three capital letters';
COMMENT ON COLUMN payments.paid_at IS
'the gateway''s clock; may be null';
COMMENT ON COLUMN payments.received_at IS
'when it was first recorded here';
COMMENT ON COLUMN payments.disposition IS
'applied, late, surplus, wrong_currency, orphan, held, uncounted';
COMMENT ON COLUMN payments.late_reason IS
'for a payment that arrived after closing: notified_late if it was paid in time and reported late (paid_at is before both the deadline and the closing), otherwise paid_late; null for other payments';
COMMENT ON COLUMN payments.refunded IS
'what of amount is back with the buyer';
COMMENT ON COLUMN payments.refund_pending IS
'what of amount is owed';
COMMENT ON COLUMN payments.held IS
'what of amount needs a decision';
COMMENT ON COLUMN payments.held_at IS
'when it was put on hold; stays after the decision';
COMMENT ON COLUMN payments.told_order_id IS
'the order_id that the gateway reported, if assign_orphan assigned it to another order; otherwise null';
COMMENT ON COLUMN payments.details IS
'anything else that the gateway reported';
COMMENT ON COLUMN payments.accepted_at IS
'when the operator took this late or held money after all (accept_payment, resolve_held)';
COMMENT ON COLUMN payments.attempt_ref IS
'the attempt that brought it, if record_payment was given one, or one of its order has the payment''s number';

COMMENT ON COLUMN attempts.gateway IS
'the gateway''s name; with attempt_ref the key';
COMMENT ON COLUMN attempts.attempt_ref IS
'the gateway''s number of the attempt: a payment intent, a prepay order, a checkout session';
COMMENT ON COLUMN attempts.order_id IS
'the order that it is to pay';
COMMENT ON COLUMN attempts.state IS
'open, authorized, captured, failed, cancelled, expired, voided, needs_attention';
COMMENT ON COLUMN attempts.authorized IS
'what the gateway promised, in minor units; null: nothing yet';
COMMENT ON COLUMN attempts.currency IS
'the currency of authorized';
COMMENT ON COLUMN attempts.valid_until IS
'how long the promise is good';
COMMENT ON COLUMN attempts.holds_until IS
'while it is open: until when it keeps its order open, as far as attempt_hold allows';
COMMENT ON COLUMN attempts.can_void IS
'false: it cannot be ended at the gateway (a bank transfer), so it is expired when its order is closed or paid';
COMMENT ON COLUMN attempts.details IS
'the application''s own data';
COMMENT ON COLUMN attempts.covers IS
'true if it authorised its order';
COMMENT ON COLUMN attempts.captured IS
'the sum of the payments that it brought';
COMMENT ON COLUMN attempts.attempts IS
'how often its void was tried; 0 while the first one is under way';
COMMENT ON COLUMN attempts.next_attempt_at IS
'when its void is due; while a worker has it, when the lease lapses; null: none is due';
COMMENT ON COLUMN attempts.leased_until IS
'while a worker has its void: when the lease lapses';
COMMENT ON COLUMN attempts.lease_token IS
'while a worker has its void: the token that the worker must pass';
COMMENT ON COLUMN attempts.worker IS
'while a worker has its void: the name that the worker gave';
COMMENT ON COLUMN attempts.last_error IS
'the last error of its void';
COMMENT ON COLUMN attempts.handed_out_at IS
'when a worker first claimed its void; from then on the gateway may know it';
COMMENT ON COLUMN attempts.maybe_sent IS
'true if the gateway may have the void, leases apart';
COMMENT ON COLUMN attempts.ended_leases IS
'tokens of leases that ended, each with its result, so that a repeated report is recognised';
COMMENT ON COLUMN attempts.attention_at IS
'since when the operator must look: its void needs attention, or the gateway reported paid and no payment is recorded yet';
COMMENT ON COLUMN attempts.created_at IS
'when it was begun';
COMMENT ON COLUMN attempts.settled_at IS
'since when nothing more is to be done about it';

COMMENT ON COLUMN refunds.refund_ref IS
'the key, and the idempotency key for the gateway: rf_ and 32 hexadecimal digits, random';
COMMENT ON COLUMN refunds.order_id IS
'the order of its payment';
COMMENT ON COLUMN refunds.gateway IS
'the gateway of the payment';
COMMENT ON COLUMN refunds.payment_ref IS
'the payment that it returns money of';
COMMENT ON COLUMN refunds.amount IS
'the money that is owed, or was returned';
COMMENT ON COLUMN refunds.currency IS
'the payment''s currency';
COMMENT ON COLUMN refunds.reason IS
'why it is owed';
COMMENT ON COLUMN refunds.note IS
'free text from a caller, or a remark of a function';
COMMENT ON COLUMN refunds.state IS
'where it stands';
COMMENT ON COLUMN refunds.attempts IS
'attempts that have ended without success; 0 while the first one is under way';
COMMENT ON COLUMN refunds.next_attempt_at IS
'when it is due; for a leased refund, when the lease lapses; null if it will not become due by itself';
COMMENT ON COLUMN refunds.leased_until IS
'while processing: when the lease lapses';
COMMENT ON COLUMN refunds.lease_token IS
'while processing: the token that the worker must pass';
COMMENT ON COLUMN refunds.worker IS
'while processing: the name that the worker gave';
COMMENT ON COLUMN refunds.gateway_refund_ref IS
'the gateway''s number of the refund, unique within the gateway; null if the gateway gave none';
COMMENT ON COLUMN refunds.last_error IS
'the last error; of a stopped refund stopped:, why, and what was reported before and since; null once it succeeded, or was retried after it had been stopped';
COMMENT ON COLUMN refunds.request_key IS
'the key given to request_refund';
COMMENT ON COLUMN refunds.asked IS
'the amount that it was created with; amount is less if the gateway returned less';
COMMENT ON COLUMN refunds.handed_out_at IS
'when a worker first claimed it; from then on the gateway may know it';
COMMENT ON COLUMN refunds.submitted_at IS
'when the gateway accepted it; null again if it failed after all';
COMMENT ON COLUMN refunds.returned_at IS
'when the money went back; stays if the refund is reversed later';
COMMENT ON COLUMN refunds.replaced_by IS
'for a reversed refund: the refund_ref that stands for the money now';
COMMENT ON COLUMN refunds.by_hand IS
'true if the operator paid it out another way (settle_refund)';
COMMENT ON COLUMN refunds.attention_at IS
'while needs_attention: since when';
COMMENT ON COLUMN refunds.created_at IS
'when it was created';
COMMENT ON COLUMN refunds.settled_at IS
'when it ended; null while the money is owed';
COMMENT ON COLUMN refunds.maybe_sent IS
'true if the gateway may have it, leases apart; a refund is clear if this is false and no worker has it';
COMMENT ON COLUMN refunds.ended_leases IS
'tokens of leases that ended, each with its result, and failures that were reported without one, so that a repeated report is recognised';
COMMENT ON COLUMN refunds.from_kept IS
'for a refund that record_refund recorded: the part that was taken from kept money';
COMMENT ON COLUMN refunds.from_held IS
'for a refund that record_refund recorded: the part that was taken from held money. The rest was taken from refunds, which name it in replaced_by';
COMMENT ON COLUMN refunds.withdrawn IS
'true if it was reversed because nobody wants it any more (withdraw_refund, accept_payment); then nothing replaces it';
COMMENT ON COLUMN refunds.was_requested IS
'of reason reversed: true if it owes again what was requested, wholly or in part; so withdraw_refund accepts it';

COMMENT ON COLUMN events.id IS
'ascending, with gaps; not in the order of commits';
COMMENT ON COLUMN events.aggregatetype IS
'always order';
COMMENT ON COLUMN events.aggregateid IS
'the order_id';
COMMENT ON COLUMN events.type IS
'what happened';
COMMENT ON COLUMN events.payload IS
'the details';
COMMENT ON COLUMN events.created_at IS
'when it happened';

COMMENT ON COLUMN conflicts.conflict_id IS
'the key, for resolve_conflict';
COMMENT ON COLUMN conflicts.order_id IS
'the order of the payment';
COMMENT ON COLUMN conflicts.gateway IS
'the gateway that reported it';
COMMENT ON COLUMN conflicts.payment_ref IS
'the payment that it is about';
COMMENT ON COLUMN conflicts.refund_ref IS
'the refund that it is about, if any';
COMMENT ON COLUMN conflicts.gateway_refund_ref IS
'the gateway''s number of the refund, if it reported one';
COMMENT ON COLUMN conflicts.amount IS
'in minor units of the payment''s currency. If the gateway returned more than expected, the part that is not recorded; otherwise the amount that it reported';
COMMENT ON COLUMN conflicts.problem IS
'the contradiction in words';
COMMENT ON COLUMN conflicts.created_at IS
'when it was reported';
COMMENT ON COLUMN conflicts.resolved_at IS
'when the operator resolved it, or it turned out to be a refund of ours that was reported later; null while it is open';
COMMENT ON COLUMN conflicts.note IS
'the operator''s note, or which refund it was';
COMMENT ON COLUMN conflicts.reason IS
'external or chargeback if record_refund reported it; null if complete_refund did';
COMMENT ON COLUMN conflicts.is_failure IS
'true if the contradiction says that the buyer may have nothing';
COMMENT ON COLUMN conflicts.counted_once IS
'what was taken for money that is recorded already; resolve_conflict with book counts it again';
COMMENT ON COLUMN conflicts.booked_by IS
'the refund_ref that resolve_conflict recorded with book';
COMMENT ON COLUMN conflicts.reported IS
'the whole amount that was reported; amount is the part that is counted nowhere';

COMMENT ON COLUMN set_aside.order_id IS
'the key: the order';
COMMENT ON COLUMN set_aside.since IS
'when it failed first';
COMMENT ON COLUMN set_aside.failures IS
'the number of failures';
COMMENT ON COLUMN set_aside.retry_at IS
'when the sweeper tries again: 10 seconds after the first failure, then after waits that double up to an hour';
COMMENT ON COLUMN set_aside.sqlstate IS
'the SQLSTATE of the last failure';
COMMENT ON COLUMN set_aside.error IS
'the message of the last failure';

COMMENT ON COLUMN set_aside_refunds.refund_ref IS
'the key: the refund';
COMMENT ON COLUMN set_aside_refunds.due_at IS
'the refund''s next_attempt_at when it failed';
COMMENT ON COLUMN set_aside_refunds.since IS
'when it failed first';
COMMENT ON COLUMN set_aside_refunds.failures IS
'the number of failures';
COMMENT ON COLUMN set_aside_refunds.retry_at IS
'when it is tried again; the waits are those of set_aside';
COMMENT ON COLUMN set_aside_refunds.sqlstate IS
'the SQLSTATE of the last failure';
COMMENT ON COLUMN set_aside_refunds.error IS
'the message of the last failure';

COMMENT ON COLUMN hooks.policy IS
'with hook, the key';
COMMENT ON COLUMN hooks.hook IS
'close_hook, paid_hook, reopen_hook, refund_handler or void_handler';
COMMENT ON COLUMN hooks.function_name IS
'the function, with its schema';

COMMENT ON COLUMN links.table_name IS
'the key: the table, with its schema';
COMMENT ON COLUMN links.order_prefix IS
'an order_id is this and the key';
COMMENT ON COLUMN links.key_column IS
'the column that holds the key of a row';
COMMENT ON COLUMN links.key_type IS
'the key column''s type when the table was linked';
COMMENT ON COLUMN links.status_column IS
'the column that holds the status of a row';
COMMENT ON COLUMN links.status_type IS
'the status column''s type when the table was linked';
COMMENT ON COLUMN links.statuses IS
'for each state its words as an array; the first one is written';
COMMENT ON COLUMN links.amount_column IS
'the column that holds the amount, if any';
COMMENT ON COLUMN links.amount_is_major IS
'whether it is numeric and holds major units (12.34), or whole minor units (1234)';
COMMENT ON COLUMN links.currency_column IS
'the column that holds the currency, if any';
COMMENT ON COLUMN links.currency IS
'the currency of all rows, if there is no column';
COMMENT ON COLUMN links.deadline_column IS
'the column that holds the deadline, if any';
COMMENT ON COLUMN links.policy_column IS
'the column that holds the policy, if any';
COMMENT ON COLUMN links.policy IS
'the policy of the rows'' orders, if there is no column';
COMMENT ON COLUMN links.time_columns IS
'for each settled state the column that says since when; written with the status';
COMMENT ON COLUMN links.reason_column IS
'written with the status: why the order was closed';
COMMENT ON COLUMN links.track IS
'whether the rows create and cancel orders, and move their deadlines';
COMMENT ON COLUMN links.on_contradiction IS
'refuse or note';
COMMENT ON COLUMN links.linked_at IS
'when the table was linked';
COMMENT ON COLUMN links.adopted_to IS
'the last key that an unfinished adopt_orders has seen';
COMMENT ON COLUMN links.adopted IS
'orders that adopt_orders has created';
COMMENT ON COLUMN links.adopted_at IS
'when it ended last';

COMMENT ON COLUMN follow_ups.follow_up_id IS
'the key; the hooks of an order are called in this sequence';
COMMENT ON COLUMN follow_ups.order_id IS
'the order';
COMMENT ON COLUMN follow_ups.kind IS
'link, close_hook, reopen_hook or paid_hook';
COMMENT ON COLUMN follow_ups.left_state IS
'the state of the order before the change that is followed';
COMMENT ON COLUMN follow_ups.since IS
'when it failed first';
COMMENT ON COLUMN follow_ups.failures IS
'the number of failures; 0: it waits for an older hook of the same order';
COMMENT ON COLUMN follow_ups.retry_at IS
'when it is tried again; the waits are those of set_aside';
COMMENT ON COLUMN follow_ups.sqlstate IS
'the SQLSTATE of the last failure; 00000 if there was none';
COMMENT ON COLUMN follow_ups.error IS
'the message of the last failure';

COMMENT ON COLUMN event_totals.type IS
'the type of the events; with currency the key';
COMMENT ON COLUMN event_totals.currency IS
'the currency in their payload; empty if they have none';
COMMENT ON COLUMN event_totals.events IS
'how many there were';
COMMENT ON COLUMN event_totals.amount IS
'the sum of the amount in their payload, in minor units; 0 if they have none';

COMMENT ON COLUMN sweeps.sweep_id IS
'the key';
COMMENT ON COLUMN sweeps.pid IS
'the server process that ran it';
COMMENT ON COLUMN sweeps.started_at IS
'when the run started';
COMMENT ON COLUMN sweeps.active_at IS
'when the run last wrote its row';
COMMENT ON COLUMN sweeps.ended_at IS
'null: the run still works, or it was interrupted';
COMMENT ON COLUMN sweeps.batches IS
'the number of batches that closed something';
COMMENT ON COLUMN sweeps.expired IS
'the number of orders that it closed';
COMMENT ON COLUMN sweeps.failed IS
'the number of failures to close an order';
COMMENT ON COLUMN sweeps.leases_returned IS
'the number of lapsed leases that it took back';
COMMENT ON COLUMN sweeps.orphans_settled IS
'the number of orphans that it refunded or applied';
COMMENT ON COLUMN sweeps.max_lag IS
'how late the latest closing of this run was: its time minus the deadline';
COMMENT ON COLUMN sweeps.behind IS
'at active_at: how far the run was behind the clock; 0 if it had closed all due orders';
COMMENT ON COLUMN sweeps.last_error IS
'the last error that the run survived';
COMMENT ON COLUMN sweeps.last_event IS
'the last id of events that was given out before started_at: all later events have higher ids. 0: not known. funds_violations begins there';

COMMENT ON COLUMN health.pending IS
'orders that wait for money';
COMMENT ON COLUMN health.overdue IS
'pending orders that are past their deadline';
COMMENT ON COLUMN health.oldest_overdue IS
'how long the oldest overdue order is past its deadline; null if none is';
COMMENT ON COLUMN health.refunds_by_state IS
'the number of open refunds, by state';
COMMENT ON COLUMN health.owed_by_currency IS
'money owed and not yet back, in minor units, by currency: the sum of the open refunds';
COMMENT ON COLUMN health.oldest_refund_owed IS
'the age of the oldest open refund';
COMMENT ON COLUMN health.refunds_needing_attention IS
'rows of attention with kind needs_attention';
COMMENT ON COLUMN health.payments_held IS
'rows of attention with kind held';
COMMENT ON COLUMN health.payments_orphaned IS
'rows of attention with kind orphan';
COMMENT ON COLUMN health.orders_set_aside IS
'rows of attention with kind set_aside, of orders';
COMMENT ON COLUMN health.conflicts_open IS
'rows of attention with kind conflict';
COMMENT ON COLUMN health.last_sweep IS
'when the newest sweep last wrote its row';
COMMENT ON COLUMN health.last_sweep_lag IS
'how far the newest sweep was behind the clock then';
COMMENT ON COLUMN health.refunds_set_aside IS
'rows of attention with kind set_aside, of refunds';
COMMENT ON COLUMN health.authorized IS
'orders in state authorized';
COMMENT ON COLUMN health.closing IS
'orders in state closing';
COMMENT ON COLUMN health.voids_due IS
'voids that are due, wait for their next attempt, or are with a worker';
COMMENT ON COLUMN health.voids_needing_attention IS
'rows of attention with kind void';
COMMENT ON COLUMN health.due_soon IS
'pending orders that fall due within five minutes';
COMMENT ON COLUMN health.oldest_overdue_seconds IS
'oldest_overdue in seconds; 0 if none is';
COMMENT ON COLUMN health.refunds_pending IS
'open refunds in state pending';
COMMENT ON COLUMN health.refunds_processing IS
'open refunds in state processing: workers have them';
COMMENT ON COLUMN health.refunds_submitted IS
'open refunds in state submitted';
COMMENT ON COLUMN health.refunds_failed IS
'open refunds in state failed';
COMMENT ON COLUMN health.refunds_unknown IS
'open refunds in state unknown';
COMMENT ON COLUMN health.oldest_refund_owed_seconds IS
'oldest_refund_owed in seconds; 0 if none is open';
COMMENT ON COLUMN health.voids_processing IS
'voids that workers have';
COMMENT ON COLUMN health.links_waiting IS
'rows of attention with kind link';
COMMENT ON COLUMN health.hooks_waiting IS
'rows of attention with kind hook';
COMMENT ON COLUMN health.last_sweep_age_seconds IS
'the age of last_sweep; null if there was none';
COMMENT ON COLUMN health.last_sweep_lag_seconds IS
'last_sweep_lag in seconds';
COMMENT ON COLUMN health.ok IS
'true if there are no problems';
COMMENT ON COLUMN health.problems IS
'what is not all right, most urgent first; empty if all is';

COMMENT ON COLUMN attention.kind IS
'what it is';
COMMENT ON COLUMN attention.order_id IS
'the order; null for sweeper';
COMMENT ON COLUMN attention.gateway IS
'the gateway; null for an order that is set_aside, and for sweeper';
COMMENT ON COLUMN attention.payment_ref IS
'the payment; null for an order that is set_aside, for void, and for sweeper';
COMMENT ON COLUMN attention.refund_ref IS
'the refund: for needs_attention, for a refund that is set_aside, and for a conflict about a refund';
COMMENT ON COLUMN attention.conflict_id IS
'for conflict: its number, for resolve_conflict';
COMMENT ON COLUMN attention.amount IS
'the money that it is about, in minor units; for an order that is set_aside, its amount; for a void, what is authorised and not captured, null if nothing is; null for sweeper';
COMMENT ON COLUMN attention.currency IS
'its currency; null for sweeper';
COMMENT ON COLUMN attention.since IS
'since when it needs the operator. For sweeper: the last sign of life; if there was never one, the earliest deadline that is overdue, and null if none is';
COMMENT ON COLUMN attention.why IS
'the cause in words; of a refund and a void also how many attempts are used, and the last error';
COMMENT ON COLUMN attention.resolved_by IS
'the lines that resolve it, one of which is to be run; what only a person knows is a variable of psql';
COMMENT ON COLUMN attention.attempt_ref IS
'for void: the attempt';
COMMENT ON COLUMN integrations.kind IS
'link or hook';
COMMENT ON COLUMN integrations.name IS
'the table with its schema, or which hook';
COMMENT ON COLUMN integrations.policy IS
'the policy that has the hook, or that the orders of the table follow if their row names none';
COMMENT ON COLUMN integrations.uses IS
'the columns of the table, or the function';
COMMENT ON COLUMN integrations.is_there IS
'whether all of it is there: the table with these columns and, with track, its enabled trigger; the function with the arguments of the hook';
COMMENT ON COLUMN integrations.waiting IS
'rows that were not written, or calls of the hook that failed; for a refund_handler, refunds whose last attempt did not succeed; for a void_handler, voids that are due';
COMMENT ON COLUMN integrations.orders_set_aside IS
'orders of the table or the policy that the sweeper could not close, for whatever cause';
COMMENT ON COLUMN events.xid IS
'the transaction that wrote it; by this read_events knows what a consumer has not read';
COMMENT ON COLUMN consumer_positions.consumer IS
'its name';
COMMENT ON COLUMN consumer_positions.types IS
'the types of events that it reads; null for all';
COMMENT ON COLUMN consumer_positions.notify IS
'whether its events are announced by NOTIFY order_timeout_events';
COMMENT ON COLUMN consumer_positions.created_at IS
'when it was created';
COMMENT ON COLUMN consumer_positions.epoch IS
'the value of sequence event_epoch in the database where its snapshots were taken';
COMMENT ON COLUMN consumer_positions.read_snapshot IS
'what this snapshot sees was acknowledged; null: nothing';
COMMENT ON COLUMN consumer_positions.window_snapshot IS
'what this snapshot sees, and read_snapshot does not, is being read; null: nothing';
COMMENT ON COLUMN consumer_positions.window_from IS
'of the events that are being read, acknowledged up to this id';
COMMENT ON COLUMN consumer_positions.window_to IS
'no event that is being read has a higher id';
COMMENT ON COLUMN consumer_positions.mark_xids IS
'transactions: those that begin with or after one of them write events above the id in the same place of mark_ids';
COMMENT ON COLUMN consumer_positions.mark_ids IS
'the ids for mark_xids';
COMMENT ON COLUMN consumer_positions.batch IS
'the ids that were handed out last';
COMMENT ON COLUMN consumer_positions.lease_token IS
'the token that came with them';
COMMENT ON COLUMN consumer_positions.leased_until IS
'until when nobody else gets them; null: the lease was ended';
COMMENT ON COLUMN consumer_positions.acknowledged_to IS
'the id that ack_events ended the lease with; null: it was not ended';
COMMENT ON COLUMN consumers.consumer IS
'its name';
COMMENT ON COLUMN consumers.types IS
'the types of events that it reads; null for all';
COMMENT ON COLUMN consumers.notify IS
'whether its events are announced by NOTIFY order_timeout_events';
COMMENT ON COLUMN consumers.created_at IS
'when it was created';
COMMENT ON COLUMN consumers.unread IS
'events that it has not acknowledged, counted to 10000';
COMMENT ON COLUMN consumers.oldest_unread IS
'the age of the first of them; null if there is none';
COMMENT ON COLUMN consumers.leased_until IS
'until when a reader has its last batch; null if none has it';
COMMENT ON COLUMN statements.gateway IS
'the gateway''s name; with statement the key';
COMMENT ON COLUMN statements.statement IS
'its name: the date or number of the file';
COMMENT ON COLUMN statements.covers_from IS
'the time that it covers begins here';
COMMENT ON COLUMN statements.covers_to IS
'the time that it covers ends before this';
COMMENT ON COLUMN statements.totals IS
'what the gateway says that it comes to: minor units by currency; null: nothing was stated';
COMMENT ON COLUMN statements.fingerprint IS
'of the file, by which a repeat of load_statement is recognised; null if it was not loaded by that';
COMMENT ON COLUMN statements.loaded_at IS
'when it was loaded';
COMMENT ON COLUMN statement_lines.gateway IS
'the gateway''s name';
COMMENT ON COLUMN statement_lines.statement IS
'the statement that it belongs to';
COMMENT ON COLUMN statement_lines.line IS
'the number of the line in the file; what the gateway kept for it is a row of kind fee with the same number';
COMMENT ON COLUMN statement_lines.kind IS
'payment, refund, chargeback, chargeback_reversed, fee, or other: anything else, which a person has to look at';
COMMENT ON COLUMN statement_lines.reference IS
'the gateway''s number: the payment_ref of a payment, the gateway_refund_ref of a refund or chargeback';
COMMENT ON COLUMN statement_lines.payment_ref IS
'of a refund or chargeback: the payment that it belongs to';
COMMENT ON COLUMN statement_lines.our_reference IS
'our number in the line: of a payment the order_id or the attempt_ref, of a refund the refund_ref; null: none';
COMMENT ON COLUMN statement_lines.amount IS
'minor units, as the merchant sees it: what comes is positive, what goes is negative';
COMMENT ON COLUMN statement_lines.currency IS
'three capital letters';
COMMENT ON COLUMN statement_lines.at IS
'when it happened, by the gateway''s clock';
COMMENT ON COLUMN statement_lines.raw IS
'the line as it stands in the file; null for the fee of another line';
COMMENT ON COLUMN statement_lines.outcome IS
'what apply_statement called and what that answered, or the error; null: nothing was called';
COMMENT ON COLUMN statement_lines.applied_at IS
'when apply_statement applied it; null: it did not';

COMMENT ON COLUMN metrics.name IS
'the name of the metric';
COMMENT ON COLUMN metrics.labels IS
'its labels and their values; an empty object if it has none';
COMMENT ON COLUMN metrics.value IS
'the value now';
COMMENT ON COLUMN metrics.help IS
'what it is';
COMMENT ON COLUMN metrics.type IS
'counter: it only grows; gauge: it goes up and down';

-- Roles have again what they had of the functions that were dropped, and what is new in the accesses that they had. In a
-- script GRANT makes all rights of an object the extension's own, which pg_dump leaves out: that is undone.
CREATE TEMPORARY TABLE order_timeout_own_rights ON COMMIT DROP AS
SELECT i.* FROM pg_init_privs i
  JOIN pg_depend d ON (d.classid, d.objid, d.deptype) = (i.classoid, i.objoid, 'e')
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'order_timeout';

SET LOCAL search_path TO pg_catalog, pg_temp;
DO $script$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO %s%s', p.oid::regprocedure,
                      CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END,
                      CASE WHEN bool_or(x.is_grantable) THEN ' WITH GRANT OPTION' END)
          FROM pg_temp.order_timeout_dropped f CROSS JOIN aclexplode(f.rights) x
          JOIN pg_proc p ON p.pronamespace = 'order_timeout'::regnamespace AND p.proname = f.name
         GROUP BY p.oid, x.grantee
        UNION ALL
        SELECT DISTINCT format('GRANT %s TO %s', line, a.role::regrole)
          FROM pg_temp.order_timeout_accesses a CROSS JOIN order_timeout._access_grants(a.access) AS line
         WHERE replace(line, 'order_timeout._', 'order_timeout.') <> ALL (a.lines)    -- what was renamed has its rights
    LOOP
        EXECUTE statement;
    END LOOP;
END
$script$;

UPDATE pg_init_privs i SET initprivs = o.initprivs
  FROM pg_temp.order_timeout_own_rights o
 WHERE (i.classoid, i.objoid, i.objsubid) = (o.classoid, o.objoid, o.objsubid) AND i.initprivs::text <> o.initprivs::text;
-- From 17 on a role is noted in two places.
DELETE FROM pg_shdepend d
 USING pg_temp.order_timeout_own_rights o, pg_database b
 WHERE b.datname = current_database() AND d.dbid = b.oid
   AND (d.classid, d.objid, d.objsubid, d.deptype) = (o.classoid, o.objoid, o.objsubid, 'i')
   AND d.refobjid NOT IN (SELECT x.grantee FROM aclexplode(o.initprivs) x UNION SELECT x.grantor FROM aclexplode(o.initprivs) x);
DROP TABLE pg_temp.order_timeout_dropped, pg_temp.order_timeout_accesses, pg_temp.order_timeout_own_rights;
