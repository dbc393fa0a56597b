-- Bad input: the SQLSTATE that is promised, whatever the function, and nothing written.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

-- One of everything, so that no call fails for want of its object.
SELECT t.create_order('open', 100), t.pay('open', 'open-1', 60), t.create_order('paid', 100), t.pay('paid', 'paid-1', 100);
SELECT t.create_order('held', 100, 'hold'), t.expire('held'), t.pay('held', 'held-1', 100), t.pay('nobody', 'orph', 10);
SELECT t.refund_in('processing', 'busy') AS busy \gset
SELECT t.refund_in('needs_attention', 'stuck') AS stuck \gset
SELECT t.create_order('tried', 100), order_timeout.begin_attempt('tried', 'bank', 'at');
SELECT t.void_in('leased', 'void'), t.void_in('needs_attention', 'void stuck');
SELECT t.everything() AS before \gset
SELECT count(*) AS sweeps FROM order_timeout.sweeps \gset

-- %1$s takes the bad value; everything else would do.
CREATE TABLE t.calls (call text, nullable boolean);
INSERT INTO t.calls VALUES
    ('create_order(%1$s, 100, ''CNY'')', false),
    ('record_payment(%1$s, ''bank'', ''new'', 100, ''CNY'')', false),
    ('record_payment(''open'', %1$s, ''new'', 100, ''CNY'')', false),
    ('record_payment(''open'', ''bank'', %1$s, 100, ''CNY'')', false),
    ('cancel_order(%1$s)', false),
    ('expire_order(%1$s)', false),
    ('extend_order(%1$s, clock_timestamp() + interval ''1 day'')', false),
    ('request_refund(%1$s, ''k'', 1)', false),
    ('request_refund(''paid'', %1$s, 1)', false),
    ('request_refund(''paid'', ''k'', 1, payment_ref => %1$s)', true),
    ('request_refund(''paid'', ''k'', 1, gateway => %1$s)', true),
    ('claim_refunds(%1$s)', false),
    ('claim_refunds(''w'', gateway => %1$s)', true),
    ('complete_refund(%1$s, ''failed'')', false),
    (format('complete_refund(%L, ''succeeded'', gateway_refund_ref => %%1$s)', :'busy'), true),
    ('retry_refund(%1$s)', false),
    ('settle_refund(%1$s, ''note'')', false),
    ('reverse_refund(%1$s, ''reason'')', false),
    ('record_refund(%1$s, ''paid-1'', ''x'', 1)', false),
    ('record_refund(''bank'', %1$s, ''x'', 1)', false),
    ('record_refund(''bank'', ''paid-1'', %1$s, 1)', false),
    ('resolve_held(%1$s, ''held-1'', ''accept'')', false),
    ('resolve_held(''bank'', %1$s, ''accept'')', false),
    ('accept_payment(%1$s, ''held-1'')', false),
    ('accept_payment(''bank'', %1$s)', false),
    ('accept_short(%1$s)', false),
    ('refund_orphan(%1$s, ''orph'')', false),
    ('refund_orphan(''bank'', %1$s)', false),
    ('assign_orphan(%1$s, ''orph'', ''open'')', false),
    ('assign_orphan(''bank'', %1$s, ''open'')', false),
    ('assign_orphan(''bank'', ''orph'', %1$s)', false),
    ('begin_attempt(%1$s, ''bank'', ''new'')', false),
    ('begin_attempt(''tried'', %1$s, ''new'')', false),
    ('begin_attempt(''tried'', ''bank'', %1$s)', false),
    ('end_attempt(%1$s, ''at'', ''failed'')', false),
    ('end_attempt(''bank'', %1$s, ''failed'')', false),
    ('authorize_attempt(%1$s, ''at'', 100, ''CNY'', ''2999-01-01'')', false),
    ('authorize_attempt(''bank'', %1$s, 100, ''CNY'', ''2999-01-01'')', false),
    ('claim_voids(%1$s)', false),
    ('claim_voids(''w'', gateway => %1$s)', true),
    ('complete_void(%1$s, ''void'', ''voided'')', false),
    ('complete_void(''bank'', %1$s, ''voided'')', false),
    ('retry_void(%1$s, ''void stuck'')', false),
    ('retry_void(''bank'', %1$s)', false),
    ('funds(%1$s)', false),
    ('history(%1$s)', false),
    ('timeline(%1$s)', false);

