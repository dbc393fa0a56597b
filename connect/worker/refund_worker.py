#!/usr/bin/python3
"""Sends the refunds of one gateway, and ends its attempts (voids), as order_timeout hands them out.

Claim, commit, call the gateway, report: doc/worker.md explains each step. The class Gateway speaks a plain REST
dialect; for another gateway, write its four methods again and leave the rest as it is.

The token of the gateway comes from the environment: REFUND_GATEWAY_TOKEN. Exit status: 0 after SIGTERM or SIGINT, or
when --once has nothing left; 1 if the database refuses the calls; 2 if the options are wrong.
"""

import argparse
import contextlib
import http.client
import json
import logging
import os
import select
import signal
import sys
import time
import urllib.parse
from typing import NamedTuple, Optional

try:
    import psycopg
    from psycopg.rows import namedtuple_row
except ImportError as missing:
    sys.exit(f"refund_worker: {missing}. It needs psycopg 3 (Debian: apt-get install python3-psycopg)")

log = logging.getLogger("refund_worker")

# The connection is lost, or the statement can be tried again.
LOST = (psycopg.OperationalError, psycopg.InterfaceError)

class Answer(NamedTuple):
    """What is reported: a result of complete_refund or complete_void, and what came with it."""

    result: str
    number: Optional[str] = None
    amount: Optional[int] = None
    error: Optional[str] = None


class NotSent(Exception):
    """The gateway surely did nothing because of this call."""


class NotKnown(Exception):
    """The gateway may have done it, and did not say so."""


# ------------------------------------------------------------ the gateway


