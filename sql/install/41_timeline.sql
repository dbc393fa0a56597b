-- One order's story, for people.

CREATE FUNCTION _amount(amount bigint, currency text) RETURNS text
AS 'MODULE_PATHNAME', 'ot_amount' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION _amount(bigint, text) IS
'An amount of minor units as people write it, "12.34 EUR". Errors: 22023. Locks: none. Used by timeline and attention.';

-- An orphan that was given to the order has its first events under the order_id that the gateway reported.
CREATE FUNCTION _timeline_events(order_id text) RETURNS SETOF events
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.* FROM order_timeout.history(order_id) h
    UNION ALL
    SELECT e.* FROM order_timeout.payments p JOIN order_timeout.events e ON e.aggregateid = p.told_order_id
     WHERE p.order_id = _timeline_events.order_id
       AND e.payload ->> 'gateway' = p.gateway AND e.payload ->> 'payment_ref' = p.payment_ref
$$;
COMMENT ON FUNCTION _timeline_events(text) IS
'The events of an order, with those of its payments from before they were given to it. Errors: 22023, 22004. Locks: none. Used by timeline.';

-- The order's sums after each event, added up from the events alone. Of a payment the latest event says whether it counts
-- and whether it is held; of a refund, how much is owed or back. What is held is all of a held payment that no refund has.
CREATE FUNCTION _timeline_money(order_id text)
RETURNS TABLE (event_id bigint, paid bigint, refunded bigint, refund_pending bigint, held bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e record;
    payments jsonb := '{}';         -- by gateway and payment_ref: amount, disposition, refunded, refund_pending
    refunds jsonb := '{}';          -- by refund_ref: amount, and in which of the two sums it is
    is_paid boolean := false;
    this text;
    payment record;
    refund record;
BEGIN
    paid := 0; refunded := 0; refund_pending := 0; held := 0;
    FOR e IN SELECT t.id, t.type, t.payload FROM order_timeout._timeline_events(_timeline_money.order_id) t ORDER BY t.id LOOP
        IF e.type LIKE 'order.%' AND e.payload ? 'state' THEN
            is_paid := e.payload ->> 'state' = 'paid';
        END IF;
        this := concat_ws(E'\n', e.payload ->> 'gateway', e.payload ->> 'payment_ref');
        SELECT p.* INTO payment
          FROM jsonb_to_record(coalesce(payments -> this, '{}')) AS p (amount bigint, disposition text, refunded bigint, refund_pending bigint);
        payment.refunded := coalesce(payment.refunded, 0);
        payment.refund_pending := coalesce(payment.refund_pending, 0);
        IF e.payload ? 'disposition' OR e.payload ? 'payment_amount' THEN
            payment.amount := coalesce(e.payload ->> 'payment_amount', e.payload ->> 'amount');
            payment.disposition := coalesce(e.payload ->> 'disposition', 'applied');
        ELSIF e.type LIKE 'refund.%' AND e.payload ? 'state' THEN
            -- What comes back to a paid order is kept, also if it had been held; unless more of the payment waits for a decision.
            IF e.payload ->> 'state' = 'reversed' AND e.payload ->> 'reason' IN ('external', 'chargeback') AND is_paid
               AND payment.disposition = 'held' AND payment.amount = payment.refunded + payment.refund_pending THEN
                payment.disposition := 'applied';
            END IF;
            SELECT r.* INTO refund FROM jsonb_to_record(coalesce(refunds -> (e.payload ->> 'refund_ref'), '{}')) AS r (owed bigint, back bigint);
            payment.refund_pending := payment.refund_pending - coalesce(refund.owed, 0);
            payment.refunded := payment.refunded - coalesce(refund.back, 0);
            refund.owed := CASE WHEN e.payload ->> 'state' NOT IN ('succeeded', 'reversed') THEN e.payload ->> 'amount' END;
            refund.back := CASE WHEN e.payload ->> 'state' = 'succeeded' THEN e.payload ->> 'amount' END;
            payment.refund_pending := payment.refund_pending + coalesce(refund.owed, 0);
            payment.refunded := payment.refunded + coalesce(refund.back, 0);
            refunds := jsonb_set(refunds, ARRAY[e.payload ->> 'refund_ref'], to_jsonb(refund));
        END IF;
        IF e.payload ? 'disposition' OR e.payload ? 'payment_amount' OR (e.type LIKE 'refund.%' AND e.payload ? 'state') THEN
            payments := jsonb_set(payments, ARRAY[this], to_jsonb(payment));
            SELECT coalesce(sum(p.amount), 0), coalesce(sum(p.refunded), 0), coalesce(sum(p.refund_pending), 0),
                   coalesce(sum(p.amount - p.refunded - p.refund_pending) FILTER (WHERE p.disposition = 'held'), 0)
              INTO paid, refunded, refund_pending, held
              FROM jsonb_each(payments) AS x, jsonb_to_record(x.value) AS p (amount bigint, disposition text, refunded bigint, refund_pending bigint)
             WHERE p.disposition NOT IN ('orphan', 'wrong_currency', 'uncounted');
        END IF;
        event_id := e.id;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _timeline_money(text) IS
'An order''s sums after each of its events, added up from the events. Errors: 22023, 22004. Locks: none. Used by timeline.';

CREATE FUNCTION _timeline_step(type text, payload jsonb, at timestamptz, closed_at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    what CONSTANT text := split_part(type, '.', 2);
    state CONSTANT text := payload ->> 'state';
    tries CONSTANT integer := payload ->> 'attempts';
    -- Payloads go on with the last error: it is shown where it is new.
    said CONSTANT text := ': ' || nullif(coalesce(payload ->> 'problem',
        CASE WHEN what IN ('failed', 'unknown', 'rejected', 'deferred', 'lease_lapsed', 'needs_attention', 'stopped', 'set_aside', 'follow_up_failed')
             THEN payload ->> 'error' ELSE payload ->> 'note' END), '');
    amount CONSTANT text := order_timeout._amount(
        coalesce(payload ->> 'payment_amount', payload ->> 'authorized', payload ->> 'amount')::bigint, payload ->> 'currency');
    again CONSTANT text := CASE WHEN state = 'needs_attention' THEN ', needs attention' ELSE
        ', again in ' || date_trunc('second', coalesce(payload ->> 'next_attempt_at', payload ->> 'retry_at')::timestamptz - at)::text END;
    deadline CONSTANT text := date_trunc('second', (payload ->> 'expires_at')::timestamptz)::timestamp;
    payment CONSTANT text := concat('payment ', payload ->> 'payment_ref', CASE WHEN what <> 'conflict' THEN ' of ' || amount END);
    attempt CONSTANT text := concat('attempt ', payload ->> 'attempt_ref', ' at ', payload ->> 'gateway');
    refund CONSTANT text := concat('refund ', left(payload ->> 'refund_ref', 9));
    -- A try that has ended is counted.
    ended CONSTANT text := concat(CASE WHEN what NOT IN ('submitted', 'deferred', 'retried', 'due') THEN concat('try ', tries, ' ') END,
                                  replace(what, '_', ' '), again, said);
    late CONSTANT text := CASE WHEN payload ? 'late_reason' THEN
        concat(' arrived ' || date_trunc('second', at - closed_at)::text || ' after closing',
               CASE WHEN payload ->> 'late_reason' = 'notified_late' THEN ', paid in time' END) END;
    follow_up CONSTANT text := CASE WHEN payload ->> 'kind' = 'link' THEN 'linked row' ELSE concat('hook ', payload ->> 'kind') END;
BEGIN
    RETURN CASE split_part(type, '.', 1)
    WHEN 'order' THEN CASE what
        WHEN 'created' THEN concat('created: ', amount, ', to be paid by ', deadline)
        WHEN 'paid' THEN CASE WHEN payload ? 'payment_ref' THEN concat(payment, ': paid') ELSE 'paid' END
        WHEN 'accepted_short' THEN concat('less than its amount was accepted', said)
        WHEN 'reopened' THEN CASE WHEN payload ? 'payment_ref' THEN concat(payment, late, ': reopened and paid')
                                  ELSE concat('reopened, to be paid by ', deadline) END
        WHEN 'extended' THEN concat('extended, to be paid by ', deadline)
        WHEN 'changed' THEN concat('changed: ', state, ', ', amount, ', to be paid by ', deadline)
        WHEN 'authorized' THEN concat(attempt, ' authorised ', amount, ': may be shipped')
        WHEN 'closing' THEN 'due: its attempts are ended first'
        WHEN 'due_soon' THEN concat('reminder: due at ', deadline)
        WHEN 'expired' THEN 'expired: not paid in time'
        WHEN 'cancelled' THEN concat('cancelled', ': ' || nullif(payload ->> 'reason', ''))
        WHEN 'forgotten' THEN 'forgotten: its texts were emptied'
        WHEN 'set_aside' THEN concat('not closed, failure ', payload ->> 'failures', again, said)
        WHEN 'follow_up_failed' THEN concat(follow_up, ' failed, failure ', payload ->> 'failures', said)
        WHEN 'followed_up' THEN concat(follow_up, ' done after ', payload ->> 'failures', ' failures')
        WHEN 'follow_up_resolved' THEN concat(follow_up, ' resolved by hand', said)
        ELSE what END
    WHEN 'attempt' THEN CASE what
        WHEN 'begun' THEN concat(attempt, ' begun')
        WHEN 'authorized' THEN concat(attempt, ' authorised ', amount, ': ', payload ->> 'outcome')
        ELSE concat(attempt, ' ', what, ': ', state) END
    WHEN 'void' THEN concat('void of ', attempt, ': ', CASE what
        WHEN 'claimed' THEN concat('try ', tries + 1, ' claimed')
        WHEN 'voided' THEN 'it brings nothing more'
        WHEN 'paid' THEN 'it was paid'
        WHEN 'due' THEN 'due'
        ELSE ended END)
    WHEN 'payment' THEN concat(payment, CASE what
        WHEN 'partial' THEN ': a part'
        WHEN 'surplus' THEN concat(late, ': a surplus')
        WHEN 'wrong_currency' THEN ': not in the order''s currency'
        WHEN 'late' THEN concat(late, ': goes back')
        WHEN 'held' THEN concat(late, ': held for a decision')
        WHEN 'orphan' THEN ': no such order'
        WHEN 'accepted' THEN ': accepted after all'
        WHEN 'given_back' THEN ' was held: goes back'
        WHEN 'conflict' THEN ': contradiction'
        ELSE concat(': ', replace(what, '_', ' ')) END, said)
    WHEN 'refund' THEN concat(refund, CASE what
        WHEN 'created' THEN concat(' of ', amount, ' owed: ', replace(payload ->> 'reason', '_', ' '), said)
        WHEN 'recorded' THEN concat(' of ', amount, ' went back without us: ', payload ->> 'reason', said)
        WHEN 'succeeded' THEN concat(' of ', amount, ': back with the buyer')
        WHEN 'settled' THEN concat(' of ', amount, ': paid out by hand', said)
        WHEN 'claimed' THEN concat(': try ', tries + 1, ' claimed')
        WHEN 'set_aside' THEN concat(': not handed out, failure ', payload ->> 'failures', again, said)
        WHEN 'retried' THEN ': tried again'
        WHEN 'reversed' THEN concat(': reversed', said)
        WHEN 'withdrawn' THEN concat(': withdrawn', said)
        WHEN 'stopped' THEN coalesce(said, ': stopped')
        WHEN 'conflict' THEN concat(': contradiction', said)
        WHEN 'needs_attention' THEN concat(': needs attention', said)
        ELSE concat(': ', ended) END)
    ELSE concat(replace(type, '.', ' '), ' ', payload ->> 'conflict_id', said)
    END;
END
$$;
COMMENT ON FUNCTION _timeline_step(text, jsonb, timestamptz, timestamptz) IS
'An event in words. Errors: 22023. Locks: none. Used by timeline.';

CREATE FUNCTION timeline(order_id text)
RETURNS TABLE (at timestamptz, after interval, step text, who text, amount bigint, currency text,
               paid bigint, refunded bigint, refund_pending bigint, held bigint, kept bigint, event_id bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH e AS MATERIALIZED (
        SELECT t.id, t.type, t.payload, t.created_at, t.xid, t.aggregateid = timeline.order_id AS is_own,
               max(t.created_at) FILTER (WHERE t.type IN ('order.expired', 'order.cancelled')) OVER (ORDER BY t.id) AS closed_at
          FROM order_timeout._timeline_events(timeline.order_id) t
    ), money AS (
        -- One call may write several events: each of them has the sums that the call left.
        SELECT m.event_id, last_value(m.paid) OVER call AS paid, last_value(m.refunded) OVER call AS refunded,
               last_value(m.refund_pending) OVER call AS refund_pending, last_value(m.held) OVER call AS held,
               last_value((m.paid, m.refunded, m.refund_pending, m.held)) OVER (ORDER BY m.event_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS ended
          FROM order_timeout._timeline_money(timeline.order_id) m JOIN e ON e.id = m.event_id
        WINDOW call AS (PARTITION BY e.xid, e.created_at ORDER BY m.event_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    ), deadlines AS (
        SELECT o.id, o.expires_at FROM (
            SELECT e.id, e.created_at, (e.payload ->> 'expires_at')::timestamptz AS expires_at, e.payload ->> 'state' AS state,
                   lead(e.created_at, 1, clock_timestamp()) OVER (ORDER BY e.id) AS until
              FROM e WHERE e.payload ? 'expires_at') o
         WHERE o.state IN ('pending', 'authorized', 'closing') AND o.expires_at > o.created_at AND o.expires_at <= o.until
    ), steps AS (
        SELECT e.id, false AS is_deadline, e.created_at AS at, 
               regexp_replace(order_timeout._timeline_step(e.type, e.payload, e.created_at, e.closed_at), '[[:cntrl:]]+', ' ', 'g') AS step,
               coalesce(nullif(concat_ws(' as ', e.payload ->> 'session_user', nullif(e.payload ->> 'role', e.payload ->> 'session_user')), ''),
                        e.payload ->> 'worker') AS who,
               coalesce(e.payload ->> 'payment_amount', e.payload ->> 'authorized',
                        CASE WHEN e.type NOT LIKE 'order.%' OR e.type IN ('order.created', 'order.changed') THEN e.payload ->> 'amount' END)::bigint AS amount,
               e.payload ->> 'currency' AS currency, e.id AS event_id
          FROM e
        UNION ALL
        SELECT (SELECT max(e.id) FROM e WHERE e.id >= d.id AND e.created_at < d.expires_at), true, d.expires_at, 'the deadline passed', NULL, NULL, NULL, NULL
          FROM deadlines d
    )
    SELECT date_trunc('milliseconds', s.at), date_trunc('milliseconds', s.at - lag(s.at) OVER story),
           CASE WHEN length(s.step) > 76 THEN left(s.step, 73) || '...' ELSE s.step END, s.who, s.amount, CASE WHEN s.amount IS NOT NULL THEN s.currency END,
           m.paid, m.refunded, m.refund_pending, m.held, m.paid - m.refunded - m.refund_pending - m.held, s.event_id
      FROM steps s LEFT JOIN order_timeout.orders o ON o.order_id = timeline.order_id
      LEFT JOIN money m ON m.event_id = s.id
           AND m.ended = (coalesce(o.paid, 0), coalesce(o.refunded, 0), coalesce(o.refund_pending, 0), coalesce(o.held, 0))
    WINDOW story AS (ORDER BY s.id, s.is_deadline)
     ORDER BY s.id, s.is_deadline
$$;
COMMENT ON FUNCTION timeline(text) IS
'One order''s story, a row for each step: when, how long after the step before, what happened in words, who did it, and the order''s money after the call that did it (minor units). The deadline is a step where it passed while the order was open. The sums are null where the events that are there do not lead to the order''s. No rows for an unknown order_id. Errors: 22023, 22004. Locks: none.';
