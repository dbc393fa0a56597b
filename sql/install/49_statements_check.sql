-- Statements next to our rows: what differs, and what is safe to record.
--
-- A line of a statement and a row of ours are the same money by these rules:
--  1. A payment: the line's reference is the payment_ref.
--  2. A refund or a chargeback: the reference is the gateway_refund_ref; of a refund otherwise our_reference is the
--     refund_ref. By our own number it is ours whatever number of the gateway was recorded for it.
--     A line of kind other may be one that is under way there.
--  3. It went back if the row has returned_at, which stays when the refund is reversed after that. What was settled by
--     hand went another way: if the gateway has it too, it went back twice.
--  4. A chargeback that was won: the row of the chargeback is reversed.
--  5. A refund that came back under its number is no money: what the gateway took for it, it gave again. It says nothing of
--     a row that was not returned, or was returned under another number.
--  6. A number again, at another time, is other money; at the same time it is the same line of another statement.
-- No line is written by the gateway's word alone: apply_statement calls the functions that a webhook calls, so a webhook
-- that comes at the same time, or came before, makes it a repeat.

-- Comparing.

-- A payment of the order, or a refund of the payment, of the same amount that no statement has may be the same money under
-- another number: of another layout, or noted differently by a webhook. To record it would count it twice, and the engine
-- would refund it as surplus.
CREATE FUNCTION _may_be_known(gateway text, kind text, order_id text, payment_ref text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind WHEN 'payment'
        THEN EXISTS (SELECT FROM order_timeout.payments p
                      WHERE p.order_id = _may_be_known.order_id AND p.gateway = _may_be_known.gateway AND p.amount = _may_be_known.amount
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment'))
        ELSE EXISTS (SELECT FROM order_timeout.refunds r
                      WHERE r.payment_ref = _may_be_known.payment_ref AND r.gateway = _may_be_known.gateway AND r.amount = - _may_be_known.amount
                        AND r.returned_at IS NOT NULL AND r.gateway_refund_ref IS NOT NULL
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback'))
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind = 'refund')) END
$$;
COMMENT ON FUNCTION _may_be_known(text, text, text, text, bigint) IS
'Whether we have money that a line may be about under another number. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _came_back(gateway text, reference text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM order_timeout.statement_lines l
                    WHERE l.reference = _came_back.reference AND l.gateway = _came_back.gateway AND l.kind = 'refund'
                      AND l.amount = - _came_back.amount AND l.amount <> 0);
END;
COMMENT ON FUNCTION _came_back(text, text, bigint) IS
'Whether the statements of a gateway have a refund going and coming back under one number, all of it. Used by apply_statement, check_statement and statement_totals.';

