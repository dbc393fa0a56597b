-- timeline: one order's story, and its money after each step.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late, on_short) VALUES ('hold', 'hold', 'hold'), ('reopen', 'reopen', 'hold');
-- step, amount, and the money: paid = refunded + refund_pending + held + kept
CREATE FUNCTION t.story(order_id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(format('%s | %s | %s = %s + %s + %s + %s', s.step, concat_ws(' ', s.amount, s.currency), s.paid, s.refunded, s.refund_pending, s.held, s.kept),
                          'rf_[0-9a-f]{6}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', 'X', 'g'),
                          'again in [0-9:]+', 'again in Y')
      FROM order_timeout.timeline($1) AS s
$$;

-- A story from the beginning to the end
SELECT t.create_order('o', 4200), t.pay('o', 'o-1', 1200);
SELECT order_timeout.begin_attempt('o', 'stripe', 'a-1');
SELECT order_timeout.cancel_order('o', 'sold
out');
SELECT t.pay('o', 'o-2', 4200);
SELECT t.attempt('failed'), t.attempt('succeeded');
SELECT results_eq($$SELECT t.story('o')$$, ARRAY[
    'created: 42.00 CNY, to be paid by X | 4200 CNY | 0 = 0 + 0 + 0 + 0',
    'payment o-1 of 12.00 CNY: a part | 1200 CNY | 1200 = 0 + 0 + 0 + 1200',
    'attempt a-1 at stripe begun |  | 1200 = 0 + 0 + 0 + 1200',
    'cancelled: sold out |  | 1200 = 0 + 1200 + 0 + 0',
    'refund X of 12.00 CNY owed: cancelled | 1200 CNY | 1200 = 0 + 1200 + 0 + 0',
    'void of attempt a-1 at stripe: due |  | 1200 = 0 + 1200 + 0 + 0',
    'payment o-2 of 42.00 CNY arrived 00:00:00 after closing: goes back | 4200 CNY | 5400 = 0 + 5400 + 0 + 0',
    'refund X of 42.00 CNY owed: late | 4200 CNY | 5400 = 0 + 5400 + 0 + 0',
    'refund X: try 1 claimed | 1200 CNY | 5400 = 0 + 5400 + 0 + 0',
    'refund X: try 1 failed, again in Y | 1200 CNY | 5400 = 0 + 5400 + 0 + 0',
    'refund X: try 1 claimed | 4200 CNY | 5400 = 0 + 5400 + 0 + 0',
    'refund X of 42.00 CNY: back with the buyer | 4200 CNY | 5400 = 4200 + 1200 + 0 + 0'], 'in order, on one line each, with the money after each');
SELECT is((SELECT string_agg(who, ' ' ORDER BY event_id) FROM order_timeout.timeline('o')), concat_ws(' ', session_user, session_user, session_user, 'worker', 'worker'),
          'who cancelled it, also of what followed, and which worker claimed');
SELECT is((SELECT count(*) FROM order_timeout.timeline('o') s JOIN order_timeout.events e ON e.id = s.event_id AND date_trunc('milliseconds', e.created_at) = s.at), 12::bigint,
          'each step is an event');
SELECT is((SELECT sum(after) FROM order_timeout.timeline('o')) <= (SELECT max(at) - min(at) FROM order_timeout.timeline('o')), true, 'durations');
SELECT is_empty($$SELECT * FROM order_timeout.timeline('unheard of')$$, 'an unknown order has none');

-- Deadlines. Nobody can wait for them here: the events are moved into the past.
CREATE FUNCTION t.long_ago(order_id text, ago interval) RETURNS void LANGUAGE sql AS $$
    UPDATE order_timeout.events SET created_at = created_at - ago,
           payload = CASE WHEN payload ? 'expires_at' THEN jsonb_set(payload, '{expires_at}', to_jsonb((payload ->> 'expires_at')::timestamptz - ago)) ELSE payload END
     WHERE aggregateid = $1
$$;
SELECT t.create_order('d', 100), order_timeout.extend_order('d', now() + interval '2 hours');
SELECT t.long_ago('d', '90 minutes');
SELECT is((SELECT string_agg(step, ', ') FROM t.story('d') AS step WHERE step LIKE 'the deadline%'), NULL, 'a deadline that was moved in time never passed');
SELECT t.long_ago('d', '90 minutes');
SELECT is((SELECT string_agg(split_part(step, ' |', 1), ', ') FROM t.story('d') AS step),
          'created: 1.00 CNY, to be paid by X, extended, to be paid by X, the deadline passed', 'one that passed is a step, also before anything else happens');
SELECT is((SELECT s.at < now() - interval '59 minutes' AND s.event_id IS NULL AND s.after > interval '119 minutes' FROM order_timeout.timeline('d') s WHERE s.step LIKE 'the deadline%'),
          true, 'at its time');
SELECT t.pay('d', 'd-1', 30), t.expire('d');
SELECT order_timeout.reopen_order('d', expires_in => '1 hour');
SELECT is((SELECT string_agg(split_part(step, ' |', 1), ', ') FROM t.story('d') AS step),
          'created: 1.00 CNY, to be paid by X, extended, to be paid by X, the deadline passed, payment d-1 of 0.30 CNY: a part, expired: not paid in time, '
          'refund X of 0.30 CNY owed: expired, reopened, to be paid by X', 'before what came after it');
SELECT t.create_order('dp', 100), t.pay('dp', 'dp-1', 100), t.long_ago('dp', '2 hours');
SELECT is((SELECT count(*) FROM t.story('dp')), 2::bigint, 'of a paid order no deadline passes');

-- Held money: kept by a paid order once it comes back after all of it was gone, held again in a closed one.
CREATE FUNCTION t.gone_and_back(order_id text, between_them text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(order_id, 100, 'reopen'), t.pay(order_id, order_id || '-1', 40), t.expire(order_id);
    PERFORM order_timeout.record_refund('bank', order_id || '-1', order_id || '-c', 40, 'chargeback');
    EXECUTE between_them;
    PERFORM order_timeout.reverse_chargeback('bank', order_id || '-c');
    RETURN QUERY SELECT t.story(order_id);
END
$$;
SELECT is((SELECT array_agg(s)::text FROM t.gone_and_back('hp', $$SELECT t.pay('hp', 'hp-2', 100)$$) s), ARRAY[
    'created: 1.00 CNY, to be paid by X | 100 CNY | 0 = 0 + 0 + 0 + 0',
    'payment hp-1 of 0.40 CNY: a part | 40 CNY | 40 = 0 + 0 + 0 + 40',
    'expired: not paid in time |  | 40 = 0 + 0 + 40 + 0',
    'payment hp-1 of 0.40 CNY: held for a decision | 40 CNY | 40 = 0 + 0 + 40 + 0',
    'refund X of 0.40 CNY went back without us: chargeback | 40 CNY | 40 = 40 + 0 + 0 + 0',
    'payment hp-2 of 1.00 CNY arrived 00:00:00 after closing: reopened and paid | 100 CNY | 140 = 40 + 0 + 0 + 100',
    'refund X: reversed | 40 CNY | 140 = 0 + 40 + 0 + 100',
    'refund X of 0.40 CNY owed: surplus | 40 CNY | 140 = 0 + 40 + 0 + 100']::text, 'held money that came back to a paid order');
SELECT is((SELECT array_agg(s ORDER BY n DESC) FILTER (WHERE n > 5) FROM t.gone_and_back('hc', 'SELECT 1') WITH ORDINALITY AS x (s, n)), ARRAY[
    'refund X: reversed | 40 CNY | 40 = 0 + 0 + 40 + 0'], 'and to a closed one');

-- What came back to a paid order that keeps less than its amount is kept
SELECT is((SELECT s FROM t.gone_and_back('hk', $$SELECT t.pay('hk', 'hk-2', 100), order_timeout.request_refund('hk', 'k', 60)$$) WITH ORDINALITY AS x (s, n) ORDER BY n DESC LIMIT 1),
          'refund X: reversed | 40 CNY | 140 = 0 + 60 + 0 + 80', 'kept again');

-- An orphan of which some went back, assigned to another order
SELECT t.pay('nobody', 'or-1', 100);
SELECT order_timeout.record_refund('bank', 'or-1', 'or-g', 30);
SELECT t.create_order('or', 70), order_timeout.assign_orphan('bank', 'or-1', 'or');
SELECT results_eq($$SELECT t.story('or')$$, ARRAY[
    'payment or-1 of 1.00 CNY: no such order | 100 CNY | 0 = 0 + 0 + 0 + 0',
    'refund X of 0.30 CNY went back without us: external | 30 CNY | 0 = 0 + 0 + 0 + 0',
    'created: 0.70 CNY, to be paid by X | 70 CNY | 0 = 0 + 0 + 0 + 0',
    'payment or-1 of 1.00 CNY: paid | 100 CNY | 100 = 30 + 0 + 0 + 70'], 'an orphan''s steps come with it');
SELECT results_eq($$SELECT t.story('nobody')$$, ARRAY[
    'payment or-1 of 1.00 CNY: no such order | 100 CNY | 0 = 0 + 0 + 0 + 0',
    'refund X of 0.30 CNY went back without us: external | 30 CNY | 0 = 0 + 0 + 0 + 0'], 'and stay where they were');

-- Where the events do not lead to the sums
SELECT t.create_order('del', 100), t.pay('del', 'del-1', 100);
DELETE FROM order_timeout.events WHERE aggregateid = 'del' AND type = 'order.paid';
SELECT order_timeout.request_refund('del', 'k', 10);
SELECT is((SELECT string_agg(concat_ws(' ', split_part(step, ',', 1), num_nonnulls(paid, refunded, refund_pending, held, kept)), ', ') FROM order_timeout.timeline('del')),
          'created: 1.00 CNY 0, ' || (SELECT 'refund ' || left(refund_ref, 9) FROM order_timeout.refunds WHERE order_id = 'del') || ' of 0.10 CNY owed: requested 0',
          'events were deleted: the story goes on without sums');

-- Forgotten: the texts are empty, the story stays
SELECT t.create_order('f', 100), order_timeout.cancel_order('f', 'kim@example.org moved');
SELECT order_timeout.forget_order('f');
SELECT is((SELECT string_agg(split_part(step, ' |', 1), ', ') FROM t.story('f') AS step),
          'created: 1.00 CNY, to be paid by X, cancelled, forgotten: its texts were emptied', 'a forgotten order');

-- Amounts in words, as minor_units reads them
SELECT is(order_timeout._amount(amount, currency), words, words) FROM (VALUES
    (0, 'EUR', '0.00 EUR'), (7, 'EUR', '0.07 EUR'), (1234, 'JPY', '1234 JPY'), (1234, 'KWD', '1.234 KWD'),
    (9223372036854775807, 'EUR', '92233720368547758.07 EUR'), (12, 'XAU', '12 XAU in minor units')) AS a (amount, currency, words);

-- A long text does not make a long line
SELECT t.create_order('l', 100), order_timeout.cancel_order('l', repeat('long ', 500));
SELECT is((SELECT max(length(step)) FROM order_timeout.timeline('l')), 76, 'a step is cut');
SELECT finish();
ROLLBACK;
