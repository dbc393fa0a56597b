-- The gateway's word: each case that section 8 of the contract names, one by one. Every pair of reports: 31.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');

-- The outcome of a call, or the SQLSTATE of its error.
CREATE FUNCTION t.try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE 'SELECT string_agg(x.outcome, '','') FROM order_timeout.' || call || ' AS x' INTO answer;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
CREATE TABLE t.known (name text PRIMARY KEY, ref text, token text);

-- An order whose one payment of 100 is at a gateway of its own: paid, with a request of `asks` (0: none), or late or held.
CREATE FUNCTION t.given(name text, kind text, asks bigint DEFAULT 30) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.create_order(name, 100, CASE kind WHEN 'held' THEN 'hold' ELSE 'default' END);
    IF kind IN ('closed', 'held') THEN
        PERFORM t.expire(name);
    END IF;
    PERFORM t.pay(name, name, 100, gateway => name);
    IF kind = 'paid' AND asks > 0 THEN
        PERFORM order_timeout.request_refund(name, 'k', asks);
    END IF;
    INSERT INTO t.known VALUES (name, t.ref(name, name));
END
$$;
CREATE FUNCTION t.hand_out(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_timeout.refunds AS r SET next_attempt_at = clock_timestamp() + CASE WHEN r.refund_ref = k.ref
                                                                  THEN interval '-1 s' ELSE '1 day' END
      FROM t.known AS k WHERE k.name = $1 AND r.gateway = $1 AND r.next_attempt_at IS NOT NULL;
    UPDATE t.known AS k SET token = c.lease_token FROM order_timeout.claim_refunds('w', 1, gateway => $1) AS c
     WHERE k.name = $1 AND k.ref = c.refund_ref;
END
$$;
CREATE FUNCTION t.tell(name text, result text, lease boolean DEFAULT true, number text DEFAULT NULL, amount bigint DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('complete_refund(%L, %L, %L, %L, refunded_amount => %L)', k.ref, $2, CASE WHEN $3 THEN k.token END, $4, $5))
      FROM t.known AS k WHERE k.name = $1
$$;
CREATE FUNCTION t.record(name text, number text, amount bigint, reason text DEFAULT 'external') RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('record_refund(%L, %L, %L, %s, %L)', $1, $1, $2, $3, $4))
$$;
CREATE FUNCTION t.person(name text, what text) RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format(CASE WHEN $2 = 'retry_refund' THEN '%s(%L)' ELSE '%s(%L, ''why'')' END, $2, k.ref)) FROM t.known AS k WHERE k.name = $1
$$;
CREATE FUNCTION t.undo(name text, number text) RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('reverse_chargeback(%L, %L)', $1, $2))
$$;
CREATE FUNCTION t.resolve(name text, book boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('resolve_conflict(%s, ''looked'', book => %L)', max(c.conflict_id), $2))
      FROM order_timeout.conflicts AS c WHERE c.gateway = $1 AND c.resolved_at IS NULL
$$;
-- refunded + pending + held + kept of the payment; our refund; open conflicts and the sum that they say is counted nowhere
CREATE FUNCTION t.books(name text) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s+%s+%s+%s; %s; %s', p.refunded, p.refund_pending, p.held, p.amount - p.refunded - p.refund_pending - p.held,
                  coalesce((SELECT r.state FROM order_timeout.refunds AS r JOIN t.known AS k ON k.ref = r.refund_ref WHERE k.name = $1), '-'),
                  (SELECT count(*) || coalesce(' of ' || sum(c.amount), '') FROM order_timeout.conflicts AS c
                    WHERE c.gateway = $1 AND c.resolved_at IS NULL))
           || CASE WHEN EXISTS (SELECT FROM order_timeout.funds(p.order_id) AS f WHERE NOT f.balanced) THEN ', not balanced' ELSE '' END
      FROM order_timeout.payments AS p WHERE p.gateway = $1 AND p.payment_ref = $1
$$;
CREATE FUNCTION t.kinds(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.kind, ',' ORDER BY a.kind) FROM order_timeout.attention AS a WHERE a.gateway = $1
$$;
-- What workers would be handed out now, whatever its time
CREATE FUNCTION t.sendable(name text) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(r.amount), 0) FROM order_timeout.refunds AS r WHERE r.gateway = $1 AND r.next_attempt_at IS NOT NULL
$$;

------------------------------------------------------------------------------------------------------------------------
-- "after succeeded: failed or rejected with a lease_token is a worker's word about an attempt that is over: ignored. Without
-- one it is the gateway's word: conflict, once, with a row in attention"
SELECT t.given('bounce', 'paid'), t.hand_out('bounce'), t.tell('bounce', 'succeeded', true, 'N');
SELECT is(t.tell('bounce', 'failed'), 'ignored', 'failed after succeeded, with a token: ignored');
SELECT is(t.books('bounce'), '30+0+0+70; succeeded; 0', 'failed after succeeded, with a token: nothing changes');
SELECT is(t.tell('bounce', 'failed', false, 'N'), 'conflict', 'failed after succeeded, from the gateway: conflict');
SELECT is(t.books('bounce'), '30+0+0+70; succeeded; 1 of 0', 'its amount is 0: it tells of a failure');
SELECT is((SELECT is_failure FROM order_timeout.conflicts WHERE gateway = 'bounce'), true, 'and it says that it is one');
SELECT is(t.tell('bounce', 'failed', false) || ' ' || t.tell('bounce', 'rejected', false), 'conflict conflict', 'told again');
SELECT is(t.books('bounce'), '30+0+0+70; succeeded; 1 of 0', 'once');
SELECT is(t.resolve('bounce', true), 'OT005', 'a failure is nothing to book');
SELECT is(t.person('bounce', 'reverse_refund'), 'reversed', 'reverse_refund');
SELECT is(t.books('bounce'), '0+30+0+70; reversed; 0', 'ends the row, the money is owed');
SELECT is(t.tell('bounce', 'failed', false), 'ignored', 'after reversed: ignored');
SELECT is(t.record('bounce', 'N', 30), 'duplicate', 'the statement again');
SELECT is(t.books('bounce'), '0+30+0+70; reversed; 0', 'changes nothing');
SELECT t.given('bounce2', 'paid'), t.hand_out('bounce2'), t.tell('bounce2', 'succeeded', true, 'N'), t.tell('bounce2', 'rejected', false);
SELECT is(t.resolve('bounce2'), 'resolved', 'or resolve_conflict ends it');
SELECT is(t.tell('bounce2', 'rejected', false), 'conflict', 'told again after that');
SELECT is(t.books('bounce2'), '30+0+0+70; succeeded; 0', 'no second row');
SELECT t.given('cash', 'closed'), t.hand_out('cash'), t.tell('cash', 'rejected'), t.person('cash', 'settle_refund');
SELECT is(t.tell('cash', 'failed', false), 'ignored', 'failed after settle_refund: ignored');
SELECT is(t.tell('cash', 'rejected'), 'duplicate', 'rejected told twice with its own token, whatever became of the refund since');

-- "failed and rejected are taken from anyone for submitted, unknown and a handed-out needs_attention whose lease has run out"
SELECT t.given('anyone ' || s, 'paid'), t.hand_out('anyone ' || s), t.tell('anyone ' || s, s)
  FROM unnest(ARRAY['submitted', 'unknown']) AS s;
SELECT is(t.tell('anyone ' || s, 'failed', false), 'recorded', 'failed from anyone, the refund being ' || s)
  FROM unnest(ARRAY['submitted', 'unknown']) AS s;
SELECT is((SELECT format('%s %s', r.state, r.maybe_sent) FROM order_timeout.refunds AS r WHERE r.gateway = 'anyone unknown'), 'failed f',
          'and it is clear');
