"""What is asked of the database. Each query is bounded: by an index, by LIMIT, or by the window of events."""

# As health does: counts stop there, and sums with them.
COUNTED_TO = 10000
# Rows of attention that are shown of each kind.
SHOWN = 50
RUNS = 40


def time_of(column):
    return f"to_char({column}, 'YYYY-MM-DD HH24:MI:SS TZ')"


# The first event at or after a time, by a few steps along the primary key. Events may commit out of sequence, so it
# begins an hour earlier.
FIRST_EVENT = """
WITH RECURSIVE near (low, high) AS (
    SELECT min(id), max(id) + 1 FROM order_timeout.events
    UNION ALL
    SELECT CASE WHEN e.created_at < %(since)s - interval '1 hour' THEN e.id + 1 ELSE low END,
           CASE WHEN e.created_at < %(since)s - interval '1 hour' THEN high ELSE (low + high) / 2 END
      FROM near CROSS JOIN LATERAL (
           SELECT id, created_at FROM order_timeout.events WHERE id >= (low + high) / 2 ORDER BY id LIMIT 1) e
     WHERE low < high)
SELECT max(low) FROM near"""

WINDOW = f"""
SELECT greatest(n.id, n.latest - %(max_events)s + 1) AS first_event, n.latest - %(max_events)s + 1 > n.id AS is_cut,
       %(since)s::timestamptz AS since, transaction_timestamp() AS until
  FROM (SELECT ({FIRST_EVENT}) AS id, (SELECT max(id) FROM order_timeout.events) AS latest) n"""

IN_WINDOW = "e.id >= %(first_event)s AND e.created_at >= %(since)s"

BEGINNING = f"SELECT min(e.created_at) AS at FROM order_timeout.events e WHERE {IN_WINDOW}"

# From when to when steps are needed, by the clock of the time zone. In the hour after it is set back, what happened
# before that is later by this clock; and what comes within an hour may be earlier.
AXIS = """
SELECT least(b.at::timestamp, (b.at + interval '1 hour')::timestamp - interval '1 hour') AS first,
       greatest(u.at::timestamp, (u.at - interval '1 hour')::timestamp + interval '1 hour') AS last
  FROM (SELECT %(begins)s::timestamptz AS at) b, (SELECT %(until)s::timestamptz AS at) u"""

EVENTS = f"""
SELECT date_bin(%(step)s::interval, e.created_at::timestamp, %(origin)s::timestamp) AS step, e.type, count(*) AS n
  FROM order_timeout.events e WHERE {IN_WINDOW} GROUP BY 1, 2"""

# How late each order was closed. An order that was paid or opened again since then has another deadline now, and one
# whose gateways were asked first was closed when they had answered: both are left out.
CLOSINGS = f"""
SELECT greatest(o.closes_at, %(begins)s) AS due, e.created_at AS closed,
       extract(epoch FROM e.created_at - o.closes_at)::float8 AS late
  FROM order_timeout.events e JOIN order_timeout.orders o ON o.order_id = e.aggregateid
 WHERE {IN_WINDOW} AND e.type = 'order.expired' AND o.state IN ('expired', 'cancelled') AND o.settled_at = e.created_at
   AND NOT (o.has_attempts AND EXISTS (SELECT FROM order_timeout.events c
            WHERE c.aggregateid = o.order_id AND c.type = 'order.closing' AND c.id < e.id))"""

PERCENTILES = """count(*) AS n, percentile_cont(0.5) WITHIN GROUP (ORDER BY c.late) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.late) AS p95,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY c.late) AS p99, max(c.late) AS longest"""

LATENESS = f"""
SELECT date_bin(%(step)s::interval, c.due::timestamp, %(origin)s::timestamp) AS step, {PERCENTILES}
  FROM ({CLOSINGS}) c GROUP BY 1"""

LATENESS_OF_ALL = f"SELECT {PERCENTILES} FROM ({CLOSINGS}) c"

# By time, which is not by number where the clock was set back: width_bucket needs them sorted.
LATEST_RUNS = f"""
SELECT sweep_id, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS TZ') AS started, to_char(started_at, 'HH24:MI') AS tick,
       started_at, expired, failed, extract(epoch FROM max_lag)::float8 AS max_lag
  FROM (SELECT * FROM order_timeout.sweeps WHERE expired > 0 ORDER BY sweep_id DESC LIMIT {RUNS}) s
 ORDER BY started_at, sweep_id"""

# A closing belongs to the latest of these runs that had begun by then.
LATENESS_OF_RUNS = f"""
SELECT width_bucket(c.closed, %(started)s::timestamptz[]) AS place, {PERCENTILES}
  FROM ({CLOSINGS}) c GROUP BY 1"""

OPEN_REFUNDS = f"""
(SELECT * FROM order_timeout.refunds WHERE settled_at IS NULL AND next_attempt_at IS NOT NULL
  ORDER BY next_attempt_at LIMIT {COUNTED_TO})
UNION ALL
(SELECT * FROM order_timeout.refunds WHERE settled_at IS NULL AND next_attempt_at IS NULL LIMIT {COUNTED_TO})"""

REFUNDS_BY_AGE = f"""
SELECT width_bucket(extract(epoch FROM transaction_timestamp() - r.created_at)::float8, %(ages)s::float8[]) AS age,
       r.state, count(*) AS n
  FROM ({OPEN_REFUNDS}) r GROUP BY 1, 2"""

