"""The page of one order."""

from page import queries
from page.attention import cases
from page.database import Refused
from page.pieces import Page, amount, card, count, escape, moment, seconds, section, series, table, text
from page.words import words


class Story:
    """The page of one order."""

    MONEY = [
        ("paid", "created"),
        ("refunded", "paid"),
        ("refund_pending", "expired"),
        ("held", "reopened"),
        ("kept", "created"),
    ]
    NAMES = {"paid": "paid in", "refunded": "returned", "refund_pending": "owed", "held": "held", "kept": "kept"}

    def __init__(self, database, options, version):
        self.database, self.options, self.version = database, options, version
        self.values = {"order": options.order}
        self.order = database.row(queries.ORDER, **self.values)
        self.steps = database.rows(queries.TIMELINE, **self.values)
        self.payments = database.rows(queries.PAYMENTS, **self.values)
        if self.order is None and not self.steps and not self.payments:
            raise Refused(f'there is no order "{options.order}"')
        self.funds = database.row(queries.FUNDS, **self.values) if self.order else None
        self.currency = self.order.currency if self.order else self.payments[0].currency if self.payments else None
        self.charts = []

    def page(self):
        at = self.database.row("SELECT to_char(transaction_timestamp(), 'YYYY-MM-DD HH24:MI:SS TZ') AS at").at
        body = self.headline() + self.timeline() + self.identity() + self.tables() + self.attention()
        return Page(
            f"Order {self.options.order}",
            f"As of {at}. order_timeout {self.version}.",
            body,
            self.charts,
            {"order": self.options.order},
        )

    def money(self, amount):
        return self.database.money(amount, self.currency)

    def headline(self):
        if self.order is None:
            return (
                '<p class="bad" id="about">There is no order with this id: payments came for it, and wait for one.</p>'
            )
        order = self.order
        when = f"settled {order.settled}" if order.settled else f"falls due {order.due}"
        cards = [
            card(
                "state",
                "State",
                words(order.state),
                when + (f", {order.close_reason}" if order.close_reason else ""),
                value=order.state,
            ),
            card(
                "amount",
                "To be paid",
                self.money(order.amount),
                f"policy {order.policy}, created {order.created}",
                value=order.amount,
            ),
        ]
        cards += [
            card(
                column,
                self.NAMES[column].capitalize(),
                self.money(getattr(order, column)),
                value=getattr(order, column),
            )
            for column, _ in self.MONEY
        ]
        return f'<section class="cards" aria-label="At a glance">{"".join(cards)}</section>'

    def timeline(self):
        cells = [
            [
                moment(row.at),
                seconds(row.after),
                text(row.step),
                text(row.who),
                amount(self.database, row.amount, row.currency),
                *[count(getattr(row, column), self.money(getattr(row, column))) for column, _ in self.MONEY],
            ]
            for row in self.steps
        ]
        numbers = table(
            "timeline",
            ["when", "after", "step", "by", "amount", *[self.NAMES[column] for column, _ in self.MONEY]],
            cells,
        )
        known = [row for row in self.steps if row.paid is not None]
        chart = ""
        exponent = self.database.exponent(self.currency) if self.currency else None
        if known and exponent is not None:
            sets = [
                series(
                    self.NAMES[column],
                    color,
                    [getattr(row, column) / 10**exponent for row in known],
                    stack="all",
                    amounts=[self.money(getattr(row, column)) for row in known],
                )
                for column, color in self.MONEY[1:]
            ]
            self.charts.append(
                {
                    "name": "story",
                    "labels": [row.at for row in known],
                    "ticks": [row.label for row in known],
                    "series": sets,
                    "unit": self.currency,
                    "places": exponent,
                }
            )
            chart = (
                '<figure id="story"><figcaption><h3>The money, step by step</h3><p>What was paid in,'
                ' by where it is after each step.</p></figcaption><div class="plot"><canvas role="img"'
                ' aria-label="The order\'s money after each step. The numbers are in the table below."></canvas>'
                "</div></figure>"
            )
        return section("happened", "What happened", chart + numbers)

    def identity(self):
        if self.funds is None:
            return ""
        funds = self.funds
        parts = " + ".join(
            f"{self.NAMES[column]} {self.money(getattr(funds, column))}"
            for column in ("refunded", "refund_pending", "held", "kept")
        )
        said = f"Paid in {self.money(funds.paid)} = {parts}"
        verdict = (
            "The rows of the order, its payments and refunds agree."
            if funds.balanced
            else "The rows do not agree with each other."
        )
        tone = "good" if funds.balanced else "bad"
        return section(
            "identity",
            "Where the money is",
            f'<p id="identity_says">{escape(said)}</p>'
            f'<p id="balanced" class="{tone}" data-value="{str(funds.balanced).lower()}">{escape(verdict)}</p>',
        )

    def tables(self):
        paid = [
            [
                text(row.gateway),
                text(row.payment_ref),
                moment(row.received),
                amount(self.database, row.amount, row.currency),
                text(words(row.disposition) + (f", {words(row.late_reason)}" if row.late_reason else "")),
                amount(self.database, row.refunded, row.currency),
                amount(self.database, row.refund_pending, row.currency),
                amount(self.database, row.held, row.currency),
            ]
            for row in self.payments
        ]
        back = [
            [
                text(row.refund_ref),
                text(row.payment_ref),
                moment(row.created),
                amount(self.database, row.amount, row.currency),
                text(words(row.reason)),
                text(words(row.state)),
                count(row.attempts),
                moment(row.next_attempt or row.settled),
                text(row.gateway_refund_ref),
                text(row.last_error),
            ]
            for row in self.database.rows(queries.REFUNDS, **self.values)
        ]
        tried = [
            [
                text(row.gateway),
                text(row.attempt_ref),
                moment(row.created),
                text(words(row.state)),
                amount(self.database, row.authorized, row.currency),
                amount(self.database, row.captured, row.currency),
                count(row.attempts),
                text(row.last_error),
            ]
            for row in self.database.rows(queries.ATTEMPTS, **self.values)
        ]
        tables = [
            (
                "payments",
                "Payments",
                ["gateway", "payment", "received", "amount", "what it was", "returned", "owed", "held"],
                paid,
            ),
            (
                "refunds",
                "Refunds",
                [
                    "refund",
                    "of payment",
                    "created",
                    "amount",
                    "reason",
                    "state",
                    "tries in vain",
                    "ended, or next try",
                    "gateway's number",
                    "last error",
                ],
                back,
            ),
            (
                "attempts",
                "Attempts to pay",
                ["gateway", "attempt", "begun", "state", "authorised", "captured", "tries of its void", "last error"],
                tried,
            ),
        ]
        return "".join(
            section(f"{name}_of_order", title, table(name, heads, rows)) for name, title, heads, rows in tables if rows
        )

    def attention(self):
        rows = self.database.rows(queries.ATTENTION_OF_ORDER, **self.values)
        body = cases(self.database, rows) if rows else '<p class="good">Nothing.</p>'
        return section("attention", "What waits for a person", body)