class Gateway:
    """A gateway with a plain REST dialect. This is the class to replace; doc/worker.md has the calls of some gateways.

    submit_refund and void raise NotSent only if the gateway surely did nothing, and NotKnown in every case of doubt.
    query_refund and query_void return None only if the gateway itself says that it does not know this refund, or that
    the attempt is open. All of them have to end within their time limit, because the lease ends too.
    """

    REFUND_RESULTS = {"succeeded": "succeeded", "processing": "submitted", "declined": "failed", "never": "rejected"}
    VOID_RESULTS = {"voided": "voided", "paid": "paid", "confirming": "failed", "never": "rejected"}

    def __init__(self, url, token, timeout):
        parts = urllib.parse.urlsplit(url)
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[parts.scheme]
        self.connection = lambda: kind(parts.hostname, parts.port, timeout=timeout)
        self.path = parts.path.rstrip("/")
        self.token = token
        self.timeout = timeout

    # Stripe: create a refund, with Idempotency-Key and the refund_ref in metadata. WeChat Pay: apply for a refund,
    # out_refund_no. Alipay: alipay.trade.refund, out_request_no.
    def submit_refund(self, refund):
        body = {"refund": refund.refund_ref, "payment": refund.payment_ref, "amount": refund.amount,
                "currency": refund.currency, "payment_amount": refund.payment_amount}
        return self.refund_answer(self.call("POST", "/refunds", body, key=refund.refund_ref))

    # Stripe: list the refunds of the charge, find the one whose metadata has the refund_ref. WeChat Pay: query by
    # out_refund_no. Alipay: alipay.trade.fastpay.refund.query by out_request_no.
    def query_refund(self, refund):
        found = self.call("GET", "/refunds/" + urllib.parse.quote(refund.refund_ref, safe=""))
        # The code 404 alone may come from a proxy or a wrong address.
        return None if found.get("error") == "unknown_refund" else self.refund_answer(found)

    # Stripe: cancel the PaymentIntent, or expire the Checkout Session. WeChat Pay: close the order by out_trade_no.
    # Alipay: alipay.trade.close.
    def void(self, attempt):
        return self.void_answer(self.call("POST", self.path_of(attempt) + "/void"))

    # Stripe: retrieve the PaymentIntent. WeChat Pay: query by out_trade_no. Alipay: alipay.trade.query.
    def query_void(self, attempt):
        found = self.call("GET", self.path_of(attempt))
        return None if found.get("status") == "open" else self.void_answer(found)

    def path_of(self, attempt):
        return "/attempts/" + urllib.parse.quote(attempt.attempt_ref, safe="")

    def refund_answer(self, found):
        result = self.REFUND_RESULTS.get(found.get("status"))
        amount = found.get("amount")
        if result is None or not (amount is None or type(amount) is int):
            raise NotKnown(f"an answer without a meaning: {found}")
        return Answer(result, found.get("id"), amount if result == "succeeded" else None, found.get("message"))

    def void_answer(self, found):
        # An attempt that never reached the gateway can bring no money. (Alipay: only once its code has expired.)
        status = "voided" if found.get("error") == "unknown_attempt" else found.get("status")
        if status not in self.VOID_RESULTS:
            raise NotKnown(f"an answer without a meaning: {found}")
        return Answer(self.VOID_RESULTS[status], error=found.get("message"))

    def call(self, method, path, body=None, key=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        # A new connection for each call: if it cannot be made, nothing was sent.
        connection = self.connection()
        try:
            with time_limit(self.timeout):
                self.connect(connection)
                connection.request(method, self.path + path, body and json.dumps(body), headers)
                answer = connection.getresponse()
                return self.understood(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise NotKnown(f"{method}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def connect(self, connection):
        try:
            connection.connect()
        except OSError as error:
            raise NotSent(f"no connection: {error}") from error

    def understood(self, status, text):
        # The gateway refuses to look at it: a wrong token, or too many calls.
        if status in (401, 403, 429):
            raise NotSent(f"answer {status}" + (": is REFUND_GATEWAY_TOKEN right?" if status == 401 else ""))
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if status >= 500 or not isinstance(found, dict):
            raise NotKnown(f"answer {status}: {text[:200]!r}")
        return found


@contextlib.contextmanager
def time_limit(seconds):
    """Ends all of a call, name lookup included. A socket's own timeout begins again with each byte that arrives."""

    def over(number, frame):
        raise TimeoutError(f"no answer within {seconds} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# ------------------------------------------------------------ the database


class Database:
    """One connection, made when it is needed. Each call is a transaction: a claim is committed when it returns."""

    def __init__(self, address):
        self.address = address
        self.connection = None

    def rows(self, sql, arguments):
        try:
            if self.connection is None:
                self.connect()
            return self.connection.execute(sql, arguments).fetchall()
        except LOST:
            self.close()
            raise

    def connect(self):
        # A server that has gone without a word is noticed. prepare_threshold: a pool may stand in between.
        self.connection = psycopg.connect(
            self.address, autocommit=True, row_factory=namedtuple_row, prepare_threshold=None, client_encoding="utf8",
            connect_timeout=10, keepalives_idle=10, keepalives_interval=5, keepalives_count=3, tcp_user_timeout=25000,
            application_name="refund_worker")
        # A claim that a crash of the database forgets would be handed out with action 'submit' once more.
        self.connection.execute("SELECT set_config('synchronous_commit', 'on', false)"
                                " WHERE current_setting('synchronous_commit') IN ('off', 'local')")

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


ADVICE = (
    ("Peer authentication failed", "name a host, PGHOST=localhost for example, and a password"),
    ("no password supplied", "set PGPASSWORD"),
    ('schema "order_timeout" does not exist', "is PGDATABASE the database that has the extension?"),
    ("permission denied for", "SELECT order_timeout.grant_access(role_name => '...', access => 'worker');"),
)


def with_advice(error):
    """What the database said, and what to do about the usual causes."""
    said = one_line(error)
    return said + "".join(f": {advice}" for cause, advice in ADVICE if cause in said)


def as_text(value):
    """What PostgreSQL accepts as text: a gateway may send anything."""
    return value if value is None else str(value).encode("utf-8", "replace").decode().replace("\0", "")


def ask_then_send(row, query, submit):
    found = query(row) if row.action == "query" else None
    # Not known, or declined: then the gateway accepts it again under the same key.
    return submit(row) if found is None or found.result == "failed" else found


class Refunds:
    def claim(self, database, options):
        return database.rows(
            "SELECT * FROM order_timeout.claim_refunds(worker => %s, max_refunds => %s,"
            " lease => %s * interval '1 second', gateway => %s)",
            [options.worker, options.batch, options.lease, options.gateway])

    def send(self, gateway, refund):
        return ask_then_send(refund, gateway.query_refund, gateway.submit_refund)

    def report(self, database, refund, answer):
        return database.rows(
            "SELECT outcome, state FROM order_timeout.complete_refund(refund_ref => %s, result => %s,"
            " lease_token => %s, gateway_refund_ref => %s, error => %s, refunded_amount => %s)",
            [refund.refund_ref, answer.result, refund.lease_token, as_text(answer.number), as_text(answer.error),
             answer.amount])[0]

    def name(self, refund):
        return f"refund {refund.refund_ref} of payment {refund.payment_ref}, {refund.amount} {refund.currency}"


class Voids:
    def claim(self, database, options):
        return database.rows(
            "SELECT * FROM order_timeout.claim_voids(worker => %s, max_voids => %s,"
            " lease => %s * interval '1 second', gateway => %s)",
            [options.worker, options.batch, options.lease, options.gateway])

    def send(self, gateway, attempt):
        return ask_then_send(attempt, gateway.query_void, gateway.void)

    def report(self, database, attempt, answer):
        return database.rows(
            "SELECT outcome, state FROM order_timeout.complete_void(gateway => %s, attempt_ref => %s, result => %s,"
            " lease_token => %s, error => %s)",
            [attempt.gateway, attempt.attempt_ref, answer.result, attempt.lease_token, as_text(answer.error)])[0]

    def name(self, attempt):
        return f"attempt {attempt.attempt_ref} of order {attempt.order_id}"


# ------------------------------------------------------------ the work


def clock():
    """Goes on while the machine sleeps, as the leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stop:
    """SIGTERM and SIGINT let the worker finish the call in hand, and end its waits."""

    def __init__(self):
        self.requested = False
        self.at = None
        self.reader, self.writer = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.request)

    def request(self, number, frame):
        if not self.requested:
            self.requested = True
            self.at = clock()
            os.write(self.writer, b".")

    def wait(self, seconds):
        select.select([self.reader], [], [], seconds)


class Waits:
    """Waits that double up to a limit."""

    def __init__(self, first, limit):
        self.first, self.limit = first, limit
        self.begin_again()

    def begin_again(self):
        self.next = self.first

    def take(self):
        wait, self.next = self.next, min(2 * self.next, self.limit)
        return wait


class Worker:
    def __init__(self, options, database, gateway, stop):
        self.options, self.database, self.gateway, self.stop = options, database, gateway, stop
        # Voids first: an order that is closing waits for them.
        self.kinds = {"voids": [Voids()], "refunds": [Refunds()], None: [Voids(), Refunds()]}[options.only]

    def run(self):
        waits = Waits(0.25, self.options.longest_wait)
        while not self.stop.requested:
            try:
                busy = [self.handle_batch(kind) for kind in self.kinds]
            except LOST as error:
                if self.options.once:
                    raise
                log.warning("the database cannot be reached: %s", with_advice(error))
                busy = [False]
            if any(busy):
                waits.begin_again()
            elif self.options.once:
                return
            else:
                self.stop.wait(waits.take())

    def handle_batch(self, kind):
        """Whether there may be more to do at once."""
        lease_ends = clock() + self.options.lease
        rows = kind.claim(self.database, self.options)
        why_not = None
        for row in rows:
            why_not = why_not or self.why_not_begun(lease_ends)
            answer = Answer("deferred", error=why_not) if why_not else self.answer_of(kind, row)
            if answer.result == "deferred":    # one is enough to see that the gateway is down
                why_not = answer.error
            self.report(kind, row, answer, lease_ends)
        return bool(rows) and not why_not

    def why_not_begun(self, lease_ends):
        if self.stop.requested:
            return "not begun: the worker stops"
        if clock() + 2 * self.options.timeout > lease_ends:
            return "not begun: the lease would end before the calls do"
        return None

    def answer_of(self, kind, row):
        try:
            return kind.send(self.gateway, row)
        except NotSent as error:
            return Answer("deferred", error=str(error))
        except NotKnown as error:
            return Answer("unknown", error=str(error))
        except Exception as error:  # a fault of the adapter: the gateway may have it
            log.exception("%s: the adapter failed", kind.name(row))
            return Answer("unknown", error=repr(error))

    def report(self, kind, row, answer, lease_ends):
        """Tries until the lease ends. After that, the refund is handed out again, and the gateway is asked."""
        waits = Waits(0.1, 2)
        while True:
            try:
                reported = kind.report(self.database, row, answer)
                break
            except LOST as error:
                if clock() > (self.stop.at + 10 if self.stop.requested else lease_ends):
                    log.error("%s: %s could not be reported: %s", kind.name(row), answer.result, one_line(error))
                    return
                time.sleep(waits.take())
            except psycopg.Error as error:
                # The gateway's words are refused: a number that is too long, say.
                if answer.result == "unknown" and answer.number is None:
                    raise
                log.error("%s: %s is refused: %s", kind.name(row), answer, one_line(error))
                answer = Answer("unknown", error=f"the report {answer.result} was refused with {error.sqlstate}")
        level = logging.WARNING if reported.outcome == "conflict" else logging.INFO
        log.log(level, "%s: %s, %s, %s%s%s", kind.name(row), answer.result, reported.outcome, reported.state,
                f", number {answer.number}" if answer.number else "",
                f" ({one_line(answer.error)})" if answer.error else "")


def one_line(text):
    return " ".join(str(text).split())


# ------------------------------------------------------------ the command


def options_of(arguments):
    env = os.environ.get
    parser = argparse.ArgumentParser(
        description="Sends the refunds of one gateway, and ends its attempts, as order_timeout hands them out.",
        epilog="The gateway's token comes from the environment variable REFUND_GATEWAY_TOKEN. See doc/worker.md.")
    parser.add_argument("--gateway", default=env("REFUND_GATEWAY"),
                        help="the gateway's name in order_timeout (environment: REFUND_GATEWAY)")
    parser.add_argument("--url", default=env("REFUND_GATEWAY_URL"),
                        help="where it is reached, https://gateway.example/v1 (environment: REFUND_GATEWAY_URL)")
    parser.add_argument("--database", default="",
                        help="a connection string; without it PGHOST, PGDATABASE and so on count")
    parser.add_argument("--worker", default=f"{os.uname().nodename}:{os.getpid()}",
                        help="this worker's name (%(default)s)")
    parser.add_argument("--only", choices=["refunds", "voids"], help="without it both")
    parser.add_argument("--timeout", type=float, default=10,
                        help="seconds that a call of the gateway may take (%(default)s)")
    parser.add_argument("--batch", type=int, default=10, help="how many are claimed at once (%(default)s)")
    parser.add_argument("--lease", type=float, default=300, help="seconds for all of a batch (%(default)s)")
    parser.add_argument("--longest-wait", type=float, default=5,
                        help="seconds between two looks, with nothing to do or a gateway that is down (%(default)s)")
    parser.add_argument("--once", action="store_true", help="end when nothing is due, or the gateway is down")
    options = parser.parse_args(arguments)
    if not options.gateway or not options.url:
        parser.error("--gateway and --url are needed, or REFUND_GATEWAY and REFUND_GATEWAY_URL in the environment")
    if urllib.parse.urlsplit(options.url).scheme not in ("http", "https"):
        parser.error(f"--url begins with https:// or http://, not {options.url!r}")
    if not (options.timeout > 0 and options.batch > 0 and options.longest_wait > 0):
        parser.error("--timeout, --batch and --longest-wait are above 0")
    # Each needs up to two calls: a query and a submit.
    if 2 * options.timeout * options.batch >= options.lease:
        parser.error(f"--lease {options.lease:g} is too short: {options.batch} refunds with two calls of"
                     f" {options.timeout:g} s each may take {2 * options.timeout * options.batch:g} s")
    return options


def main():
    options = options_of(sys.argv[1:])
    stop = Stop()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    gateway = Gateway(options.url, os.environ.get("REFUND_GATEWAY_TOKEN", ""), options.timeout)
    log.info("%s works for gateway %s at %s", options.worker, options.gateway, options.url)
    try:
        Worker(options, Database(options.database), gateway, stop).run()
    except psycopg.Error as error:
        log.error("the database refuses: %s", with_advice(error))
        return 1
    log.info("%s ends", options.worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
