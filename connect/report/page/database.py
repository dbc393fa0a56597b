"""One read-only transaction, in which all of a page is read."""

import contextlib
import decimal
import json
import logging

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads

# It warns of a time zone that Python does not know, and then has all times in UTC: no time is shown from here.
logging.getLogger("psycopg").setLevel(logging.ERROR)

NEEDED = ("health", "attention", "metrics", "sizes", "consumers")


class Refused(Exception):
    """Ends the command with this line and status 1."""


def readable(data):
    """A database with encoding SQL_ASCII may hold what is no UTF-8."""
    return data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")


class Readable(psycopg.adapt.Loader):
    def load(self, data):
        return readable(data)


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
    with psycopg.connect(
        options.database,
        client_encoding="utf8",
        connect_timeout=10,
        row_factory=namedtuple_row,
        fallback_application_name="order_timeout_report",
        prepare_threshold=None,
    ) as connection:
        for name in ("text", "varchar", "bpchar", "name"):
            connection.adapters.register_loader(name, Readable)
        set_json_loads(lambda data: json.loads(readable(data)), connection)
        # Asked for UTF-8, it would refuse these bytes.
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.execute("SET client_encoding = 'SQL_ASCII'")
            connection.commit()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        settings = {
            "statement_timeout": f"{options.timeout:d}s",
            "lock_timeout": "5s",
            "search_path": "pg_catalog",
            "TimeZone": options.time_zone,
            "IntervalStyle": "postgres",
            "DateStyle": "ISO",
            "jit": "off",
        }
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield Database(connection)


def require_extension(database):
    found = database.row("SELECT extversion FROM pg_extension WHERE extname = 'order_timeout'")
    if found is None:
        name = database.row("SELECT current_database() AS name").name
        raise Refused(
            f'database "{name}" has no extension order_timeout: name another one in --database (dbname=...),'
            " or CREATE EXTENSION order_timeout;"
        )
    views = database.row(
        """SELECT array_agg(relname::text) AS names FROM pg_class
                             WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'order_timeout')"""
    ).names
    missing = [name for name in NEEDED if name not in views]
    if missing:
        raise Refused(
            f"order_timeout {found.extversion} is too old, it has no view {missing[0]}: install the new version's"
            " files, then ALTER EXTENSION order_timeout UPDATE;"
        )
    return found.extversion
