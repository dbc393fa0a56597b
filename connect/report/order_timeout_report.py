#!/usr/bin/python3
"""Writes a report about order_timeout, or about one order, as one HTML file that needs nothing else.

It reads the database in one read-only transaction, so that all numbers belong to the same moment. Its role needs
access reader. doc/report.md explains what is on the page and what it costs.

Exit status: 0 if the file is written; 1 if the database refuses, or has no such order; 2 if an option is wrong or
Chart.js is missing. What was written before stays if the new file cannot be written.
"""

import argparse
import base64
import contextlib
import decimal
import hashlib
import html
import json
import os
import re
import signal
import sys
from datetime import datetime, timedelta
from typing import NamedTuple, Optional

import psycopg
from psycopg.rows import namedtuple_row

HERE = os.path.dirname(os.path.realpath(__file__))
CHART_JS = "/usr/share/javascript/chart.js/chart.min.js"
NEEDED = ("health", "attention", "metrics", "sizes", "consumers")

# As health does: counts stop there, and sums with them.
COUNTED_TO = 10000
# Rows of attention that are shown of each kind.
SHOWN = 50
RUNS = 40
# A chart has at most so many steps.
STEPS = 48

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400
# What a step may be long. The words are what PostgreSQL and people read.
STEP_LENGTHS = [(10 * SECOND, "10 seconds"), (MINUTE, "1 minute"), (5 * MINUTE, "5 minutes"), (15 * MINUTE, "15 minutes"),
                (HOUR, "1 hour"), (3 * HOUR, "3 hours"), (6 * HOUR, "6 hours"), (DAY, "1 day"), (7 * DAY, "7 days"),
                (28 * DAY, "28 days"), (364 * DAY, "364 days")]
# A Monday.
ORIGIN = datetime(2001, 1, 1)


class Refused(Exception):
    """Ends the command with this line and status 1."""


# ------------------------------------------------------------ what is asked

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

EVENTS = f"""
SELECT date_bin(%(step)s::interval, e.created_at::timestamp, %(origin)s::timestamp) AS step, e.type, count(*) AS n
  FROM order_timeout.events e WHERE {IN_WINDOW} GROUP BY 1, 2"""

# How late each order was closed. An order that was paid or opened again since then has another deadline now, and one
# whose gateways were asked first was closed when they had answered: both are left out.
CLOSINGS = f"""
SELECT greatest(o.closes_at, %(begins)s) AS due, e.created_at AS closed, extract(epoch FROM e.created_at - o.closes_at)::float8 AS late
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

LATEST_RUNS = f"""
SELECT sweep_id, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS TZ') AS started, to_char(started_at, 'HH24:MI') AS tick,
       started_at, expired, failed, extract(epoch FROM max_lag)::float8 AS max_lag
  FROM order_timeout.sweeps WHERE expired > 0 ORDER BY sweep_id DESC LIMIT {RUNS}"""

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
    (SELECT currency, disposition, held AS amount FROM order_timeout.payments WHERE disposition = 'held' LIMIT {COUNTED_TO})
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

TOTALS = """
SELECT type, currency, events AS n, amount FROM order_timeout.event_totals
 WHERE type IN ('refund.created', 'refund.succeeded', 'refund.settled', 'refund.recorded') AND currency <> ''
 ORDER BY currency, type"""


def time_of(column):
    return f"to_char({column}, 'YYYY-MM-DD HH24:MI:SS TZ')"


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
  FROM order_timeout.payments WHERE order_id = %(order)s ORDER BY received_at, gateway, payment_ref LIMIT {COUNTED_TO}"""

REFUNDS = f"""
SELECT r.refund_ref, r.gateway, r.payment_ref, r.amount, r.currency, r.reason, r.state, r.attempts, r.gateway_refund_ref,
       r.last_error, {time_of('r.created_at')} AS created, {time_of('r.next_attempt_at')} AS next_attempt,
       {time_of('r.settled_at')} AS settled
  FROM order_timeout.payments p
  JOIN order_timeout.refunds r ON r.gateway = p.gateway AND r.payment_ref = p.payment_ref
 WHERE p.order_id = %(order)s ORDER BY r.created_at, r.refund_ref LIMIT {COUNTED_TO}"""

ATTEMPTS = f"""
SELECT gateway, attempt_ref, state, authorized, currency, captured, attempts, last_error, {time_of('created_at')} AS created
  FROM order_timeout.attempts WHERE order_id = %(order)s ORDER BY created_at, attempt_ref LIMIT {COUNTED_TO}"""

ATTENTION_OF_ORDER = f"""
SELECT {ATTENTION} FROM order_timeout.attention a WHERE a.order_id = %(order)s ORDER BY a.since LIMIT {SHOWN}"""


# ------------------------------------------------------------ the database


class Readable(psycopg.adapt.Loader):
    """A database with encoding SQL_ASCII may hold what is no UTF-8."""

    def load(self, data):
        return bytes(data).decode("utf-8", "replace")


