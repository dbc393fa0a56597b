-- A hostile search_path, operators and temporary tables of the same names, and a role that may call one function only.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
-- Roles are the cluster's; this one goes with the transaction.
CREATE ROLE order_timeout_test_clerk;
GRANT USAGE ON SCHEMA order_timeout TO order_timeout_test_clerk;
GRANT EXECUTE ON FUNCTION order_timeout.record_payment(text, text, text, bigint, text, timestamptz, jsonb, text) TO order_timeout_test_clerk;

-- Runs a query as the clerk: its first row, or its SQLSTATE; and who we are right after it.
CREATE FUNCTION t.as_clerk(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer record;
    me text;
BEGIN
    SET LOCAL ROLE order_timeout_test_clerk;
    BEGIN
        EXECUTE query INTO answer;
        me := current_user;
    EXCEPTION WHEN OTHERS THEN
        me := current_user;
        RESET ROLE;
        RETURN SQLSTATE || ' as ' || me;
    END;
    RESET ROLE;
    RETURN answer::text || ' as ' || me;
END
$$;

-- EXECUTE on one function is all it takes
SELECT t.create_order('o', 100), t.create_order('e', 100), t.expire('e');
SELECT is(t.as_clerk($$SELECT outcome, state FROM order_timeout.record_payment('o', 'bank', 'p1', 60, 'CNY')$$),
          '(partial,pending) as order_timeout_test_clerk', 'a role that may call record_payment and nothing else');
SELECT is(t.as_clerk($$SELECT outcome, refund_amount FROM order_timeout.record_payment('e', 'bank', 'p2', 60, 'CNY')$$),
          '(late,60) as order_timeout_test_clerk', 'refunds and events are written for it');
SELECT is(t.as_clerk($$SELECT outcome FROM order_timeout.record_payment('nobody', 'bank', 'p3', 60, 'CNY')$$),
          '(orphan) as order_timeout_test_clerk', 'orphans too');
SELECT is(t.as_clerk($$SELECT outcome FROM order_timeout.record_payment('o', 'bank', 'p1', 60, 'CNY')$$),
          '(duplicate) as order_timeout_test_clerk', 'it may repeat itself');
SELECT is(t.as_clerk($$SELECT outcome FROM order_timeout.record_payment('o', 'bank', 'p4', 0, 'CNY')$$),
          '22023 as order_timeout_test_clerk', 'an error leaves it who it was');
SELECT is(t.as_clerk($$SELECT outcome FROM order_timeout.record_payment('o', 'bank', 'p1', 61, 'CNY')$$),
          'OT003 as order_timeout_test_clerk', 'also one found after rows were read');
SELECT is(t.as_clerk(query), '42501 as order_timeout_test_clerk', query) FROM unnest(ARRAY[
    'SELECT * FROM order_timeout.orders', 'SELECT * FROM order_timeout.payments', 'SELECT * FROM order_timeout.refunds',
    'SELECT * FROM order_timeout.policies', 'SELECT * FROM order_timeout.events', 'SELECT * FROM order_timeout.health',
    'SELECT * FROM order_timeout.attention', 'SELECT nextval(''order_timeout.events_id_seq'')',
    'UPDATE order_timeout.orders SET paid = 0', 'DELETE FROM order_timeout.payments', 'INSERT INTO order_timeout.policies VALUES (''x'')',
    'SELECT * FROM order_timeout.create_order(''x'', 1, ''CNY'')', 'SELECT * FROM order_timeout.cancel_order(''o'')',
    'SELECT * FROM order_timeout.claim_refunds(''w'')', 'SELECT * FROM order_timeout.funds(''o'')',
    'SELECT * FROM order_timeout.sweep_once()', 'SELECT * FROM order_timeout.funds_violations()',
    'SELECT * FROM order_timeout.grant_access(''order_timeout_test_clerk'', ''operator'')']) AS query;
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc AS p, LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
                   WHERE p.pronamespace = 'order_timeout'::regnamespace AND a.grantee = 0$$, 'no function is PUBLIC''s');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class AS c, LATERAL aclexplode(c.relacl) AS a
                   WHERE c.relnamespace = 'order_timeout'::regnamespace AND a.grantee = 0$$, 'nor a table, view or sequence');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
                   WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.prosecdef AND p.prorettype <> 'trigger'::regtype$$,
                'the functions are SECURITY INVOKER');

