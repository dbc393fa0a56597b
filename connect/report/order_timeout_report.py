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
import hashlib
import json
import os
import re
import signal
import sys

try:
    import psycopg
except ImportError as lacking:
    sys.exit(f"order_timeout_report: {lacking}. It needs psycopg 3 (Debian: apt-get install python3-psycopg)")

# It may be installed where it cannot write, and leaves nothing where it can.
sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
try:
    from page.database import Refused, require_extension, transaction  # noqa: E402
    from page.order import Story  # noqa: E402
    from page.pieces import escape  # noqa: E402
    from page.shop import Report  # noqa: E402
except ImportError as lacking:
    sys.exit(f"order_timeout_report: {lacking}. Copy the folder connect/report as a whole, with page/ in it")

HERE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "page")
CHART_JS = "/usr/share/javascript/chart.js/chart.min.js"


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
        raise argparse.ArgumentTypeError(
            f"Chart.js is not here: install Debian's package libjs-chart.js, or name a file (no {path})"
        )
    script = read_file(path, "Chart.js")
    if not re.match(r"/\*!\s*\*? *Chart\.js v[34]\.", script) or "MIT License" not in script[:400]:
        raise argparse.ArgumentTypeError(f"{path} is no build of Chart.js 3 or 4 for the browser with its licence note")
    if re.search(r"^\s*(import|export)\b", script, re.M):
        raise argparse.ArgumentTypeError(
            f"{path} is a module: use chart.min.js of version 3 or chart.umd.js of version 4"
        )
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
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {digest(style)}; script-src {digest(chart_script)} {digest(script)}"
    )
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
<header>
<h1><bdi>{escape(page.title)}</bdi></h1>
<p>{escape(page.subtitle)} Time zone {escape(options.time_zone)}.</p>
</header>
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
        sys.stdout.buffer.write(content.encode())
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


def utf8(word):
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("it is not UTF-8") from error
    return word


def options_of(arguments):
    parser = argparse.ArgumentParser(
        description="Writes a report about order_timeout, or about one order, as one HTML file.",
        epilog="Its role needs access reader. See doc/report.md.",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="what is written; - is standard output")
    parser.add_argument(
        "--database",
        type=utf8,
        default="",
        metavar="CONNINFO",
        help="a connection string; without it PGHOST, PGDATABASE and so on count",
    )
    parser.add_argument("--order", type=utf8, metavar="ID", help="the page of this order")
    parser.add_argument("--days", type=days, default=30, help="how far back it looks (%(default)s)")
    parser.add_argument(
        "--max-events",
        type=whole,
        default=1000000,
        metavar="N",
        help="how many events it reads at most, the latest (%(default)s)",
    )
    parser.add_argument(
        "--proof",
        type=proof,
        default=1,
        metavar="DAYS",
        help="what is proven: orders with an event in the last DAYS, or full, or none (%(default)s)",
    )
    parser.add_argument(
        "--timeout", type=whole, default=60, metavar="SECONDS", help="how long a query may take (%(default)s)"
    )
    parser.add_argument(
        "--time-zone",
        type=utf8,
        default="UTC",
        metavar="NAME",
        help="of all times, Europe/Berlin, say (%(default)s)",
    )
    parser.add_argument(
        "--chart-js",
        type=chart_js,
        default=CHART_JS,
        metavar="FILE",
        help="Chart.js 3 or 4, as one file for the browser (%(default)s)",
    )
    options = parser.parse_args(arguments)
    folder = os.path.dirname(options.output) or "."
    if options.output != "-" and (os.path.isdir(options.output) or not os.access(folder, os.W_OK)):
        why = "it is a folder" if os.path.isdir(options.output) else f"may this user write in {folder}, and is it there?"
        parser.error(f"--output {options.output} cannot be written: {why}")
    return options


def one_line(error):
    return " ".join(str(error).split())


def explained(error):
    """What the database said, and what to do about the usual causes."""
    diagnosis = getattr(error, "diag", None)
    said = one_line(diagnosis.message_primary if diagnosis and diagnosis.message_primary else error)
    hints = {
        "42501": "give its role what it needs:"
        " SELECT order_timeout.grant_access(role_name => '...', access => 'reader');",
        "57014": "it took longer than --timeout: look back for fewer --days, or read fewer --max-events",
    }
    # A connection that fails has no SQLSTATE.
    connecting = {
        "Peer authentication failed": "name a host in --database, host=localhost for example, and give the role a password",
        "no password supplied": "put it into PGPASSWORD, or into ~/.pgpass",
    }
    hint = (
        hints.get(getattr(error, "sqlstate", None))
        or (diagnosis and diagnosis.message_hint)
        or next((advice for cause, advice in connecting.items() if cause in said), None)
    )
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