SELECT t.given('look', 'paid'), t.hand_out('look'), t.tell('look', 'unknown'), t.person('look', 'stop_refund');
SELECT is(t.tell('look', 'failed', false), 'recorded', 'failed from anyone, the refund being out and waiting for a person');
SELECT is((SELECT format('%s %s', r.state, r.maybe_sent) FROM order_timeout.refunds AS r WHERE r.gateway = 'look'), 'needs_attention f',
          'it stays that, and is clear');
SELECT t.given('leased', 'paid'), t.hand_out('leased');
SELECT is(t.tell('leased', 'failed', false), 'stale', 'while it is leased it needs the lease');
SELECT is(t.person('leased', 'stop_refund'), 'stopped', 'stopped');
SELECT is(t.tell('leased', 'failed', false), 'stale', 'stopped or not');
SELECT is(t.tell('leased', 'failed'), 'recorded', 'with the lease');
SELECT is((SELECT format('%s %s %s', r.state, r.maybe_sent, r.lease_token) FROM order_timeout.refunds AS r WHERE r.gateway = 'leased'),
          'needs_attention f ', 'it is clear, still stopped, and the lease has ended');
SELECT is(t.tell('leased', 'failed'), 'duplicate', 'told again with its own token');
SELECT t.given('ends ' || f, 'paid'), t.hand_out('ends ' || f), t.person('ends ' || f, 'stop_refund'), t.person('ends ' || f, f)
  FROM unnest(ARRAY['retry_refund', 'settle_refund', 'reverse_refund']) AS f;
SELECT is((SELECT lease_token FROM order_timeout.refunds AS r JOIN t.known AS k ON k.ref = r.refund_ref WHERE k.name = 'ends ' || f), NULL,
          f || ' ends a lease')
  FROM unnest(ARRAY['retry_refund', 'settle_refund', 'reverse_refund']) AS f;
-- "A number that came with failed or rejected is noted for people and binds nobody."
SELECT t.given('bind', 'paid'), t.hand_out('bind'), t.tell('bind', 'failed', true, 'N1');
SELECT is(t.tell('bind', 'succeeded', false, 'N2'), 'recorded', 'the success has another number than the failure had');
SELECT is(t.books('bind'), '30+0+0+70; succeeded; 0', 'which is no contradiction');
SELECT is(t.record('bind', 'N2', 30), 'duplicate', 'the statement tells the second');
SELECT is(t.books('bind'), '30+0+0+70; succeeded; 0', 'it is counted once');
SELECT is(t.record('bind', 'N1', 20), 'recorded', 'the number of the failure is free for another refund');

-- "deferred makes it again what it was before that lease"
SELECT t.given('clear again', 'paid'), t.hand_out('clear again'), t.tell('clear again', 'deferred');
SELECT is(t.record('clear again', 'N', 30), 'recorded', 'deferred the first time: clear');
SELECT is(t.books('clear again'), '30+0+0+70; reversed; 0', 'so it is replaced');
SELECT t.given('out again', 'paid'), t.hand_out('out again'), t.tell('out again', 'unknown'), t.hand_out('out again'),
       t.tell('out again', 'deferred');
SELECT is(t.record('out again', 'N', 30), 'recorded', 'deferred after unknown: out');
SELECT is(t.books('out again'), '30+30+0+40; needs_attention; 0', 'so it stops');

-- The dashboard's refund: "takes the place of clear refunds ...; those that are out stop: those of the same amount"
SELECT t.given('dash ' || s, 'paid'), t.hand_out('dash ' || s), CASE WHEN s <> 'leased' THEN t.tell('dash ' || s, s) END
  FROM unnest(ARRAY['leased', 'failed', 'rejected', 'unknown', 'submitted']) AS s;
SELECT t.given('dash waiting', 'paid');
SELECT is(t.record('dash ' || s, 'N', 30) || ' ' || t.books('dash ' || s) || ' sends ' || t.sendable('dash ' || s), want,
          'the dashboard''s refund of the same amount while ours is ' || s)
  FROM (VALUES ('waiting', 'recorded 30+0+0+70; reversed; 0 sends 0'), ('failed', 'recorded 30+0+0+70; reversed; 0 sends 0'),
               ('rejected', 'recorded 30+0+0+70; reversed; 0 sends 0'), ('leased', 'recorded 30+30+0+40; needs_attention; 0 sends 0'),
               ('unknown', 'recorded 30+30+0+40; needs_attention; 0 sends 0'),
               ('submitted', 'recorded 30+30+0+40; needs_attention; 0 sends 0')) AS v (s, want);
SELECT t.given('dash other', 'paid'), t.hand_out('dash other');
SELECT is(t.record('dash other', 'N', 20) || ' ' || t.books('dash other'), 'recorded 20+30+0+50; processing; 0',
          'of another amount, and it fits: ours goes on');
SELECT is(t.record('dash other', 'N2', 60) || ' ' || t.books('dash other'), 'conflict 70+30+0+0; needs_attention; 1 of 10',
          'when not all that was reported fits all stop');
SELECT is(t.tell('dash other', 'unknown') || ' ' || t.books('dash other'), 'recorded 70+30+0+0; needs_attention; 1 of 10',
          'the lease of a stopped refund is good for a report, which leaves it there');
SELECT is(t.person('dash other', 'retry_refund') || ' ' || t.record('dash other', 'N2', 60) || ' ' || t.books('dash other'),
          'retried conflict 70+30+0+0; pending; 1 of 10', 'told again: no second row, nothing stops again');
SELECT t.given('stopped', 'paid'), t.hand_out('stopped'), t.record('stopped', 'N', 30);
SELECT is(t.tell('stopped', 'succeeded', true, 'M') || ' ' || t.books('stopped'), 'recorded 60+0+0+40; succeeded; 0',
          'the success of a stopped refund under a number of its own is recorded as ever');
-- "all of them for a chargeback"
SELECT t.given('charge ' || s, k), t.hand_out('charge ' || s), CASE WHEN s <> 'leased' THEN t.tell('charge ' || s, s) END
  FROM (VALUES ('leased', 'paid'), ('failed', 'closed')) AS v (s, k);
SELECT is(t.record('charge leased', 'C', 20, 'chargeback') || ' ' || t.books('charge leased'), 'recorded 20+30+0+50; needs_attention; 0',
          'a chargeback of any amount stops what is out');
SELECT is(t.record('charge failed', 'C', 100, 'chargeback') || ' ' || t.books('charge failed'), 'recorded 100+0+0+0; reversed; 0',
          'and takes the place of a refund that retries');
-- "those never handed out first"
SELECT t.given('first', 'paid'), t.hand_out('first'), t.tell('first', 'failed');
SELECT order_timeout.request_refund('first', 'k2', 30);
SELECT is(t.record('first', 'N', 30) || ' ' || t.books('first'), 'recorded 30+30+0+40; failed; 0', 'never handed out before tried and failed');
SELECT is(t.record('first', 'N2', 40) || ' ' || t.books('first'), 'recorded 70+0+0+30; reversed; 0', 'then that one, then what is kept');
-- "A number that an open refund of ours bears ends that refund."
SELECT t.given('bears', 'paid'), t.hand_out('bears'), t.tell('bears', 'submitted', true, 'N');
SELECT matches(t.record('bears', 'N', 30), '^(recorded|duplicate)$', 'a number that an open refund bears');
SELECT is(t.books('bears'), '30+0+0+70; succeeded; 0', 'ends that refund');
SELECT is(t.tell('bears', 'succeeded', false, 'N') || ' ' || t.books('bears'), 'duplicate 30+0+0+70; succeeded; 0', 'which is told again');
-- "currency: told, and not the payment's: OT003 (a repeat is recognised first)"
SELECT t.given('eur', 'paid', 0);
SELECT is(t.try('record_refund(''eur'', ''eur'', ''N'', 30, currency => ''EUR'')'), 'OT003', 'a refund told in another currency');
SELECT is(t.try('record_refund(''eur'', ''eur'', ''N'', 30, currency => ''CNY'')'), 'recorded', 'in the payment''s');
SELECT is(t.try('record_refund(''eur'', ''eur'', ''N'', 30, currency => ''EUR'')'), 'duplicate', 'a repeat is recognised first');