-- Identifiers: null, empty, 256 bytes (in 256 characters, in 128, in 86), control characters
SELECT throws_ok('SELECT * FROM order_timeout.' || format(call, 'NULL'), '22004', NULL, format(call, 'NULL'))
  FROM t.calls WHERE NOT nullable;
SELECT throws_ok('SELECT * FROM order_timeout.' || format(call, bad), '22023', NULL, format(call, bad))
  FROM t.calls, unnest(ARRAY['''''', 'repeat(''x'', 256)', 'repeat(''é'', 128)', 'repeat(''单'', 86)',
                             'E''a\nb''', 'E''\ta''', 'E''\x01''', 'E''a\x1f''', 'E''a\x7fb''']) AS bad;

-- NULL elsewhere, where there is no default
SELECT throws_ok('SELECT * FROM order_timeout.' || call, '22004', NULL, call) FROM unnest(ARRAY[
    $$create_order('new', NULL, 'CNY')$$, $$create_order('new', 100, NULL)$$,
    $$record_payment('open', 'bank', 'new', NULL, 'CNY')$$, $$record_payment('open', 'bank', 'new', 100, NULL)$$,
    $$extend_order('open', NULL)$$, format('complete_refund(%L, NULL)', :'busy'),
    format('settle_refund(%L, NULL)', :'stuck'), format('reverse_refund(%L, NULL)', :'stuck'),
    $$end_attempt('bank', 'at', NULL)$$, $$authorize_attempt('bank', 'at', NULL, 'CNY', '2999-01-01')$$,
    $$authorize_attempt('bank', 'at', 100, NULL, '2999-01-01')$$, $$authorize_attempt('bank', 'at', 100, 'CNY', NULL)$$,
    $$complete_void('bank', 'void', NULL)$$,
    $$record_refund('bank', 'paid-1', 'x', NULL)$$, $$resolve_held('bank', 'held-1', NULL)$$, $$resolve_conflict(NULL)$$,
    $$grant_access(NULL, 'reader')$$, $$grant_access('pg_monitor', NULL)$$, $$revoke_access(NULL, 'reader')$$]) AS call;

-- Amounts
SELECT throws_ok('SELECT * FROM order_timeout.' || format(call, amount), '22023', NULL, format(call, amount))
  FROM unnest(ARRAY['create_order(''new'', %s, ''CNY'')', 'record_payment(''open'', ''bank'', ''new'', %s, ''CNY'')',
                    'record_payment(''nobody'', ''bank'', ''new'', %s, ''CNY'')',
                    'authorize_attempt(''bank'', ''at'', %s, ''CNY'', ''2999-01-01'')',
                    'request_refund(''paid'', ''k'', %s)', 'record_refund(''bank'', ''paid-1'', ''x'', %s)',
                    format('complete_refund(%L, ''succeeded'', refunded_amount => %%s)', :'busy')]) AS call,
       unnest(ARRAY['0', '-1', '''-9223372036854775808''']) AS amount
 WHERE NOT (call LIKE 'create_order%' AND amount = '0');

-- Currencies
SELECT throws_ok(format('SELECT * FROM order_timeout.' || call, currency), '22023', NULL, format(call, currency))
  FROM unnest(ARRAY['create_order(''new'', 100, %L)', 'record_payment(''open'', ''bank'', ''new'', 100, %L)',
                    'record_payment(''nobody'', ''bank'', ''new'', 100, %L)',
                    'authorize_attempt(''bank'', ''at'', 100, %L, ''2999-01-01'')']) AS call,
       unnest(ARRAY['cny', 'Cny', '', 'CN', 'CNYY', 'CN1', ' CNY', 'CNY ', 'C Y', E'CNY\n', 'ÄÖÜ', 'Ä1']) AS currency;

