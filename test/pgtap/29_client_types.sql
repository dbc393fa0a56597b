-- Arguments of other types, as clients declare them: what needs a cast (doc/reference.md), and that the cast is enough.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

CREATE FUNCTION t.outcome(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    EXECUTE format('SELECT c.outcome FROM order_timeout.create_order(currency => %L, %s) c', 'EUR', arguments) INTO outcome;
    DELETE FROM order_timeout.orders;
    RETURN outcome;
EXCEPTION WHEN undefined_function OR invalid_text_representation THEN
    RETURN SQLSTATE;
END
$$;

SELECT is(t.outcome(a.arguments), '42883', a.arguments) FROM unnest(ARRAY[
    $$order_id => gen_random_uuid(), amount => 1$$, $$order_id => 4711, amount => 1$$, $$order_id => 4711::bigint, amount => 1$$,
    $$order_id => 'a', amount => 12.34$$, $$order_id => 'a', amount => 12::double precision$$,
    $$order_id => 'a', amount => '12'::varchar$$, $$order_id => 'a', amount => 1, expires_in => 1800$$,
    $$order_id => 'a', amount => 1, expires_in => '30 minutes'::varchar$$,
    $$order_id => 'a', amount => 1, expires_at => '2999-01-01'::varchar$$, $$order_id => 'a', amount => 1, expires_at => 32472144000$$,
    $$order_id => 'a', amount => 1, metadata => '{}'::varchar$$, $$order_id => 'a', amount => 1, metadata => '{}'::json$$]) AS a (arguments);
SELECT is(t.outcome($$order_id => 'a', amount => '12.34'$$), '22P02', 'a literal that is no whole number');

SELECT is(t.outcome(a.arguments), 'created', a.arguments) FROM unnest(ARRAY[
    $$order_id => gen_random_uuid()::text, amount => 1$$, $$order_id => 4711::bigint::text, amount => 1$$,
    $$order_id => 'a', amount => (12.34 * 100)::bigint$$, $$order_id => 'a', amount => '12'::varchar::bigint$$,
    $$order_id => 'a', amount => 1, expires_in => make_interval(secs => 1800)$$,
    $$order_id => 'a', amount => 1, expires_in => '30 minutes'::varchar::interval$$,
    $$order_id => 'a', amount => 1, expires_at => '2999-01-01'::varchar::timestamptz$$,
    $$order_id => 'a', amount => 1, expires_at => to_timestamp(32472144000)$$,
    $$order_id => 'a', amount => 1, metadata => '{}'::varchar::jsonb$$, $$order_id => 'a', amount => 1, metadata => '{}'::json::jsonb$$,
    -- What needs none.
    $$order_id => 'a', amount => '12', expires_in => '1800', metadata => '{"a": 1}'$$, $$order_id => 'a', amount => 12::smallint$$,
    $$order_id => 'a'::varchar, amount => 12::integer$$, $$order_id => 'a'::char(3), amount => 12$$,
    $$order_id => 'a', amount => 1, expires_at => '2999-01-01'::timestamp$$,
    $$order_id => 'a', amount => 1, expires_at => '2999-01-01'::date$$]) AS a (arguments);
SELECT finish();
ROLLBACK;