class Database:
    """One read-only transaction."""

    def __init__(self, connection):
        self.connection = connection
        self.exponents = {}

    def rows(self, sql, **values):
        return self.connection.execute(sql, values).fetchall()

    def row(self, sql, **values):
        found = self.rows(sql, **values)
        return found[0] if found else None

    def exponent(self, currency):
        """How many decimals the currency has; None if the extension does not know it."""
        if currency not in self.exponents:
            self.exponents[currency] = None
            with contextlib.suppress(psycopg.DataError), self.connection.transaction():
                unit = self.row("SELECT order_timeout.minor_units(1, %(currency)s) AS n", currency=currency)
                self.exponents[currency] = len(str(unit.n)) - 1
        return self.exponents[currency]

    def money(self, amount, currency):
        """As people write it: 1,234.50 EUR."""
        if amount is None:
            return ""
        exponent = self.exponent(currency)
        if exponent is None:
            return f"{int(amount):,} minor units of {currency}"
        # A context of its own: sums of many bigints have more digits than the usual 28.
        major = decimal.Context(prec=60).scaleb(decimal.Decimal(int(amount)), -exponent)
        return f"{major:,.{exponent}f} {currency}"


@contextlib.contextmanager
def transaction(options):
    with psycopg.connect(options.database, client_encoding="utf8", connect_timeout=10, row_factory=namedtuple_row,
                         fallback_application_name="order_timeout_report", prepare_threshold=None) as connection:
        for name in ("text", "varchar", "bpchar", "name"):
            connection.adapters.register_loader(name, Readable)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        settings = {"statement_timeout": f"{options.timeout:d}s", "lock_timeout": "5s", "search_path": "pg_catalog",
                    "TimeZone": options.time_zone, "IntervalStyle": "postgres", "DateStyle": "ISO", "jit": "off"}
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield Database(connection)


def require_extension(database):
    found = database.row("SELECT extversion FROM pg_extension WHERE extname = 'order_timeout'")
    if found is None:
        name = database.row("SELECT current_database() AS name").name
        raise Refused(f'database "{name}" has no extension order_timeout: CREATE EXTENSION order_timeout;')
    views = database.row("""SELECT array_agg(relname::text) AS names FROM pg_class
                             WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'order_timeout')""").names
    missing = [name for name in NEEDED if name not in views]
    if missing:
        raise Refused(f"order_timeout {found.extversion} is too old, it has no view {missing[0]}: install the new version's"
                      " files, then ALTER EXTENSION order_timeout UPDATE;")
    return found.extversion


# ------------------------------------------------------------ words