-- Times
SELECT throws_ok('SELECT * FROM order_timeout.' || call, '22023', NULL, call) FROM unnest(ARRAY[
    $$create_order('new', 100, 'CNY', expires_at => 'infinity')$$, $$create_order('new', 100, 'CNY', expires_at => '-infinity')$$,
    $$create_order('new', 100, 'CNY', expires_at => '294276-12-31 23:59:59+00')$$,
    $$create_order('new', 100, 'CNY', expires_at => '4713-01-01 00:00:00+00 BC')$$,
    $$create_order('new', 100, 'CNY', '0')$$, $$create_order('new', 100, 'CNY', '-1 us')$$, $$create_order('new', 100, 'CNY', '100000 years')$$,
    $$create_order('new', 100, 'CNY', '170000000 years')$$, $$create_order('new', 100, 'CNY', '-170000000 years')$$,
    $$extend_order('open', 'infinity')$$, $$extend_order('open', '-infinity')$$, $$extend_order('open', '294276-12-31 23:59:59+00')$$,
    $$record_payment('open', 'bank', 'new', 100, 'CNY', 'infinity')$$, $$record_payment('open', 'bank', 'new', 100, 'CNY', '-infinity')$$,
    $$record_payment('open', 'bank', 'new', 100, 'CNY', '294276-12-31 23:59:59+00')$$,
    $$create_order('new', 100, 'CNY', expires_at => '10000-01-01 00:00+00')$$, $$create_order('new', 100, 'CNY', '1001 years')$$,
    $$create_order('new', 100, 'CNY', '1 month -30 days')$$, $$extend_order('open', '10000-01-01 00:00+00')$$,
    $$record_payment('open', 'bank', 'new', 100, 'CNY', '1969-12-31 23:59:59+00')$$,
    $$record_payment('open', 'bank', 'new', 100, 'CNY', '10000-01-01 00:00+00')$$, $$claim_refunds('w', lease => '366 days')$$,
    $$claim_refunds('w', lease => '0')$$, $$claim_refunds('w', lease => '-1 s')$$, $$claim_refunds('w', lease => '100000 years')$$,
    $$claim_refunds('w', lease => '170000000 years')$$,
    $$begin_attempt('tried', 'bank', 'new', '0')$$, $$begin_attempt('tried', 'bank', 'new', '-1 s')$$,
    $$begin_attempt('tried', 'bank', 'new', '1001 years')$$, $$begin_attempt('tried', 'bank', 'new', '170000000 years')$$,
    $$begin_attempt('tried', 'bank', 'new', '1 month -30 days')$$,
    $$authorize_attempt('bank', 'at', 100, 'CNY', 'infinity')$$, $$authorize_attempt('bank', 'at', 100, 'CNY', '-infinity')$$,
    $$authorize_attempt('bank', 'at', 100, 'CNY', '10000-01-01 00:00+00')$$,
    $$claim_voids('w', lease => '0')$$, $$claim_voids('w', lease => '-1 s')$$, $$claim_voids('w', lease => '366 days')$$,
    $$claim_voids('w', lease => '170000000 years')$$]) AS call;

-- Numbers and words
SELECT throws_ok('SELECT * FROM order_timeout.' || call, '22023', NULL, call) FROM unnest(ARRAY[
    $$claim_refunds('w', 0)$$, $$claim_refunds('w', -1)$$, $$claim_refunds('w', 10001)$$, $$sweep_once(0)$$, $$sweep_once(-1)$$,
    $$sweep_once(100001)$$, $$claim_voids('w', 0)$$, $$claim_voids('w', -1)$$, $$claim_voids('w', 10001)$$,
    $$end_attempt('bank', 'at', 'voided')$$, $$end_attempt('bank', 'at', 'captured')$$, $$end_attempt('bank', 'at', 'Failed')$$,
    $$end_attempt('bank', 'at', '')$$,
    $$complete_void('bank', 'void', 'succeeded')$$, $$complete_void('bank', 'void', 'Voided')$$, $$complete_void('bank', 'void', '')$$,
    format('complete_refund(%L, %L)', :'busy', 'done'), format('complete_refund(%L, %L)', :'busy', 'Succeeded'),
    format('complete_refund(%L, %L)', :'busy', ''), format('complete_refund(%L, %L)', :'busy', 'processing'),
    $$record_refund('bank', 'paid-1', 'x', 1, 'requested')$$, $$record_refund('bank', 'paid-1', 'x', 1, 'whatever')$$,
    $$record_refund('bank', 'paid-1', 'x', 1, '')$$,
    $$resolve_held('bank', 'held-1', 'keep')$$, $$resolve_held('bank', 'held-1', '')$$, $$resolve_held('bank', 'held-1', 'ACCEPT')$$,
    $$grant_access('pg_monitor', 'king')$$, $$grant_access('pg_monitor', '')$$, $$revoke_access('pg_monitor', 'king')$$]) AS call;
