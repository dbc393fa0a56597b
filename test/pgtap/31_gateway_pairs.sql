-- What each pair of reports about one payment must give, in both orders: the oracle of include/pairs.psql against the
-- functions. A line of output is a state of the refund and a first report; it stands for each second report.
BEGIN;
\ir include/helpers.psql
\ir include/pairs.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

INSERT INTO t.act VALUES
    ('hand out', 'hand out', NULL, false, NULL, NULL),
    ('its time passes', 'lapse', NULL, false, NULL, NULL),
    ('taken back', 'take back', NULL, false, NULL, NULL),
    -- record_refund
    ('external A same', 'record', 'external', false, 'A', '='),
    ('external A less', 'record', 'external', false, 'A', '<'),
    ('external A more', 'record', 'external', false, 'A', '>'),
    ('external B same', 'record', 'external', false, 'B', '='),
    ('chargeback A same', 'record', 'chargeback', false, 'A', '='),
    ('chargeback A of all', 'record', 'chargeback', false, 'A', '#'),
    ('chargeback B same', 'record', 'chargeback', false, 'B', '='),
    -- complete_refund, the gateway's truth
    ('succeeded', 'complete', 'succeeded', false, NULL, NULL),
    ('succeeded A', 'complete', 'succeeded', false, 'A', NULL),
    ('succeeded B', 'complete', 'succeeded', false, 'B', NULL),
    ('succeeded less', 'complete', 'succeeded', false, NULL, '<'),
    ('succeeded A less', 'complete', 'succeeded', false, 'A', '<'),
    ('succeeded more', 'complete', 'succeeded', false, NULL, '>'),
    ('succeeded A more', 'complete', 'succeeded', false, 'A', '>'),
    ('succeeded (lease)', 'complete', 'succeeded', true, NULL, NULL),
    ('succeeded A (lease)', 'complete', 'succeeded', true, 'A', NULL),
    ('succeeded A same (lease)', 'complete', 'succeeded', true, 'A', '='),
    -- complete_refund, the other results
    ('failed', 'complete', 'failed', false, NULL, NULL),
    ('failed A', 'complete', 'failed', false, 'A', NULL),
    ('rejected', 'complete', 'rejected', false, NULL, NULL),
    ('unknown', 'complete', 'unknown', false, NULL, NULL),
    ('submitted', 'complete', 'submitted', false, NULL, NULL),
    ('deferred', 'complete', 'deferred', false, NULL, NULL),
    ('failed (lease)', 'complete', 'failed', true, NULL, NULL),
    ('failed A (lease)', 'complete', 'failed', true, 'A', NULL),
    ('rejected (lease)', 'complete', 'rejected', true, NULL, NULL),
    ('unknown (lease)', 'complete', 'unknown', true, NULL, NULL),
    ('submitted (lease)', 'complete', 'submitted', true, NULL, NULL),
    ('submitted A (lease)', 'complete', 'submitted', true, 'A', NULL),
    ('deferred (lease)', 'complete', 'deferred', true, NULL, NULL),
    -- a person
    ('retry', 'retry', NULL, false, NULL, NULL),
    ('settle', 'settle', NULL, false, NULL, NULL),
    ('reverse', 'reverse', NULL, false, NULL, NULL),
    ('stop', 'stop', NULL, false, NULL, NULL),
    ('withdraw', 'withdraw', NULL, false, NULL, NULL),
    ('reverse_chargeback A', 'reverse_chargeback', NULL, false, 'A', NULL),
    ('resolve', 'resolve', NULL, false, NULL, NULL),
    ('book', 'book', NULL, false, NULL, NULL),
    ('held refund', 'held', 'refund', false, NULL, NULL),
    ('held accept', 'held', 'accept', false, NULL, NULL);