-- The number that is missing, both ways round
SELECT t.given('worker first', 'paid'), t.hand_out('worker first'), t.tell('worker first', 'succeeded');
SELECT is(t.record('worker first', 'N', 30) || ' ' || t.books('worker first'), 'conflict 30+0+0+70; succeeded; 1 of 0',
          'the worker without the number, then the statement: counted once, shown once');
SELECT t.given('webhook first', 'paid'), t.hand_out('webhook first'), t.record('webhook first', 'N', 30);
SELECT is(t.tell('webhook first', 'succeeded') || ' ' || t.books('webhook first'), 'conflict 30+0+0+70; succeeded; 1 of 0',
          'the webhook, then the worker without the number: counted once, shown once');
SELECT t.given('nothing fitted', 'closed'), t.hand_out('nothing fitted'), t.record('nothing fitted', 'N', 100);
SELECT is(t.books('nothing fitted'), '0+100+0+0; needs_attention; 1 of 100', 'of a late payment nothing fits');
SELECT is(t.tell('nothing fitted', 'succeeded') || ' ' || t.books('nothing fitted'), 'conflict 100+0+0+0; succeeded; 1 of 0',
          'the conflict about what did not fit ends too');
SELECT is((SELECT r.gateway_refund_ref FROM order_timeout.refunds AS r JOIN t.known AS k ON k.ref = r.refund_ref WHERE k.name = n), 'N',
          n || ': ours takes the number')
  FROM unnest(ARRAY['worker first', 'webhook first', 'nothing fitted']) AS n;
SELECT matches(t.record(n, 'N', a) || ' ' || t.books(n), '^(conflict|duplicate) ' || replace(b, '+', '\+'), n || ': the statement again')
  FROM (VALUES ('worker first', 30, '30+0+0+70; succeeded; 1 of 0'), ('webhook first', 30, '30+0+0+70; succeeded; 1 of 0'),
               ('nothing fitted', 100, '100+0+0+0; succeeded; 1 of 0')) AS v (n, a, b);
SELECT is(t.resolve('worker first', true) || ' ' || t.books('worker first'), 'resolved 60+0+0+40; succeeded; 0',
          'it was money of its own: book counts it a second time');
SELECT is(t.resolve('webhook first') || ' ' || t.books('webhook first'), 'resolved 30+0+0+70; succeeded; 0', 'it was the same: resolve');
SELECT is(t.resolve('nothing fitted', true), 'OT004', 'a second time there is nothing to take it from');
SELECT matches(t.record(n, 'N', 30) || ' ' || t.books(n), '^(conflict|duplicate) ' || replace(b, '+', '\+'), n || ': and the statement again')
  FROM (VALUES ('worker first', '60+0+0+40; succeeded; 0'), ('webhook first', '30+0+0+70; succeeded; 0')) AS v (n, b);
SELECT t.given('two', 'paid'), t.hand_out('two'), t.record('two', 'N', 30), t.record('two', 'N2', 30);
SELECT is(t.tell('two', 'succeeded') || ' ' || t.books('two'), 'conflict 90+0+0+10; succeeded; 1 of 0', 'two candidates: recorded as its own, and conflict');
SELECT t.given('charged', 'paid'), t.hand_out('charged'), t.record('charged', 'C', 30, 'chargeback');
SELECT is(t.tell('charged', 'succeeded') || ' ' || t.books('charged'), 'recorded 60+0+0+40; succeeded; 0', 'a chargeback is never taken for ours');
SELECT t.given('charged later', 'paid'), t.hand_out('charged later'), t.tell('charged later', 'succeeded');
SELECT is(t.record('charged later', 'C', 30, 'chargeback') || ' ' || t.books('charged later'), 'recorded 60+0+0+40; succeeded; 0', 'nor when it comes later');
SELECT t.given('before', 'paid', 0), t.record('before', 'N', 30);
SELECT order_timeout.request_refund('before', 'k', 30);
UPDATE t.known SET ref = t.ref('before', 'before') WHERE name = 'before';
SELECT t.hand_out('before');
SELECT is(t.tell('before', 'succeeded') || ' ' || t.books('before'), 'recorded 60+0+0+40; succeeded; 0', 'nor what was told before ours was handed out');
SELECT t.given('amounts', 'paid'), t.hand_out('amounts'), t.record('amounts', 'N', 20);
SELECT is(t.tell('amounts', 'succeeded') || ' ' || t.books('amounts'), 'recorded 50+0+0+50; succeeded; 0', 'nor another amount');

-- More returned than asked: "recorded as asked; the excess is booked as record_refund books one without a number. conflict"
SELECT t.given('more', 'paid'), t.hand_out('more');
SELECT is(t.tell('more', 'succeeded', true, 'N', 100) || ' ' || t.books('more'), 'conflict 100+0+0+0; succeeded; 1 of 0',
          'more returned than asked: all is counted');
SELECT is(t.try('request_refund(''more'', ''again'', 10)'), 'OT004', 'and cannot be refunded again');
SELECT matches(t.record('more', 'N', 100) || ' ' || t.books('more'), '^(conflict|duplicate) 100\+0\+0\+0; succeeded; 1 of 0$', 'the statement: one row, one overpayment');
SELECT is(t.resolve('more', true), 'OT004', 'a conflict of 0 is nothing to book');
SELECT is(t.resolve('more') || ' ' || t.books('more'), 'resolved 100+0+0+0; succeeded; 0', 'resolved');
SELECT matches(t.tell('more', 'succeeded', false, 'N', 100) || ' ' || t.books('more'), '^(conflict|duplicate) 100\+0\+0\+0; succeeded; 0$', 'told again after that');
SELECT t.given('much more', 'closed'), t.hand_out('much more');
SELECT is(t.tell('much more', 'succeeded', true, 'N', 150) || ' ' || t.books('much more'), 'conflict 100+0+0+0; succeeded; 1 of 50',
          'more than there is: the amount is what is counted nowhere');
SELECT is(t.resolve('much more', true), 'OT004', 'which cannot be booked');
SELECT t.given('more beside', 'paid');
SELECT order_timeout.request_refund('more beside', 'k2', 20);
SELECT t.hand_out('more beside');
SELECT is(t.tell('more beside', 'succeeded', true, 'N', 50) || ' ' || t.books('more beside') || ' sends ' || t.sendable('more beside'),
          'conflict 50+0+0+50; succeeded; 1 of 0 sends 0', 'the excess takes the place of a clear refund');