-- A user's trigger that raises, in the middle of the call
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no' USING ERRCODE = 'P0042';
END
$$;
GRANT USAGE ON SCHEMA t TO order_timeout_test_clerk;
CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT is(t.as_clerk($$SELECT outcome FROM order_timeout.record_payment('o', 'bank', 'p5', 40, 'CNY')$$),
          'P0042 as order_timeout_test_clerk', 'a user''s trigger that raises leaves it who it was');
DROP TRIGGER refuse ON order_timeout.orders;
SELECT is(t.sums('o'), 'pending 60 = 0 + 0 + 0 + 60', 'and nothing is written');

-- grant_access
SELECT order_timeout.grant_access('order_timeout_test_clerk', 'worker');
SELECT matches(t.as_clerk('SELECT payment_ref, action FROM order_timeout.claim_refunds(''w'')'), '^.p2,submit. as', 'a worker may claim');
SELECT is(t.as_clerk('SELECT * FROM order_timeout.cancel_order(''o'')'), '42501 as order_timeout_test_clerk', 'and not cancel');
SELECT order_timeout.revoke_access('order_timeout_test_clerk', 'worker');
SELECT is(t.as_clerk('SELECT * FROM order_timeout.claim_refunds(''w'')'), '42501 as order_timeout_test_clerk', 'until it is taken away');
SELECT order_timeout.grant_access('order_timeout_test_clerk', 'reader');
SELECT is(t.as_clerk('SELECT paid FROM order_timeout.orders WHERE order_id = ''o'''), '(60) as order_timeout_test_clerk', 'a reader reads');
SELECT is(t.as_clerk('SELECT pending FROM order_timeout.health'), '(1) as order_timeout_test_clerk', 'the views too');
SELECT is(t.as_clerk('UPDATE order_timeout.orders SET paid = 0'), '42501 as order_timeout_test_clerk', 'and writes nothing');
SELECT order_timeout.revoke_access('order_timeout_test_clerk', 'reader');
SELECT order_timeout.grant_access('order_timeout_test_clerk', 'application');
SELECT is(t.as_clerk('SELECT outcome FROM order_timeout.create_order(''app'', 1, ''CNY'')'), '(created) as order_timeout_test_clerk',
          'an application creates orders');
SELECT is(t.as_clerk('SELECT * FROM order_timeout.orders'), '42501 as order_timeout_test_clerk', 'and sees no table');
SELECT order_timeout.grant_access('order_timeout_test_clerk', 'operator');
SELECT is(t.as_clerk('SELECT expired FROM order_timeout.sweep_once()'), '(0) as order_timeout_test_clerk', 'an operator sweeps');
SELECT is(t.as_clerk('UPDATE order_timeout.policies SET pay_within = ''1 hour'' RETURNING policy'), '(default) as order_timeout_test_clerk',
          'and edits policies');
SELECT is(t.as_clerk('DELETE FROM order_timeout.refunds'), '42501 as order_timeout_test_clerk', 'but writes no other table');

-- Everything that a name could be mistaken for, each a trap
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'captured by table %', TG_TABLE_NAME;
END
$$;
DO $traps$
DECLARE
    name text;
    operand text;
