#!/usr/bin/python3
"""A gateway for test/tap/refund_worker.pl, which misbehaves as real ones do.

    refund_gateway.py PORT FILE SEED SLOW DATABASE

Its books are in the SQLite file FILE, so it can be killed and started again. A refund number moves money once, until
the gateway forgets the number (paid_forgotten: a day passes). What it does with the calls about a payment or an attempt
is chosen by SEED; after some calls it behaves. The answers about payments "slow..." and "drip..." come late, or byte by
byte. SLOW is how many seconds a slow answer takes, DATABASE where its webhooks go.

GET /ledger answers with the books, POST /bounces/REFUND lets a refund come back.
"""

import contextlib
import json
import random
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

PORT, FILE, SEED, SLOW, DATABASE = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5]

REFUND = ["paid"] * 4 + [
    "slow", "slow_first", "500", "paid_500", "dropped", "paid_dropped", "paid_forgotten", "garbled", "processing",
    "processing_told", "taken_back", "told_first", "declined", "part", "never", "busy", "odd"]
ASKED = ["answered"] * 6 + ["slow", "500", "dropped", "garbled"]
VOID = ["done"] * 2 + ["confirming", "slow", "500", "done_500", "dropped", "done_dropped"]

lock = threading.Lock()
connection = sqlite3.connect(FILE, timeout=60, isolation_level=None, check_same_thread=False)
connection.row_factory = sqlite3.Row
connection.execute("PRAGMA journal_mode = WAL")  # survives SIGKILL, and is quick
connection.execute("PRAGMA synchronous = OFF")
connection.executescript("""
    CREATE TABLE IF NOT EXISTS movements (number TEXT, refund TEXT, payment TEXT, amount INTEGER,
                                          bounced INTEGER DEFAULT 0);
    CREATE TABLE IF NOT EXISTS refunds (refund TEXT PRIMARY KEY, payment TEXT, amount INTEGER, status TEXT,
                                        number TEXT, ends_as TEXT, forgotten INTEGER, asked INTEGER DEFAULT 0);
    CREATE TABLE IF NOT EXISTS attempts (attempt TEXT PRIMARY KEY, status TEXT);
    CREATE TABLE IF NOT EXISTS requests (method TEXT, about TEXT, did TEXT);""")


@contextlib.contextmanager
def books():
    """A transaction."""
    with lock:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def choose(method, about, words, tries):
    """The same for the same SEED, whatever comes in between."""
    with books() as b:
        before, = b.execute("SELECT count(*) FROM requests WHERE method = ? AND about = ?", [method, about]).fetchone()
        did = random.Random(f"{SEED} {method} {about} {before}").choice(words) if before < tries else words[0]
        b.execute("INSERT INTO requests VALUES (?, ?, ?)", [method, about, did])
    return did


def move(b, row):
    b.execute("INSERT INTO movements (number, refund, payment, amount) VALUES (?, ?, ?, ?)",
              [row["number"], row["refund"], row["payment"], row["amount"]])


def take(body, amount, status, ends_as=None, forgotten=False):
    """Idempotent by refund number. A declined one may come again; one that was processing before keeps its number."""
    with books() as b:
        known = b.execute("SELECT * FROM refunds WHERE refund = ?", [body["refund"]]).fetchone()
        if known and known["status"] != "declined" and not known["forgotten"]:
            return known
        was_taken_back = known and known["ends_as"]
        ends_as = ends_as or was_taken_back
        number = known["number"] if was_taken_back else f"gw-{random.getrandbits(64):x}"
        b.execute("REPLACE INTO refunds (refund, payment, amount, status, number, ends_as, forgotten)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?)",
                  [body["refund"], body["payment"], amount, status, number, ends_as, forgotten])
        row = b.execute("SELECT * FROM refunds WHERE refund = ?", [body["refund"]]).fetchone()
        if status == "succeeded":
            move(b, row)
        return row


def end(refund):
    """What was processing ends."""
    with books() as b:
        row = b.execute("SELECT * FROM refunds WHERE refund = ? AND status = 'processing'", [refund]).fetchone()
        if row:
            b.execute("UPDATE refunds SET status = ends_as WHERE refund = ?", [refund])
            if row["ends_as"] == "succeeded":
                move(b, row)
        return b.execute("SELECT * FROM refunds WHERE refund = ?", [refund]).fetchone()


