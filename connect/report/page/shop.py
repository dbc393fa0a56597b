"""The report about all orders."""

import json

import psycopg

from page import queries
from page.attention import cases
from page.pieces import Chart, Page, amount, card, count, escape, seconds, section, series, table, text
from page.steps import ORIGIN, Steps
from page.words import DAY, HOUR, age, counted, size, words


class Report:
    """Each method of the sections asks for what it shows, and returns HTML; charts go to self.charts."""

    def __init__(self, database, options, version):
        self.database, self.options, self.version = database, options, version
        self.charts = []
        since = database.row("SELECT transaction_timestamp() - %(days)s * interval '1 day' AS at", days=options.days).at
        self.window = database.row(queries.WINDOW, since=since, max_events=options.max_events)
        self.health = database.row("SELECT * FROM order_timeout.health")
        self.metrics = database.rows("SELECT name, labels, value FROM order_timeout.metrics")
        self.values = {"first_event": self.window.first_event or 0, "since": since, "origin": ORIGIN}
        self.values["begins"] = database.row(queries.BEGINNING, **self.values).at or since
        # Asked of the database, whose time zones Python may not know.
        axis = database.row(queries.AXIS, begins=self.values["begins"], until=self.window.until)
        self.steps = Steps(axis.first, axis.last)
        self.values["step"] = self.steps.words
        self.by_type = {}
        for row in database.rows(queries.EVENTS, **self.values):
            self.by_type.setdefault(row.type, {})[row.step] = row.n
        self.is_empty = self.window.first_event is None

    def page(self):
        parts = [
            self.about(),
            self.orders(),
            self.lateness(),
            self.runs(),
            self.refunds_over_time(),
            self.refunds_by_age(),
            self.causes(),
            self.owed(),
            self.growth(),
        ]
        waiting, waiting_count = self.attention()
        proof, proof_card = self.proof()
        grid = "".join(part for part in parts[1:] if part)
        body = (
            self.headline(waiting_count, proof_card)
            + parts[0]
            + f'<section class="charts">{grid}</section>'
            + waiting
            + proof
            + self.money()
            + self.consumers()
            + self.sizes()
        )
        return Page(
            "order_timeout",
            self.subtitle(),
            body,
            self.charts,
            {"step": self.steps.words, "first_event": self.values["first_event"], "empty": self.is_empty},
        )

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
            card(
                "open",
                "Open orders",
                counted(health.pending + health.authorized + health.closing),
                f"{counted(health.due_soon)} fall due within five minutes",
                value=health.pending + health.authorized + health.closing,
            ),
            card(
                "overdue",
                "Overdue",
                counted(health.overdue),
                f"the oldest for {age(health.oldest_overdue_seconds)}"
                if health.overdue
                else "none is past its deadline",
                "bad" if health.oldest_overdue_seconds > 120 else "",
                value=health.overdue,
            ),
            self.owed_card(),
            card(
                "waiting",
                "Waits for a person",
                counted(waiting),
                "cases, each with what to do" if waiting else "nothing",
                "bad" if waiting else "",
                value=waiting,
            ),
            self.sweep_card(),
            proof_card,
        ]
        return f'<section class="cards" aria-label="At a glance">{"".join(cards)}</section>'

    def health_card(self):
        health = self.health
        problems = "".join(f"<li>{escape(problem)}</li>" for problem in health.problems)
        said = f"<ul>{problems}</ul>" if problems else "<p>nothing is late, stuck or contradictory</p>"
        return (
            f'<div class="card wide {"good" if health.ok else "bad"}" id="ok" data-value="{str(health.ok).lower()}">'
            f'<h2>Now</h2><p class="figure">{"All is right" if health.ok else "Look here"}</p>{said}</div>'
        )

    def owed_card(self):
        owed = sorted(self.health.owed_by_currency.items())
        lines = "".join(f"<li>{escape(self.database.money(minor, currency))}</li>" for currency, minor in owed)
        oldest = self.health.oldest_refund_owed_seconds
        note = f"the oldest for {age(oldest)}" if owed else "no refund is open"
        figure = f'<ul class="figure">{lines}</ul>' if owed else '<p class="figure">Nothing</p>'
        return (
            f'<div class="card" id="owed_now" data-value="{escape(json.dumps(dict(owed)))}"><h2>Owed to buyers</h2>'
            f"{figure}<p>{escape(note)}</p></div>"
        )

    def sweep_card(self):
        seen = self.health.last_sweep_age_seconds
        if seen is None:
            return card(
                "sweep", "Last sweep", "None yet", "nothing closes orders by itself: schedule_sweeper()", value=""
            )
        lag = self.health.last_sweep_lag_seconds
        return card(
            "sweep",
            "Last sweep",
            f"{age(max(seen, 0))} ago",
            f"{age(lag)} behind the clock" if lag else "not behind",
            "bad" if seen > 120 else "",
            value=self.health.last_sweep.isoformat(),
        )

    def about(self):
        if self.is_empty:
            return '<p class="note" id="about">There is nothing yet: no order was created in this database.</p>'
        since, until = self.at(self.values["begins"]), self.at(self.window.until)
        cut = (
            f" Older events of these {self.options.days:g} days were left out, because the latest"
            f" {self.options.max_events:,} are read (--max-events)."
            if self.window.is_cut
            else ""
        )
        said = (
            f"From {since} to {until}, in steps of {self.steps.words}, the first and the last of which are not whole."
        )
        return f'<p class="note" id="about">{escape(said + cut)}</p>'

    # -------------------------------------------------- over time

    def orders(self):
        """Into which states orders went, by the events that say so."""
        kinds = [
            ("order.paid", "paid", "paid"),
            ("order.reopened", "reopened", "reopened"),
            ("order.expired", "expired", "expired"),
            ("order.cancelled", "cancelled", "cancelled"),
        ]
        return self.over_time(
            "orders",
            "What became of orders",
            "Orders that were paid, reopened, expired or cancelled in"
            " each step; the line is those that were created.",
            kinds,
            ("order.created", "created", "created"),
        )

    def refunds_over_time(self):
        kinds = [
            ("refund.succeeded", "returned", "paid"),
            ("refund.failed", "failed tries", "expired"),
            ("refund.needs_attention", "given up", "late"),
        ]
        return self.over_time(
            "refunds",
            "Refunds over time",
            "Refunds that were returned, tries that failed, and refunds"
            " that need attention; the line is refunds that were created.",
            kinds,
            ("refund.created", "created", "created"),
        )

    def over_time(self, name, title, note, kinds, line):
        def values(event):
            return [self.by_type.get(event, {}).get(begin, 0) for begin in self.steps.begins]

        sets = [series(label, color, values(event), stack="all") for event, label, color in kinds]
        sets.append(series(line[1], line[2], values(line[0]), line=True))
        rows = [[text(label), *[count(one["values"][i]) for one in sets]] for i, label in enumerate(self.steps.labels)]
        numbers = table(f"{name}_numbers", ["from", *[one["label"] for one in sets]], rows)
        return self.chart(
            name,
            title,
            note,
            {"labels": self.steps.labels, "ticks": self.steps.ticks, "series": sets, "unit": ""},
            numbers,
        )

    def lateness(self):
        found = {row.step: row for row in self.database.rows(queries.LATENESS, **self.values)}
        total = self.database.row(queries.LATENESS_OF_ALL, **self.values)
        rows = [found.get(begin) for begin in self.steps.begins]
        note = (
            "How long after its deadline an order was closed, by the step of the deadline; the bars are the orders that"
            " fell due then and were closed."
        )
        if total.n:
            note += f" Of all {total.n:,}: half within {age(total.p50)}, 99 % within {age(total.p99)},"
            note += f" the latest {age(total.longest)}."
        return self.percentiles(
            "lateness",
            "How late orders are closed",
            note,
            self.steps.labels,
            self.steps.ticks,
            rows,
            "deadline from",
            "fell due",
        )

    def runs(self):
        runs = self.database.rows(queries.LATEST_RUNS)
        if not runs:
            return ""
        first = self.database.row(queries.FIRST_EVENT, since=runs[0].started_at).max or 0
        values = {
            **self.values,
            "first_event": max(first, self.values["first_event"]),
            "since": runs[0].started_at,
            "started": [run.started_at for run in runs],
        }
        found = {row.place: row for row in self.database.rows(queries.LATENESS_OF_RUNS, **values)}
        rows = [found.get(place + 1) for place in range(len(runs))]
        extra = [
            ("closed by the run", [run.expired for run in runs]),
            ("its latest, by its own row", [run.max_lag for run in runs]),
        ]
        return self.percentiles(
            "runs",
            "Run by run",
            f"The latest {len(runs)} runs of the sweeper that closed orders: how late,"
            " and how many orders were closed from its beginning to that of the next.",
            [run.started for run in runs],
            [run.tick for run in runs],
            rows,
            "run began",
            "closed",
            extra,
        )

    def percentiles(self, name, title, note, labels, ticks, rows, head, load, extra=()):
        def values(column):
            return [getattr(row, column) if row else None for row in rows]

        loads = [row.n if row else 0 for row in rows]
        lines = [
            series("p50", "paid", values("p50"), line=True),
            series("p95", "expired", values("p95"), line=True),
            series("p99", "late", values("p99"), line=True),
        ]
        bars = series(load, "quiet", loads, axis="load")
        cells = [
            [
                text(label),
                count(loads[i]),
                *[seconds(one["values"][i]) for one in lines],
                seconds(values("longest")[i]),
                *[count(column[i]) if place == 0 else seconds(column[i]) for place, (_, column) in enumerate(extra)],
            ]
            for i, label in enumerate(labels)
        ]
        numbers = table(
            f"{name}_numbers", [head, load, "p50", "p95", "p99", "latest", *[word for word, _ in extra]], cells
        )
        return self.chart(
            name, title, note, {"labels": labels, "ticks": ticks, "series": [*lines, bars], "unit": "s"}, numbers
        )

    # -------------------------------------------------- refunds and money

    STATES = [
        ("pending", "created"),
        ("processing", "reopened"),
        ("submitted", "paid"),
        ("failed", "expired"),
        ("unknown", "cancelled"),
        ("needs_attention", "late"),
    ]
    AGES = [
        (0, "under an hour"),
        (HOUR, "1 to 6 hours"),
        (6 * HOUR, "6 to 24 hours"),
        (DAY, "1 to 2 days"),
        (2 * DAY, "2 to 7 days"),
        (7 * DAY, "7 days and more"),
    ]

    def refunds_by_age(self):
        found = {
            (row.age, row.state): row.n
            for row in self.database.rows(queries.REFUNDS_BY_AGE, ages=[float(begin) for begin, _ in self.AGES])
        }
        # A clock that was set back makes a refund younger than nothing.
        for (place, state), n in list(found.items()):
            if place == 0:
                found[1, state] = found.get((1, state), 0) + n
        labels = [label for _, label in self.AGES]
        sets = [
            series(words(state), color, [found.get((place + 1, state), 0) for place in range(len(labels))], stack="all")
            for state, color in self.STATES
        ]
        rows = [[text(label), *[count(one["values"][i]) for one in sets]] for i, label in enumerate(labels)]
        numbers = table("ages_numbers", ["age", *[one["label"] for one in sets]], rows)
        return self.chart(
            "ages",
            "Open refunds by age",
            "Refunds that are owed and not back yet, by how long ago they were created and where they stand.",
            {"labels": labels, "series": sets, "unit": "", "horizontal": True},
            numbers,
        )

    def causes(self):
        rows = self.database.rows(queries.REFUNDS_BY_CAUSE)
        if not rows:
            return ""
        labels = list(dict.fromkeys(row.cause for row in rows))
        sets = [
            series(
                words(state),
                color,
                [sum(row.n for row in rows if (row.cause, row.state) == (label, state)) for label in labels],
                stack="all",
            )
            for state, color in self.STATES
        ]
        sets = [one for one in sets if any(one["values"])]
        cells = [[text(row.cause), text(words(row.state)), count(row.n), seconds(row.oldest)] for row in rows]
        numbers = table("causes_numbers", ["last error", "state", "refunds", "the oldest"], cells)
        return self.chart(
            "causes",
            "Open refunds by what stopped them",
            "The last error that a worker reported, the most frequent first.",
            {"labels": labels, "series": sets, "unit": "", "horizontal": True},
            numbers,
        )

    def owed(self):
        rows = self.database.rows(queries.OWED)
        if not rows:
            return ""
        currencies = list(dict.fromkeys(row.currency for row in rows))
        total = {currency: sum(int(row.amount) for row in rows if row.currency == currency) for currency in currencies}
        owed_in = {(row.currency, row.state): int(row.amount) for row in rows}
        sets = [
            series(
                words(state),
                color,
                [100 * owed_in.get((currency, state), 0) / total[currency] for currency in currencies],
                stack="all",
                amounts=[self.database.money(owed_in.get((currency, state), 0), currency) for currency in currencies],
            )
            for state, color in self.STATES
        ]
        sets = [one for one in sets if any(one["values"])]
        cells = [
            [
                text(row.currency),
                text(words(row.state)),
                count(row.n),
                amount(self.database, row.amount, row.currency),
                seconds(row.oldest),
            ]
            for row in rows
        ]
        numbers = table("owed_numbers", ["currency", "state", "refunds", "amount", "the oldest"], cells)
        return self.chart(
            "owed",
            "Money owed, by currency",
            "How the money owed in each currency divides by the state of its refunds. Currencies are not added up.",
            {"labels": currencies, "series": sets, "unit": "%", "horizontal": True},
            numbers,
        )

    def money(self):
        """What waits next to the money owed, and what went back since counting began."""
        waiting = self.database.rows(queries.WAITING_PAYMENTS)
        totals = self.database.rows(queries.TOTALS)
        names = {
            "held": "held for a decision",
            "orphan": "paid without an order",
            "refund.created": "refunds created",
            "refund.succeeded": "returned by the gateway",
            "refund.settled": "paid out by hand",
            "refund.recorded": "went back without us",
        }
        cells = [
            [
                text(row.currency),
                text(names[row.disposition]),
                count(row.n),
                amount(self.database, row.amount, row.currency),
                text("now"),
            ]
            for row in waiting
        ]
        cells += [
            [
                text(row.currency),
                text(names[row.type]),
                count(row.n),
                amount(self.database, row.amount, row.currency),
                text("since the first sweep"),
            ]
            for row in totals
        ]
        if not cells:
            return ""
        cells.sort(key=lambda row: (row[0].shown, row[4].shown, row[1].shown))
        return section(
            "money",
            "More about money",
            table("money_numbers", ["currency", "what", "how many", "amount", "when"], cells),
            "Money that waits for a decision, and what the sweeper has counted of refunds.",
        )

    # -------------------------------------------------- a person's work

    def attention(self):
        kinds = [metric.labels["kind"] for metric in self.metrics if metric.name == "order_timeout_attention"]
        counts = {
            metric.labels["kind"]: int(metric.value)
            for metric in self.metrics
            if metric.name == "order_timeout_attention"
        }
        rows = []
        for kind in [*kinds, "sweeper"]:
            found = self.database.rows(queries.ATTENTION_OF_KIND, kind=kind)
            counts.setdefault(kind, len(found))
            rows += found
        waiting = sum(counts.values())
        if waiting == 0:
            return section("attention", "What waits for a person", '<p class="good">Nothing.</p>'), 0
        summary = "".join(
            f'<li data-kind="{escape(kind)}" data-value="{n}">{escape(words(kind))}: {escape(counted(n))}</li>'
            for kind, n in counts.items()
            if n
        )
        note = f"Of each kind the oldest {queries.SHOWN} are shown. One of the lines is to be run, in psql: :'note' and"
        note += " the like are its variables."
        return (
            section(
                "attention",
                "What waits for a person",
                f'<ul class="kinds">{summary}</ul>' + cases(self.database, rows),
                note,
            ),
            waiting,
        )

    def proof(self):
        how = self.options.proof
        if how == "none":
            return (
                section("proof", "The proof", '<p id="proof_says">Not asked for (--proof none).</p>'),
                card("proof_now", "Proof", "Not asked for", value="none"),
            )
        since = None if how == "full" else self.database.row(queries.PROOF_SINCE, days=float(how)).since
        what = (
            "all orders, payments and refunds of the database"
            if since is None
            else f"all orders with an event since {self.at(since)}"
        )
        try:
            with self.database.connection.transaction():
                rows = self.database.rows(queries.PROOF, since=since)
        except psycopg.errors.QueryCanceled:
            said = f"Not proven: reading {what} took longer than {self.options.timeout} s (--timeout)."
            return (
                section("proof", "The proof", f'<p id="proof_says" class="bad">{escape(said)}</p>'),
                card("proof_now", "Proof", "Not proven", "it took too long", "bad", value="timeout"),
            )
        if not rows:
            said = f"Proven at {self.at(self.window.until)}: {what} agree with each other to the unit."
            return (
                section("proof", "The proof", f'<p id="proof_says" class="good">{escape(said)}</p>'),
                card("proof_now", "Proof", "The sums agree", what, "good", value=0),
            )
        cells = [
            [
                text(row.kind),
                text(row.order_id),
                text(row.gateway),
                text(row.payment_ref),
                text(row.refund_ref),
                text(row.problem),
            ]
            for row in rows
        ]
        said = f"{counted(len(rows))} rows or sums disagree, looked for in {what} at {self.at(self.window.until)}."
        numbers = table("violations", ["kind", "order", "gateway", "payment", "refund", "problem"], cells)
        return (
            section(
                "proof",
                "The proof",
                f'<p id="proof_says" class="bad">{escape(said)}</p>{numbers}',
                "doc/operations.md, Proving the money, says what to do.",
            ),
            card("proof_now", "Proof", f"{counted(len(rows))} disagree", what, "bad", value=len(rows)),
        )

    # -------------------------------------------------- the rest

    def growth(self):
        """Events are two thirds of what grows, and each has its time: they show how fast."""
        values = [sum(of_type.get(begin, 0) for of_type in self.by_type.values()) for begin in self.steps.begins]
        rows = [[text(label), count(values[i])] for i, label in enumerate(self.steps.labels)]
        numbers = table("growth_numbers", ["from", "events"], rows)
        return self.chart(
            "growth",
            "Growth: events written",
            f"{sum(values):,} events in this time. {self.growth_note()}",
            {
                "labels": self.steps.labels,
                "ticks": self.steps.ticks,
                "series": [series("events", "created", values)],
                "unit": "",
            },
            numbers,
        )

    def growth_note(self):
        created = sum(self.by_type.get("order.created", {}).values())
        per_order = self.database.row("SELECT sum(bytes_per_order) AS n FROM order_timeout.sizes").n
        if not created or per_order is None:
            return "The tables below say what they take on disk."
        days = max((self.window.until - self.values["begins"]).total_seconds() / DAY, 1 / DAY)
        return (
            f"An order takes {size(int(per_order))} in all tables together, so {created:,} new orders in"
            f" {age(days * DAY)}"
            f" were {size(int(per_order) * created)}."
        )

    def sizes(self):
        rows = self.database.rows(queries.SIZES)
        cells = [
            [
                text(row.table_name),
                count(row.rows, "not known yet" if row.rows is None else None),
                count(row.bytes, size(row.bytes)),
                count(row.index_bytes, size(row.index_bytes)),
                count(row.bytes_per_order),
            ]
            for row in rows
        ]
        return section(
            "sizes",
            "Tables",
            table("sizes_numbers", ["table", "rows, about", "with indexes", "indexes", "bytes an order"], cells),
            "Rows as of the last VACUUM or ANALYZE.",
        )

    def consumers(self):
        rows = self.database.rows(queries.CONSUMERS)
        if not rows:
            return ""
        cells = [[text(row.consumer), count(row.unread, counted(row.unread)), seconds(row.oldest)] for row in rows]
        return section(
            "consumers", "Consumers of events", table("consumers_numbers", ["consumer", "unread", "the oldest"], cells)
        )
