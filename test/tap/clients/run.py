# The calls of a plan through psycopg 3. clients.pl describes the plan and the answers.

import datetime
import decimal
import json
import re
import sys

import psycopg
from psycopg.types.json import Jsonb

import shop

BIND = {
    "text": str,
    "bigint": int,
    "integer": int,
    "numeric": decimal.Decimal,
    "boolean": lambda text: text == "true",
    "interval": lambda text: datetime.timedelta(seconds=float(text.split()[0])),
    "timestamp with time zone": datetime.datetime.fromisoformat,
    "text[]": lambda text: text.strip("{}").split(","),
    "jsonb": lambda text: Jsonb(json.loads(text)),
}


def shown(value):
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def answer(cursor):
    rows = [[column.name for column in cursor.description], *cursor.fetchall()] if cursor.description else []
    return "\x1e".join("\x1f".join(map(shown, row)) for row in rows)


def execute(conn, step, values):
    # prepare=None: prepared by name after prepare_threshold executions, never if that is None.
    return conn.execute(re.sub(r"\$\d+", "%s", step["sql"]), values)


def answers(conn, step, values, pipelined):
    if pipelined:
        with conn.pipeline():
            cursors = [execute(conn, step, values) for _ in range(step["times"])]
        yield from (answer(cursor) for cursor in cursors)
        return
    for _ in range(step["times"]):
        try:
            yield answer(execute(conn, step, values))
        except psycopg.Error as error:
            yield "!" + error.sqlstate


def in_shop(run, conn, look):
    def payment(order, number, cents):
        return shop.webhook(conn, {"order": order, "id": number, "cents": cents, "currency": "EUR"})

    def send(refund):
        # Another session sees what was committed before the call.
        return look.execute("SELECT 'g-' || state FROM order_timeout.refunds WHERE refund_ref = %s", refund[:1]).fetchone()[0]

    def lost(refund):
        raise TimeoutError("no answer")

    yield "pending" if shop.create(conn, "C-1", 4200) else "closed"
    yield payment("C-1", "w-1", 4200)
    yield payment("C-1", "w-1", 4200)
    yield payment("C-1", "w-1", 4300)
    yield payment("C-2", "w-2", 100)
    yield payment("C-1", "w-3", 700)
    yield shop.send_refunds(conn, send)
    yield shop.send_refunds(conn, send)
    yield payment("C-1", "w-4", 800)
    yield shop.send_refunds(conn, lost)
    yield "closed" if not shop.create(conn, "C-1", 4200) else "pending"


def sessions(run, database):
    return {user: psycopg.connect(host=run["host"], port=run["port"], dbname=run[database], user=user, autocommit=True,
                                  prepare_threshold=None if run["pooled"] else 5) for user in ("shop", "postgres")}


with open(sys.argv[1], encoding="utf-8") as file:
    plan = json.load(file)
with open(sys.argv[2], "w", encoding="utf-8", newline="") as out:
    for run in plan["runs"]:
        conns, kept = sessions(run, "database"), {}
        for number, step in enumerate(plan["steps"]):
            texts = [kept.get(text, text) for text in step["values"]]
            values = [None if text is None else BIND[kind](text) for kind, text in zip(step["types"], texts)]
            pipelined = run["pipeline"] and step["can_pipeline"]
            for said in answers(conns[step["as"]], step, values, pipelined):
                out.write(f"{run['name']}\t{number}\t{said}\n")
                if step.get("keep") and len(said.split("\x1e")) > 1:
                    names, row = (line.split("\x1f") for line in said.split("\x1e")[:2])
                    for name, text in zip(names, row):
                        kept.setdefault(f"{{{step['keep']}.{name}}}", text)
        if not run["pipeline"]:
            conns = sessions(run, "shop")
            out.write(f"{run['name']}\tshop\t{' '.join(map(str, in_shop(run, conns['shop'], conns['postgres'])))}\n")