REFUNDS_BY_CAUSE = f"""
SELECT coalesce(nullif(left(split_part(r.last_error, E'\\n', 1), 100), ''), 'no error so far') AS cause, r.state,
       count(*) AS n, extract(epoch FROM transaction_timestamp() - min(r.created_at))::float8 AS oldest
  FROM ({OPEN_REFUNDS}) r GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 15"""

OWED = f"""
SELECT r.currency, r.state, count(*) AS n, sum(r.amount) AS amount,
       extract(epoch FROM transaction_timestamp() - min(r.created_at))::float8 AS oldest
  FROM ({OPEN_REFUNDS}) r GROUP BY 1, 2 ORDER BY 1, 2"""

# health counts the same rows.
WAITING_PAYMENTS = f"""
SELECT currency, disposition, count(*) AS n, sum(amount) AS amount FROM (
    (SELECT currency, disposition, held AS amount FROM order_timeout.payments
      WHERE disposition = 'held' LIMIT {COUNTED_TO})
    UNION ALL
    (SELECT currency, disposition, amount - refunded - refund_pending FROM order_timeout.payments
      WHERE disposition = 'orphan' AND amount > refunded + refund_pending LIMIT {COUNTED_TO})) w GROUP BY 1, 2"""

ATTENTION = """kind, order_id, gateway, payment_ref, refund_ref, conflict_id, attempt_ref, amount, currency,
       to_char(since, 'YYYY-MM-DD HH24:MI:SS TZ') AS since,
       extract(epoch FROM transaction_timestamp() - since)::float8 AS age, why, resolved_by"""

# With the kind as a constant, the other parts of the view are not read.
ATTENTION_OF_KIND = f"""
SELECT {ATTENTION} FROM (SELECT * FROM order_timeout.attention WHERE kind = %(kind)s LIMIT {COUNTED_TO}) a
 ORDER BY a.since, a.order_id LIMIT {SHOWN}"""

# funds_violations takes no time before 1970.
PROOF_SINCE = "SELECT greatest(transaction_timestamp() - %(days)s * interval '1 day', '1970-01-02') AS since"

PROOF = f"SELECT * FROM order_timeout.funds_violations(since => %(since)s) LIMIT {COUNTED_TO}"

SIZES = """
SELECT table_name, rows, bytes, index_bytes, bytes_per_order FROM order_timeout.sizes ORDER BY bytes DESC, table_name"""

CONSUMERS = """
SELECT consumer, unread, extract(epoch FROM oldest_unread)::float8 AS oldest FROM order_timeout.consumers
 ORDER BY consumer"""

TOTALS = """
SELECT type, currency, events AS n, amount FROM order_timeout.event_totals
 WHERE type IN ('refund.created', 'refund.succeeded', 'refund.settled', 'refund.recorded') AND currency <> ''
 ORDER BY currency, type"""

ORDER = f"""
SELECT order_id, policy, state, amount, currency, paid, refunded, refund_pending, held,
       paid - refunded - refund_pending - held AS kept, {time_of('created_at')} AS created,
       {time_of('closes_at')} AS due, {time_of('settled_at')} AS settled, close_reason
  FROM order_timeout.orders WHERE order_id = %(order)s"""

FUNDS = "SELECT * FROM order_timeout.funds(order_id => %(order)s)"

TIMELINE = f"""
SELECT {time_of('at')} AS at, to_char(at, 'HH24:MI:SS') AS label, extract(epoch FROM after)::float8 AS after, step, who,
       amount, currency, paid, refunded, refund_pending, held, kept
  FROM order_timeout.timeline(order_id => %(order)s) WITH ORDINALITY
       AS t (at, after, step, who, amount, currency, paid, refunded, refund_pending, held, kept, event_id, place)
 ORDER BY place LIMIT {COUNTED_TO}"""

PAYMENTS = f"""
SELECT gateway, payment_ref, amount, currency, disposition, late_reason, refunded, refund_pending, held,
       {time_of('received_at')} AS received
  FROM order_timeout.payments
 WHERE order_id = %(order)s ORDER BY received_at, gateway, payment_ref LIMIT {COUNTED_TO}"""

REFUNDS = f"""
SELECT r.refund_ref, r.gateway, r.payment_ref, r.amount, r.currency, r.reason, r.state, r.attempts,
       r.gateway_refund_ref,
       r.last_error, {time_of('r.created_at')} AS created, {time_of('r.next_attempt_at')} AS next_attempt,
       {time_of('r.settled_at')} AS settled
  FROM order_timeout.payments p
  JOIN order_timeout.refunds r ON r.gateway = p.gateway AND r.payment_ref = p.payment_ref
 WHERE p.order_id = %(order)s ORDER BY r.created_at, r.refund_ref LIMIT {COUNTED_TO}"""

ATTEMPTS = f"""
SELECT gateway, attempt_ref, state, authorized, currency, captured, attempts, last_error,
       {time_of('created_at')} AS created
  FROM order_timeout.attempts WHERE order_id = %(order)s ORDER BY created_at, attempt_ref LIMIT {COUNTED_TO}"""

ATTENTION_OF_ORDER = f"""
SELECT {ATTENTION} FROM order_timeout.attention a WHERE a.order_id = %(order)s ORDER BY a.since LIMIT {SHOWN}"""