def age(seconds):
    """A length of time in words, with two units at most."""
    if seconds is None:
        return ""
    if seconds < 0:
        return "-" + age(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{seconds * 1000:.2g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")]
    whole = round(seconds)
    for place, (length, name) in enumerate(units):
        if whole >= length:
            rest = whole % length // units[place + 1][0] if place + 1 < len(units) else 0
            return f"{whole // length} {name}" + (f" {rest} {units[place + 1][1]}" if rest else "")
    return "0 s"


def size(count):
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def number(count):
    return "" if count is None else f"{count:,}"


def counted(count):
    return f"{count:,} or more" if count is not None and count >= COUNTED_TO else number(count)


def words(name):
    return name.replace("_", " ")


# ------------------------------------------------------------ pieces of the page


class Cell(NamedTuple):
    """What is shown, and the value it was made of, for programs."""

    shown: str
    value: object = None
    kind: str = "text"

    def html(self):
        value = self.shown if self.value is None else self.value
        shown = escape(self.shown)
        if self.kind == "code":
            shown = f"<pre>{shown}</pre>"
        elif self.kind == "text":
            shown = f"<bdi>{shown}</bdi>"     # a text that runs from right to left leaves its neighbours alone
        return f'<td class="{self.kind}" data-value="{escape(value)}">{shown}</td>'


def escape(text):
    """For text and attributes. Control characters, which HTML does not allow, become visible."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", str(text)))


def text(shown):
    return Cell("" if shown is None else str(shown))


def count(value, shown=None):
    return Cell(number(value) if shown is None else shown, "" if value is None else value, "number")


def moment(shown):
    return Cell(shown or "", None, "time")


def seconds(value):
    return Cell(age(value), "" if value is None else value, "number")


def table(name, heads, rows, caption=None):
    """heads: the words above each column; those of numbers stand on the right, as their cells do."""
    kinds = [rows[0][place].kind if rows else "text" for place in range(len(heads))]
    head = "".join(f'<th scope="col" class="{kind}">{escape(word)}</th>' for word, kind in zip(heads, kinds))
    body = "".join(f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in rows)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or words(name))}">'
            f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


class Chart(NamedTuple):
    """data: what report.js draws. It has the same numbers as the table below it."""

    name: str
    title: str
    note: str
    data: dict
    table: str

    def html(self):
        label = f"{self.title}. {self.note} The numbers are in the table below."
        return (f'<figure id="{self.name}"><figcaption><h3>{escape(self.title)}</h3><p>{escape(self.note)}</p></figcaption>'
                f'<div class="plot"><canvas role="img" aria-label="{escape(label)}"></canvas></div>'
                f"<details open><summary>Numbers</summary>{self.table}</details></figure>")


def series(label, color, values, **more):
    return {"label": label, "color": color, "values": values, **more}


def card(name, title, shown, note="", tone="", value=None):
    return (f'<div class="card {tone}" id="{name}" data-value="{escape(shown if value is None else value)}">'
            f"<h2>{escape(title)}</h2><p class=\"figure\">{escape(shown)}</p><p>{escape(note)}</p></div>")


def section(name, title, body, note=""):
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{note}{body}</section>'


class Page(NamedTuple):
    title: str
    subtitle: str
    body: str
    charts: list
    facts: dict


# ------------------------------------------------------------ time


class Steps:
    """The window in steps of equal length, by the clock of the time zone."""

    def __init__(self, since, until):
        first, last = since.replace(tzinfo=None), until.replace(tzinfo=None)
        length = (last - first).total_seconds()
        self.seconds, self.words = next(
            (step for step in STEP_LENGTHS if length / step[0] < STEPS - 1), STEP_LENGTHS[-1])
        step = timedelta(seconds=self.seconds)
        begin = ORIGIN + (first - ORIGIN) // step * step
        self.begins = [begin + i * step for i in range(int((last - begin) / step) + 1)]

    @property
    def labels(self):
        form = "%Y-%m-%d" if self.seconds >= DAY else "%Y-%m-%d %H:%M" if self.seconds >= MINUTE else "%Y-%m-%d %H:%M:%S"
        return [begin.strftime(form) for begin in self.begins]

    @property
    def ticks(self):
        """The same for a narrow axis."""
        form = "%m-%d" if self.seconds >= 6 * HOUR else "%H:%M" if self.seconds >= MINUTE else "%H:%M:%S"
        return [begin.strftime(form) for begin in self.begins]


# ------------------------------------------------------------ the report


class Report:
    """Each method of the sections asks for what it shows, and returns HTML; charts go to self.charts."""

    def __init__(self, database, options, version):
        self.database, self.options, self.version = database, options, version
        self.charts = []
        since = database.row("SELECT transaction_timestamp() - %(days)s * interval '1 day' AS at", days=options.days).at
        self.window = database.row(WINDOW, since=since, max_events=options.max_events)
        self.health = database.row("SELECT * FROM order_timeout.health")
        self.metrics = database.rows("SELECT name, labels, value FROM order_timeout.metrics")
        self.values = {"first_event": self.window.first_event or 0, "since": since, "origin": ORIGIN}
        self.values["begins"] = database.row(BEGINNING, **self.values).at or since
        self.steps = Steps(self.values["begins"], self.window.until)
        self.values["step"] = self.steps.words
        self.is_empty = self.window.first_event is None

    def page(self):
        parts = [self.about(), self.orders(), self.lateness(), self.runs(), self.refunds_over_time(), self.refunds_by_age(),
                 self.causes(), self.owed(), self.growth()]
        waiting, waiting_count = self.attention()
        proof, proof_card = self.proof()
        grid = "".join(part for part in parts[1:] if part)
        body = (self.headline(waiting_count, proof_card) + parts[0] + f'<section class="charts">{grid}</section>' + waiting
                + proof + self.money() + self.consumers() + self.sizes())
        return Page("order_timeout", self.subtitle(), body, self.charts,
                    {"step": self.steps.words, "first_event": self.values["first_event"], "empty": self.is_empty})

    def subtitle(self):
        where = self.database.row("SELECT current_database() AS name").name
        return f"Database {where}, {self.at(self.window.until)}. order_timeout {self.version}."

    def at(self, time):
        return self.database.row("SELECT to_char(%(time)s, 'YYYY-MM-DD HH24:MI:SS TZ') AS at", time=time).at

    def chart(self, name, title, note, data, numbers):
        self.charts.append({"name": name, **data})
        return Chart(name, title, note, data, numbers).html()

    # -------------------------------------------------- the first look

    def headline(self, waiting, proof_card):
        health = self.health
        cards = [
            self.health_card(),
            card("open", "Open orders", counted(health.pending + health.authorized + health.closing),
                 f"{counted(health.due_soon)} fall due within five minutes",
                 value=health.pending + health.authorized + health.closing),
            card("overdue", "Overdue", counted(health.overdue),
                 f"the oldest for {age(health.oldest_overdue_seconds)}" if health.overdue else "none is past its deadline",
                 "bad" if health.oldest_overdue_seconds > 120 else "", value=health.overdue),
            self.owed_card(),
            card("waiting", "Waits for a person", counted(waiting), "cases, each with what to do" if waiting else "nothing",
                 "bad" if waiting else "", value=waiting),
            self.sweep_card(), proof_card]
        return f'<section class="cards" aria-label="At a glance">{"".join(cards)}</section>'

    def health_card(self):
        health = self.health
        problems = "".join(f"<li>{escape(problem)}</li>" for problem in health.problems)
        said = f"<ul>{problems}</ul>" if problems else "<p>nothing is late, stuck or contradictory</p>"
        return (f'<div class="card wide {"good" if health.ok else "bad"}" id="ok" data-value="{str(health.ok).lower()}">'
                f'<h2>Now</h2><p class="figure">{"All is right" if health.ok else "Look here"}</p>{said}</div>')

    def owed_card(self):
        owed = sorted(self.health.owed_by_currency.items())
        lines = "".join(f"<li>{escape(self.database.money(amount, currency))}</li>" for currency, amount in owed)
        oldest = self.health.oldest_refund_owed_seconds
        note = f"the oldest for {age(oldest)}" if owed else "no refund is open"
        figure = f'<ul class="figure">{lines}</ul>' if owed else '<p class="figure">Nothing</p>'
        return (f'<div class="card" id="owed_now" data-value="{escape(json.dumps(dict(owed)))}"><h2>Owed to buyers</h2>'
                f"{figure}<p>{escape(note)}</p></div>")

    def sweep_card(self):
        seen = self.health.last_sweep_age_seconds
        if seen is None:
            return card("sweep", "Last sweep", "None yet", "nothing closes orders by itself: schedule_sweeper()", value="")
        lag = self.health.last_sweep_lag_seconds
        return card("sweep", "Last sweep", f"{age(max(seen, 0))} ago", f"{age(lag)} behind the clock" if lag else "not behind",
                    "bad" if seen > 120 else "", value=self.health.last_sweep.isoformat())

    def about(self):
        if self.is_empty:
            return '<p class="note" id="about">There is nothing yet: no order was created in this database.</p>'
        since, until = self.at(self.values["begins"]), self.at(self.window.until)
        cut = (f" Older events of these {self.options.days:g} days were left out, because the latest"
               f" {self.options.max_events:,} are read (--max-events)." if self.window.is_cut else "")
        return (f'<p class="note" id="about">{escape(f"From {since} to {until}, in steps of {self.steps.words}, the first and the last of which are not whole.{cut}")}</p>')

    # -------------------------------------------------- over time

    def orders(self):
        """Into which states orders went, by the events that say so."""
        self.by_type = {}
        for row in self.database.rows(EVENTS, **self.values):
            self.by_type.setdefault(row.type, {})[row.step] = row.n
        kinds = [("order.paid", "paid", "paid"), ("order.reopened", "reopened", "reopened"),
                 ("order.expired", "expired", "expired"), ("order.cancelled", "cancelled", "cancelled")]
        return self.over_time("orders", "What became of orders", "Orders that were paid, reopened, expired or cancelled in"
                              " each step; the line is those that were created.",
                              kinds, ("order.created", "created", "created"))

    def refunds_over_time(self):
        kinds = [("refund.succeeded", "returned", "paid"), ("refund.failed", "failed tries", "expired"),
                 ("refund.needs_attention", "given up", "late")]
        return self.over_time("refunds", "Refunds over time", "Refunds that were returned, tries that failed, and refunds"
                              " that need attention; the line is refunds that were created.",
                              kinds, ("refund.created", "created", "created"))

    def over_time(self, name, title, note, kinds, line):
        def values(event):
            return [self.by_type.get(event, {}).get(begin, 0) for begin in self.steps.begins]

        sets = [series(label, color, values(event), stack="all") for event, label, color in kinds]
        sets.append(series(line[1], line[2], values(line[0]), line=True))
        rows = [[text(label), *[count(one["values"][i]) for one in sets]] for i, label in enumerate(self.steps.labels)]
        numbers = table(f"{name}_numbers", ["from", *[one["label"] for one in sets]], rows)
        return self.chart(name, title, note, {"labels": self.steps.labels, "ticks": self.steps.ticks, "series": sets, "unit": ""}, numbers)

    def lateness(self):
        found = {row.step: row for row in self.database.rows(LATENESS, **self.values)}
        total = self.database.row(LATENESS_OF_ALL, **self.values)
        rows = [found.get(begin) for begin in self.steps.begins]
        note = ("How long after its deadline an order was closed, by the step of the deadline; the bars are the orders that"
                " fell due then and were closed.")
        if total.n:
            note += f" Of all {total.n:,}: half within {age(total.p50)}, 99 % within {age(total.p99)}, the latest {age(total.longest)}."
        return self.percentiles("lateness", "How late orders are closed", note, self.steps.labels, self.steps.ticks, rows,
                                "deadline from", "fell due")

    def runs(self):
        runs = self.database.rows(LATEST_RUNS)[::-1]
        if not runs:
            return ""
        first = self.database.row(FIRST_EVENT, since=runs[0].started_at).max or 0
        values = {**self.values, "first_event": max(first, self.values["first_event"]), "since": runs[0].started_at,
                  "started": [run.started_at for run in runs]}
        found = {row.place: row for row in self.database.rows(LATENESS_OF_RUNS, **values)}
        rows = [found.get(place + 1) for place in range(len(runs))]
        extra = [("closed by the run", [run.expired for run in runs]), ("its latest, by its own row", [run.max_lag for run in runs])]
        return self.percentiles("runs", "Run by run", f"The latest {len(runs)} runs of the sweeper that closed orders: how late,"
                                " and how many orders were closed from its beginning to that of the next.",
                                [run.started for run in runs], [run.tick for run in runs], rows, "run began", "closed", extra)

    def percentiles(self, name, title, note, labels, ticks, rows, head, load, extra=()):
        def values(column):
            return [getattr(row, column) if row else None for row in rows]

        loads = [row.n if row else 0 for row in rows]
        lines = [series("p50", "paid", values("p50"), line=True), series("p95", "expired", values("p95"), line=True),
                 series("p99", "late", values("p99"), line=True)]
        bars = series(load, "quiet", loads, axis="load")
        cells = [[text(label), count(loads[i]), *[seconds(one["values"][i]) for one in lines], seconds(values("longest")[i]),
                  *[count(column[i]) if place == 0 else seconds(column[i]) for place, (_, column) in enumerate(extra)]]
                 for i, label in enumerate(labels)]
        numbers = table(f"{name}_numbers", [head, load, "p50", "p95", "p99", "latest", *[word for word, _ in extra]], cells)
        return self.chart(name, title, note, {"labels": labels, "ticks": ticks, "series": [*lines, bars], "unit": "s"}, numbers)

    # -------------------------------------------------- refunds and money

    STATES = [("pending", "created"), ("processing", "reopened"), ("submitted", "paid"), ("failed", "expired"),
              ("unknown", "cancelled"), ("needs_attention", "late")]
    AGES = [(0, "under an hour"), (HOUR, "1 to 6 hours"), (6 * HOUR, "6 to 24 hours"), (DAY, "1 to 2 days"),
            (2 * DAY, "2 to 7 days"), (7 * DAY, "7 days and more")]

    def refunds_by_age(self):
        found = {(row.age, row.state): row.n
                 for row in self.database.rows(REFUNDS_BY_AGE, ages=[float(begin) for begin, _ in self.AGES])}
        # A clock that was set back makes a refund younger than nothing.
        for (place, state), n in list(found.items()):
            if place == 0:
                found[1, state] = found.get((1, state), 0) + n
        labels = [label for _, label in self.AGES]
        sets = [series(words(state), color, [found.get((place + 1, state), 0) for place in range(len(labels))], stack="all")
                for state, color in self.STATES]
        rows = [[text(label), *[count(one["values"][i]) for one in sets]] for i, label in enumerate(labels)]
        numbers = table("ages_numbers", ["age", *[one["label"] for one in sets]], rows)
        return self.chart("ages", "Open refunds by age", "Refunds that are owed and not back yet, by how long ago they were"
                          " created and where they stand.", {"labels": labels, "series": sets, "unit": "", "horizontal": True}, numbers)

    def causes(self):
        rows = self.database.rows(REFUNDS_BY_CAUSE)
        if not rows:
            return ""
        labels = list(dict.fromkeys(row.cause for row in rows))
        sets = [series(words(state), color, [sum(row.n for row in rows if (row.cause, row.state) == (label, state))
                                             for label in labels], stack="all") for state, color in self.STATES]
        sets = [one for one in sets if any(one["values"])]
        cells = [[text(row.cause), text(words(row.state)), count(row.n), seconds(row.oldest)] for row in rows]
        numbers = table("causes_numbers", ["last error", "state", "refunds", "the oldest"], cells)
        return self.chart("causes", "Open refunds by what stopped them", "The last error that a worker reported, the most"
                          " frequent first.", {"labels": labels, "series": sets, "unit": "", "horizontal": True}, numbers)

    def owed(self):
        rows = self.database.rows(OWED)
        if not rows:
            return ""
        currencies = list(dict.fromkeys(row.currency for row in rows))
        total = {currency: sum(int(row.amount) for row in rows if row.currency == currency) for currency in currencies}
        amount = {(row.currency, row.state): int(row.amount) for row in rows}
        sets = [series(words(state), color, [100 * amount.get((currency, state), 0) / total[currency] for currency in currencies],
                       stack="all", amounts=[self.database.money(amount.get((currency, state), 0), currency)
                                             for currency in currencies])
                for state, color in self.STATES]
        sets = [one for one in sets if any(one["values"])]
        cells = [[text(row.currency), text(words(row.state)), count(row.n), count(int(row.amount), self.database.money(row.amount, row.currency)),
                  seconds(row.oldest)] for row in rows]
        numbers = table("owed_numbers", ["currency", "state", "refunds", "amount", "the oldest"], cells)
        return self.chart("owed", "Money owed, by currency", "How the money owed in each currency divides by the state of its"
                          " refunds. Currencies are not added up.",
                          {"labels": currencies, "series": sets, "unit": "%", "horizontal": True}, numbers)

    def money(self):
        """What waits next to the money owed, and what went back since counting began."""
        waiting = self.database.rows(WAITING_PAYMENTS)
        totals = self.database.rows(TOTALS)
        names = {"held": "held for a decision", "orphan": "paid without an order", "refund.created": "refunds created",
                 "refund.succeeded": "returned by the gateway", "refund.settled": "paid out by hand",
                 "refund.recorded": "went back without us"}
        cells = [[text(row.currency), text(names[row.disposition]), count(row.n), count(int(row.amount), self.database.money(row.amount, row.currency)),
                  text("now")] for row in waiting]
        cells += [[text(row.currency), text(names[row.type]), count(row.n), count(int(row.amount), self.database.money(row.amount, row.currency)),
                   text("since the first sweep")] for row in totals]
        if not cells:
            return ""
        cells.sort(key=lambda row: (row[0].shown, row[4].shown, row[1].shown))
        return section("money", "More about money", table("money_numbers", ["currency", "what", "how many", "amount", "when"], cells),
                       "Money that waits for a decision, and what the sweeper has counted of refunds.")

    # -------------------------------------------------- a person's work

    def attention(self):
        kinds = [metric.labels["kind"] for metric in self.metrics if metric.name == "order_timeout_attention"]
        counts = {metric.labels["kind"]: int(metric.value) for metric in self.metrics if metric.name == "order_timeout_attention"}
        rows = []
        for kind in [*kinds, "sweeper"]:
            found = self.database.rows(ATTENTION_OF_KIND, kind=kind)
            counts.setdefault(kind, len(found))
            rows += found
        waiting = sum(counts.values())
        if waiting == 0:
            return section("attention", "What waits for a person", '<p class="good">Nothing.</p>'), 0
        summary = "".join(f'<li data-kind="{escape(kind)}" data-value="{n}">{escape(words(kind))}: {escape(counted(n))}</li>'
                          for kind, n in counts.items() if n)
        note = f"Of each kind the oldest {SHOWN} are shown. One of the lines is to be run; :'note' and the like are variables of psql."
        return section("attention", "What waits for a person", f'<ul class="kinds">{summary}</ul>' + cases(self.database, rows), note), waiting

    def proof(self):
        how = self.options.proof
        if how == "none":
            return (section("proof", "The proof", '<p id="proof_says">Not asked for (--proof none).</p>'),
                    card("proof_now", "Proof", "Not asked for", value="none"))
        since = None if how == "full" else self.database.row(
            "SELECT transaction_timestamp() - %(days)s * interval '1 day' AS since", days=float(how)).since
        what = ("all orders, payments and refunds of the database" if since is None
                else f"all orders with an event since {self.at(since)}")
        try:
            with self.database.connection.transaction():
                rows = self.database.rows(f"SELECT * FROM order_timeout.funds_violations(since => %(since)s) LIMIT {COUNTED_TO}",
                                          since=since)
        except psycopg.errors.QueryCanceled:
            said = f"Not proven: reading {what} took longer than {self.options.timeout} s (--timeout)."
            return (section("proof", "The proof", f'<p id="proof_says" class="bad">{escape(said)}</p>'),
                    card("proof_now", "Proof", "Not proven", "it took too long", "bad", value="timeout"))
        if not rows:
            said = f"Proven at {self.at(self.window.until)}: {what} agree with each other to the unit."
            return (section("proof", "The proof", f'<p id="proof_says" class="good">{escape(said)}</p>'),
                    card("proof_now", "Proof", "The sums agree", what, "good", value=0))
        cells = [[text(row.kind), text(row.order_id), text(row.gateway), text(row.payment_ref), text(row.refund_ref), text(row.problem)]
                 for row in rows]
        said = f"{counted(len(rows))} rows or sums disagree, looked for in {what} at {self.at(self.window.until)}."
        numbers = table("violations", ["kind", "order", "gateway", "payment", "refund", "problem"], cells)
        return (section("proof", "The proof", f'<p id="proof_says" class="bad">{escape(said)}</p>{numbers}',
                        "doc/operations.md, Proving the money, says what to do."),
                card("proof_now", "Proof", f"{counted(len(rows))} disagree", what, "bad", value=len(rows)))

    # -------------------------------------------------- the rest

    def growth(self):
        """Events are two thirds of what grows, and each has its time: they show how fast."""
        values = [sum(of_type.get(begin, 0) for of_type in self.by_type.values()) for begin in self.steps.begins]
        rows = [[text(label), count(values[i])] for i, label in enumerate(self.steps.labels)]
        numbers = table("growth_numbers", ["from", "events"], rows)
        return self.chart("growth", "Growth: events written", f"{sum(values):,} events in this time. {self.growth_note()}",
                          {"labels": self.steps.labels, "ticks": self.steps.ticks, "series": [series("events", "created", values)], "unit": ""}, numbers)

    def growth_note(self):
        created = sum(self.by_type.get("order.created", {}).values())
        per_order = self.database.row("SELECT sum(bytes_per_order) AS n FROM order_timeout.sizes").n
        if not created or per_order is None:
            return "The tables below say what they take on disk."
        days = max((self.window.until - self.values["begins"]).total_seconds() / DAY, 1 / DAY)
        return f"An order takes {size(int(per_order))} in all tables together, so {created:,} new orders in {age(days * DAY)}" \
               f" were {size(int(per_order) * created)}."

    def sizes(self):
        rows = self.database.rows("SELECT table_name, rows, bytes, index_bytes, bytes_per_order FROM order_timeout.sizes"
                                  " ORDER BY bytes DESC, table_name")
        cells = [[text(row.table_name), count(row.rows, "not known yet" if row.rows is None else None), count(row.bytes, size(row.bytes)),
                  count(row.index_bytes, size(row.index_bytes)), count(row.bytes_per_order)] for row in rows]
        return section("sizes", "Tables", table("sizes_numbers", ["table", "rows, about", "with indexes", "indexes", "bytes an order"], cells),
                       "Rows as of the last VACUUM or ANALYZE.")

    def consumers(self):
        rows = self.database.rows("SELECT consumer, unread, extract(epoch FROM oldest_unread)::float8 AS oldest FROM order_timeout.consumers"
                                  " ORDER BY consumer")
        if not rows:
            return ""
        cells = [[text(row.consumer), count(row.unread, counted(row.unread)), seconds(row.oldest)] for row in rows]
        return section("consumers", "Consumers of events", table("consumers_numbers", ["consumer", "unread", "the oldest"], cells))


def cases(database, rows):
    """Rows of attention, with the lines that resolve them."""
    def about(row):
        ids = [("order", row.order_id), ("gateway", row.gateway), ("payment", row.payment_ref), ("refund", row.refund_ref),
               ("attempt", row.attempt_ref), ("conflict", row.conflict_id)]
        return Cell("\n".join(f"{name} {value}" for name, value in ids if value is not None), row.order_id or "", "text ids")

    cells = [[text(words(row.kind)), about(row), count(row.amount, database.money(row.amount, row.currency) if row.currency else None),
              seconds(row.age), text(row.why), Cell(row.resolved_by or "", None, "code")] for row in rows]
    return table("cases", ["kind", "which", "amount", "for", "why", "what to do"], cells)


# ------------------------------------------------------------ one order


class Story:
    """The page of one order."""

    MONEY = [("paid", "created"), ("refunded", "paid"), ("refund_pending", "expired"), ("held", "reopened"), ("kept", "created")]
    NAMES = {"paid": "paid in", "refunded": "returned", "refund_pending": "owed", "held": "held", "kept": "kept"}

    def __init__(self, database, options, version):
        self.database, self.options, self.version = database, options, version
        self.values = {"order": options.order}
        self.order = database.row(ORDER, **self.values)
        self.steps = database.rows(TIMELINE, **self.values)
        self.payments = database.rows(PAYMENTS, **self.values)
        if self.order is None and not self.steps and not self.payments:
            raise Refused(f'there is no order "{options.order}"')
        self.funds = database.row(FUNDS, **self.values) if self.order else None
        self.currency = self.order.currency if self.order else self.payments[0].currency if self.payments else None
        self.charts = []

    def page(self):
        at = self.database.row("SELECT to_char(transaction_timestamp(), 'YYYY-MM-DD HH24:MI:SS TZ') AS at").at
        body = self.headline() + self.timeline() + self.identity() + self.tables() + self.attention()
        return Page(f"Order {self.options.order}", f"As of {at}. order_timeout {self.version}.", body, self.charts,
                    {"order": self.options.order})

    def money(self, amount):
        return self.database.money(amount, self.currency)

    def headline(self):
        if self.order is None:
            return '<p class="bad" id="about">There is no order with this id: payments came for it, and wait for one.</p>'
        order = self.order
        when = f"settled {order.settled}" if order.settled else f"falls due {order.due}"
        cards = [card("state", "State", words(order.state), when + (f", {order.close_reason}" if order.close_reason else ""), value=order.state),
                 card("amount", "To be paid", self.money(order.amount), f"policy {order.policy}, created {order.created}", value=order.amount)]
        cards += [card(column, self.NAMES[column].capitalize(), self.money(getattr(order, column)), value=getattr(order, column))
                  for column, _ in self.MONEY]
        return f'<section class="cards" aria-label="At a glance">{"".join(cards)}</section>'

    def timeline(self):
        cells = [[moment(row.at), seconds(row.after), text(row.step), text(row.who),
                  count(row.amount, self.database.money(row.amount, row.currency) if row.currency else None),
                  *[count(getattr(row, column), self.money(getattr(row, column))) for column, _ in self.MONEY]] for row in self.steps]
        numbers = table("timeline", ["when", "after", "step", "by", "amount", *[self.NAMES[column] for column, _ in self.MONEY]], cells)
        known = [row for row in self.steps if row.paid is not None]
        chart = ""
        exponent = self.database.exponent(self.currency) if self.currency else None
        if known and exponent is not None:
            sets = [series(self.NAMES[column], color, [getattr(row, column) / 10 ** exponent for row in known], stack="all",
                           amounts=[self.money(getattr(row, column)) for row in known]) for column, color in self.MONEY[1:]]
            self.charts.append({"name": "story", "labels": [row.at for row in known], "ticks": [row.label for row in known],
                                "series": sets, "unit": self.currency, "places": exponent})
            chart = ('<figure id="story"><figcaption><h3>The money, step by step</h3><p>What was paid in,'
                     ' by where it is after each step.</p></figcaption><div class="plot"><canvas role="img"'
                     ' aria-label="The order\'s money after each step. The numbers are in the table of what happened."></canvas>'
                     "</div></figure>")
        return section("happened", "What happened", chart + numbers)

    def identity(self):
        if self.funds is None:
            return ""
        funds = self.funds
        parts = " + ".join(f"{self.NAMES[column]} {self.money(getattr(funds, column))}" for column in ("refunded", "refund_pending", "held", "kept"))
        said = f"Paid in {self.money(funds.paid)} = {parts}"
        verdict = "The rows of the order, its payments and refunds agree." if funds.balanced else "The rows do not agree with each other."
        tone = "good" if funds.balanced else "bad"
        return section("identity", "Where the money is", f'<p id="identity_says">{escape(said)}</p>'
                       f'<p id="balanced" class="{tone}" data-value="{str(funds.balanced).lower()}">{escape(verdict)}</p>')

    def tables(self):
        money = self.database.money
        paid = [[text(row.gateway), text(row.payment_ref), moment(row.received), count(row.amount, money(row.amount, row.currency)),
                 text(words(row.disposition) + (f", {words(row.late_reason)}" if row.late_reason else "")),
                 count(row.refunded, money(row.refunded, row.currency)), count(row.refund_pending, money(row.refund_pending, row.currency)),
                 count(row.held, money(row.held, row.currency))] for row in self.payments]
        back = [[text(row.refund_ref), text(row.payment_ref), moment(row.created), count(row.amount, money(row.amount, row.currency)),
                 text(words(row.reason)), text(words(row.state)), count(row.attempts), moment(row.next_attempt or row.settled),
                 text(row.gateway_refund_ref), text(row.last_error)] for row in self.database.rows(REFUNDS, **self.values)]
        tried = [[text(row.gateway), text(row.attempt_ref), moment(row.created), text(words(row.state)),
                  count(row.authorized, money(row.authorized, row.currency) if row.currency else None),
                  count(row.captured, money(row.captured, row.currency) if row.currency else None), count(row.attempts), text(row.last_error)]
                 for row in self.database.rows(ATTEMPTS, **self.values)]
        tables = [("payments", "Payments", ["gateway", "payment", "received", "amount", "what it was", "returned", "owed", "held"], paid),
                  ("refunds", "Refunds", ["refund", "of payment", "created", "amount", "reason", "state", "tries", "ended, or next try",
                                          "gateway's number", "last error"], back),
                  ("attempts", "Attempts to pay", ["gateway", "attempt", "begun", "state", "authorised", "captured", "tries of its void",
                                                   "last error"], tried)]
        return "".join(section(f"{name}_of_order", title, table(name, heads, rows)) for name, title, heads, rows in tables if rows)

    def attention(self):
        rows = self.database.rows(ATTENTION_OF_ORDER, **self.values)
        body = cases(self.database, rows) if rows else '<p class="good">Nothing.</p>'
        return section("attention", "What waits for a person", body)


# ------------------------------------------------------------ the file


def read_file(path, what):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{what}: {error}") from error


def chart_js(path):
    """Its text, with its notice, as it may stand in a script element."""
    if not os.path.exists(path) and path == CHART_JS:
        raise argparse.ArgumentTypeError(f"Chart.js is not here: install Debian's package libjs-chart.js, or name a file"
                                         f" (no {path})")
    script = read_file(path, "Chart.js")
    if not re.match(r"/\*!\s*\*? *Chart\.js v[34]\.", script) or "MIT License" not in script[:400]:
        raise argparse.ArgumentTypeError(f"{path} is no build of Chart.js 3 or 4 for the browser with its licence note")
    if re.search(r"^\s*(import|export)\b", script, re.M):
        raise argparse.ArgumentTypeError(f"{path} is a module: use chart.min.js of version 3 or chart.umd.js of version 4")
    if "</script" in script.lower() or "<!--" in script:
        raise argparse.ArgumentTypeError(f"{path} would end its script element")
    return re.sub(r"^//# sourceMappingURL=.*$", "", script, flags=re.M)


def digest(code):
    return "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"


def as_json(data):
    """In a script element, only < can be dangerous. The numbers of Decimal are whole."""
    return json.dumps(data, ensure_ascii=True, default=str).replace("<", "\\u003c")


def document(page, chart_script, options):
    style, script = read_file(f"{HERE}/report.css", "style"), read_file(f"{HERE}/report.js", "script")
    policy = ("default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
              f"style-src {digest(style)}; script-src {digest(chart_script)} {digest(script)}")
    data = as_json({"charts": page.charts, "facts": page.facts})
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escape(page.title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1><bdi>{escape(page.title)}</bdi></h1><p>{escape(page.subtitle)} Time zone {escape(options.time_zone)}.</p></header>
<main>
{page.body}
</main>
<script type="application/json" id="data">{data}</script>
<script>{chart_script}</script>
<script>{script}</script>
</body>
</html>
"""


def write_file(path, content):
    """The file is there in full, or it stays as it was."""
    if path == "-":
        sys.stdout.write(content)
        sys.stdout.flush()
        return
    passing = f"{path}.{os.getpid()}.new"
    try:
        with open(passing, "x", encoding="utf-8") as file:
            file.write(content)
        os.replace(passing, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(passing)
        raise


# ------------------------------------------------------------ the command


def whole(word):
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError("it is above 0")
    return value


def days(word):
    value = float(word)
    if not 0 < value <= 36500:
        raise argparse.ArgumentTypeError("it is above 0 and at most 36500")
    return value


def proof(word):
    return word if word in ("full", "none") else days(word)


def options_of(arguments):
    parser = argparse.ArgumentParser(description="Writes a report about order_timeout, or about one order, as one HTML file.",
                                     epilog="Its role needs access reader. See doc/report.md.")
    parser.add_argument("--output", required=True, metavar="FILE", help="what is written; - is standard output")
    parser.add_argument("--database", default="", metavar="CONNINFO",
                        help="a connection string; without it PGHOST, PGDATABASE and so on count")
    parser.add_argument("--order", metavar="ID", help="the page of this order")
    parser.add_argument("--days", type=days, default=30, help="how far back it looks (%(default)s)")
    parser.add_argument("--max-events", type=whole, default=1000000, metavar="N",
                        help="how many events it reads at most, the latest (%(default)s)")
    parser.add_argument("--proof", type=proof, default=1, metavar="DAYS",
                        help="what is proven: orders with an event in the last DAYS, or full, or none (%(default)s)")
    parser.add_argument("--timeout", type=whole, default=60, metavar="SECONDS", help="how long a query may take (%(default)s)")
    parser.add_argument("--time-zone", default="UTC", metavar="NAME", help="of all times, Europe/Berlin, say (%(default)s)")
    parser.add_argument("--chart-js", type=chart_js, default=CHART_JS, metavar="FILE",
                        help="Chart.js 3 or 4, as one file for the browser (%(default)s)")
    options = parser.parse_args(arguments)
    folder = os.path.dirname(options.output) or "."
    if options.output != "-" and (os.path.isdir(options.output) or not os.access(folder, os.W_OK)):
        parser.error(f"--output {options.output} cannot be written")
    return options


def one_line(error):
    return " ".join(str(error).split())


def explained(error):
    """What the database said, and what to do about the usual causes."""
    diagnosis = getattr(error, "diag", None)
    said = one_line(diagnosis.message_primary if diagnosis and diagnosis.message_primary else error)
    hints = {"42501": "give its role access reader: SELECT order_timeout.grant_access(role_name => '...', access => 'reader');",
             "57014": "it took longer than --timeout: look back for fewer --days, or read fewer --max-events"}
    hint = hints.get(getattr(error, "sqlstate", None)) or (diagnosis and diagnosis.message_hint)
    return f"{said}: {one_line(hint)}" if hint else said


def main():
    options = options_of(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with transaction(options) as database:
            version = require_extension(database)
            kind = Report if options.order is None else Story
            page = kind(database, options, version).page()
        write_file(options.output, document(page, options.chart_js, options))
    except (Refused, OSError) as error:
        print(f"order_timeout_report: {one_line(error)}", file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(f"order_timeout_report: {explained(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
