-- Statements: what a layout makes of a file, each difference once, and bad input.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();

CREATE FUNCTION t.load(statement text, csv text, layout jsonb DEFAULT '{}', totals jsonb DEFAULT NULL, covers_from timestamptz DEFAULT '2026-05-10+00')
RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', l.outcome, l.lines) FROM order_timeout.load_statement('bank', $1,
        '{"header": ["id", "type"], "kind": "type", "units": "minor", "at": "at", "time_zone": "UTC", "fee": "fee",
          "kinds": {"pay": "payment", "back": "refund", "dispute": "chargeback", "won": "chargeback_reversed", "cost": "fee", "gift": "other"},
          "reference": "id", "payment_ref": "of", "our_reference": "ours", "amount": "amount", "currency": "currency"}'::jsonb || $3,
        $2, $5, $5 + interval '1 day', $4) l
$$;
CREATE FUNCTION t.lines(statement text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', l.line, l.kind, l.reference, 'of ' || l.payment_ref, 'ours ' || l.our_reference, l.amount, l.currency,
                     to_char(l.at AT TIME ZONE 'UTC', 'MM-DD HH24:MI'))
      FROM order_timeout.statement_lines l WHERE l.gateway = 'bank' AND l.statement = $1 ORDER BY l.line, l.kind DESC
$$;
CREATE FUNCTION t.check(statement text, lag interval DEFAULT '0') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', c.problem, c.kind, c.line, c.reference, 'there ' || c.there, 'here ' || c.here, c.currency, '-> ' || c.resolved_by,
                     CASE WHEN c.applies THEN '(applies)' END)
      FROM order_timeout.check_statement('bank', $1, $2) c