-- "Whenever a row of record_refund turns out to be ours, what it had taken is given back"
SELECT t.given('ours kept', 'paid'), t.hand_out('ours kept'), t.record('ours kept', 'N', 30);
SELECT is(t.tell('ours kept', 'succeeded', true, 'N') || ' ' || t.books('ours kept'), 'recorded 30+0+0+70; succeeded; 0', 'kept is kept');
SELECT t.given('ours clear', 'paid');
SELECT order_timeout.request_refund('ours clear', 'k2', 30);
SELECT t.hand_out('ours clear');
SELECT is(t.record('ours clear', 'N', 30) || ' ' || t.books('ours clear'), 'recorded 30+30+0+40; needs_attention; 0', 'it took the place of a clear refund');
SELECT is(t.tell('ours clear', 'succeeded', true, 'N') || ' ' || t.books('ours clear'), 'recorded 30+30+0+40; succeeded; 0', 'which is owed again in a new refund');
SELECT is(t.record('ours clear', 'N', 30) || ' ' || t.books('ours clear'), 'duplicate 30+30+0+40; succeeded; 0', 'the statement again');
-- an external record gives way to a refund of ours that owed less (attack-04): 30 went back once
SELECT t.given('less owed', 'paid', 10), t.hand_out('less owed'), t.record('less owed', 'N', 30);
SELECT is(t.tell('less owed', 'succeeded', true, 'N', 30) || ' ' || t.books('less owed'), 'conflict 30+0+0+70; succeeded; 1 of 0',
          'an external record that gives way to a refund of ours that owed less');
SELECT matches(t.record('less owed', 'N', 30) || ' ' || t.books('less owed'), '^(conflict|duplicate) 30\+0\+0\+70; succeeded; 1 of 0$', 'the statement again');
-- of held money that was accepted since
SELECT t.create_order('ours held', 100, 'hold'), t.cancel('ours held'), t.pay('ours held', 'ours held', 130, gateway => 'ours held'),
       t.record('ours held', 'N', 30);
SELECT order_timeout.resolve_held('ours held', 'ours held', 'accept'), order_timeout.request_refund('ours held', 'k1', 10);
INSERT INTO t.known SELECT 'ours held', refund_ref FROM order_timeout.refunds WHERE order_id = 'ours held' AND reason = 'requested';
SELECT t.hand_out('ours held');
SELECT is(t.tell('ours held', 'succeeded', true, 'N', 30) || ' ' || t.books('ours held'), 'conflict 30+0+0+100; succeeded; 1 of 0',
          'what it took from held is no error when the order is paid since');

-- resolve_conflict with book
SELECT t.given('book', 'closed'), t.hand_out('book'), t.record('book', 'N', 100);
SELECT is(t.resolve('book', true), 'OT004', 'book: nothing is kept or held');
SELECT is(t.resolve('book'), 'resolved', 'without it: resolved');
SELECT is(t.record('book', 'N', 100) || ' ' || t.books('book'), 'conflict 0+100+0+0; needs_attention; 0', 'told again after that: conflict, no second row');
SELECT t.given('book number', 'paid'), t.hand_out('book number'), t.tell('book number', 'succeeded', true, 'N');
SELECT is(t.tell('book number', 'succeeded', false, 'M') || ' ' || t.books('book number'), 'conflict 30+0+0+70; succeeded; 1 of 30', 'another number: counted nowhere');
SELECT conflict_id AS conflict FROM order_timeout.attention WHERE kind = 'conflict' AND gateway = 'book number' \gset
SELECT is(t.resolve('book number', true) || ' ' || t.books('book number'), 'resolved 60+0+0+40; succeeded; 0', 'book: it was money of its own');
SELECT is(t.try(format('resolve_conflict(%L, ''x'', book => true)', :'conflict')) || ' ' || t.books('book number'),
          'already_resolved 60+0+0+40; succeeded; 0', 'again');
SELECT matches(t.tell('book number', 'succeeded', false, 'M') || ' ' || t.books('book number'), '^(conflict|duplicate) 60\+0\+0\+40; succeeded; 0$',
               'the gateway again');
SELECT is((SELECT count(*) FROM order_timeout.conflicts AS c WHERE c.gateway = 'nothing fitted' AND c.resolved_at IS NOT NULL),
          (SELECT count(*) FROM order_timeout.history('nothing fitted') AS e WHERE e.type = 'conflict.resolved'),
          'a conflict that the engine ends writes an event');

-- stop_refund
SELECT t.given('stop ' || s, 'paid'), CASE WHEN s <> 'pending' THEN t.hand_out('stop ' || s) END,
       CASE WHEN s NOT IN ('pending', 'processing') THEN t.tell('stop ' || s, s) END
  FROM unnest(ARRAY['pending', 'processing', 'failed', 'unknown', 'submitted', 'succeeded']) AS s;
SELECT is(t.person('stop ' || s, 'stop_refund') || ' ' || t.books('stop ' || s), 'stopped 0+30+0+70; needs_attention; 0', 'stop a refund that is ' || s)
  FROM unnest(ARRAY['pending', 'processing', 'failed', 'unknown', 'submitted']) AS s;
SELECT is(t.person('stop pending', 'stop_refund'), 'already_stopped', 'again');
SELECT is(t.person('stop succeeded', 'stop_refund'), 'OT005', 'at its end');
SELECT is(t.person('stop processing', 'retry_refund') || ' ' || t.books('stop processing'), 'retried 0+30+0+70; pending; 0', 'retry_refund from there');
SELECT is(t.person('stop failed', 'settle_refund') || ' ' || t.books('stop failed'), 'settled 30+0+0+70; succeeded; 0', 'settle_refund');
SELECT is(t.person('stop unknown', 'reverse_refund') || ' ' || t.books('stop unknown'), 'reversed 0+30+0+70; reversed; 0', 'reverse_refund');
SELECT is(t.try('stop_refund(''no-such'', ''x'')'), 'OT006', 'no such refund');

-- withdraw_refund
SELECT t.given('take ' || s, CASE s WHEN 'late' THEN 'closed' ELSE 'paid' END), CASE WHEN s NOT IN ('pending', 'late') THEN t.hand_out('take ' || s) END,
       CASE WHEN s NOT IN ('pending', 'processing', 'late') THEN t.tell('take ' || s, s) END
  FROM unnest(ARRAY['pending', 'processing', 'failed', 'rejected', 'unknown', 'submitted', 'succeeded', 'late']) AS s;
SELECT is(t.person('take ' || s, 'withdraw_refund') || ' ' || t.books('take ' || s), 'withdrawn 0+0+0+100; reversed; 0', 'withdraw a refund that is ' || s)
  FROM unnest(ARRAY['pending', 'failed', 'rejected']) AS s;
SELECT is(t.person('take ' || s, 'withdraw_refund'), 'OT005', 'withdraw a refund that is ' || s)
  FROM unnest(ARRAY['processing', 'unknown', 'submitted', 'succeeded', 'late']) AS s;
SELECT is(t.person('take pending', 'withdraw_refund'), 'already_withdrawn', 'again');
SELECT is(t.tell('take failed', 'succeeded', false, 'N') || ' ' || t.books('take failed'), 'conflict 0+0+0+100; reversed; 1 of 30',
          'withdrawn, and the gateway returned it after all: counted nowhere');
SELECT is(t.resolve('take failed', true) || ' ' || t.books('take failed'), 'resolved 30+0+0+70; reversed; 0', 'book it');
SELECT t.given('take next', 'paid'), t.hand_out('take next'), t.tell('take next', 'rejected'), t.person('take next', 'reverse_refund');
UPDATE t.known SET ref = (SELECT refund_ref FROM order_timeout.refunds WHERE gateway = 'take next' AND reason = 'reversed') WHERE name = 'take next';
SELECT is(t.person('take next', 'withdraw_refund') || ' ' || t.books('take next'), 'withdrawn 0+0+0+100; reversed; 0', 'or the successor of one that was requested');

-- what goes back to a request, by whatever way; 30 were requested
CREATE FUNCTION t.withdraw_open(name text) RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('withdraw_refund(%L, ''why'')', r.refund_ref)) || ' ' || t.books($1)
      FROM order_timeout.refunds AS r WHERE r.gateway = $1 AND r.settled_at IS NULL