-- Each line with the row that is the same money, what differs (null: nothing), and the call that apply_statement makes. OFFSET 0,
-- so that what differs is not found out again at each place that asks for it.
CREATE FUNCTION _statement_matches(gateway text, statement text)
RETURNS TABLE (line bigint, kind text, reference text, amount bigint, currency text, problem text, order_id text, payment_ref text,
               refund_ref text, here bigint, plays text, is_applied boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT m.line, m.kind, m.reference, m.amount, m.currency, m.problem, m.order_id, m.payment_ref, m.refund_ref, m.here,
           CASE WHEN m.applied_at IS NOT NULL THEN NULL
                WHEN m.kind = 'payment' AND m.problem = 'only_there' AND m.amount > 0 AND m.order_id IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, m.order_id, NULL, m.amount) THEN 'record_payment' END
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' AND m.amount < 0 AND m.payment_ref IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, NULL, m.payment_ref, m.amount) THEN 'record_refund' END
                WHEN m.kind = 'refund' AND m.problem = 'status' AND m.amount < 0 AND m.is_open THEN 'complete_refund'
                WHEN m.kind = 'chargeback_reversed' AND m.problem IN ('only_there', 'status') AND m.amount > 0 THEN 'reverse_chargeback' END,
           m.applied_at IS NOT NULL
      FROM (SELECT l.line, l.kind, l.reference, l.amount, l.currency, l.applied_at,
                   coalesce(p.order_id, n.order_id, o.order_id, a.order_id,
                            CASE l.kind WHEN 'payment' THEN l.our_reference
                                        ELSE (SELECT q.order_id FROM order_timeout.payments q
                                               WHERE q.gateway = l.gateway AND q.payment_ref = l.payment_ref) END) AS order_id,
                   coalesce(p.payment_ref, n.payment_ref, o.payment_ref, CASE l.kind WHEN 'payment' THEN l.reference ELSE l.payment_ref END) AS payment_ref,
                   r.refund_ref, r.is_open, coalesce(p.amount, CASE l.kind WHEN 'chargeback_reversed' THEN r.amount ELSE - r.amount END) AS here,
                   CASE WHEN l.kind = 'fee' THEN NULL
                        WHEN l.kind = 'other' THEN CASE WHEN r.refund_ref IS NULL OR r.amount <> - l.amount OR r.currency <> l.currency
                                                          OR r.state = 'reversed' OR r.by_hand THEN 'only_there' END
                        WHEN l.nth > 1 OR earlier.has_it THEN 'twice'
                        WHEN pair.came_back AND (r.refund_ref IS NULL OR r.returned_at IS NULL OR r.by_hand OR other.stays) THEN NULL
                        WHEN other.has_it THEN 'twice'
                        WHEN p.payment_ref IS NULL AND r.refund_ref IS NULL THEN 'only_there'
                        WHEN p.payment_ref IS NOT NULL AND elsewhere.order_id NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                          OR r.refund_ref IS NOT NULL AND elsewhere.payment_ref IS NOT NULL THEN 'elsewhere'
                        WHEN coalesce(p.currency, r.currency) <> l.currency THEN 'currency'
                        WHEN l.kind = 'payment' THEN CASE WHEN p.amount <> l.amount THEN 'amount' END
                        WHEN r.amount <> abs(l.amount) OR l.kind = 'chargeback' AND l.amount >= 0 OR l.kind = 'chargeback_reversed' AND l.amount <= 0
                        THEN 'amount'
                        WHEN l.amount < 0 THEN CASE WHEN r.returned_at IS NULL OR r.by_hand THEN 'status' END
                        WHEN r.state <> 'reversed' AND r.returned_at IS NOT NULL AND NOT r.by_hand THEN 'status' END AS problem
              FROM (SELECT s.*, row_number() OVER (PARTITION BY CASE s.kind WHEN 'chargeback' THEN 'refund' ELSE s.kind END, s.reference, sign(s.amount)
                                                   ORDER BY s.line) AS nth
                      FROM order_timeout.statement_lines s
                     WHERE s.gateway = _statement_matches.gateway AND s.statement = _statement_matches.statement) l
              LEFT JOIN order_timeout.payments p ON l.kind = 'payment' AND p.gateway = l.gateway AND p.payment_ref = l.reference
              LEFT JOIN order_timeout.refunds n ON l.kind IN ('refund', 'chargeback', 'chargeback_reversed', 'other')
                                               AND n.gateway_refund_ref = l.reference AND n.gateway = l.gateway
              LEFT JOIN order_timeout.refunds o ON l.kind IN ('refund', 'other') AND n.refund_ref IS NULL
                                               AND o.refund_ref = l.our_reference AND o.gateway = l.gateway
              LEFT JOIN order_timeout.attempts a ON l.kind = 'payment' AND p.payment_ref IS NULL
                                                AND a.gateway = l.gateway AND a.attempt_ref = l.our_reference
             CROSS JOIN LATERAL (SELECT coalesce(n.refund_ref, o.refund_ref) AS refund_ref, coalesce(n.amount, o.amount) AS amount,
                                        coalesce(n.currency, o.currency) AS currency, coalesce(n.state, o.state) AS state,
                                        CASE WHEN n.refund_ref IS NULL THEN o.returned_at ELSE n.returned_at END AS returned_at,
                                        CASE WHEN n.refund_ref IS NULL THEN o.by_hand ELSE n.by_hand END AS by_hand,
                                        CASE WHEN n.refund_ref IS NULL THEN o.settled_at IS NULL ELSE n.settled_at IS NULL END AS is_open) r
             -- At the same time it is the same line: of the day and of the month.
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM order_timeout.statement_lines x
                                                 WHERE x.reference = l.reference AND x.gateway = l.gateway AND x.at < l.at
                                                   AND sign(x.amount) = sign(l.amount)
                                                   AND (x.kind = l.kind OR x.kind IN ('refund', 'chargeback') AND l.kind IN ('refund', 'chargeback')) OFFSET 0) AS has_it) earlier
             CROSS JOIN LATERAL (SELECT l.kind = 'refund' AND order_timeout._came_back(l.gateway, l.reference, l.amount) AS came_back) pair
             -- A refund that went back twice has our number twice. The line with the number that we know has it, or else the first that
             -- did not come back. stays: another line has it, or the row has another number.
             CROSS JOIN LATERAL (SELECT o.refund_ref IS NOT NULL
                                    AND (EXISTS (SELECT FROM order_timeout.statement_lines x
                                                  WHERE x.reference = o.gateway_refund_ref AND x.gateway = l.gateway AND x.kind = 'refund'
                                                    AND sign(x.amount) = sign(l.amount))
                                         OR EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND sign(x.amount) = sign(l.amount) AND x.reference <> l.reference
                                                       AND (x.at, x.statement, x.line) < (l.at, l.statement, l.line)
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount))) AS has_it,
                                        o.gateway_refund_ref IS NOT NULL
                                     OR o.refund_ref IS NOT NULL
                                        AND EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND x.amount < 0 AND x.reference <> l.reference
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount)) AS stays) other
             -- What the line names and we know, where that is not what the row has.
             CROSS JOIN LATERAL (SELECT CASE WHEN l.our_reference NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                                             THEN coalesce((SELECT x.order_id FROM order_timeout.attempts x
                                                             WHERE x.gateway = l.gateway AND x.attempt_ref = l.our_reference),
                                                           (SELECT x.order_id FROM order_timeout.orders x WHERE x.order_id = l.our_reference)) END AS order_id,
                                        CASE WHEN l.payment_ref <> coalesce(n.payment_ref, o.payment_ref)
                                             THEN (SELECT x.payment_ref FROM order_timeout.payments x
                                                    WHERE x.gateway = l.gateway AND x.payment_ref = l.payment_ref) END AS payment_ref) elsewhere
            OFFSET 0) m
     WHERE order_timeout._progress_row(1)
