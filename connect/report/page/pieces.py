"""Cells, tables, charts and cards, as HTML."""

import html
import re
from typing import NamedTuple

from page.words import age, number, words


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
            shown = f"<bdi>{shown}</bdi>"  # a text that runs from right to left leaves its neighbours alone
        return f'<td class="{self.kind}" data-value="{escape(value)}">{shown}</td>'


def escape(text):
    """For text and attributes. Control characters, which HTML does not allow, become visible."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", str(text)))


def text(shown):
    return Cell("" if shown is None else str(shown))


def count(value, shown=None):
    return Cell(number(value) if shown is None else shown, "" if value is None else value, "number")


def amount(database, minor, currency):
    """Shown in major units; programs read the minor ones."""
    return count(None if minor is None else int(minor), database.money(minor, currency) if currency else None)


def moment(shown):
    return Cell(shown or "", None, "time")


def seconds(value):
    return Cell(age(value), "" if value is None else value, "number")


def table(name, heads, rows, caption=None):
    """heads: the words above each column; those of numbers stand on the right, as their cells do."""
    kinds = [rows[0][place].kind if rows else "text" for place in range(len(heads))]
    head = "".join(f'<th scope="col" class="{kind}">{escape(word)}</th>' for word, kind in zip(heads, kinds))
    body = "".join(f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or words(name))}">'
        f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


class Chart(NamedTuple):
    """data: what report.js draws. It has the same numbers as the table below it."""

    name: str
    title: str
    note: str
    data: dict
    table: str

    def html(self):
        label = f"{self.title}. {self.note} The numbers are in the table below."
        return (
            f'<figure id="{self.name}"><figcaption><h3>{escape(self.title)}</h3><p>{escape(self.note)}</p></figcaption>'
            f'<div class="plot"><canvas role="img" aria-label="{escape(label)}"></canvas></div>'
            f"<details open><summary>Numbers</summary>{self.table}</details></figure>"
        )


def series(label, color, values, **more):
    return {"label": label, "color": color, "values": values, **more}


def card(name, title, shown, note="", tone="", value=None):
    return (
        f'<div class="card {tone}" id="{name}" data-value="{escape(shown if value is None else value)}">'
        f'<h2>{escape(title)}</h2><p class="figure">{escape(shown)}</p><p>{escape(note)}</p></div>'
    )


def section(name, title, body, note=""):
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{note}{body}</section>'


class Page(NamedTuple):
    title: str
    subtitle: str
    body: str
    charts: list
    facts: dict