$$;
SELECT t.given('back rest', 'paid'), t.hand_out('back rest'), t.tell('back rest', 'rejected'), t.person('back rest', 'reverse_refund');
UPDATE t.known SET ref = (SELECT refund_ref FROM order_timeout.refunds WHERE gateway = 'back rest' AND reason = 'reversed') WHERE name = 'back rest';
SELECT t.tell('back rest', 'succeeded', false, 'N', 20);
SELECT is(t.withdraw_open('back rest'), 'withdrawn 20+0+0+80; succeeded; 0', 'the rest that the successor of a requested one still owes');
SELECT t.given('back bank', 'paid'), t.hand_out('back bank'), t.tell('back bank', 'succeeded', true, 'N'), t.person('back bank', 'reverse_refund'),
       t.record('back bank', 'M', 20);
SELECT is(t.withdraw_open('back bank'), 'withdrawn 20+0+0+80; reversed; 0', 'the rest of one that the bank sent back, and that was replaced');
SELECT t.given('back won', 'paid'), t.record('back won', 'N', 30), t.undo('back won', 'N');
SELECT is(t.withdraw_open('back won'), 'withdrawn 0+0+0+100; reversed; 0', 'what record_refund had taken from a request');
SELECT t.given('back twice', 'paid'), t.record('back twice', 'N', 20), t.undo('back twice', 'N'), t.record('back twice', 'M', 15), t.undo('back twice', 'M');
SELECT is((SELECT string_agg(t.try(format('withdraw_refund(%L, ''why'')', r.refund_ref)), ' ') FROM order_timeout.refunds AS r
            WHERE r.gateway = 'back twice' AND r.settled_at IS NULL) || ' ' || t.books('back twice'),
          'withdrawn withdrawn 0+0+0+100; reversed; 0', 'twice, and in parts');
SELECT t.given('back ours', 'paid'), t.try('request_refund(''back ours'', ''k2'', 30)'), t.hand_out('back ours'), t.record('back ours', 'N', 30),
       t.tell('back ours', 'succeeded', true, 'N');
SELECT is(t.withdraw_open('back ours'), 'withdrawn 30+0+0+70; succeeded; 0', 'what it had taken, when it turned out to be ours');
SELECT t.create_order('back more', 100), t.pay('back more', 'back more', 150, gateway => 'back more'), t.try('request_refund(''back more'', ''k'', 30)'),
       t.record('back more', 'N', 80), t.undo('back more', 'N');
SELECT is(t.withdraw_open('back more') || ' ' || t.sums('back more'), 'withdrawn 0+50+0+100; -; 0 paid 150 = 0 + 50 + 0 + 100',
          'together with a surplus: that is owed again');
SELECT t.create_order('back surplus', 100), t.pay('back surplus', 'back surplus', 150, gateway => 'back surplus'), t.record('back surplus', 'N', 50),
       t.undo('back surplus', 'N');
SELECT is(t.withdraw_open('back surplus'), 'OT005 0+50+0+100; -; 0', 'a surplus was not requested');
SELECT t.given('back late', 'closed'), t.record('back late', 'N', 100), t.undo('back late', 'N');
SELECT is(t.withdraw_open('back late'), 'OT005 0+100+0+0; reversed; 0', 'nor was late money');

-- reverse_chargeback
SELECT t.given('won paid', 'paid', 0), t.record('won paid', 'C', 40, 'chargeback');
SELECT is(t.undo('won paid', 'C') || ' ' || t.books('won paid'), 'reversed 0+0+0+100; -; 0', 'on a paid order: kept');
SELECT is(t.undo('won paid', 'C') || ' ' || t.books('won paid'), 'already_reversed 0+0+0+100; -; 0', 'again');
SELECT is(t.record('won paid', 'C', 40, 'chargeback') || ' ' || t.books('won paid'), 'duplicate 0+0+0+100; -; 0', 'the statement again: it stays reversed');
SELECT t.given('won clear', 'paid'), t.record('won clear', 'C', 50, 'chargeback');
SELECT is(t.books('won clear'), '50+0+0+50; reversed; 0', 'it took a refund''s place and 20 of what is kept');
SELECT is(t.undo('won clear', 'C') || ' ' || t.books('won clear'), 'reversed 0+30+0+70; reversed; 0', 'the refund is owed again, the rest is kept');
SELECT t.given('won closed', 'closed'), t.record('won closed', 'C', 100, 'chargeback');
SELECT is(t.undo('won closed', 'C') || ' ' || t.books('won closed') || ' sends ' || t.sendable('won closed'), 'reversed 0+100+0+0; reversed; 0 sends 0',
          'on a closed order: owed, and a person looks');
SELECT is(t.kinds('won closed'), 'needs_attention', 'a person looks');
SELECT t.given('won held', 'held'), t.record('won held', 'C', 100, 'chargeback');
SELECT is(t.undo('won held', 'C') || ' ' || t.books('won held'), 'reversed 0+0+100+0; -; 0', 'what came from held is held');
SELECT t.create_order('won open', 100), t.pay('won open', 'won open', 60, gateway => 'won open'), t.record('won open', 'C', 60, 'chargeback');
SELECT is(t.undo('won open', 'C') || ' ' || t.sums('won open'), 'reversed pending 60 = 0 + 0 + 0 + 60', 'on an open order: as if it came now');
SELECT t.create_order('won pays', 100), t.pay('won pays', 'won pays', 60, gateway => 'won pays'), t.record('won pays', 'C', 60, 'chargeback'),
       t.pay('won pays', 'wp2', 50, gateway => 'won pays');
SELECT is(t.undo('won pays', 'C') || ' ' || t.sums('won pays'), 'reversed paid 110 = 0 + 10 + 0 + 100', 'which may pay it, with a surplus');
SELECT t.create_order('won surplus', 100), t.pay('won surplus', 'won surplus', 60, gateway => 'won surplus'),
       t.record('won surplus', 'C', 60, 'chargeback'), t.pay('won surplus', 'ws2', 100, gateway => 'won surplus');
SELECT is(t.undo('won surplus', 'C') || ' ' || t.sums('won surplus'), 'reversed paid 160 = 0 + 60 + 0 + 100', 'on an order paid since: beyond the amount it is surplus');
SELECT t.create_order('won eur', 100), t.pay('won eur', 'won eur', 70, 'EUR', 'won eur'), t.record('won eur', 'C', 70, 'chargeback');
SELECT is(t.undo('won eur', 'C') || ' ' || t.books('won eur') || ' sends ' || t.sendable('won eur'), 'reversed 0+70+0+0; -; 0 sends 0', 'in another currency: owed, a person looks');
SELECT t.pay('won nowhere', 'won orphan', 70, gateway => 'won orphan');
SELECT is(t.record('won orphan', 'C', 70, 'chargeback'), 'recorded', 'a chargeback of an orphan');
SELECT is(t.undo('won orphan', 'C') || ' ' || t.kinds('won orphan'), 'reversed orphan', 'is the orphan''s again');
SELECT is(t.undo('won paid', 'no such'), 'OT006', 'no such row');
SELECT t.given('won ours', 'paid'), t.hand_out('won ours'), t.tell('won ours', 'succeeded', true, 'N');
SELECT is(t.undo('won ours', 'N'), 'OT005', 'a refund of ours');
SELECT t.given('won excess', 'paid'), t.hand_out('won excess'), t.tell('won excess', 'succeeded', true, 'N', 50);
SELECT matches(t.try(format('reverse_chargeback(''won excess'', NULL, refund_ref => %L)', refund_ref)) || ' ' || t.books('won excess'),
               '^reversed 30\+0\+0\+70; succeeded', 'a row without a number is named by its refund_ref')
  FROM (SELECT max(refund_ref) AS refund_ref FROM order_timeout.refunds WHERE gateway = 'won excess' AND reason = 'external') AS x;