$$;
COMMENT ON FUNCTION _statement_matches(text, text) IS
'Each line of a statement with the row of ours that is the same money, and what differs. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _begin_matching(command text, gateway text, statement text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT order_timeout._progress($1, 1, (SELECT count(*) FROM order_timeout.statement_lines l WHERE l.gateway = $2 AND l.statement = $3))
$$;
COMMENT ON FUNCTION _begin_matching(text, text, text) IS
'The session begins a command that matches the lines of a statement. Used by apply_statement, check_statement and statement_totals.';

-- Rows of ours that no statement of their gateway has. OFFSET 0 keeps each look in the index: right after a file is loaded the planner
-- has no statistics of its lines, and would join all of them with all payments.
CREATE FUNCTION _missing_in_statements(gateway text, since timestamptz, before timestamptz)
RETURNS TABLE (kind text, reference text, order_id text, payment_ref text, refund_ref text, amount bigint, currency text, at timestamptz, is_ours boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'payment', p.payment_ref, p.order_id, p.payment_ref, NULL, p.amount, p.currency, coalesce(p.paid_at, p.received_at), false
      FROM order_timeout.payments p
     WHERE p.gateway = _missing_in_statements.gateway
       AND coalesce(p.paid_at, p.received_at) >= since AND coalesce(p.paid_at, p.received_at) < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment' OFFSET 0)
    UNION ALL
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           - r.amount, r.currency, r.returned_at, r.reason NOT IN ('external', 'chargeback')
      FROM order_timeout.refunds r
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state <> 'reversed'
       AND r.returned_at >= since AND r.returned_at < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback', 'other') OFFSET 0)
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'other')
                          AND (r.gateway_refund_ref IS NULL OR NOT order_timeout._came_back(l.gateway, l.reference, l.amount)) OFFSET 0)
    UNION ALL
    -- It came back, as we have it. If the gateway has that it went, it must have this too.
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback_reversed' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           r.amount, r.currency, r.settled_at, false
      FROM order_timeout.refunds r
     CROSS JOIN LATERAL (SELECT count(DISTINCT l.reference) FILTER (WHERE l.amount < 0) AS went,
                                count(DISTINCT l.reference) FILTER (WHERE l.amount > 0) AS came
                           FROM (SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.reference = r.gateway_refund_ref AND x.gateway = r.gateway
                                    AND x.kind IN ('refund', 'chargeback', 'chargeback_reversed')
                                 UNION ALL
                                 SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.our_reference = r.refund_ref AND x.gateway = r.gateway AND x.kind = 'refund') l) stated
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state = 'reversed' AND r.returned_at IS NOT NULL
       AND r.settled_at >= since AND r.settled_at < before AND stated.went > stated.came