def tell(row):
    """The webhook, as the shop's handler passes it on. If the database is away, it is lost."""
    try:
        with psycopg.connect(DATABASE, autocommit=True) as shop:
            shop.execute(
                "SELECT order_timeout.complete_refund(refund_ref => %s, result => 'succeeded',"
                " gateway_refund_ref => %s, refunded_amount => %s)", [row["refund"], row["number"], row["amount"]])
    except psycopg.OperationalError:
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, code, answer, pause=0):
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            for piece in [text] if not pause else [text[i:i + 1] for i in range(len(text))]:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # the worker has gone
            pass

    def reply_refund(self, row, pause=0):
        self.reply(402 if row["status"] == "declined" else 200,
                   {"status": row["status"], "id": row["number"], "amount": row["amount"], "message": None}, pause)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        if len(text) < length:  # the worker was killed while it sent
            return
        body = json.loads(text or "null")
        parts = self.path.strip("/").split("/")
        if parts == ["refunds"]:
            assert self.headers["Idempotency-Key"] == body["refund"]
            self.refund(body)
        elif parts[0] == "bounces":
            with books() as b:
                b.execute("UPDATE movements SET bounced = 1 WHERE refund = ?", [parts[1]])
            self.reply(200, {})
        else:
            self.void(parts[1])

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts == ["ledger"]:
            with books() as b:
                ledger = {table: [dict(row) for row in b.execute(f"SELECT * FROM {table}")]
                          for table in ("movements", "attempts", "requests")}
            self.reply(200, ledger)
        elif parts[0] == "refunds":
            self.asked(parts[1])
        else:
            self.asked_attempt(parts[1])

    def refund(self, body):
        name = body["payment"][:4]
        did = choose("POST", body["payment"], [name] if name in ("slow", "drip") else REFUND, 4)
        if did == "busy":
            return self.reply(429, {})
        if did == "500":
            return self.reply(500, b"oh")
        if did == "dropped":
            return
        if did == "slow_first":
            time.sleep(SLOW)
        status, ends_as = {"processing": ("processing", "succeeded"), "processing_told": ("processing", "succeeded"),
                           "taken_back": ("processing", "declined"), "declined": ("declined", None),
                           "never": ("never", None)}.get(did, ("succeeded", None))
        amount = (body["amount"] + 1) // 2 if did == "part" else body["amount"]
        row = take(body, amount, status, ends_as, forgotten=did == "paid_forgotten")
        if did == "told_first" and row["status"] == "succeeded":
            tell(row)
        if did == "slow":
            time.sleep(SLOW)
        if did == "paid_500":
            return self.reply(500, b"oh")
        if did in ("paid_dropped", "paid_forgotten"):
            return
        if did == "garbled":
            return self.reply(200, b"<html>")
        if did == "odd":  # a number that the database refuses
            row = {**row, "number": 300 * "x"}
        self.reply_refund(row, pause=0.05 if did == "drip" else 0)
        if did == "processing_told" and row["status"] == "processing":
            time.sleep(SLOW / 2)
            tell(end(row["refund"]))

    def misbehaves(self, did):
        """Whether there is nothing more to answer."""
        if did == "slow":
            time.sleep(SLOW)
        elif did.endswith("500"):
            self.reply(500, b"oh")
        elif did == "garbled":
            self.reply(200, b"<html>")
        return did.endswith(("500", "garbled", "dropped"))

    def asked(self, refund):
        with books() as b:
            b.execute("UPDATE refunds SET asked = asked + 1 WHERE refund = ?", [refund])
            row = b.execute("SELECT * FROM refunds WHERE refund = ?", [refund]).fetchone()
        if self.misbehaves(choose("GET", row["payment"] if row else refund, ASKED, 3)):
            return
        if row is None:
            return self.reply(404, {"error": "unknown_refund"})
        self.reply_refund(end(refund) if row["status"] == "processing" and row["asked"] >= 2 else row)

    def attempt_status(self, attempt, word=None):
        """The name says how it stands at first: open-1, paid-1, missing-1."""
        with books() as b:
            b.execute("INSERT OR IGNORE INTO attempts VALUES (?, ?)", [attempt, attempt.split("-")[0]])
            if word:
                b.execute("UPDATE attempts SET status = ? WHERE attempt = ? AND status = 'open'", [word, attempt])
            return b.execute("SELECT status FROM attempts WHERE attempt = ?", [attempt]).fetchone()["status"]

    def reply_attempt(self, status):
        if status == "missing":
            self.reply(404, {"error": "unknown_attempt"})
        else:
            self.reply(200, {"status": status})

    def asked_attempt(self, attempt):
        if not self.misbehaves(choose("GET", attempt, ASKED, 2)):
            self.reply_attempt(self.attempt_status(attempt))

    def void(self, attempt):
        did = choose("VOID", attempt, VOID, 3)
        if did == "confirming":
            return self.reply(200, {"status": "confirming"})
        status = self.attempt_status(attempt, None if did in ("500", "dropped") else "voided")
        if not self.misbehaves(did):
            self.reply_attempt(status)


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
server.serve_forever()
