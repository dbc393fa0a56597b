-- A user's AFTER trigger on our tables that makes a call about the very order that the call which fired it is about:
-- either both calls stand, or the outer one fails as a whole. Never does one write over what the other one did.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

-- Orders in the states from which the outer calls start
CREATE FUNCTION t.prepare(start text, o text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF start = 'orphan' THEN
        PERFORM t.pay(o, o || '-1', 40);
        RETURN;
    END IF;
    PERFORM t.create_order(o, 100, CASE start WHEN 'held' THEN 'hold' ELSE 'default' END);
    CASE start
        WHEN 'part' THEN PERFORM t.pay(o, o || '-1', 40);
        WHEN 'due' THEN PERFORM t.pay(o, o || '-1', 40), t.pass_deadline(o);
        WHEN 'paid' THEN PERFORM t.pay(o, o || '-1', 100);
        WHEN 'owing' THEN PERFORM t.pay(o, o || '-1', 130);
        WHEN 'held' THEN PERFORM t.expire(o), t.pay(o, o || '-1', 100);
    END CASE;
END
$$;
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

CREATE FUNCTION t.in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('t.inner') <> '' AND to_jsonb(NEW) ->> TG_ARGV[0] = current_setting('t.order') THEN
        EXECUTE set_config('t.statement', current_setting('t.inner'), true)
             || CASE set_config('t.inner', '', true) WHEN '' THEN '' END;
    END IF;
    RETURN NULL;
END
$$;

-- What the last event says of the order's state, against its row
CREATE FUNCTION t.last_event_agrees(o text) RETURNS boolean LANGUAGE sql AS $$
    SELECT (SELECT CASE e.type WHEN 'order.created' THEN 'pending' WHEN 'order.reopened' THEN 'paid'
                               ELSE substr(e.type, 7) END
              FROM order_timeout.events e
             WHERE e.aggregateid = o AND e.type IN ('order.created', 'order.paid', 'order.reopened', 'order.expired', 'order.cancelled')
             ORDER BY e.id DESC LIMIT 1)
           IS NOT DISTINCT FROM (SELECT state FROM order_timeout.orders WHERE order_id = o)
$$;

-- What is wrong after an outer call in whose midst a trigger makes an inner one; null if nothing is
CREATE FUNCTION t.nested(o text, start text, tab text, kind text, outer_call text, inner_call text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    problem text;
    key text := CASE tab WHEN 'events' THEN 'aggregateid' ELSE 'order_id' END;
BEGIN
    PERFORM t.prepare(start, o);
    PERFORM set_config('t.order', o, true),
            set_config('t.inner', 'SELECT * FROM order_timeout.' || replace(replace(inner_call, '%o', o), '%r', coalesce(t.ref(o || '-1'), 'none')), true);
    EXECUTE format('CREATE TRIGGER nested AFTER %s ON order_timeout.%I FOR EACH ROW EXECUTE FUNCTION t.in_trigger(%L)', kind, tab, key);
    BEGIN
        EXECUTE 'SELECT * FROM order_timeout.' || replace(replace(outer_call, '%o', o), '%r', coalesce(t.ref(o || '-1'), 'none'));
    EXCEPTION WHEN OTHERS THEN
        problem := CASE WHEN SQLSTATE NOT IN ('27000', 'OT001', 'OT002', 'OT003', 'OT004', 'OT005', 'OT006', 'OT009') THEN SQLSTATE || ' ' || SQLERRM END;
    END;
    EXECUTE format('DROP TRIGGER nested ON order_timeout.%I', tab);
    problem := coalesce(problem, (SELECT string_agg(v.kind || ' ' || v.problem, ', ') FROM order_timeout.funds_violations() v));
    IF EXISTS (SELECT FROM order_timeout.orders WHERE order_id = o) AND NOT t.last_event_agrees(o) THEN
        problem := concat_ws(', ', problem, 'the events say another state than ' || t.sums(o));
    END IF;
    RETURN problem;
END
$$;

CREATE TEMPORARY TABLE outer_calls (start text, outer_call text);
INSERT INTO outer_calls VALUES
    ('part', $$record_payment('%o', 'bank', '%o-2', 60, 'CNY')$$),
    ('part', $$record_payment('%o', 'bank', '%o-2', 90, 'CNY')$$),
    ('part', $$record_payment('%o', 'bank', '%o-2', 10, 'CNY')$$),
    ('part', $$record_payment('%o', 'bank', '%o-2', 10, 'EUR')$$),
    ('part', $$cancel_order('%o')$$),
    ('part', $$extend_order('%o', '2999-01-01 00:00+00')$$),
    ('part', $$record_refund('bank', '%o-1', '%o-ext', 20)$$),
    ('due', $$expire_order('%o')$$),
    ('due', $$sweep_once()$$),
    ('orphan', $$create_order('%o', 100, 'CNY')$$),
    ('orphan', $$refund_orphan('bank', '%o-1')$$),
    ('paid', $$record_payment('%o', 'bank', '%o-2', 30, 'CNY')$$),
    ('paid', $$request_refund('%o', 'key', 60)$$),
    ('paid', $$record_refund('bank', '%o-1', '%o-ext', 60)$$),
    ('owing', $$complete_refund('%r', 'succeeded')$$),
    ('owing', $$claim_refunds('worker', 100)$$),
    ('owing', $$record_refund('bank', '%o-1', '%o-ext', 20)$$),
    ('held', $$resolve_held('bank', '%o-1', 'accept')$$),
    ('held', $$resolve_held('bank', '%o-1', 'refund')$$);
CREATE TEMPORARY TABLE inner_calls (inner_call text);
INSERT INTO inner_calls VALUES
    ($$record_payment('%o', 'wallet', '%o-credit', 40, 'CNY')$$),
    ($$record_payment('%o', 'wallet', '%o-credit', 100, 'CNY')$$),
    ($$cancel_order('%o', 'fraud')$$),
    ($$extend_order('%o', '2998-01-01 00:00+00')$$),
    ($$request_refund('%o', 'inner', 50)$$),
    ($$record_refund('bank', '%o-1', '%o-inner', 15)$$),
    ($$complete_refund('%r', 'succeeded')$$),
    ($$complete_refund(coalesce((SELECT refund_ref FROM order_timeout.refunds WHERE order_id = '%o' ORDER BY created_at DESC LIMIT 1), 'none'), 'succeeded')$$),
    ($$create_order('%o', 100, 'CNY')$$),
    ($$resolve_held('bank', '%o-1', 'refund')$$);
CREATE TEMPORARY TABLE firings (tab text, kind text);
INSERT INTO firings SELECT tab, kind FROM unnest('{orders,payments,refunds}'::text[]) AS tab, unnest('{INSERT,UPDATE}'::text[]) AS kind;
INSERT INTO firings VALUES ('events', 'INSERT');

-- One test an outer call and a table; what is wrong is listed
SELECT is(string_agg(format('%s: %s', inner_call, problem), E'\n' ORDER BY inner_call) FILTER (WHERE problem <> ''), NULL,
          format('inside %s of %s, %s %s', regexp_replace(outer_call, '%o|%r', 'x', 'g'), start, kind, tab))
  FROM (SELECT start, outer_call, tab, kind, inner_call, t.nested('n' || row_number() OVER (), start, tab, kind, outer_call, inner_call) AS problem
          FROM outer_calls, firings, inner_calls) AS y
 GROUP BY start, outer_call, tab, kind ORDER BY start, outer_call, tab, kind;

-- The two that were seen first: a credit that is paid while a payment is recorded, and a refund that is done at once
SELECT t.prepare('part', 'credit');
SELECT set_config('t.order', 'credit', true), set_config('t.inner',
       $$SELECT * FROM order_timeout.record_payment('credit', 'wallet', 'credit-2', 40, 'CNY')$$, true);
CREATE TRIGGER nested AFTER INSERT ON order_timeout.payments FOR EACH ROW EXECUTE FUNCTION t.in_trigger('order_id');
SELECT throws_ok($$SELECT * FROM order_timeout.record_payment('credit', 'bank', 'credit-3', 60, 'CNY')$$, '27000', NULL,
                 'a payment whose trigger pays the same order is refused');
DROP TRIGGER nested ON order_timeout.payments;
SELECT is(t.sums('credit'), 'pending 40 = 0 + 0 + 0 + 40', 'and nothing is written');
SELECT t.prepare('part', 'instant');
SELECT set_config('t.order', 'instant', true), set_config('t.inner', $$SELECT order_timeout.cancel_order('instant')$$, true);
CREATE TRIGGER nested AFTER INSERT ON order_timeout.events FOR EACH ROW EXECUTE FUNCTION t.in_trigger('aggregateid');
SELECT lives_ok($$SELECT * FROM order_timeout.extend_order('instant', '2999-01-01 00:00+00')$$, 'a call about what is written already stands next to it');
DROP TRIGGER nested ON order_timeout.events;
SELECT is(t.sums('instant'), 'cancelled 40 = 0 + 40 + 0 + 0', 'and both are done');
SELECT t.sound('after calls in triggers');
SELECT finish();
ROLLBACK;
