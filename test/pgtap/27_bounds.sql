-- Free text and jsonb have a bound; money is not refused for its words.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
SELECT t.create_order('open', 100), t.create_order('paid', 100), t.pay('paid', 'paid-1', 100);
SELECT t.refund_in('needs_attention', 'stuck') AS stuck \gset
SELECT t.refund_in('processing', 'busy') AS busy \gset
CREATE FUNCTION t.error_of(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE query;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
SELECT is(outcome, 'conflict', 'a conflict') FROM order_timeout.record_refund('bank', 'paid-1', 'ext-1', 500);
SELECT conflict_id AS conflict FROM order_timeout.conflicts \gset

-- Refused: one byte too many, in one-byte characters and in longer ones
SELECT throws_ok(format('SELECT * FROM order_timeout.' || call, bad), '22023', NULL, call)
  FROM unnest(ARRAY['repeat(''x'', 4001)', 'repeat(''单'', 1334)', 'repeat(''x'', 20000000)']) AS bad, unnest(ARRAY[
    'cancel_order(''open'', %s)', 'request_refund(''paid'', ''k'', 1, %s)',
    'settle_refund(' || quote_literal(:'stuck') || ', %s)', 'reverse_refund(' || quote_literal(:'stuck') || ', %s)',
    'resolve_conflict(' || :conflict || ', %s)', 'resolve_held(''bank'', ''paid-1'', %s)', 'create_order(''new'', 1, %s)'
  ]) AS call;
SELECT throws_ok($$SELECT order_timeout.create_order('new', 1, 'EUR', metadata => jsonb_build_object('a', repeat('x', 1048577)))$$,
                 '22023', NULL, 'metadata');
SELECT cmp_ok(length(message), '<', 5000, 'no message is as long as what was given') FROM (SELECT t.error_of(
    $$SELECT order_timeout.create_order('new', 1, repeat('x', 1000000))$$)) AS x (message);

-- Taken: as long as may be
SELECT is((SELECT outcome FROM order_timeout.cancel_order('open', repeat('x', 4000))), 'cancelled', '4000 bytes');
SELECT lives_ok($$SELECT order_timeout.create_order('new', 1, 'EUR', metadata => jsonb_build_object('a', repeat('x', 1000000)))$$, 'a megabyte');

-- Money: cut, at the end of a character; replaced by a note
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'busy', 'failed', repeat('x', 5000000))), 'stale', 'a token of any length');
SELECT is((SELECT outcome FROM order_timeout.complete_refund(:'busy', 'failed',
              (SELECT lease_token FROM order_timeout.refunds WHERE refund_ref = :'busy'), error => repeat('单', 5000000))), 'recorded', 'an error');
SELECT ok(last_error ~ '^单+$' AND octet_length(last_error) BETWEEN 1990 AND 4000, 'is cut') FROM order_timeout.refunds WHERE refund_ref = :'busy';
SELECT is((SELECT outcome FROM order_timeout.record_payment('new', 'bank', 'new-1', 1, 'EUR', NULL, jsonb_build_object('a', repeat('x', 2000000)))),
          'paid', 'a payment with details of any length');
SELECT is(details, '{"not_stored": "details: longer than 1048576 bytes", "bytes": 2000017}', 'that are not stored')
  FROM order_timeout.payments WHERE payment_ref = 'new-1';

-- What was stored before there was a bound: a note that just fits into an event's jsonb, with which the next does not
SELECT t.refund_in('pending', 'honest');
SELECT t.refund_in('pending', 'poison') AS poison \gset
UPDATE order_timeout.refunds SET note = repeat('x', 268435185) WHERE refund_ref = :'poison';
SELECT is((SELECT string_agg(gateway, ' ' ORDER BY gateway) FROM order_timeout.claim_refunds('worker')), 'honest poison', 'all are handed out');
SELECT is((SELECT max(length(payload ->> 'note')) FROM order_timeout.history('poison')), 4000, 'events cut it');
SELECT t.sound();
SELECT finish();
ROLLBACK;
