-- A user's triggers on our tables: what they raise reaches the caller, or sets the order aside, whatever its SQLSTATE;
-- a write that they suppress is an error and not half a booking.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- Errors that look like the server's or a race's, and are the trigger's: one order has them, the others are closed.
CREATE FUNCTION t.raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not %', NEW.order_id USING ERRCODE = replace(NEW.order_id, 'bad ', '');
END
$$;
CREATE TRIGGER raise BEFORE UPDATE ON order_timeout.orders
    FOR EACH ROW WHEN (NEW.state = 'expired' AND NEW.order_id LIKE 'bad %') EXECUTE FUNCTION t.raise();
CREATE FUNCTION t.sweep_past(sqlstate text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(o, 100), t.pay(o, o, 60), t.pass_deadline(o)
       FROM unnest(ARRAY['before ' || sqlstate, 'bad ' || sqlstate, 'behind ' || sqlstate]) AS o;
    RETURN (SELECT format('%s expired, %s failed', r.expired, r.failed) FROM order_timeout.sweep_once() AS r);
EXCEPTION WHEN OTHERS THEN
    RETURN 'sweep_once failed: ' || SQLERRM;
END
$$;
CREATE TEMPORARY TABLE states AS
SELECT unnest(ARRAY['53300', '55P03', '40001', '40P01', '25006', 'P0001']) AS sqlstate;
SELECT is(t.sweep_past(sqlstate), '2 expired, 1 failed', sqlstate || ': the others are closed') FROM states;
SELECT is((SELECT why FROM order_timeout.attention AS a WHERE a.order_id = 'bad ' || sqlstate AND kind = 'set_aside'),
          format('%s: not bad %s', sqlstate, sqlstate), sqlstate || ': it is set aside with the reason') FROM states;
SELECT is(t.sums('bad ' || sqlstate), 'pending 60 = 0 + 0 + 0 + 60', sqlstate || ': as it was') FROM states;
SELECT throws_ok(format('SELECT order_timeout.expire_order(%L)', 'bad ' || sqlstate), sqlstate, NULL,
                 sqlstate || ': who closes it by hand is told') FROM states;
DROP TRIGGER raise ON order_timeout.orders;
SELECT t.sound();

-- A BEFORE trigger that returns NULL
SELECT t.create_order('open', 100), t.pay('open', 'open-1', 10), t.create_order('paid', 100), t.pay('paid', 'paid-1', 100);
SELECT t.create_order('due', 100), t.pay('due', 'due-1', 10), t.pass_deadline('due');
SELECT t.create_order('held', 100), t.expire('held');
SELECT t.refund_in('processing', 'busy') AS busy \gset
SELECT t.refund_in('needs_attention', 'stuck') AS stuck \gset
UPDATE order_timeout.policies SET on_late = 'hold' WHERE policy = 'default';
SELECT t.pay('held', 'held-1', 100), t.pay('none', 'orph-1', 10), t.pay('none', 'orph-2', 10),
       t.pay('none', 'orph-3', 10), order_timeout.record_refund('bank', 'orph-3', 'orph-3-ext', 4);
CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- What a call comes to while writes of one kind to a table are suppressed
CREATE FUNCTION t.suppressed(kind text, tab text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := t.everything();
    ended text := 'succeeded';
BEGIN
    EXECUTE format('CREATE TRIGGER nothing BEFORE %s ON order_timeout.%I FOR EACH ROW EXECUTE FUNCTION t.nothing()', kind, tab);
    BEGIN
        EXECUTE 'SELECT * FROM order_timeout.' || call;
    EXCEPTION WHEN OTHERS THEN
        ended := SQLSTATE;
    END;
    EXECUTE format('DROP TRIGGER nothing ON order_timeout.%I', tab);
    RETURN ended || CASE t.everything() WHEN before THEN '' ELSE ' and rows changed' END;
END
$$;
SELECT is(t.suppressed('UPDATE', tab, call), '27000', format('no changes in %s: %s', tab, regexp_replace(call, 'rf_\w+', 'R', 'g'))) FROM (VALUES
    ('orders', $$record_payment('open', 'bank', 'open-2', 10, 'CNY')$$),
    ('orders', $$record_payment('open', 'bank', 'open-2', 90, 'CNY')$$),
    ('orders', $$record_payment('paid', 'bank', 'paid-2', 10, 'CNY')$$),
    ('orders', $$cancel_order('open')$$),
    ('orders', $$expire_order('due')$$),
    ('orders', $$extend_order('open', '2999-01-01 00:00+00')$$),
    ('orders', $$request_refund('paid', 'k', 10)$$),
    ('orders', format('complete_refund(%L, ''succeeded'')', :'busy')),
    ('orders', format('settle_refund(%L, ''in cash'')', :'stuck')),
    ('orders', $$record_refund('bank', 'paid-1', 'ext-1', 10)$$),
    ('orders', $$resolve_held('bank', 'held-1', 'refund')$$),
    ('orders', $$accept_payment('bank', 'held-1')$$),
    ('orders', $$accept_short('open')$$),
    ('orders', $$assign_orphan('bank', 'orph-1', 'open')$$),
    ('payments', $$cancel_order('open')$$),
    ('payments', $$expire_order('due')$$),
    ('payments', $$request_refund('paid', 'k', 10)$$),
    ('payments', format('complete_refund(%L, ''succeeded'')', :'busy')),
    ('payments', $$record_refund('bank', 'paid-1', 'ext-1', 10)$$),
    ('payments', $$resolve_held('bank', 'held-1', 'accept')$$),
    ('payments', $$accept_payment('bank', 'held-1')$$),
    ('payments', $$refund_orphan('bank', 'orph-2')$$),
    ('payments', $$assign_orphan('bank', 'orph-1', 'open')$$),
    ('payments', $$create_order('none', 100, 'CNY')$$),
    ('refunds', format('complete_refund(%L, ''succeeded'')', :'busy')),
    ('refunds', format('complete_refund(%L, ''failed'', (SELECT lease_token FROM order_timeout.refunds WHERE refund_ref = %L))',
                       :'busy', :'busy')),
    ('refunds', format('retry_refund(%L)', :'stuck')),
    ('refunds', format('settle_refund(%L, ''in cash'')', :'stuck')),
    ('refunds', format('reverse_refund(%L, ''dead'')', :'stuck')),
    ('refunds', $$assign_orphan('bank', 'orph-3', 'open')$$)
) AS x (tab, call);

-- The same for rows that would be new
SELECT is(t.suppressed('INSERT', tab, call), '27000', format('no new rows in %s: %s', tab, regexp_replace(call, 'rf_\w+', 'R', 'g'))) FROM (VALUES
    ('orders', $$create_order('new', 10, 'EUR')$$),
    ('payments', $$record_payment('open', 'bank', 'open-2', 10, 'EUR')$$),
    ('events', $$create_order('new', 10, 'EUR')$$),
    ('refunds', $$record_payment('paid', 'bank', 'paid-2', 10, 'CNY')$$),
    ('refunds', $$cancel_order('open')$$),
    ('refunds', $$request_refund('paid', 'k', 10)$$),
    ('refunds', $$record_refund('bank', 'paid-1', 'ext-1', 10)$$),
    ('refunds', $$refund_orphan('bank', 'orph-2')$$),
    ('refunds', format('reverse_refund(%L, ''dead'')', :'stuck')),
    ('conflicts', $$record_refund('bank', 'paid-1', 'ext-1', 500)$$)
) AS x (tab, call);
-- The sweeper sets aside what it cannot write, with that code.
SAVEPOINT suppressed;
CREATE TRIGGER nothing BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION t.nothing();
SELECT is((SELECT failed FROM order_timeout.sweep_once()), 1::bigint, 'no changes in orders: sweep_once');
SELECT is((SELECT sqlstate FROM order_timeout.set_aside WHERE order_id = 'due'), '27000', 'is set aside');
ROLLBACK TO suppressed;
CREATE TRIGGER nothing BEFORE INSERT ON order_timeout.events FOR EACH ROW EXECUTE FUNCTION t.nothing();
SELECT is_empty($$SELECT * FROM order_timeout.claim_refunds('worker')$$, 'no new rows in events: claim_refunds');
SELECT set_eq('SELECT sqlstate FROM order_timeout.set_aside_refunds', ARRAY['27000'], 'they are set aside');
ROLLBACK TO suppressed;
SELECT t.sound('after all that was suppressed');

-- Calls that a trigger makes while the call that fired it has rows to write, one that succeeds and one that fails so too
SELECT t.create_order(o, 100) FROM unnest(ARRAY['outer', 'inner', 'refused']) AS o;
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON order_timeout.refunds
    FOR EACH ROW WHEN (NEW.order_id = 'refused') EXECUTE FUNCTION t.refuse();
CREATE FUNCTION t.calls() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM t.pay('refused', 'refused-1', 150);
    EXCEPTION WHEN raise_exception THEN
        PERFORM t.pay('inner', 'inner-1', 150);
    END;
    RETURN NULL;
END
$$;
CREATE TRIGGER calls AFTER INSERT ON order_timeout.refunds
    FOR EACH ROW WHEN (NEW.order_id = 'outer') EXECUTE FUNCTION t.calls();
SELECT lives_ok($$SELECT t.pay('outer', 'outer-1', 150)$$, 'a call in whose midst others are made');
DROP TRIGGER calls ON order_timeout.refunds;
DROP TRIGGER refuse ON order_timeout.refunds;
SELECT is(t.sums(o), expected, o) FROM (VALUES
    ('outer', 'paid 150 = 0 + 50 + 0 + 100'),
    ('inner', 'paid 150 = 0 + 50 + 0 + 100'),
    ('refused', 'pending 0 = 0 + 0 + 0 + 0')) AS x (o, expected);
SELECT t.sound('after calls inside calls');

-- What belongs to the user runs as the caller: triggers too, of every kind.
CREATE TABLE t.ran (who name, session name, what text);
CREATE FUNCTION t.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.ran VALUES (current_user, session_user, format('%s %s %s', tg_when, tg_op, tg_table_name));
    RETURN NEW;
END
$$;
SELECT format('CREATE TRIGGER note_%1$s %1$s INSERT OR UPDATE ON order_timeout.%2$s FOR EACH ROW EXECUTE FUNCTION t.note()', w, tab)
  FROM unnest(ARRAY['before', 'after']) AS w, unnest(ARRAY['orders', 'payments', 'refunds', 'events']) AS tab \gexec
CREATE ROLE order_timeout_test_caller;
SELECT order_timeout.grant_access('order_timeout_test_caller', 'application');
GRANT USAGE ON SCHEMA t TO order_timeout_test_caller;
GRANT INSERT ON t.ran TO order_timeout_test_caller;
SET ROLE order_timeout_test_caller;
SELECT order_timeout.create_order('called', 100, 'EUR');
SELECT order_timeout.record_payment('called', 'bank', 'called-1', 150, 'EUR');
RESET ROLE;
SELECT set_eq('SELECT DISTINCT who FROM t.ran', ARRAY['order_timeout_test_caller'::name], 'triggers run as who called');
SELECT set_eq('SELECT DISTINCT what FROM t.ran',
              ARRAY['BEFORE INSERT orders', 'AFTER INSERT orders', 'BEFORE UPDATE orders', 'AFTER UPDATE orders',
                    'BEFORE INSERT payments', 'AFTER INSERT payments', 'BEFORE INSERT refunds', 'AFTER INSERT refunds',
                    'BEFORE INSERT events', 'AFTER INSERT events'], 'all of them ran');

-- A trigger cannot change the role that the call goes on with.
CREATE FUNCTION t.become() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET ROLE order_timeout_test_caller; RETURN NEW; END $$;
CREATE TRIGGER become BEFORE INSERT ON order_timeout.events FOR EACH ROW EXECUTE FUNCTION t.become();
SELECT throws_ok($$SELECT order_timeout.create_order('becoming', 1, 'EUR')$$, '42501', NULL, 'no SET ROLE in a trigger');
SELECT is(current_user, session_user, 'and the role is as it was');
SELECT finish();
ROLLBACK;
