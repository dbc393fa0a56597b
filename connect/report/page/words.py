"""Numbers and times as people read them."""

from page.queries import COUNTED_TO

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400


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
