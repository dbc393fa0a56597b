\echo Use "ALTER EXTENSION order_timeout UPDATE TO '0.2.0'" to load this file. \quit
-- From 0.1.0 to 0.2.0. Every change of an object in sql/install/ has its counterpart here; test/tap/upgrade.pl compares an
-- upgraded database with a fresh one. README.md in this folder says how each kind of change is written. In short: IF NOT
-- EXISTS for tables and indexes, new columns last, CREATE OR REPLACE for bodies, DROP and CREATE for signatures with the
-- rights kept, GRANT and REVOKE on nothing but what this script creates.
SET LOCAL search_path TO order_timeout, pg_temp;

-- What the schema is for, and what a row of each table is.
COMMENT ON SCHEMA order_timeout IS
'Orders with a deadline, their payments and refunds. The tables are written through the functions only, policies apart.';
COMMENT ON TABLE policies IS
'A named set of rules that orders follow: how long they wait for payment, what becomes of late payments, how refunds are tried again.';
COMMENT ON TABLE orders IS
'An order that must be paid by expires_at: its state, and the sums of what was paid, returned, is owed back and is held.';
COMMENT ON TABLE payments IS
'A payment that a gateway received, once for each (gateway, payment_ref), and what became of it.';
COMMENT ON TABLE refunds IS
'An obligation to give back money of one payment: its amount, its state, and who works on it until when. Rows are never deleted.';
COMMENT ON TABLE events IS
'Something that happened to an order, written in the same transaction; an outbox for other systems.';
COMMENT ON TABLE conflicts IS
'What a gateway said that contradicts what is recorded. Nothing was overwritten; a person looks and calls resolve_conflict.';
COMMENT ON TABLE set_aside IS
'An order that the sweeper could not close, and why; it is left alone until retry_at.';
COMMENT ON TABLE sweeps IS
'A run of the procedure sweep: when it worked, what it did, how far behind it was. Kept for 7 days.';

-- More about what a gateway may have, what a report took, and what a person decided.
ALTER TABLE policies ADD COLUMN IF NOT EXISTS short_tolerance bigint NOT NULL DEFAULT 0 CHECK (short_tolerance >= 0);
ALTER TABLE policies ADD COLUMN IF NOT EXISTS on_short text NOT NULL DEFAULT 'refund' CHECK (on_short IN ('refund', 'hold'));
ALTER TABLE policies ADD COLUMN IF NOT EXISTS on_notified_late text CHECK (on_notified_late IN ('refund', 'reopen', 'hold'));
ALTER TABLE policies ALTER COLUMN refund_max_attempts SET DEFAULT 20;
-- Ten attempts ended after 8.5 hours. A default that was never edited gets what a fresh one has.
UPDATE policies SET refund_max_attempts = 20
 WHERE policy = 'default'
   AND (pay_within, late_rule, on_late, refund_max_attempts, refund_backoff, refund_backoff_max, refund_jitter, refund_lease,
        refund_settle_within) = ('30 minutes', 'until_closed', 'refund', 10, '1 minute', '1 day', 0.1, '5 minutes', '14 days')
   AND orphan_after IS NULL;
CREATE OR REPLACE FUNCTION policies_restore_default() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE order_timeout.policies p
       SET pay_within = NEW.pay_within, late_rule = NEW.late_rule, on_late = NEW.on_late,
           refund_max_attempts = NEW.refund_max_attempts, refund_backoff = NEW.refund_backoff,
           refund_backoff_max = NEW.refund_backoff_max, refund_jitter = NEW.refund_jitter,
           refund_lease = NEW.refund_lease, refund_settle_within = NEW.refund_settle_within,
           orphan_after = NEW.orphan_after, short_tolerance = NEW.short_tolerance, on_short = NEW.on_short,
           on_notified_late = NEW.on_notified_late
     WHERE p.policy = 'default'
       AND (p.pay_within, p.late_rule, p.on_late, p.refund_max_attempts, p.refund_backoff, p.refund_backoff_max,
            p.refund_jitter, p.refund_lease, p.refund_settle_within, p.short_tolerance, p.on_short)
         = ('30 minutes', 'until_closed', 'refund', 20, '1 minute', '1 day', 0.1, '5 minutes', '14 days', 0, 'refund')
       AND p.orphan_after IS NULL AND p.on_notified_late IS NULL;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;

ALTER TABLE payments ADD COLUMN IF NOT EXISTS accepted_at timestamptz;
ALTER TABLE payments DROP CONSTRAINT payments_disposition;
ALTER TABLE payments ADD CONSTRAINT payments_disposition CHECK
    (disposition IN ('applied', 'late', 'surplus', 'wrong_currency', 'orphan', 'held', 'uncounted'));

ALTER TABLE refunds ADD COLUMN IF NOT EXISTS maybe_sent boolean NOT NULL DEFAULT false;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS ended_leases text;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS from_kept bigint NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS from_held bigint NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS withdrawn boolean NOT NULL DEFAULT false;
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

-- Errors whose message names what it is about, and whose HINT says what to do.
CREATE OR REPLACE FUNCTION policies_keep_used() RETURNS trigger
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
    LOCK TABLE order_timeout.orders IN SHARE ROW EXCLUSIVE MODE;
    IF order_timeout.policy_in_use(OLD.policy) THEN
        RAISE EXCEPTION 'policy "%" is still in use', OLD.policy
            USING ERRCODE = 'foreign_key_violation', DETAIL = 'There are orders that follow it.',
                  HINT = 'Change its settings instead, and give new orders another policy.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

CREATE OR REPLACE FUNCTION access_grants(access text) RETURNS SETOF text
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
    IF access IS NULL THEN
        RAISE EXCEPTION 'access must not be null'
            USING ERRCODE = '22004', HINT = 'Use one of: application, worker, operator, reader.';
    ELSIF names IS NULL THEN
        RAISE EXCEPTION 'invalid access: "%"', access
            USING ERRCODE = '22023', HINT = 'Use one of: application, worker, operator, reader.';
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

CREATE OR REPLACE FUNCTION change_access(statement text, role_name text, access text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    privileges text[] := ARRAY(SELECT order_timeout.access_grants(access));
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