$$;
COMMENT ON FUNCTION _missing_in_statements(text, timestamptz, timestamptz) IS
'Payments and refunds of a gateway in a time that no statement of it has. Used by check_statement.';

-- What is younger than lag at the statement's end is looked at again with the next statement, which looks back as far.
CREATE FUNCTION check_statement(gateway text, statement text, lag interval DEFAULT '1 hour')
RETURNS TABLE (problem text, kind text, line bigint, reference text, order_id text, payment_ref text, refund_ref text,
               there bigint, here bigint, currency text, resolved_by text, applies boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
    late interval := coalesce($3, '1 hour');
    looks_from timestamptz;
    before timestamptz := (SELECT max(s.covers_to) FROM order_timeout.statements s WHERE s.gateway = $1 AND s.covers_from < checked.covers_from);
BEGIN
    IF late < interval '0' OR late > interval '365 days' THEN
        RAISE EXCEPTION 'invalid lag: %', late USING ERRCODE = '22023', HINT = 'Use 0 to 365 days.';
    END IF;
    IF before < checked.covers_from THEN
        RAISE WARNING 'no statement of gateway "%" covers % to %', $1, before, checked.covers_from
            USING HINT = 'Load it and check it too. Until then nothing compares our rows of that time.';
    END IF;
    looks_from := checked.covers_from - CASE WHEN before >= checked.covers_from THEN late ELSE '0' END;
    PERFORM order_timeout._begin_matching('check_statement', $1, $2);
    RETURN QUERY
    SELECT m.problem, m.kind, m.line, m.reference, m.order_id, m.payment_ref, m.refund_ref, m.amount, m.here, m.currency,
           CASE WHEN m.plays IS NOT NULL THEN m.plays
                WHEN m.is_applied THEN 'resolve_conflict'
                WHEN m.kind = 'payment' THEN CASE m.problem WHEN 'only_there' THEN 'record_payment' ELSE 'the gateway' END
                WHEN m.kind = 'refund' AND m.amount > 0 THEN 'reverse_refund or reverse_chargeback'
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' THEN 'record_refund'
                WHEN m.problem = 'status' THEN 'complete_refund, then resolve_conflict'
                WHEN m.problem = 'amount' AND m.kind <> 'chargeback_reversed' THEN 'resolve_conflict or record_refund'
                WHEN m.kind = 'chargeback_reversed' THEN 'reverse_chargeback' ELSE 'the gateway' END,
           m.plays IS NOT NULL
      FROM order_timeout._statement_matches($1, $2) m WHERE m.problem IS NOT NULL
    UNION ALL
    SELECT CASE WHEN x.at >= checked.covers_to - late THEN 'too_early' WHEN x.is_ours THEN 'status' ELSE 'only_here' END,
           x.kind, NULL, x.reference, x.order_id, x.payment_ref, x.refund_ref, NULL, x.amount, x.currency,
           CASE WHEN x.at >= checked.covers_to - late THEN 'the next statement'
                WHEN x.is_ours THEN 'reverse_refund' WHEN x.amount > 0 THEN 'the gateway' ELSE 'reverse_chargeback' END,
           false
      FROM order_timeout._missing_in_statements($1, looks_from, checked.covers_to) x
     -- Asked once, before that is looked for.
     WHERE (SELECT order_timeout._progress('check_statement', 2))
     ORDER BY 3, 2, 4;
    PERFORM order_timeout._progress('check_statement', 0);
END
$$;
COMMENT ON FUNCTION check_statement(text, text, interval) IS
'A row for each difference between a statement and our rows: only_there, only_here, amount, currency, status (went back there and is open here, or the other way round), elsewhere (here it is of another order or payment), twice, too_early (here, and younger than lag at the end of the statement: the next one may have it). there and here are amounts in minor units, signed as in the statement. resolved_by: what resolves it; applies: apply_statement does. A WARNING names the time since the statement before that none covers. Errors: 22023 not loaded, or a wrong lag; 22004. Locks: none.';

CREATE FUNCTION statement_totals(gateway text, statement text)
RETURNS TABLE (currency text, lines bigint, payments bigint, refunds bigint, chargebacks bigint, chargebacks_reversed bigint,
               fees bigint, other bigint, total bigint, stated bigint, missing bigint, agreed bigint, differing bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
BEGIN
    PERFORM order_timeout._begin_matching('statement_totals', $1, $2);
    RETURN QUERY
    SELECT coalesce(s.currency, t.key), coalesce(s.lines, 0), coalesce(s.payments, 0), coalesce(s.refunds, 0), coalesce(s.chargebacks, 0),
           coalesce(s.chargebacks_reversed, 0), coalesce(s.fees, 0), coalesce(s.other, 0), coalesce(s.total, 0), t.value::bigint,
           t.value::bigint - coalesce(s.total, 0), coalesce(s.agreed, 0), coalesce(s.differing, 0)
      FROM (SELECT m.currency, count(*) AS lines,
                   (sum(m.amount) FILTER (WHERE m.kind = 'payment'))::bigint AS payments, (sum(m.amount) FILTER (WHERE m.kind = 'refund'))::bigint AS refunds,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback'))::bigint AS chargebacks,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback_reversed'))::bigint AS chargebacks_reversed,
                   (sum(m.amount) FILTER (WHERE m.kind = 'fee'))::bigint AS fees, (sum(m.amount) FILTER (WHERE m.kind = 'other'))::bigint AS other,
                   sum(m.amount)::bigint AS total, (sum(m.amount) FILTER (WHERE m.problem IS NULL))::bigint AS agreed,
                   (sum(m.amount) FILTER (WHERE m.problem IS NOT NULL))::bigint AS differing
              FROM order_timeout._statement_matches($1, $2) m GROUP BY m.currency) s
      FULL JOIN jsonb_each_text(coalesce(checked.totals, '{}')) t ON t.key = s.currency
     ORDER BY 1;
    PERFORM order_timeout._progress('statement_totals', 0);
