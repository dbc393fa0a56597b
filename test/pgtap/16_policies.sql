-- Policies: plain SQL, defaults, nonsense, and those that are in use. That they are read at the time of use: 03 and 08.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

SELECT is((SELECT (pay_within, late_rule, on_late, refund_max_attempts, refund_backoff, refund_backoff_max, refund_jitter, refund_lease,
                   refund_settle_within, orphan_after, short_tolerance, on_short, on_notified_late)::text
             FROM order_timeout.policies WHERE policy = 'default'),
          '(00:30:00,until_closed,refund,20,00:01:00,"1 day",0.1,00:05:00,"14 days",,0,refund,)', 'default is there from the start');
SELECT is((SELECT count(*) FROM order_timeout.policies), 1::bigint, 'alone');
SELECT lives_ok($$INSERT INTO order_timeout.policies (policy) VALUES ('mine')$$, 'a policy of one''s own');
SELECT is((SELECT p::text FROM order_timeout.policies AS p WHERE policy = 'mine'),
          (SELECT replace(p::text, '(default,', '(mine,') FROM order_timeout.policies AS p WHERE policy = 'default'), 'has the same defaults');
SELECT throws_ok($$INSERT INTO order_timeout.policies (policy) VALUES ('mine')$$, '23505', NULL, 'is there once');

-- Nonsense
SELECT throws_ok(format('UPDATE order_timeout.policies SET %s WHERE policy = %L', nonsense, 'mine'), '23514', NULL, nonsense) FROM unnest(ARRAY[
    $$pay_within = '0'$$, $$pay_within = '-1 s'$$, $$late_rule = 'never'$$, $$late_rule = ''$$, $$on_late = 'keep'$$,
    $$refund_max_attempts = 0$$, $$refund_max_attempts = -1$$, $$refund_backoff = '0'$$, $$refund_backoff = '-1 s'$$,
    $$refund_backoff_max = '1 s'$$, $$refund_backoff = '2 days'$$, $$refund_jitter = -0.01$$, $$refund_jitter = 1.01$$,
    $$refund_jitter = 'NaN'$$, $$refund_jitter = 'Infinity'$$, $$refund_lease = '0'$$, $$refund_lease = '-1 s'$$,
    $$refund_settle_within = '0'$$, $$refund_settle_within = '-1 s'$$, $$orphan_after = '0'$$, $$orphan_after = '-1 s'$$,
    $$pay_within = '100000 years'$$, $$policy = ''$$, $$policy = E'a\nb'$$, $$policy = repeat('x', 256)$$]) AS nonsense;
-- Each names the setting and the value, and says what is allowed: what a CHECK, which comes after it, would not.
CREATE FUNCTION t.refusal(statement text, OUT said text) LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    place text;
BEGIN
    EXECUTE statement;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, place = COLUMN_NAME;
    said := format('%s [%s] %s', said, place, hint);
END
$$;
SELECT is((SELECT said FROM t.refusal($$INSERT INTO order_timeout.policies (policy, on_late) VALUES ('x', 'hodl')$$)),
          'invalid on_late: "hodl" [on_late] Use one of: refund, reopen, hold.', 'an unknown word, inserted');
SELECT is((SELECT said FROM t.refusal(format('UPDATE order_timeout.policies SET %s WHERE policy = %L', nonsense, 'mine'))), says, nonsense)
  FROM (VALUES
    ($$late_rule = 'never'$$, 'invalid late_rule: "never" [late_rule] Use one of: until_closed, at_deadline.'),
    ($$on_late = 'Refund'$$, 'invalid on_late: "Refund" [on_late] Use one of: refund, reopen, hold.'),
    ($$on_short = 'reopen'$$, 'invalid on_short: "reopen" [on_short] Use one of: refund, hold.'),
    ($$on_notified_late = ''$$, 'invalid on_notified_late: "" [on_notified_late] Use one of: refund, reopen, hold; or null, then on_late counts.'),
    ($$policy = ''$$, 'invalid policy: "" [policy] Use 1 to 255 bytes, without control characters.'),
    ($$pay_within = '0'$$, 'invalid pay_within: "00:00:00" [pay_within] Use more than 0 and at most 1000 years.'),
    ($$refund_max_attempts = 0$$, 'invalid refund_max_attempts: "0" [refund_max_attempts] Use 1 to 1000.'),
    ($$refund_backoff = '400 days'$$, 'invalid refund_backoff: "400 days" [refund_backoff] Use more than 0 and at most 365 days.'),
    ($$refund_backoff_max = '1 s'$$, 'invalid refund_backoff_max: "00:00:01" [refund_backoff_max] Use at least refund_backoff, which is 00:01:00, and at most 365 days.'),
    ($$refund_jitter = 'NaN'$$, 'invalid refund_jitter: "NaN" [refund_jitter] Use 0 to 1.'),
    ($$refund_lease = '-1 s'$$, 'invalid refund_lease: "-00:00:01" [refund_lease] Use more than 0 and at most 365 days.'),
    ($$refund_settle_within = '2000 years'$$, 'invalid refund_settle_within: "2000 years" [refund_settle_within] Use more than 0 and at most 1000 years.'),
    ($$orphan_after = '0'$$, 'invalid orphan_after: "00:00:00" [orphan_after] Use more than 0 and at most 1000 years; or null, then orphans are kept.'),
    ($$short_tolerance = -1$$, 'invalid short_tolerance: "-1" [short_tolerance] Use 0 or more, in minor units.')) AS v (nonsense, says);