BEGIN
    FOREACH name IN ARRAY ARRAY['orders', 'payments', 'refunds', 'policies', 'events', 'conflicts', 'set_aside', 'sweeps'] LOOP
        EXECUTE format('CREATE TABLE evil.%1$I (LIKE order_timeout.%1$I)', name);
        EXECUTE format('CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON evil.%I FOR EACH STATEMENT EXECUTE FUNCTION evil.trap()', name);
    END LOOP;
    FOREACH operand IN ARRAY ARRAY['text', 'bigint', 'integer', 'timestamptz', 'interval', 'boolean', 'jsonb'] LOOP
        EXECUTE format($f$CREATE FUNCTION evil.trap(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql AS
                          'BEGIN RAISE EXCEPTION ''captured by an operator on %1$s''; END'$f$, operand);
        FOREACH name IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '+', '-', '*', '||', '~', '&&'] LOOP
            EXECUTE format('CREATE OPERATOR evil.%1$s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = evil.trap)', name, operand);
        END LOOP;
    END LOOP;
    EXECUTE $f$CREATE FUNCTION evil.trap_plus(timestamptz, interval) RETURNS timestamptz LANGUAGE plpgsql AS
               'BEGIN RAISE EXCEPTION ''captured by + on a time''; END'$f$;
    CREATE OPERATOR evil.+ (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = evil.trap_plus);
    CREATE OPERATOR evil.- (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = evil.trap_plus);
    FOREACH name IN ARRAY ARRAY['clock_timestamp() RETURNS timestamptz', 'now() RETURNS timestamptz', 'gen_random_uuid() RETURNS uuid',
                                'random() RETURNS float8', 'nextval(regclass) RETURNS bigint', 'nextval(text) RETURNS bigint',
                                'hashtextextended(text, bigint) RETURNS bigint', 'hashtext(text) RETURNS integer',
                                'pg_advisory_xact_lock(bigint) RETURNS void', 'pg_advisory_xact_lock(integer, integer) RETURNS void',
                                'jsonb_build_object(VARIADIC text[]) RETURNS jsonb', 'to_jsonb(text) RETURNS jsonb',
                                'octet_length(text) RETURNS integer', 'length(text) RETURNS integer', 'lower(text) RETURNS text',
                                'record_payment(text, text, text, bigint, text, timestamptz, jsonb, text) RETURNS text'] LOOP
        EXECUTE format($f$CREATE FUNCTION evil.%s LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''captured by a function''; END'$f$, name);
    END LOOP;
END
$traps$;
GRANT ALL ON SCHEMA evil TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC;

-- The temporary tables are the clerk's own; plain, so that a row that strays into one is seen.
SET LOCAL ROLE order_timeout_test_clerk;
CREATE TEMP TABLE orders (order_id text, policy text, state text, amount bigint, currency text, paid bigint, refunded bigint,
    refund_pending bigint, held bigint, expires_at timestamptz, created_at timestamptz, settled_at timestamptz, close_reason text, metadata jsonb);
CREATE TEMP TABLE payments (gateway text, payment_ref text, order_id text, amount bigint);
CREATE TEMP TABLE refunds (refund_ref text, order_id text);
CREATE TEMP TABLE policies (policy text, pay_within interval, late_rule text, on_late text);
CREATE TEMP TABLE events (id bigint, aggregatetype text DEFAULT 'order', aggregateid text, type text, payload jsonb, created_at timestamptz);
INSERT INTO pg_temp.orders VALUES ('hostile', 'default', 'pending', 1, 'CNY', 0, 0, 0, 0, '2999-01-01', now());
INSERT INTO pg_temp.policies VALUES ('default', '1 year', 'until_closed', 'reopen');
RESET ROLE;
SELECT order_timeout.grant_access('order_timeout_test_clerk', 'worker');
SELECT t.create_order('hostile', 100), t.create_order('hostile late', 100), t.expire('hostile late'), t.create_order('hostile soon', 100);
UPDATE order_timeout.policies SET remind_before = '2 hours' WHERE policy = 'default';

-- Between here and the next SET the test itself can't use an operator.
SET LOCAL search_path = evil, pg_temp, pg_catalog, public;
SET LOCAL ROLE order_timeout_test_clerk;
SELECT outcome AS o1 FROM order_timeout.create_order('made there', 100, 'CNY', '1 hour') \gset
SELECT outcome AS o2 FROM order_timeout.record_payment('hostile', 'bank', 'h1', 60, 'CNY') \gset
SELECT outcome AS o3 FROM order_timeout.record_payment('hostile', 'bank', 'h2', 60, 'CNY', '2026-01-01 00:00+00', '{"a": 1}') \gset
SELECT outcome AS o4 FROM order_timeout.record_payment('hostile late', 'bank', 'h3', 100, 'CNY') \gset
SELECT outcome AS o5 FROM order_timeout.record_payment('made there', 'bank', 'h4', 1, 'EUR') \gset
SELECT outcome AS o6 FROM order_timeout.extend_order('made there', '2999-01-01') \gset
SELECT outcome AS o7 FROM order_timeout.cancel_order('made there', 'why') \gset
SELECT outcome AS o8 FROM order_timeout.expire_order('hostile late') \gset
SELECT outcome AS o9 FROM order_timeout.request_refund('hostile', 'k', 10) \gset
SELECT refund_ref AS ref, lease_token AS token FROM order_timeout.claim_refunds('w', 1) \gset
SELECT outcome AS o10 FROM order_timeout.complete_refund(:'ref', 'failed', :'token') \gset
SELECT outcome AS o11 FROM order_timeout.complete_refund(:'ref', 'succeeded', gateway_refund_ref => 'g') \gset
SELECT outcome AS o12 FROM order_timeout.reverse_refund(:'ref', 'why') \gset
SELECT outcome AS o13 FROM order_timeout.record_refund('bank', 'h1', 'g2', 5) \gset
SELECT outcome AS o14 FROM order_timeout.record_payment('made later', 'bank', 'h5', 100, 'CNY') \gset
SELECT state AS o15 FROM order_timeout.create_order('made later', 100, 'CNY') \gset
SELECT expired AS o16 FROM order_timeout.sweep_once() \gset
SELECT state AS o17 FROM order_timeout.funds('hostile') \gset
SELECT type AS o18 FROM order_timeout.history('hostile') LIMIT 1 \gset
SELECT count(*) AS o19 FROM order_timeout.funds_violations() \gset
UPDATE order_timeout.policies SET policy = 'default';
RESET ROLE;
SET LOCAL search_path = "$user", public;

SELECT is(concat_ws(' ', :'o1', :'o2', :'o3', :'o4', :'o5', :'o6', :'o7', :'o8', :'o9', :'o10', :'o11', :'o12', :'o13', :'o14', :'o15'),
          'created partial paid late wrong_currency extended cancelled already_closed accepted recorded recorded reversed recorded orphan paid',
          'nothing is captured');
SELECT is(concat_ws(' ', :'o16', :'o17', :'o19'), '0 paid 0', 'nor by the sweep and the proof');
SELECT is((SELECT count(*) FROM order_timeout.events WHERE aggregateid = 'hostile soon' AND type = 'order.due_soon'), 1::bigint,
          'nor by a reminder');
SELECT is(t.sums('hostile'), 'paid 120 = 5 + 30 + 0 + 85', 'the real tables have it all');
SELECT is((SELECT count(*) FROM pg_temp.orders) || ' ' || (SELECT count(*) FROM pg_temp.payments) || ' ' || (SELECT count(*) FROM pg_temp.refunds)
          || ' ' || (SELECT count(*) FROM pg_temp.events), '1 0 0 0', 'the temporary ones have nothing');
SELECT is((SELECT sum(paid) FROM pg_temp.orders), 0::numeric, 'and are as they were');
SELECT t.sound();
SELECT finish();
ROLLBACK;