END
$$;
COMMENT ON FUNCTION statement_totals(text, text) IS
'A row for each currency of a statement, in minor units: the sums of its lines by kind, their total, what the gateway stated, and what is missing to that (0: it adds up; null: nothing was stated). agreed and differing add up to total: lines without and with a difference; a fee agrees. Errors: 22023 not loaded; 22003; 22004. Locks: none.';

-- Applying.

CREATE FUNCTION _apply_line(gateway text, statement text, line bigint, kind text, plays text, order_id text, payment_ref text, refund_ref text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l order_timeout.statement_lines;
    answer text;
    done boolean := true;
    attempt text;
BEGIN
    -- Two sessions that apply the same statement take turns.
    SELECT s.* INTO l FROM order_timeout.statement_lines s
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4 FOR UPDATE;
    IF NOT FOUND OR l.applied_at IS NOT NULL THEN
        RETURN false;
    END IF;
    BEGIN
        CASE $5
        WHEN 'record_payment' THEN
            SELECT a.attempt_ref INTO attempt FROM order_timeout.attempts a WHERE a.gateway = $1 AND a.attempt_ref = l.our_reference;
            SELECT x.outcome INTO answer FROM order_timeout.record_payment($6, $1, l.reference, l.amount, l.currency, l.at,
                jsonb_build_object('statement', $2, 'line', l.line), attempt) x;
        WHEN 'record_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.record_refund($1, $7, l.reference, - l.amount,
                CASE l.kind WHEN 'chargeback' THEN 'chargeback' ELSE 'external' END, l.currency) x;
        WHEN 'complete_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.complete_refund($8, 'succeeded', gateway_refund_ref => l.reference,
                refunded_amount => - l.amount) x;
        WHEN 'reverse_chargeback' THEN
            SELECT x.outcome INTO answer FROM order_timeout.reverse_chargeback($1, l.reference, format('statement %s, line %s', $2, l.line)) x;
        END CASE;
        -- Asked again now that the call has the order's lock: a webhook may have reported the same money meanwhile, under a number
        -- that no statement has. Then the call is undone.
        IF $5 IN ('record_payment', 'record_refund') AND order_timeout._may_be_known($1, l.kind, $6, $7, l.amount) THEN
            RAISE EXCEPTION 'this money may be known under another number' USING ERRCODE = 'OT003';
        END IF;
        -- A chargeback that was won in part came with this statement, so that check_statement could not compare it.
        IF $5 = 'reverse_chargeback' AND EXISTS (SELECT FROM order_timeout.refunds r
                                                  WHERE r.gateway_refund_ref = l.reference AND r.gateway = $1
                                                    AND (r.amount <> l.amount OR r.currency <> l.currency)) THEN
            RAISE EXCEPTION 'the chargeback is of another amount' USING ERRCODE = 'OT003';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE IN ('40001', '40P01') THEN
            RAISE;
        END IF;
        answer := SQLSTATE || ': ' || SQLERRM;
        done := false;
    END;
    UPDATE order_timeout.statement_lines s
       SET outcome = $5 || ': ' || answer, applied_at = CASE WHEN done THEN clock_timestamp() END
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4;
    RETURN done;