SAVEPOINT without_words;
ALTER TABLE order_timeout.policies DISABLE TRIGGER check_settings;
SELECT throws_ok(format('UPDATE order_timeout.policies SET %s WHERE policy = %L', nonsense, 'mine'), '23514', NULL, 'without the trigger too: ' || nonsense)
  FROM unnest(ARRAY[$$on_late = 'keep'$$, $$on_short = 'keep'$$, $$on_notified_late = 'keep'$$, $$late_rule = ''$$, $$short_tolerance = -1$$]) AS nonsense;
ROLLBACK TO without_words;
SELECT throws_ok(format('UPDATE order_timeout.policies SET %I = NULL WHERE policy = %L', setting, 'mine'), '23502', NULL, setting || ' null')
  FROM unnest(ARRAY['pay_within', 'late_rule', 'on_late', 'refund_max_attempts', 'refund_backoff', 'refund_backoff_max', 'refund_jitter',
                    'refund_lease', 'refund_settle_within']) AS setting;
SELECT lives_ok(format('UPDATE order_timeout.policies SET %s WHERE policy = %L', sense, 'mine'), sense) FROM unnest(ARRAY[
    $$pay_within = '1 ms'$$, $$late_rule = 'at_deadline'$$, $$on_late = 'reopen'$$, $$on_late = 'hold'$$, $$refund_max_attempts = 1$$,
    $$refund_backoff = '1 s', refund_backoff_max = '1 s'$$, $$refund_jitter = 0$$, $$refund_jitter = 1$$, $$orphan_after = '1 day'$$,
    $$orphan_after = NULL$$, $$policy = '订单'$$]) AS sense;
SELECT is((SELECT count(*) FROM order_timeout.policies WHERE policy = '订单'), 1::bigint, 'one that nobody uses can be renamed');
SELECT lives_ok($$DELETE FROM order_timeout.policies WHERE policy = '订单'$$, 'and deleted');

-- In use
INSERT INTO order_timeout.policies (policy) VALUES ('used');
SELECT t.create_order('o', 100, 'used');
SELECT throws_ok($$DELETE FROM order_timeout.policies WHERE policy = 'used'$$, '23503', NULL, 'delete one that is in use');
SELECT throws_ok($$UPDATE order_timeout.policies SET policy = 'else' WHERE policy = 'used'$$, '23503', NULL, 'rename one that is in use');
SELECT t.pay('o', 'p', 100);
SELECT throws_ok($$DELETE FROM order_timeout.policies WHERE policy = 'used'$$, '23503', NULL, 'its orders are settled: still in use');
SELECT lives_ok($$UPDATE order_timeout.policies SET pay_within = '1 hour' WHERE policy = 'used'$$, 'its settings can be changed');
SELECT lives_ok($$UPDATE order_timeout.policies SET policy = 'used', pay_within = '2 hours' WHERE policy = 'used'$$, 'also with its own name');
SELECT is((SELECT (outcome)::text FROM order_timeout.create_order('o2', 1, 'CNY', policy => 'used')), 'created', 'and are read');
SELECT is((SELECT expires_at - created_at FROM order_timeout.orders WHERE order_id = 'o2'), interval '2 hours', 'as they are now');

-- default
SELECT throws_ok($$DELETE FROM order_timeout.policies WHERE policy = 'default'$$, '23503', NULL, 'default can''t be deleted, used or not');
SELECT throws_ok($$UPDATE order_timeout.policies SET policy = 'else' WHERE policy = 'default'$$, '23503', NULL, 'nor renamed');
SELECT lives_ok($$UPDATE order_timeout.policies SET pay_within = '15 minutes', on_late = 'hold' WHERE policy = 'default'$$, 'but edited');
SELECT t.sound();
SELECT finish();
ROLLBACK;
