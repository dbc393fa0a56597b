-- Deadlines that move and amounts that change (contract, section 9): set_deadline, reopen_order, change_order.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
CREATE FUNCTION t.set(order_id text, expires_at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state, r.expires_at = $2) FROM order_timeout.set_deadline($1, $2) r
$$;
CREATE FUNCTION t.reopen(order_id text, expires_in interval DEFAULT NULL, expires_at timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state, r.expires_at > clock_timestamp()) FROM order_timeout.reopen_order($1, $2, $3) r
$$;
CREATE FUNCTION t.change(order_id text, amount bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.outcome, r.state, r.amount) FROM order_timeout.change_order($1, $2) r
$$;

-- set_deadline
SELECT t.create_order('a', 100, expires_in => '1 hour');
SELECT is(t.set('a', '2999-01-01 00:00+00'), 'set pending t', 'a later deadline');
SELECT is(t.set('a', '2998-01-01 00:00+00'), 'set pending t', 'an earlier one');
SELECT is(t.unchanged_by($$SELECT outcome, state FROM order_timeout.set_deadline('a', '2998-01-01 00:00+00')$$), '(unchanged,pending)', 'again');
SELECT is((SELECT payload ->> 'expires_at' IS NOT NULL FROM order_timeout.history('a') WHERE type = 'order.changed' LIMIT 1), true, 'an event says so');
SELECT throws_ok($$SELECT order_timeout.set_deadline('a', now() - interval '1 s')$$, '22023', NULL, 'not in the future');
SELECT throws_ok($$SELECT order_timeout.set_deadline('a', NULL)$$, '22004', NULL, 'none');
SELECT throws_ok($$SELECT order_timeout.set_deadline('none', '2999-01-01')$$, 'OT001', NULL, 'no such order');
SELECT t.pass_deadline('a');
SELECT is(t.set('a', '2999-01-01 00:00+00'), 'set pending t', 'past due and not closed');
SELECT is((SELECT order_timeout.sweep_once()::text), '(0,0,0)', 'the sweeper leaves it alone');
SELECT set_config('t.soon', (clock_timestamp() + interval '50 ms')::text, true);
SELECT is(t.set('a', current_setting('t.soon')::timestamptz), 'set pending t', 'soon');
SELECT is(t.set('a', '2999-01-01 00:00+00'), 'set pending t', 'and away again');
SELECT pg_sleep(0.06);
SELECT is((SELECT outcome FROM order_timeout.set_deadline('a', current_setting('t.soon')::timestamptz)), 'unchanged', 'a repeat after that time is no error');
SELECT t.pay('a', 'a-1', 100);
SELECT is((SELECT outcome FROM order_timeout.set_deadline('a', '2997-01-01')), 'already_paid', 'paid');
SELECT t.create_order('b', 100), t.expire('b');
SELECT is((SELECT outcome FROM order_timeout.set_deadline('b', '2997-01-01')), 'already_closed', 'closed');

-- reopen_order
SELECT is(t.reopen('b'), 'reopened pending t', 'an expired order');
SELECT is((SELECT (expires_at > now() + interval '29 minutes', settled_at, close_reason)::text FROM order_timeout.orders WHERE order_id = 'b'), '(t,,)',
          'has the policy''s time again');
SELECT is(t.reopen('b'), 'not_closed pending t', 'again');
SELECT is((SELECT array_agg(type ORDER BY id)::text FROM order_timeout.history('b')), '{order.created,order.expired,order.reopened}', 'its history');
SELECT t.pass_deadline('b');
SELECT is((SELECT order_timeout.sweep_once()::text), '(1,0,0)', 'it falls due again');
SELECT is(t.reopen('b', '2 hours'), 'reopened pending t', 'with a time');
SELECT is(t.pay('b', 'b-1', 100), 'paid paid applied', 'and is paid');
SELECT is(t.reopen('b'), 'already_paid paid t', 'paid');
SELECT t.create_order('c', 100), t.pay('c', 'c-1', 40), t.expire('c');
SELECT is(t.reopen('c', expires_at => '2999-01-01'), 'reopened pending t', 'with money on its way back');
SELECT is(t.sums('c'), 'pending 40 = 0 + 40 + 0 + 0', 'which stays on its way');
SELECT is(t.pay('c', 'c-2', 60), 'partial pending applied', 'the buyer pays the whole amount');
SELECT is(t.pay('c', 'c-3', 40), 'paid paid applied', 'with another payment');
SELECT t.create_order('d', 100), t.cancel('d');
SELECT throws_ok($$SELECT order_timeout.reopen_order('d')$$, 'OT005', NULL, 'cancelled');
SELECT t.create_order('e', 100), t.expire('e');
SELECT throws_ok($$SELECT order_timeout.reopen_order('e', expires_at => '2020-01-01')$$, '22023', NULL, 'not in the future');
SELECT throws_ok($$SELECT order_timeout.reopen_order('e', '1 hour', '2999-01-01')$$, '22023', NULL, 'two deadlines');
SELECT throws_ok($$SELECT order_timeout.reopen_order('none')$$, 'OT001', NULL, 'no such order');