SELECT throws_ok($$SELECT order_timeout.grant_access('public', 'reader')$$, '42704', NULL, 'grant_access to public, which is no role');
SELECT throws_ok($$SELECT order_timeout.grant_access('no such role', 'reader')$$, '42704', NULL, 'grant_access to an unknown role');
SELECT throws_ok($$SELECT order_timeout.revoke_access('no such role', 'reader')$$, '42704', NULL, 'revoke_access from an unknown role');
SELECT throws_ok($$SELECT order_timeout.schedule_sweeper()$$, '55000', NULL, 'schedule_sweeper without pg_cron');
SELECT throws_ok($$SELECT order_timeout.unschedule_sweeper()$$, '55000', NULL, 'unschedule_sweeper without pg_cron');
SELECT throws_ok($$SELECT order_timeout.schedule_refunds()$$, '55000', NULL, 'schedule_refunds without pg_cron');
SELECT throws_ok($$SELECT order_timeout.unschedule_refunds()$$, '55000', NULL, 'unschedule_refunds without pg_cron');
SELECT throws_ok($$CALL order_timeout.send_refunds()$$, '2D000', NULL, 'send_refunds in a transaction block');

SELECT throws_ok('SELECT * FROM order_timeout.' || call, 'OT010', NULL, call || ', no such attempt') FROM unnest(ARRAY[
    $$end_attempt('bank', 'none', 'failed')$$, $$authorize_attempt('bank', 'none', 100, 'CNY', '2999-01-01')$$,
    $$complete_void('bank', 'none', 'voided')$$, $$retry_void('bank', 'none')$$, $$retry_void('other', 'void stuck')$$]) AS call;
SELECT throws_ok($$SELECT order_timeout.begin_attempt('none', 'bank', 'new')$$, 'OT001', NULL, 'begin_attempt, no such order');
SELECT throws_ok($$SELECT order_timeout.begin_attempt('open', 'bank', 'at')$$, 'OT003', NULL, 'begin_attempt, of another order');
SELECT throws_ok($$SELECT order_timeout.retry_void('bank', 'at')$$, 'OT005', NULL, 'retry_void, none is due');

SELECT is(t.everything(), :'before', 'nothing of all this wrote a row');
SELECT is((SELECT count(*) FROM order_timeout.sweeps), :sweeps::bigint, 'not even of a sweep');

-- What is just inside
SELECT lives_ok('SELECT * FROM order_timeout.' || call, call) FROM unnest(ARRAY[
    $$create_order(repeat('é', 127) || 'x', 9223372036854775807, 'CNY')$$, $$create_order('new 1', 100, 'CNY', '1 us')$$,
    $$create_order('new 2', 0, 'CNY', '100 years')$$, $$record_payment(repeat('x', 255), repeat('y', 255), repeat('z', 255), 1, 'CNY')$$,
    $$record_payment('open', 'bank', 'old', 1, 'CNY', '1970-01-01 00:00+00')$$, $$claim_refunds(repeat('w', 255), 1, '1 s')$$,
    $$claim_refunds('w', NULL, NULL, NULL)$$, $$sweep_once(NULL)$$,
    $$claim_refunds('w', 10000, '365 days')$$, $$sweep_once(100000)$$,
    $$begin_attempt('tried', repeat('é', 127) || 'x', repeat('单', 85), '1 us')$$, $$begin_attempt('tried', 'bank', 'long', '365000 days', NULL, NULL)$$,
    $$authorize_attempt('bank', 'at', 9223372036854775807, 'CNY', '9999-12-31 23:59:59+00')$$,
    $$claim_voids(repeat('w', 255), 1, '1 us')$$, $$claim_voids('w', NULL, NULL, NULL)$$, $$claim_voids('w', 10000, '365 days')$$,
    $$complete_void('bank', 'void', 'failed', repeat('t', 10000), repeat('é', 10000))$$,
    $$create_order('new 3', 100, 'CNY', '1000 years')$$,
    $$create_order('new 4', 100, 'CNY', expires_at => '9999-12-31 23:59:59+00')$$, $$record_refund('bank', 'paid-1', repeat('x', 255), 1, NULL)$$,
    $$request_refund('paid', repeat('k', 255), NULL, NULL, NULL)$$, $$create_order('it''s "quoted" \ & <b>;--', 100, 'CNY')$$,
    $$cancel_order('it''s "quoted" \ & <b>;--', E'a reason of\ntwo lines')$$]) AS call;
SELECT t.sound();
SELECT finish();
ROLLBACK;