$$;
CREATE FUNCTION t.total(statement text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('%s %s: %s %s %s %s %s %s = %s, stated %s, missing %s, %s + %s', currency, lines, payments, refunds, chargebacks, chargebacks_reversed,
                  fees, other, total, stated, missing, agreed, differing)
      FROM order_timeout.statement_totals('bank', $1)
$$;

-- Reading a file
SELECT is(t.load('read', E'\uFEFFid,type,amount,currency,at,of,ours,fee\r\nr-1,pay,1000,EUR,2026-05-10 00:30:00,,o-1,29\r\n"r-2",back,"-4,000",eur,2026/5/10 1:05,"r,1","say ""no""\n",-3\r\n\r\nr-3,cost,-5,EUR,2026-05-10T02:00:00Z,,,2'),
          'loaded 5', 'a byte order mark, CRLF, quotes, commas, an empty line');
SELECT results_eq($$SELECT t.lines('read')$$, ARRAY[
    '2 payment r-1 ours o-1 1000 EUR 05-10 00:30', '2 fee r-1 ours o-1 -29 EUR 05-10 00:30',
    E'3 refund r-2 of r,1 ours say "no" -4000 EUR 05-10 01:05', '3 fee r-2 of r,1 ours say "no" 3 EUR 05-10 01:05',
    '6 fee r-3 -7 EUR 05-10 02:00'], 'and what they mean; a fee is a row of its own');
SELECT is((SELECT raw FROM order_timeout.statement_lines WHERE statement = 'read' AND line = 2 AND kind = 'payment'),
          'r-1,pay,1000,EUR,2026-05-10 00:30:00,,o-1,29', 'the line is kept as it was');
SELECT is(t.load('preamble', E'# a bank\n# of today\nid,type,amount,currency,at\nm-1,pay,0.50,KWD,2026-05-10 08:30:00\nm-2,pay,12,JPY,2026-01-10 08:30:00\nSUM,2\nwhatever',
                 '{"units": "major", "end": "SUM", "time_zone": "Europe/Berlin"}'), 'loaded 2', 'a preamble, and a summary that ends the lines');
SELECT results_eq($$SELECT t.lines('preamble')$$, ARRAY['4 payment m-1 500 KWD 05-10 06:30', '5 payment m-2 12 JPY 01-10 07:30'],
                  'major units by the currency, times of a zone with its summer time');
SELECT is(t.load('zones', E'id,type,amount,currency,at\nz-1,pay,"1,234,567.89",EUR,2026-05-10 08:30:00+08:00\nz-2,pay,"12,34,567",EUR,2026-05-10 08:30Z\nz-3,pay,-0,EUR,2026-05-10 08:30:00.5 -0330',
                 '{"units": "major", "time_zone": "Europe/Berlin"}'), 'loaded 3', 'times that have a zone of their own, thousands of Europe and of India');
SELECT results_eq($$SELECT t.lines('zones')$$, ARRAY['2 payment z-1 123456789 EUR 05-10 00:30', '3 payment z-2 123456700 EUR 05-10 08:30', '4 payment z-3 0 EUR 05-10 12:00'],
                  'which counts');
SELECT is(t.load('no quotes', E'id,type,amount,currency,at,of,ours\nq-1,pay,1,EUR,2026-05-10 00:00,5" pipe,"o-1\nq-2,back,-2,EUR,2026-05-10 00:00,"",say "no"', '{"quotes": false}'),
          'loaded 2', 'a gateway that quotes nothing');
SELECT results_eq($$SELECT t.lines('no quotes')$$, ARRAY['2 payment q-1 ours "o-1 1 EUR 05-10 00:00', '3 refund q-2 of "" ours say "no" -2 EUR 05-10 00:00'],
                  'a quote is a character');
SELECT is(t.load('constant', E'id,type,sum,at\nc-1,back,7,2026-05-10 00:00', '{"currency_is": "CNY", "by_kind": {"refund": {"amount": "sum", "negate": true}}}'),
          'loaded 1', 'a currency that is no column, a kind with columns of its own');
SELECT results_eq($$SELECT t.lines('constant')$$, ARRAY['2 refund c-1 -7 CNY 05-10 00:00'], 'and amounts without a sign');
SELECT is(t.unchanged_by($$SELECT t.load('constant', E'id,type,sum,at\nc-1,back,7,2026-05-10 00:00')$$), '("exists 1")', 'the same file again');

-- Each difference once. Rows here: times as in the statement.
CREATE FUNCTION t.pay_at(ref text, amount bigint, at timestamptz, currency text DEFAULT 'EUR') RETURNS void LANGUAGE sql AS $$
    SELECT t.create_order($1, 1000, currency => 'EUR'), t.pay($1, $1, $2, $4, paid_at => $3);
$$;
SELECT t.create_order('ours', 1000, currency => 'EUR'), order_timeout.begin_attempt('ours', 'bank', 'intent-1');
SELECT t.pay_at('same', 1000, '2026-05-10 10:00+00'), t.pay_at('less', 1000, '2026-05-10 10:00+00'), t.pay_at('yen', 1000, '2026-05-10 10:00+00', 'JPY'),
       t.pay_at('ours', 1000, '2026-05-10 10:00+00'), t.pay_at('before', 1000, '2026-05-09 23:59:59+00'), t.pay_at('after', 1000, '2026-05-11+00'),
       t.pay_at('late', 1000, '2026-05-10 23:30+00'), t.pay_at('back', 1000, '2026-05-10 10:00+00');
CREATE FUNCTION t.request(order_id text, amount bigint, key text) RETURNS text LANGUAGE sql AS $$
    SELECT r.refund_ref FROM order_timeout.request_refund($1, $3, $2) r
$$;
SELECT t.request('back', 100, 'done') AS done, t.request('back', 60, 'hand') AS hand, t.request('back', 25, 'cash') AS cash,
       t.request('back', 70, 'failed') AS failed, t.request('back', 80, 'here') AS here \gset
SELECT order_timeout.complete_refund(:'done', 'succeeded'), order_timeout.complete_refund(:'failed', 'succeeded', gateway_refund_ref => 'g-failed'),
       order_timeout.complete_refund(:'here', 'succeeded'), order_timeout.stop_refund(:'hand', 'by hand'), order_timeout.settle_refund(:'hand', 'cash'),
       order_timeout.stop_refund(:'cash', 'by hand'), order_timeout.settle_refund(:'cash', 'cash, so no statement has it');
SELECT order_timeout.record_refund('bank', 'back', 'd-1', 200, 'chargeback'), order_timeout.record_refund('bank', 'back', 'd-2', 20, 'chargeback'),
       order_timeout.reverse_chargeback('bank', 'd-2'), order_timeout.record_refund('bank', 'back', 'e-1', 30);
SELECT t.request('back', 50, 'open') AS open \gset
UPDATE order_timeout.refunds SET returned_at = '2026-05-10 12:00+00' WHERE returned_at IS NOT NULL;
SELECT is(t.load('all', 'id,type,amount,currency,at,of,ours
same,pay,1000,EUR,2026-05-10 10:00:00,,
less,pay,900,EUR,2026-05-10 10:00:00,,
yen,pay,1000,EUR,2026-05-10 10:00:00,,
back,pay,1000,EUR,2026-05-10 10:00:00,,back
back,pay,1000,EUR,2026-05-10 10:00:00,,back
new-1,pay,500,EUR,2026-05-10 11:00:00,,unknown
new-2,pay,500,EUR,2026-05-10 11:00:00,,intent-1
new-3,pay,500,EUR,2026-05-10 11:00:00,,
g-done,back,-100,EUR,2026-05-10 12:00:00,back,' || :'done' || '
g-open,back,-50,EUR,2026-05-10 12:00:00,back,' || :'open' || '
g-hand,back,-60,EUR,2026-05-10 12:00:00,back,' || :'hand' || '
g-failed,back,70,EUR,2026-05-10 12:00:00,back,
g-new,back,-1,EUR,2026-05-10 12:00:00,back,shop-7
g-lost,back,-1,EUR,2026-05-10 12:00:00,,
d-1,won,200,EUR,2026-05-10 13:00:00,back,
d-2,dispute,-20,EUR,2026-05-10 13:00:00,back,
d-2,won,20,EUR,2026-05-10 14:00:00,back,
d-3,dispute,-5,EUR,2026-05-10 14:00:00,back,
p-1,gift,3,EUR,2026-05-10 14:00:00,,
p-2,cost,-9,EUR,2026-05-10 14:00:00,,', totals => '{"EUR": 6460, "USD": 0}'), 'loaded 20', 'a statement with all kinds of lines');
SELECT results_eq($$SELECT t.check('all') ORDER BY 1$$, (SELECT ARRAY_AGG(x ORDER BY x) FROM unnest(ARRAY[
    'amount payment 3 less there 900 here 1000 EUR -> the gateway',
    'currency payment 4 yen there 1000 here 1000 EUR -> the gateway',
    'twice payment 6 back there 1000 here 1000 EUR -> the gateway',
    'only_there payment 7 new-1 there 500 EUR -> record_payment (applies)',
    'only_there payment 8 new-2 there 500 EUR -> record_payment (applies)',
    'only_there payment 9 new-3 there 500 EUR -> record_payment',
    'status refund 11 g-open there -50 here -50 EUR -> complete_refund (applies)',
    'status refund 12 g-hand there -60 here -60 EUR -> complete_refund, then resolve_conflict',
    'status refund 13 g-failed there 70 here -70 EUR -> reverse_refund or reverse_chargeback',
    'only_there refund 14 g-new there -1 EUR -> record_refund (applies)',
    'only_there refund 15 g-lost there -1 EUR -> record_refund',
    'status chargeback_reversed 16 d-1 there 200 here 200 EUR -> reverse_chargeback (applies)',
    'only_there chargeback 19 d-3 there -5 EUR -> record_refund (applies)',
    'only_there other 20 p-1 there 3 EUR -> the gateway',
    'only_here payment late here 1000 EUR -> the gateway',
    'only_here payment ours here 1000 EUR -> the gateway',
    'status refund here -80 EUR -> reverse_refund',
    'only_here chargeback d-1 here -200 EUR -> reverse_chargeback',
    'only_here refund e-1 here -30 EUR -> reverse_chargeback']) x), 'each difference, with what resolves it');
SELECT is((SELECT order_id FROM order_timeout.check_statement('bank', 'all') WHERE reference = 'new-2'), 'ours', 'an attempt names its order');
SELECT is((SELECT order_id FROM order_timeout.check_statement('bank', 'all') WHERE reference = 'g-new'), 'back', 'a refund that is missing here has the order of its payment');
SELECT results_eq($$SELECT t.total('all')$$, ARRAY[
    'EUR 20: 6400 -142 -25 220 -9 3 = 6447, stated 6460, missing 13, 1891 + 4556', 'USD 0: 0 0 0 0 0 0 = 0, stated 0, missing 0, 0 + 0'], 'the totals add up');
SELECT results_eq($$SELECT t.check('all', '1 hour') EXCEPT SELECT t.check('all')$$,
                  ARRAY['too_early payment late here 1000 EUR -> the next statement'], 'what is younger than the lag');
SELECT is((SELECT count(*) FROM t.check('all') c WHERE c ~ 'before|after'), 0::bigint, 'what the statement does not cover');

-- The next statement has it, or looks back for it
SELECT t.load('next', E'id,type,amount,currency,at\nafter,pay,1000,EUR,2026-05-11 00:00', covers_from => '2026-05-11+00');
SELECT results_eq($$SELECT t.check('next', '1 hour')$$, ARRAY['only_here payment late here 1000 EUR -> the gateway'], 'the next statement looks back as far as the lag');
SELECT is_empty($$SELECT t.check('next', '0')$$, 'and no farther');
SELECT t.load('next', E'id,type,amount,currency,at\nafter,pay,1000,EUR,2026-05-11 00:00\nlate,pay,1000,EUR,2026-05-11 00:00', covers_from => '2026-05-11+00')
  FROM order_timeout.unload_statement('bank', 'next');
SELECT is_empty($$SELECT t.check('next', '1 hour')$$, 'a line of the next statement');
SELECT is((SELECT count(*) FROM t.check('all', '0') c WHERE c ~ 'late'), 0::bigint, 'counts for this one too');
SELECT ok(t.unchanged_by($$SELECT count(*) FROM t.check('all')$$) !~ 'changed', 'checking writes nothing');

-- Another number for money that is known is not recorded a second time
SELECT t.create_order('known', 1000, currency => 'EUR'), t.pay('known', 'ch_1', 1000, 'EUR', paid_at => '2026-05-12 10:00+00'),
       order_timeout.record_refund('bank', 'ch_1', 're_1', 300);
UPDATE order_timeout.refunds SET returned_at = '2026-05-12 12:00+00' WHERE gateway_refund_ref = 're_1';
SELECT t.load('numbers', E'id,type,amount,currency,at,of,ours\npi_1,pay,1000,EUR,2026-05-12 10:00,,known\npi_2,pay,999,EUR,2026-05-12 10:00,,known\ntxn_1,back,-300,EUR,2026-05-12 10:00,ch_1,\ntxn_2,back,-301,EUR,2026-05-12 10:00,ch_1,',
              covers_from => '2026-05-12+00');
SELECT results_eq($$SELECT t.check('numbers')$$, ARRAY[
    'only_there payment 2 pi_1 there 1000 EUR -> record_payment', 'only_there payment 3 pi_2 there 999 EUR -> record_payment (applies)',
    'only_there refund 4 txn_1 there -300 EUR -> record_refund', 'only_there refund 5 txn_2 there -301 EUR -> record_refund (applies)',
    'only_here payment ch_1 here 1000 EUR -> the gateway', 'only_here refund re_1 here -300 EUR -> reverse_chargeback'],
    'what may be known under another number is for a person');
SELECT t.load('both', E'id,type,amount,currency,at\nch_1,pay,1000,EUR,2026-05-12 10:00\nre_1,back,-300,EUR,2026-05-12 10:00', covers_from => '2026-05-13+00');
SELECT is((SELECT bool_and(applies) FROM order_timeout.check_statement('bank', 'numbers', '0')), true, 'not so if a statement has both');

-- Money that is recorded, but not as the statement has it
SELECT t.create_order('other', 1000, currency => 'EUR'), t.create_order('moved', 1000, currency => 'EUR');
SELECT t.pay_at('mine', 1000, '2026-05-15 10:00+00'), t.pay_at('yours', 1000, '2026-05-15 10:00+00'), t.pay('unknown yet', 'moved', 1000, 'EUR', paid_at => '2026-05-15 10:00+00');
SELECT order_timeout.assign_orphan('bank', 'moved', 'moved'), order_timeout.begin_attempt('other', 'bank', 'intent-2'), order_timeout.begin_attempt('mine', 'bank', 'intent-3');
SELECT t.request('mine', 10, 'twice') AS twice, t.request('mine', 20, 'open') AS open, t.request('mine', 30, 'wrong') AS wrong, t.request('mine', 40, 'later') AS later \gset
SELECT order_timeout.complete_refund(:'twice', 'succeeded', gateway_refund_ref => 'b-1'), order_timeout.complete_refund(:'later', 'succeeded'),
       order_timeout.record_refund('bank', 'yours', 'b-5', 50);
UPDATE order_timeout.refunds SET returned_at = '2026-05-15 12:00+00' WHERE returned_at IS NOT NULL AND payment_ref IN ('mine', 'yours');
SELECT t.load('crossed', 'id,type,amount,currency,at,of,ours
mine,pay,1000,EUR,2026-05-15 10:00:00,,intent-3
yours,pay,1000,EUR,2026-05-15 10:00:00,,yours
moved,pay,1000,EUR,2026-05-15 10:00:00,,unknown yet
b-2,back,-10,EUR,2026-05-15 12:00:00,mine,' || :'twice' || '
b-1,back,-10,EUR,2026-05-15 12:00:00,mine,' || :'twice' || '
b-3,back,-20,EUR,2026-05-15 12:00:00,mine,' || :'open' || '
b-4,back,-20,EUR,2026-05-15 12:00:00,mine,' || :'open' || '
b-6,back,-30,EUR,2026-05-15 12:00:00,yours,' || :'wrong' || '
b-5,back,-50,EUR,2026-05-15 12:00:00,mine,
b-5,dispute,-50,EUR,2026-05-15 12:00:00,yours,
b-7,back,-40,EUR,2026-05-15 12:00:00,of another file,' || :'later', covers_from => '2026-05-15+00');
SELECT results_eq($$SELECT t.check('crossed')$$, ARRAY[
    'twice refund 5 b-2 there -10 here -10 EUR -> the gateway',
    'status refund 7 b-3 there -20 here -20 EUR -> complete_refund (applies)',
    'twice refund 8 b-4 there -20 here -20 EUR -> the gateway',
    'elsewhere refund 9 b-6 there -30 here -30 EUR -> the gateway',
    'elsewhere refund 10 b-5 there -50 here -50 EUR -> the gateway',
    'twice chargeback 11 b-5 there -50 here -50 EUR -> the gateway'], 'a refund that went back twice under our number, and refunds of another payment');
SELECT results_eq($$SELECT t.total('crossed')$$, ARRAY['EUR 11: 3000 -180 -50 0 0 0 = 2770, stated , missing , 2950 + -180'], 'do not agree');
SELECT t.load('crossed again', 'id,type,amount,currency,at,of,ours
mine,pay,1000,EUR,2026-05-15 10:00:00,,other
yours,pay,1000,EUR,2026-05-15 10:00:00,,intent-2
moved,pay,1000,EUR,2026-05-15 10:00:00,,no order of ours
b-8,back,-40,EUR,2026-05-16 12:00:00,mine,' || :'later', covers_from => '2026-05-16+00');
SELECT results_eq($$SELECT t.check('crossed again')$$, ARRAY[
    'elsewhere payment 2 mine there 1000 here 1000 EUR -> the gateway', 'elsewhere payment 3 yours there 1000 here 1000 EUR -> the gateway',
    'twice refund 5 b-8 there -40 here -40 EUR -> the gateway'], 'a payment of another order, and a refund that another statement has under another number');

-- What was reversed here must come back there
SELECT t.pay_at('reversed', 1000, '2026-05-17 10:00+00');
SELECT t.request('reversed', 10, 'gone') AS gone, t.request('reversed', 20, 'never') AS never, t.request('reversed', 30, 'back') AS back \gset
SELECT order_timeout.complete_refund(r, 'succeeded', gateway_refund_ref => 'c' || n) FROM unnest(ARRAY[:'gone', :'never', :'back']) WITH ORDINALITY x(r, n);
SELECT order_timeout.record_refund('bank', 'reversed', 'c-4', 40, 'chargeback'), order_timeout.record_refund('bank', 'reversed', 'c-5', 50);
UPDATE order_timeout.refunds SET returned_at = '2026-05-17 12:00+00' WHERE returned_at IS NOT NULL AND payment_ref = 'reversed';
SELECT t.load('reversals', E'id,type,amount,currency,at,of\nreversed,pay,1000,EUR,2026-05-17 10:00:00,\nc1,back,-10,EUR,2026-05-17 12:00:00,reversed\nc3,back,-30,EUR,2026-05-17 12:00:00,reversed\nc3,back,30,EUR,2026-05-17 12:00:00,reversed\nc-4,dispute,-40,EUR,2026-05-17 12:00:00,reversed',
              covers_from => '2026-05-17+00');
SELECT results_eq($$SELECT t.check('reversals')$$, ARRAY[
    'status refund 5 c3 there 30 here -30 EUR -> reverse_refund or reverse_chargeback',
    'only_here refund c-5 here -50 EUR -> reverse_chargeback', 'status refund c2 here -20 EUR -> reverse_refund'], 'what never went, and what came back');
SELECT order_timeout.reverse_refund(r, 'came back') FROM unnest(ARRAY[:'gone', :'never', :'back']) r;
SELECT order_timeout.reverse_chargeback('bank', 'c-4'), order_timeout.reverse_chargeback('bank', 'c-5');
UPDATE order_timeout.refunds SET settled_at = '2026-05-17 13:00+00' WHERE state = 'reversed' AND payment_ref = 'reversed';
SELECT results_eq($$SELECT t.check('reversals')$$, ARRAY[
    'only_here chargeback_reversed c-4 here 40 EUR -> the gateway', 'only_here refund c1 here 10 EUR -> the gateway'],
    'what resolves a difference ends it, and what was reversed has to come back');
SELECT t.load('came', E'id,type,amount,currency,at\nc-4,won,40,EUR,2026-05-18 12:00:00\nc1,back,10,EUR,2026-05-18 12:00:00', covers_from => '2026-05-18+00');
SELECT is_empty($$SELECT t.check('reversals')$$, 'it came with a later statement');

SELECT t.load('lost after all', E'id,type,amount,currency,at,of\nc-4,dispute,-40,EUR,2026-05-19 12:00:00,reversed\nreversed,pay,1000,EUR,2026-05-19 12:00:00,\nc-4,won,40,EUR,2026-05-18 12:00:00,reversed', covers_from => '2026-05-19+00');
SELECT results_eq($$SELECT t.check('lost after all')$$, ARRAY[
    'twice chargeback 2 c-4 there -40 here -40 EUR -> the gateway', 'twice payment 3 reversed there 1000 here 1000 EUR -> the gateway'],
    'under one number at another time it is other money, also in another statement');
SELECT is_empty(format('SELECT t.check(%L)', statement), 'and no difference of the statement that had it first: ' || statement) FROM unnest('{reversals,came}'::text[]) statement;

-- A refund that came back under its number: a worker reports it as rejected, and a new key or the same one is sent. Each refund here is
-- named by what became of it.
SELECT t.pay_at('bounced', 1000, '2026-05-20 10:00+00');
SELECT t.request('bounced', 10, 'dead') AS dead, t.request('bounced', 20, 'open') AS open, t.request('bounced', 30, 'sent again') AS again,
       t.request('bounced', 40, 'no number') AS unnumbered, t.request('bounced', 50, 'by hand') AS hand, t.request('bounced', 60, 'came back') AS gone,
       t.request('bounced', 70, 'is missing') AS missing, t.request('bounced', 80, 'and came back') AS back \gset
SELECT order_timeout.stop_refund(r, 'rejected') FROM unnest(ARRAY[:'dead', :'open', :'hand']) r;
SELECT order_timeout.reverse_refund(:'dead', 'a new key'), order_timeout.settle_refund(:'hand', 'cash'),
       order_timeout.complete_refund(:'again', 'succeeded', gateway_refund_ref => 'f-3b'), order_timeout.complete_refund(:'unnumbered', 'succeeded'),
       order_timeout.complete_refund(:'gone', 'succeeded'), order_timeout.complete_refund(:'missing', 'succeeded', gateway_refund_ref => 'f-7b'),
       order_timeout.complete_refund(:'back', 'succeeded', gateway_refund_ref => 'f-8b');
SELECT order_timeout.reverse_refund(:'back', 'came back');
UPDATE order_timeout.refunds SET returned_at = '2026-05-20 12:00+00' WHERE returned_at IS NOT NULL AND payment_ref = 'bounced';
UPDATE order_timeout.refunds SET settled_at = '2026-05-20 13:00+00' WHERE refund_ref = :'back';
SELECT 'id,type,amount,currency,at,of,ours
bounced,pay,1000,EUR,2026-05-20 10:00:00,,
f-1,back,-10,EUR,2026-05-20 12:00:00,bounced,' || :'dead' || '
f-1,back,10,EUR,2026-05-20 13:00:00,bounced,' || :'dead' || '
f-2,back,-20,EUR,2026-05-20 12:00:00,bounced,' || :'open' || '
f-2,back,20,EUR,2026-05-20 13:00:00,bounced,' || :'open' || '
f-3a,back,-30,EUR,2026-05-20 12:00:00,bounced,' || :'again' || '
f-3a,back,30,EUR,2026-05-20 13:00:00,bounced,' || :'again' || '
f-3b,back,-30,EUR,2026-05-20 14:00:00,bounced,' || :'again' || '
f-4a,back,-40,EUR,2026-05-20 12:00:00,bounced,' || :'unnumbered' || '
f-4a,back,40,EUR,2026-05-20 13:00:00,bounced,' || :'unnumbered' || '
f-4b,back,-40,EUR,2026-05-20 14:00:00,bounced,' || :'unnumbered' || '
f-5,back,-50,EUR,2026-05-20 12:00:00,bounced,' || :'hand' || '
f-5,back,50,EUR,2026-05-20 13:00:00,bounced,' || :'hand' || '
f-6,back,-60,EUR,2026-05-20 12:00:00,bounced,' || :'gone' || '
f-6,back,60,EUR,2026-05-20 13:00:00,bounced,' || :'gone' || '
f-7a,back,-70,EUR,2026-05-20 12:00:00,bounced,' || :'missing' || '
f-7a,back,70,EUR,2026-05-20 13:00:00,bounced,' || :'missing' || '
f-8a,back,-80,EUR,2026-05-20 12:00:00,bounced,' || :'back' || '
f-8a,back,80,EUR,2026-05-20 13:00:00,bounced,' || :'back' || '
f-8b,back,-80,EUR,2026-05-20 14:00:00,bounced,' || :'back' || '
f-9,back,-90,EUR,2026-05-20 12:00:00,bounced,
f-9,back,90,EUR,2026-05-20 13:00:00,bounced,' AS bounced \gset
SELECT t.load('bounced', :'bounced', covers_from => '2026-05-20+00');
SELECT ARRAY['only_here refund f-8b here 80 EUR -> the gateway',
             'status refund 16 f-6 there 60 here -60 EUR -> reverse_refund or reverse_chargeback',
             'status refund f-7b here -70 EUR -> reverse_refund'] AS differences \gset
SELECT results_eq($$SELECT t.check('bounced') ORDER BY 1$$, :'differences'::text[], 'what came back under its number is no money');
SELECT t.load('the month', :'bounced', covers_from => '2026-05-20+00');
SELECT results_eq(format('SELECT t.check(%L) ORDER BY 1', statement), :'differences'::text[], 'the same lines in two statements: ' || statement)
  FROM unnest('{bounced,the month}'::text[]) statement;

-- A refund that is under way there is of kind other
SELECT t.pay_at('slow', 1000, '2026-05-22 10:00+00');
SELECT t.request('slow', 10, 'open') AS open, t.request('slow', 20, 'numbered') AS numbered, t.request('slow', 30, 'done') AS done,
       t.request('slow', 40, 'dead') AS dead, t.request('slow', 50, 'less') AS less \gset
SELECT order_timeout.complete_refund(:'numbered', 'succeeded', gateway_refund_ref => 'u-2'), order_timeout.complete_refund(:'done', 'succeeded'),
       order_timeout.stop_refund(:'dead', 'dead'), order_timeout.reverse_refund(:'dead', 'a new key');
UPDATE order_timeout.refunds SET returned_at = '2026-05-22 12:00+00' WHERE returned_at IS NOT NULL AND payment_ref = 'slow';
SELECT t.load('slow', 'id,type,amount,currency,at,of,ours
slow,pay,1000,EUR,2026-05-22 10:00:00,,
u-1,gift,-10,EUR,2026-05-22 12:00:00,slow,' || :'open' || '
u-2,gift,-20,EUR,2026-05-22 12:00:00,slow,
u-3,gift,-30,EUR,2026-05-22 12:00:00,slow,' || :'done' || '
u-4,gift,-40,EUR,2026-05-22 12:00:00,slow,' || :'dead' || '
u-5,gift,-49,EUR,2026-05-22 12:00:00,slow,' || :'less', covers_from => '2026-05-22+00');
SELECT results_eq($$SELECT t.check('slow')$$, ARRAY['only_there other 6 u-4 there -40 here -40 EUR -> the gateway',
                  'only_there other 7 u-5 there -49 here -50 EUR -> the gateway'], 'and is a refund of ours, which is open or back');

-- A day on which nothing happened
SELECT is(t.load('nothing', 'id,type,amount,currency,at', totals => '{"EUR": 0}', covers_from => '2026-05-25+00'), 'loaded 0', 'a file with a header only');
SELECT is_empty($$SELECT t.check('nothing')$$, 'no difference');
SELECT results_eq($$SELECT t.total('nothing')$$, ARRAY['EUR 0: 0 0 0 0 0 0 = 0, stated 0, missing 0, 0 + 0'], 'and nothing to add up');

-- Layouts
SELECT is(jsonb_typeof(order_timeout.statement_layout(name)), 'object', name) FROM unnest('{stripe,wechat_pay}'::text[]) name;
SELECT throws_ok($$SELECT order_timeout.statement_layout('visa')$$, '22023', 'no layout is called "visa"', 'no such layout');
SELECT throws_ok($$SELECT order_timeout.statement_layout(NULL)$$, '22004', NULL, 'null');

-- Bad input writes nothing
SELECT t.everything() AS before \gset
CREATE FUNCTION t.detail(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE query;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END
$$;
SELECT is(t.detail(format('SELECT t.load(%L, %L, %L)', 'bad', E'id,type,amount,currency,at\n' || line, layout)), wanted, line)
  FROM (VALUES
    ('x,pay,1,EUR', '{}', '22023 | line 2 of the statement cannot be loaded | It has 4 fields, the header has 5.'),
    ('x,pay,1,EUR,2026-05-10 00:00,more', '{}', '22023 | line 2 of the statement cannot be loaded | It has 6 fields, the header has 5.'),
    ('x,pay,"1,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | It has 3 fields, the header has 5.'),
    ('x,loan,1,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | The layout does not say of which kind "loan" is.'),
    ('x,pay,one,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | "one" is not an amount.'),
    ('x,pay,,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | Column amount is empty, or not in the file.'),
    ('x,pay,1,EUR,2026-05-10 00:00', '{"at": "created"}', '22023 | line 2 of the statement cannot be loaded | Column created is empty, or not in the file.'),
    ('x,pay,1,EUR,2026-05-10 00:00', '{"by_kind": {"payment": {"currency": ["a", "b"]}}}', '22023 | line 2 of the statement cannot be loaded | Column ["a", "b"] is empty, or not in the file.'),
    ('x,pay,1,EURO,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | "EURO" is not a currency.'),
    (E'x,pay,1,EUR,"2026-05-10 00:00\ny,pay,2,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | A quote is not closed, or stands in the middle of a field. If the gateway quotes no fields: "quotes": false.'),
    (E'x,pay,1,EUR,2026-05-10 00:00"\ny,pay,2,EUR,2026-05-10 00:00"', '{}', '22023 | line 2 of the statement cannot be loaded | A quote is not closed, or stands in the middle of a field. If the gateway quotes no fields: "quotes": false.'),
    (E'x,pay,1,EUR,2026-05-10 00:00\n"y"z,pay,2,EUR,2026-05-10 00:00', '{}', '22023 | line 3 of the statement cannot be loaded | A quote is not closed, or stands in the middle of a field. If the gateway quotes no fields: "quotes": false.'),
    ('x,pay,"1,50",EUR,2026-05-10 00:00', '{"units": "major"}', '22023 | line 2 of the statement cannot be loaded | "1,50" is not an amount.'),
    ('x,pay,"1,0000.00",EUR,2026-05-10 00:00', '{"units": "major"}', '22023 | line 2 of the statement cannot be loaded | "1,0000.00" is not an amount.'),
    ('x,pay,1e3,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | "1e3" is not an amount.'),
    ('x,pay,=-12,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | "=-12" is not an amount.'),
    ('x,pay,1,EUR,2026-05-10 00:00 CST', '{}', '22023 | line 2 of the statement cannot be loaded | "2026-05-10 00:00 CST" is not a time.'),
    ('x,pay,1,EUR,10.05.2026', '{}', '22023 | line 2 of the statement cannot be loaded | "10.05.2026" is not a time.'),
    (',pay,1,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | It has no reference.'),
    (repeat('x', 256) || ',pay,1,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | A reference is longer than 255 bytes.'),
    ('x,pay,1,EUR,2026-13-10 00:00', '{}', '22023 | date/time field value out of range: "2026-13-10 00:00" | Nothing was loaded.'),
    ('x,pay,0.001,EUR,2026-05-10 00:00', '{"units": "major"}', '22023 | "0.001" is not an amount of EUR | Nothing was loaded.'),
    ('x,pay,1.5,EUR,2026-05-10 00:00', '{}', '22023 | line 2 of the statement cannot be loaded | "1.5" is not a whole number of minor units.'),
    ('x,pay,99999999999999999999,EUR,2026-05-10 00:00', '{}', '22003 | value "99999999999999999999" is out of range for type bigint | Nothing was loaded.'),
    ('x', '{"header": ["nothing"]}', '22023 | the file has no header of this layout | It needs the columns ["nothing"]. Its first line is "id,type,amount,currency,at".'),
    ('x', '{"kinds": {"pay": "income"}}', '22023 | the statement cannot be loaded | kinds of layout must be payment, refund, chargeback, chargeback_reversed, fee or other.'),
    ('x', '{"time_zone": "Mars"}', '22023 | the statement cannot be loaded | Time zone "Mars" is not known.'),
    ('x', '{"units": "grams"}', '22023 | the statement cannot be loaded | layout needs header (an array), kind, kinds (an object), at, time_zone, units (major or minor).'),
    ('x', '{"quotes": "no"}', '22023 | the statement cannot be loaded | quotes of layout must be true or false.'),
    ('x', '{"by_kind": 7}', '22023 | the statement cannot be loaded | by_kind of layout must be an object of kinds, each with an object.'),
    ('x', '{"by_kind": {"fee": "x"}}', '22023 | the statement cannot be loaded | by_kind of layout must be an object of kinds, each with an object.')
  ) v (line, layout, wanted);
SELECT is(t.detail(format('SELECT order_timeout.%s', call)), wanted, call)
  FROM (VALUES
    ($$load_statement(NULL, 's', '{}', '', now(), now())$$, '22004 | gateway must not be null | Nothing was loaded.'),
    ($$load_statement('bank', 's', '{}', NULL, now(), now())$$, '22004 | csv must not be null | Nothing was loaded.'),
    ($$load_statement('bank', 's', order_timeout.statement_layout('stripe'), E' \r\n', '2026-05-10', '2026-05-11')$$, '22023 | the file is empty | Nothing was loaded.'),
    ($$load_statement('bank', 's', '{}', '', '2026-05-10', '2026-05-10')$$, '22023 | the statement cannot be loaded | covers_from must be before covers_to.'),
    ($$load_statement('bank', 's', '{}', '', '-infinity', 'infinity')$$, '22023 | the statement cannot be loaded | Times must be between the years 1970 and 9999.'),
    ($$load_statement('', 's', '{}', '', '2026-05-10', '2026-05-11')$$, '22023 | the statement cannot be loaded | Gateway and statement need 1 to 255 bytes, without control characters.'),
    ($$load_statement('bank', 's', '[]', '', '2026-05-10', '2026-05-11')$$, '22023 | the statement cannot be loaded | layout needs header (an array), kind, kinds (an object), at, time_zone, units (major or minor).'),
    ($$load_statement('bank', 's', '{}', '', '2026-05-10', '2026-05-11', '{"EUR": 1.5}')$$, '22023 | the statement cannot be loaded | totals must be an object of currencies with minor units, as in {"EUR": 123456}.'),
    ($$load_statement('bank', 's', '{}', '', '2026-05-10', '2026-05-11', '7')$$, '22023 | the statement cannot be loaded | totals must be an object of currencies with minor units, as in {"EUR": 123456}.'),
    ($$load_statement('bank', 'all', order_timeout.statement_layout('stripe'), 'other', '2026-05-10', '2026-05-11')$$, '22023 | statement "all" of gateway "bank" was loaded from another file | Nothing was loaded.'),
    ($$check_statement('bank', 'none')$$, '22023 | statement "none" of gateway "bank" is not loaded'),
    ($$check_statement(NULL, 'all')$$, '22004 | gateway must not be null'),
    ($$check_statement('bank', 'all', '-1 second')$$, '22023 | invalid lag: -00:00:01'),
    ($$statement_totals('bank', NULL)$$, '22004 | statement must not be null'),
    ($$statement_totals('bank', 'none')$$, '22023 | statement "none" of gateway "bank" is not loaded'),
    ($$unload_statement('bank', NULL)$$, '22004 | statement must not be null')
  ) v (call, wanted);
SELECT is(t.everything(), :'before', 'nothing is written');
SELECT is(order_timeout.unload_statement('bank', 'none'), 'not_loaded', 'unload what is not there');
SELECT is(order_timeout.unload_statement('bank', 'all'), 'unloaded', 'unload');
SELECT is_empty($$SELECT FROM order_timeout.statement_lines WHERE statement = 'all'$$, 'with its lines');
SELECT t.sound();
SELECT * FROM finish();
ROLLBACK;