-- reverse_refund of what record_refund recorded gives back as well: "Whenever a row of record_refund turns out to be ours, or
-- is reversed, what it had taken is given back"
CREATE FUNCTION t.reverse(name text, number text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ref text := (SELECT r.refund_ref FROM order_timeout.refunds AS r WHERE r.gateway = name AND r.gateway_refund_ref = number);
    x record;
BEGIN
    SELECT * INTO x FROM order_timeout.reverse_refund(ref, 'it came back');
    RETURN concat_ws(' ', x.outcome, x.state, coalesce((SELECT format('owes %s as %s', r.amount, r.state) FROM order_timeout.refunds AS r
                                                         WHERE r.refund_ref = x.new_refund_ref), 'owes nothing'), t.books(name));
END
$$;
SELECT t.given('rev paid', 'paid', 0), t.record('rev paid', 'N', 40);
SELECT is(t.reverse('rev paid', 'N'), 'reversed reversed owes nothing 0+0+0+100; -; 0', 'on a paid order: kept');
SELECT is(t.reverse('rev paid', 'N'), 'already_reversed reversed owes nothing 0+0+0+100; -; 0', 'again');
SELECT is(t.undo('rev paid', 'N'), 'already_reversed', 'and reverse_chargeback');
SELECT is(t.record('rev paid', 'N', 40) || ' ' || t.books('rev paid'), 'duplicate 0+0+0+100; -; 0', 'the statement again: it stays reversed');
SELECT t.given('rev clear', 'paid'), t.record('rev clear', 'N', 50);
SELECT is(t.reverse('rev clear', 'N'), 'reversed reversed owes 30 as pending 0+30+0+70; reversed; 0', 'the refund is owed again, the rest is kept');
SELECT is(t.reverse('rev clear', 'N'), 'already_reversed reversed owes 30 as pending 0+30+0+70; reversed; 0', 'again');
SELECT t.given('rev closed', 'closed'), t.record('rev closed', 'C', 100, 'chargeback');
SELECT is(t.reverse('rev closed', 'C'), 'reversed reversed owes 100 as needs_attention 0+100+0+0; reversed; 0', 'on a closed order: owed, and a person looks');
SELECT t.given('rev held', 'held'), t.record('rev held', 'N', 100);
SELECT is(t.reverse('rev held', 'N'), 'reversed reversed owes nothing 0+0+100+0; -; 0', 'what came from held is held');
SELECT t.pay('rev nowhere', 'rev orphan', 70, gateway => 'rev orphan'), t.record('rev orphan', 'N', 70);
SELECT is(t.try(format('reverse_refund(%L, ''why'')', t.ref('rev orphan', 'rev orphan'))) || ' ' || t.kinds('rev orphan'), 'reversed orphan',
          'is the orphan''s again');
SELECT t.given('rev failed', 'paid', 0), t.record('rev failed', 'N', 40),
       t.try(format('complete_refund(%L, ''failed'')', t.ref('rev failed', 'rev failed')));
SELECT is(t.kinds('rev failed') || ' ' || t.reverse('rev failed', 'N') || coalesce(' ' || t.kinds('rev failed'), ''),
          'conflict reversed reversed owes nothing 0+0+0+100; -; 0', 'that it failed after all ends with it');

-- request_refund names the gateway
SELECT t.create_order('gift', 100), t.pay('gift', '17', 40, gateway => 'gift'), t.pay('gift', '17', 60, gateway => 'till');
SELECT is(t.try('request_refund(''gift'', ''k'', 10, payment_ref => ''17'')'), '22023', 'a payment_ref that two gateways of the order have');
SELECT is(t.try('request_refund(''gift'', ''k'', 10, payment_ref => ''17'', gateway => ''till'')'), 'accepted', 'named');
SELECT is((SELECT gateway || ' ' || amount FROM order_timeout.refunds WHERE order_id = 'gift'), 'till 10', 'it comes from there');

-- Repeats
SELECT t.given('repeat settle', 'paid'), t.person('repeat settle', 'stop_refund'), t.person('repeat settle', 'settle_refund'),
       t.person('repeat settle', 'reverse_refund');
SELECT is(t.person('repeat settle', 'settle_refund'), 'already_settled', 'settle_refund repeated after a later reverse');

-- "What may have gone back is never sent again by itself": the key was declared dead, a new refund is due, and the gateway
-- says that the old one went
SELECT t.given('not dead', 'closed'), t.hand_out('not dead'), t.tell('not dead', 'rejected'), t.person('not dead', 'reverse_refund');
SELECT is(t.tell('not dead', 'succeeded', false, 'N') || ' ' || t.books('not dead'), 'conflict 0+100+0+0; reversed; 1 of 100', 'reversed, and returned after all');
SELECT is(t.sendable('not dead'), 0::bigint, 'its successor waits for a person');

-- Longer histories
CREATE FUNCTION t.hand_out_newest(name text) RETURNS void LANGUAGE sql AS $$
    UPDATE t.known AS k SET ref = (SELECT r.refund_ref FROM order_timeout.refunds AS r
                                    WHERE r.gateway = k.name AND r.settled_at IS NULL ORDER BY r.created_at DESC LIMIT 1)
     WHERE k.name = $1;
    SELECT t.hand_out($1)
$$;

-- Settled by hand, and the gateway says that it returned the money as well
SELECT t.given('both ways', 'paid'), t.hand_out('both ways'), t.tell('both ways', 'submitted', true, 'N'),
       t.person('both ways', 'stop_refund'), t.person('both ways', 'settle_refund');
SELECT is(t.record('both ways', 'N', 30) || ' ' || t.books('both ways'), 'conflict 30+0+0+70; succeeded; 1 of 30',
          'settled by hand, and reported under its number');
SELECT is(t.record('both ways', 'N', 30) || ' ' || t.tell('both ways', 'succeeded', false, 'N') || ' ' || t.books('both ways'),
          'conflict conflict 30+0+0+70; succeeded; 1 of 30', 'shown once');
SELECT t.given('paid thrice', 'paid'), t.hand_out('paid thrice'), t.tell('paid thrice', 'unknown'), t.person('paid thrice', 'stop_refund'),
       t.person('paid thrice', 'settle_refund'), t.person('paid thrice', 'reverse_refund');
SELECT order_timeout.retry_refund(t.ref('paid thrice', 'paid thrice'));
SELECT is(t.tell('paid thrice', 'succeeded', false) || ' sends ' || t.sendable('paid thrice'), 'conflict sends 0',
          'settled by hand, reversed, and the gateway returned it: what took its place is not sent');

-- What stands for the money of a refund that gave way is not sent after the gateway says that it went
SELECT t.given('rest', 'paid', 100), t.hand_out('rest'), t.tell('rest', 'failed'), t.record('rest', 'A', 40);
SELECT is(t.tell('rest', 'succeeded', false) || ' ' || t.books('rest') || ' sends ' || t.sendable('rest'),
          'conflict 40+60+0+0; reversed; 1 of 100 sends 0', 'a rest of it');
SELECT t.create_order('accepted', 80), t.expire('accepted'), t.pay('accepted', 'accepted', 100, gateway => 'accepted');
INSERT INTO t.known VALUES ('accepted', t.ref('accepted', 'accepted'));
SELECT t.hand_out('accepted'), t.tell('accepted', 'failed'), order_timeout.accept_payment('accepted', 'accepted');
SELECT is(t.tell('accepted', 'succeeded', false) || ' ' || t.books('accepted') || ' sends ' || t.sendable('accepted'),
          'conflict 0+20+0+80; reversed; 1 of 100 sends 0', 'the surplus of what was accepted');
SELECT t.given('owed again', 'paid'), t.hand_out('owed again'), t.tell('owed again', 'failed');
SELECT t.try('request_refund(''owed again'', ''k2'', 30)'), t.hand_out_newest('owed again'), t.record('owed again', 'A', 30),
       t.tell('owed again', 'succeeded', true, 'A');
UPDATE t.known AS k SET ref = r.refund_ref FROM order_timeout.refunds AS r
 WHERE k.name = 'owed again' AND r.gateway = k.name AND r.request_key = 'k';
SELECT is(t.sendable('owed again'), 30::bigint, 'what gave way to a refund of ours is owed again');
SELECT is(t.tell('owed again', 'succeeded', false) || ' ' || t.books('owed again') || ' sends ' || t.sendable('owed again'),
          'conflict 30+30+0+40; reversed; 1 of 30 sends 0', 'and is not sent');

-- Reported, and counted nowhere
SELECT t.given('one number', 'paid', 0), t.record('one number', 'N', 40), t.try('request_refund(''one number'', ''k'', 30)');
SELECT is(t.record('one number', 'N', 70) || ' ' || t.books('one number') || ' sends ' || t.sendable('one number'),
          'conflict 40+30+0+30; -; 1 of 30 sends 0', 'more under a number than before: the next refund may be that money');
SELECT t.given('less, then more', 'paid'), t.hand_out('less, then more'), t.tell('less, then more', 'succeeded', true, 'N', 20);
SELECT is(t.tell('less, then more', 'succeeded', false, 'N', 30) || ' ' || t.books('less, then more') || ' sends ' || t.sendable('less, then more'),
          'conflict 20+10+0+70; succeeded; 1 of 10 sends 0', 'less went back, then more: the rest is not sent');
SELECT t.create_order('two a', 100), t.create_order('two b', 100), t.pay('two a', 'two a', 100, gateway => 'shared'), t.pay('two b', 'two b', 100, gateway => 'shared'),
       t.try('request_refund(''two b'', ''k'', 30)'), t.try('record_refund(''shared'', ''two a'', ''N'', 30)');
SELECT is(t.try('record_refund(''shared'', ''two b'', ''N'', 30)') || ' sends ' || t.sendable('shared'), 'conflict sends 0',
          'a number of another payment: nothing of this one is sent');
SELECT t.given('asked since', 'paid', 60), t.record('asked since', 'A', 40, 'chargeback'), t.try('request_refund(''asked since'', ''k2'', 40)');
SELECT is(t.tell('asked since', 'succeeded', false, 'N', 30) || ' ' || t.books('asked since') || ' sends ' || t.sendable('asked since'),
          'conflict 40+60+0+0; reversed; 1 of 30 sends 0', 'returned after another took its place: nothing of the payment is sent');
SELECT t.given('room', 'paid', 60), t.record('room', 'B', 40);
SELECT t.hand_out_newest('room'), t.record('room', 'C', 60);
SELECT is(t.tell('room', 'succeeded', true, 'B', 40) || ' ' || t.books('room') || ' sends ' || t.sendable('room'),
          'conflict 80+20+0+0; succeeded; 2 of 20 sends 0', 'what is owed again waits while money is counted nowhere');

SELECT t.given('one, two', 'paid'), t.hand_out('one, two'), t.tell('one, two', 'submitted', true, 'A'), t.try('request_refund(''one, two'', ''k2'', 30)');
SELECT is(t.tell('one, two', 'succeeded', false, 'B') || ' ' || t.books('one, two') || ' sends ' || t.sendable('one, two'),
          'conflict 30+30+0+40; succeeded; 1 of 30 sends 0', 'returned under another number than it was submitted with');
SELECT t.given('said more', 'closed'), t.hand_out('said more'), t.record('said more', 'N', 100);
SELECT is(t.tell('said more', 'succeeded', false, 'N', 60) || ' ' || t.books('said more') || ' sends ' || t.sendable('said more'),
          'conflict 60+40+0+0; succeeded; 1 of 40 sends 0', 'less than the statement said: the rest is not sent');

-- More went back than was asked for, without a number, and the statement has it
SELECT t.given('excess', 'paid'), t.hand_out('excess'), t.tell('excess', 'succeeded', true, NULL, 40);
SELECT is(t.record('excess', 'N', 40) || ' ' || t.books('excess'), 'conflict 40+0+0+60; succeeded; 2 of 0', 'an excess is counted once, too');

-- reverse_chargeback on an order that is due under at_deadline
INSERT INTO order_timeout.policies (policy, late_rule) VALUES ('strict', 'at_deadline');
SELECT t.create_order('won late', 100, 'strict'), t.pay('won late', 'won late', 60, gateway => 'won late'), t.record('won late', 'C', 20, 'chargeback'),
       t.pass_deadline('won late');
SELECT is(t.undo('won late', 'C') || ' ' || t.sums('won late') || ' sends ' || t.sendable('won late'),
          'reversed expired 60 = 0 + 60 + 0 + 0 sends 40', 'it closes first: what was kept is owed, what came back waits for a person');
SELECT t.create_order('won late eur', 100, 'strict'), t.pay('won late eur', 'won late', 60), t.pay('won late eur', 'won late eur', 70, 'EUR', 'won late eur'),
       t.record('won late eur', 'C', 70, 'chargeback'), t.pass_deadline('won late eur');
SELECT is(t.undo('won late eur', 'C') || ' ' || t.sums('won late eur'), 'reversed pending 60 = 0 + 0 + 0 + 60',
          'money in another currency is none of its business');

-- reverse_chargeback of part of what is held, on an order that another payment paid
INSERT INTO order_timeout.policies (policy, on_late, on_notified_late) VALUES ('hold or reopen', 'hold', 'reopen');
SELECT t.create_order('won beside', 100, 'hold or reopen'), t.expire('won beside'), t.pay('won beside', 'won beside', 100, gateway => 'won beside'),
       t.record('won beside', 'C', 40, 'chargeback'), t.pay('won beside', 'wb2', 100, paid_at => clock_timestamp() - interval '1 hour'),
       t.try('request_refund(''won beside'', ''k'')');
SELECT is(t.undo('won beside', 'C') || ' ' || t.books('won beside'), 'reversed 0+0+100+0; -; 0', 'it waits with the rest');
SELECT is(t.try('resolve_held(''won beside'', ''won beside'', ''refund'')') || ' ' || t.books('won beside'), 'refunded 0+100+0+0; -; 0',
          'and ends with it');

-- reverse_chargeback of what an order lacks, but for its tolerance
INSERT INTO order_timeout.policies (policy, short_tolerance) VALUES ('tolerant', 2);
SELECT t.create_order('won short', 100, 'tolerant'), t.pay('won short', 'won short', 50, gateway => 'won short'), t.record('won short', 'C', 50, 'chargeback'),
       t.pay('won short', 'ws3', 48);
SELECT is(t.undo('won short', 'C') || ' ' || t.sums('won short'), 'reversed paid 98 = 0 + 0 + 0 + 98', 'as if it came now');

-- Why a refund was stopped stays in view, whatever is reported of it since; what it is for and its attempts are left out here
CREATE FUNCTION t.why(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(regexp_replace(a.why, ' \([^()]*, \d+ of \d+ attempts used\)$|^[^,]*, \d+ of \d+ attempts used, last: ', '')
                      || ' -> ' || split_part(t.ways(a.resolved_by), ' ', 1), '; ') FROM order_timeout.attention AS a
     WHERE a.gateway = $1 AND a.kind = 'needs_attention'
$$;
CREATE FUNCTION t.tell_error(name text, result text, error text, number text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT t.try(format('complete_refund(%L, %L, %L, %L, %L)', k.ref, $2, k.token, $4, $3)) FROM t.known AS k WHERE k.name = $1
$$;
SELECT t.given('why ' || s, 'paid'), t.hand_out('why ' || s), t.record('why ' || s, 'N', 30), t.tell_error('why ' || s, s, 'timed out', 'M')
  FROM unnest(ARRAY['unknown', 'failed', 'rejected', 'submitted', 'deferred']) AS s;
SELECT is(t.why('why ' || s), 'stopped: the gateway reported money that went back, which may be this refund; reported since: timed out'
          || CASE WHEN s IN ('failed', 'rejected') THEN ' (gateway_refund_ref M)' ELSE '' END || ' -> complete_refund',
          'stopped, and then a worker reports ' || s)
  FROM unnest(ARRAY['unknown', 'failed', 'rejected', 'submitted', 'deferred']) AS s;
SELECT t.given('why long', 'paid'), t.hand_out('why long');
SELECT t.try(format('stop_refund(%L, %L)', ref, repeat('é', 2000))), t.tell_error('why long', 'unknown', repeat('ü', 2000))
  FROM t.known WHERE name = 'why long';
SELECT matches(t.why('why long'), '^stopped: é{100,}; reported since: ü{100,} -> complete_refund', 'of long texts both parts are there');
SELECT cmp_ok((SELECT octet_length(last_error) FROM order_timeout.refunds WHERE gateway = 'why long'), '<=', 2000, 'within the bound');
SELECT t.given('why twice', 'paid'), t.hand_out('why twice'), t.person('why twice', 'stop_refund'), t.tell('why twice', 'unknown');
SELECT t.try(format('complete_refund(%L, ''failed'', error => %L)', ref, e)) FROM t.known, unnest(ARRAY['first', 'second']) WITH ORDINALITY AS x (e, n)
 WHERE name = 'why twice' ORDER BY n;
SELECT matches(t.why('why twice'), '^stopped: why; reported since: (first|second) -> complete_refund', 'one report is kept, and the reason');
-- one that needed attention already is stopped as well: retry_refund is the last thing to think of
SELECT t.given('why before', 'paid'), t.hand_out('why before'), t.tell('why before', 'unknown');
UPDATE order_timeout.policies SET refund_max_attempts = 2 WHERE policy = 'default';
SELECT t.hand_out('why before'), t.tell_error('why before', 'unknown', 'timed out');
UPDATE order_timeout.policies SET refund_max_attempts = 20 WHERE policy = 'default';
SELECT is(t.why('why before'), 'timed out -> retry_refund', 'worn out');
SELECT is(t.record('why before', 'N', 30) || ': ' || t.why('why before'), 'recorded: stopped: the gateway reported money that went back, '
          'which may be this refund; reported before: timed out -> complete_refund', 'and then money is reported that may be this refund');
SELECT is((SELECT count(*) FROM order_timeout.history('why before') AS e WHERE e.type = 'refund.stopped'), 1::bigint, 'that is an event');
SELECT is(t.record('why before', 'N2', 30) || ': ' || left(t.why('why before'), 8), 'recorded: stopped:', 'reported once more');
SELECT is((SELECT count(*) FROM order_timeout.history('why before') AS e WHERE e.type = 'refund.stopped'), 1::bigint, 'it is stopped already');
-- retry_refund decides: what comes after it is about another attempt
SELECT t.person('why before', 'retry_refund'), t.hand_out('why before'), t.tell_error('why before', 'rejected', 'no');
SELECT is(t.why('why before'), 'no -> retry_refund', 'retried, and rejected');
-- what a stopped refund still owes is stopped as well
SELECT t.given('why rest', 'paid'), t.hand_out('why rest'), t.person('why rest', 'stop_refund'), t.tell('why rest', 'succeeded', true, 'N', 20);
SELECT is(t.why('why rest'), 'stopped: why -> complete_refund', 'a rest of it');

-- What the gateway reports again without a token changes nothing, as long as nobody sent the refund again
CREATE FUNCTION t.is_now(name text) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s %s', r.state, r.attempts, (SELECT count(*) FROM order_timeout.events AS e WHERE e.payload ->> 'refund_ref' = r.refund_ref))
      FROM order_timeout.refunds AS r JOIN t.known AS k ON k.ref = r.refund_ref WHERE k.name = $1
$$;
CREATE TABLE t.was AS SELECT name, ''::text AS state FROM t.known WHERE false;
CREATE FUNCTION t.again(name text, result text, number text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    INSERT INTO t.was SELECT $1, t.is_now($1);
    SELECT t.tell($1, $2, false, $3) || CASE WHEN t.is_now($1) = (SELECT w.state FROM t.was AS w WHERE w.name = $1 ORDER BY w.ctid DESC LIMIT 1)
                                             THEN ', nothing changes' ELSE '' END
$$;
SELECT t.given('again ' || s || ' ' || r, 'paid'), t.hand_out('again ' || s || ' ' || r), t.tell('again ' || s || ' ' || r, s)
  FROM unnest(ARRAY['submitted', 'unknown', 'rejected']) AS s, unnest(ARRAY['failed', 'rejected']) AS r;
SELECT is(t.again('again ' || s || ' ' || r, r) || '; ' || t.again('again ' || s || ' ' || r, r), 'recorded; duplicate, nothing changes',
          s || ', and the gateway reports ' || r || ' twice')
  FROM unnest(ARRAY['submitted', 'unknown', 'rejected']) AS s, unnest(ARRAY['failed', 'rejected']) AS r;
SELECT is(t.again('again submitted failed', 'rejected') || '; ' || t.again('again submitted rejected', 'failed'),
          'stale, nothing changes; recorded', 'another result is none that was reported before');
SELECT is(t.again('again submitted rejected', 'rejected') || '; ' || t.again('again submitted rejected', 'failed'),
          'duplicate, nothing changes; duplicate, nothing changes', 'each of them again, in any sequence');
SELECT is(t.again('again submitted rejected', 'failed', 'N1') || '; ' || t.again('again submitted rejected', 'failed', 'N1'),
          'recorded; duplicate, nothing changes', 'a number is news once');
-- submitted, rejected, retried, rejected: the second one is news only if a worker had the refund in between
SELECT t.person('again unknown rejected', 'retry_refund');
SELECT is(t.again('again unknown rejected', 'rejected'), 'duplicate, nothing changes', 'retried, and reported again: it goes on');
SELECT t.hand_out('again unknown rejected');
SELECT is(t.again('again unknown rejected', 'rejected'), 'stale, nothing changes', 'while a worker has it');
SELECT t.tell('again unknown rejected', 'submitted');
SELECT is(t.again('again unknown rejected', 'rejected') || '; ' || t.again('again unknown rejected', 'rejected'),
          'recorded; duplicate, nothing changes', 'sent again, and rejected again: news');
-- the lease of a stopped refund runs out without a word
SELECT t.person('again unknown failed', 'stop_refund'), t.person('again unknown failed', 'retry_refund'), t.hand_out('again unknown failed'),
       t.person('again unknown failed', 'stop_refund');
UPDATE order_timeout.refunds SET leased_until = clock_timestamp() - interval '1 s' WHERE gateway = 'again unknown failed';
SELECT is(t.again('again unknown failed', 'failed') || '; ' || t.again('again unknown failed', 'failed'),
          'recorded; duplicate, nothing changes', 'stopped while a worker had it: news');
-- a worker that polls learns what the webhook said; after a success it is a contradiction, not a repeat
SELECT is(t.tell('again submitted rejected', 'rejected'), 'stale', 'the worker''s report of the same, with its token');
SELECT is(t.tell('again rejected failed', 'succeeded', false) || ' ' || t.tell('again rejected failed', 'failed', false), 'recorded conflict',
          'reported before and after success');

SELECT t.sound();
SELECT finish();
ROLLBACK;