-- The state in which the reports find the refund; with pairs: each two of them, else one.
CREATE TABLE t.setup (setup text PRIMARY KEY, acts text[] NOT NULL, pairs text[] NOT NULL);
INSERT INTO t.setup VALUES
    ('never handed out', '{}', '{paid,closed}'),
    ('leased', '{hand out}', '{paid,closed,beside}'),
    ('lapsed', '{hand out, its time passes}', '{}'),
    ('taken back', '{hand out, its time passes, taken back}', '{}'),
    ('failed', '{hand out, failed (lease)}', '{paid,closed}'),
    ('unknown', '{hand out, unknown (lease)}', '{paid}'),
    ('submitted', '{hand out, submitted (lease)}', '{}'),
    ('submitted as A', '{hand out, submitted A (lease)}', '{paid}'),
    ('rejected', '{hand out, rejected (lease)}', '{paid}'),
    ('failed, handed out again', '{hand out, failed (lease), hand out}', '{}'),
    ('unknown, handed out again', '{hand out, unknown (lease), hand out}', '{}'),
    ('stopped while leased', '{hand out, stop}', '{paid}'),
    ('stopped by an external B', '{hand out, external B same}', '{paid,closed,beside}'),
    ('stopped by a chargeback B', '{hand out, chargeback B same}', '{}'),
    ('stopped, then unknown', '{hand out, stop, unknown (lease)}', '{}'),
    ('retried though out', '{hand out, unknown (lease), stop, retry}', '{}'),
    ('succeeded with a number', '{hand out, succeeded A (lease)}', '{paid}'),
    ('succeeded without a number', '{hand out, succeeded (lease)}', '{paid,closed}'),
    ('succeeded, told by a webhook', '{hand out, succeeded A}', '{}'),
    ('less went back', '{hand out, succeeded A less}', '{}'),
    ('more went back', '{hand out, succeeded A more}', '{paid}'),
    ('settled by hand', '{hand out, rejected (lease), settle}', '{paid}'),
    ('succeeded, then failed', '{hand out, succeeded A (lease), failed}', '{paid}'),
    ('succeeded, sent back by the bank', '{hand out, succeeded A (lease), reverse}', '{paid}'),
    ('its key was dead', '{hand out, rejected (lease), reverse}', '{paid}'),
    ('withdrawn', '{withdraw}', '{paid}'),
    ('external A took its place', '{hand out, failed (lease), external A same}', '{paid,closed}'),
    ('taken for an external A', '{hand out, external A same, succeeded}', '{paid,closed,beside}'),
    ('external A turned out to be it', '{hand out, external A same, succeeded A}', '{}'),
    ('external A was reversed', '{hand out, external A same, reverse_chargeback A}', '{}'),
    ('its conflict was resolved', '{hand out, external A same, resolve}', '{closed}');

CREATE TABLE t.changed (context text, setup text, act text);
CREATE TABLE t.counted (histories int, steps int, questions int, question text);

-- A report can meet the refund if it can be said at all: a lease only of what was handed out; resolve_held only what is held.
CREATE FUNCTION t.can_meet(context text, acts text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT a.act FROM t.act AS a
     WHERE a.kind NOT IN ('hand out', 'lapse', 'take back')
       AND (NOT a.lease OR 'hand out' = ANY ($2))
       AND CASE $1 WHEN 'held' THEN a.kind IN ('record', 'reverse_chargeback', 'resolve', 'book', 'held') ELSE a.kind <> 'held' END
     ORDER BY a.act
$$;

CREATE FUNCTION t.run_and_count() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    failures text;
BEGIN
    failures := t.run_histories();
    INSERT INTO t.counted SELECT count(*), sum(x.done), count(x.open_question) FROM t.h AS x;
    INSERT INTO t.counted (question) SELECT x.open_question FROM t.h AS x WHERE x.open_question IS NOT NULL;
    RETURN failures;
END
$$;

-- One report in each state
CREATE FUNCTION t.singles() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    s record;
    before text;
    failures text;
BEGIN
    FOR s IN SELECT c.context, x.setup, x.acts FROM unnest(ARRAY['paid', 'closed', 'beside', 'held']) AS c (context), t.setup AS x
              WHERE (c.context <> 'held' OR x.acts = '{}') AND NOT (c.context = 'closed' AND 'withdraw' = ANY (x.acts)) LOOP
        INSERT INTO t.h (h, context, acts, known)
        SELECT nextval('t.number'), s.context, s.acts, 0
        UNION ALL
        SELECT nextval('t.number'), s.context, s.acts || a, 0 FROM t.can_meet(s.context, s.acts) AS a;
        failures := t.run_and_count();
        RETURN NEXT is(failures, NULL, format('%s: %s, and one report', s.context, s.setup));
        before := t.books((SELECT x.h FROM t.h AS x WHERE x.acts = s.acts));
        INSERT INTO t.changed SELECT s.context, s.setup, x.acts[cardinality(x.acts)] FROM t.h AS x
         WHERE x.acts <> s.acts AND x.done = cardinality(x.acts) AND t.books(x.h) <> before AND x.open_question IS NULL;
        PERFORM t.forget();
    END LOOP;
END
$$;

-- Two reports, where the first one changed something
CREATE FUNCTION t.pairs() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT c.context, x.setup, x.acts, c.act FROM t.changed AS c JOIN t.setup AS x USING (setup)
              WHERE c.context = ANY (x.pairs || '{held}') LOOP
        INSERT INTO t.h (h, context, acts, known)
        SELECT nextval('t.number'), s.context, s.acts || s.act || a, cardinality(s.acts) + 1 FROM t.can_meet(s.context, s.acts) AS a;
        RETURN NEXT is(t.run_and_count(), NULL, format('%s: %s, %s, and a second report', s.context, s.setup, s.act));
        PERFORM t.forget();
    END LOOP;
END
$$;
SELECT t.singles();
SELECT t.pairs();
SELECT diag(format('%s histories of %s acts, %s of them with an open question', sum(histories), sum(steps), sum(questions))) FROM t.counted;
SELECT diag(format('%s: %s', count(*), question)) FROM t.counted WHERE question IS NOT NULL GROUP BY question ORDER BY count(*) DESC;

SELECT finish();
ROLLBACK;