END
$$;
COMMENT ON FUNCTION _apply_line(text, text, bigint, text, text, text, text, text) IS
'Makes the call that a line of a statement stands for, and notes its outcome. Used by apply_statement.';

-- It commits, so it can have no SET search_path: each name and operator is qualified. The loop keeps its rows over a commit.
-- The calls of a payment come one after the other, in the sequence of their names: payments before chargebacks before those that
-- were won. There is no commit between them, or a worker would return what the next line says is back already. A batch locks
-- several orders, so they come by their ids, as in each transaction that locks several. Of an order the file's first payment
-- comes first.
CREATE PROCEDURE apply_statement(gateway text, statement text, batch_size integer DEFAULT 100)
LANGUAGE plpgsql AS $$
DECLARE
    difference pg_catalog.record;
    seen pg_catalog.int8 := 0;
    applied pg_catalog.int8 := 0;
    uncommitted pg_catalog.int8 := 0;
    last_payment pg_catalog.text := '';
    size pg_catalog.int4 := COALESCE(batch_size, 100);
BEGIN
    PERFORM order_timeout._require_statement(apply_statement.gateway, apply_statement.statement);
    IF size OPERATOR(pg_catalog.<) 1 OR size OPERATOR(pg_catalog.>) 10000 THEN
        RAISE EXCEPTION 'invalid batch_size: %', size USING ERRCODE = '22023', HINT = 'Use 1 to 10000.';
    END IF;
    PERFORM order_timeout._begin_matching('apply_statement', apply_statement.gateway, apply_statement.statement);
    FOR difference IN
        SELECT m.*, pg_catalog.count(*) OVER () AS differences FROM order_timeout._statement_matches(apply_statement.gateway, apply_statement.statement) m
         WHERE m.plays IS NOT NULL
         ORDER BY pg_catalog.min(m.order_id COLLATE pg_catalog."C") OVER (PARTITION BY m.payment_ref), m.payment_ref IS NULL,
                  pg_catalog.min(m.line) OVER (PARTITION BY m.payment_ref), m.payment_ref, m.plays, m.line
    LOOP
        IF seen OPERATOR(pg_catalog.=) 0 THEN
            PERFORM order_timeout._progress('apply_statement', 2, difference.differences);
        END IF;
        IF uncommitted OPERATOR(pg_catalog.>=) size
           AND (difference.payment_ref IS NULL OR difference.payment_ref OPERATOR(pg_catalog.<>) last_payment) THEN
            COMMIT;
            RAISE NOTICE '% lines seen, % applied', seen, applied;
            uncommitted := 0;
        END IF;
        last_payment := COALESCE(difference.payment_ref, '');
        uncommitted := uncommitted OPERATOR(pg_catalog.+) 1;
        seen := seen OPERATOR(pg_catalog.+) 1;
        IF order_timeout._apply_line(apply_statement.gateway, apply_statement.statement, difference.line, difference.kind, difference.plays,
                                     difference.order_id, difference.payment_ref, difference.refund_ref) THEN
            applied := applied OPERATOR(pg_catalog.+) 1;
        END IF;
        PERFORM order_timeout._progress_row(2);
    END LOOP;
    PERFORM order_timeout._progress('apply_statement', 0);
    COMMIT;
    RAISE NOTICE '% lines seen, % applied, all done', seen, applied;
END
$$;
COMMENT ON PROCEDURE apply_statement(text, text, integer) IS
'Makes the calls that the differences of a statement stand for, as far as that is safe: record_payment, complete_refund, record_refund and reverse_chargeback, in batches of batch_size, and what belongs to their last payment, with a commit each; a NOTICE says how far it is. What it did, or why it could not, is the outcome of the line. Safe to repeat: a line that was applied is not applied again. Called alone: 2D000 inside a transaction block or a function. Errors: 22023 not loaded, or a wrong batch_size; 40P01, 40001: call it again, what was committed stays; 22004. Locks: the line, then those of the calls, orders by their id.';