-- change_order
SELECT t.create_order('f', 100), t.pay('f', 'f-1', 40);
SELECT is(t.change('f', 120), 'changed pending 120', 'more');
SELECT is(t.change('f', 120), 'unchanged pending 120', 'again');
SELECT is(t.change('f', 60), 'changed pending 60', 'less');
SELECT is(t.create_order('f', 100), 'exists pending', 'create_order repeated with the terms of its creation');
SELECT is(t.create_order('f', 60), 'exists pending', 'or with those of now');
SELECT throws_ok($$SELECT t.create_order('f', 120)$$, 'OT002', NULL, 'and no others');
SELECT is(t.pay('f', 'f-2', 15), 'partial pending applied', 'a part');
SELECT is(t.change('f', 50), 'paid paid 50', 'what is paid reaches the new amount');
SELECT is(t.sums('f'), 'paid 55 = 0 + 5 + 0 + 50', 'the surplus goes back');
SELECT is(t.refunds('f'), 'f-2 5 surplus pending', 'of the newest payment');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('f') WHERE type ~ '^order'),
          'order.created order.changed order.changed order.changed order.paid', 'its history');
SELECT is(t.change('f', 40), 'already_paid paid 50', 'paid');
SELECT t.create_order('g', 100), t.pay('g', 'g-1', 30), t.pay('g', 'g-2', 30), t.pay('g', 'g-3', 30);
SELECT is(t.change('g', 40), 'paid paid 40', 'far below what is paid');
SELECT is(t.refunds('g'), 'g-2 20 surplus pending, g-3 30 surplus pending', 'newest first');
SELECT t.create_order('h', 100);
SELECT is(t.change('h', 0), 'paid paid 0', 'to nothing');
SELECT t.create_order('i', 100), t.expire('i');
SELECT is(t.change('i', 50), 'already_closed expired 100', 'closed');
SELECT throws_ok($$SELECT order_timeout.change_order('g', -1)$$, '22023', NULL, 'a negative amount');
SELECT throws_ok($$SELECT order_timeout.change_order('none', 1)$$, 'OT001', NULL, 'no such order');
INSERT INTO order_timeout.policies (policy, short_tolerance) VALUES ('tolerant', 3);
SELECT t.create_order('j', 100, 'tolerant'), t.pay('j', 'j-1', 90);
SELECT is(t.change('j', 93), 'paid paid 93', 'what the policy takes for it');
SELECT is((SELECT string_agg(type, ' ' ORDER BY id) FROM order_timeout.history('j') WHERE type ~ '^order'),
          'order.created order.changed order.paid order.accepted_short', 'and says that it is less');
SELECT is(t.sums('j'), 'paid 90 = 0 + 0 + 0 + 90', 'with what there is');
SELECT is_empty('SELECT * FROM order_timeout.funds_violations()', 'the proof');

-- Hooks and linked rows
CREATE TABLE t.shop (id text PRIMARY KEY, status text);
CREATE TABLE t.called (hook text);
CREATE FUNCTION t.on_reopen(order_ids text[]) RETURNS void LANGUAGE sql AS $$INSERT INTO t.called VALUES ('reopen')$$;
SELECT order_timeout.link_table('t.shop', 'id', 'status', '{"pending": "new", "paid": "paid", "expired": "closed"}', 'l-'),
       order_timeout.set_hook('default', 'reopen_hook', 't.on_reopen');
INSERT INTO t.shop VALUES ('1', 'new');
SELECT t.create_order('l-1', 100), t.expire('l-1'), t.reopen('l-1');
SELECT is((SELECT status || ' ' || count(*) FROM t.shop, t.called GROUP BY status), 'new 1', 'reopen_order is followed');
SELECT * FROM finish();
ROLLBACK;
