"""The time that the report is about, in steps."""

from datetime import datetime, timedelta

from page.words import DAY, HOUR, MINUTE, SECOND

# A chart has at most so many.
STEPS = 48

# What a step may be long. The words are what PostgreSQL and people read.
STEP_LENGTHS = [
    (10 * SECOND, "10 seconds"),
    (MINUTE, "1 minute"),
    (5 * MINUTE, "5 minutes"),
    (15 * MINUTE, "15 minutes"),
    (HOUR, "1 hour"),
    (3 * HOUR, "3 hours"),
    (6 * HOUR, "6 hours"),
    (DAY, "1 day"),
    (7 * DAY, "7 days"),
    (28 * DAY, "28 days"),
    (364 * DAY, "364 days"),
]
# A Monday.
ORIGIN = datetime(2001, 1, 1)


class Steps:
    """The window in steps of equal length. Both times are by the clock of the time zone, and know no zone."""

    def __init__(self, first, last):
        length = (last - first).total_seconds()
        self.seconds, self.words = next(
            (step for step in STEP_LENGTHS if length / step[0] < STEPS - 1), STEP_LENGTHS[-1]
        )
        step = timedelta(seconds=self.seconds)
        begin = ORIGIN + (first - ORIGIN) // step * step
        self.begins = [begin + i * step for i in range(int((last - begin) / step) + 1)]

    @property
    def labels(self):
        form = (
            "%Y-%m-%d" if self.seconds >= DAY else "%Y-%m-%d %H:%M" if self.seconds >= MINUTE else "%Y-%m-%d %H:%M:%S"
        )
        return [begin.strftime(form) for begin in self.begins]

    @property
    def ticks(self):
        """The same for a narrow axis."""
        form = "%m-%d" if self.seconds >= 6 * HOUR else "%H:%M" if self.seconds >= MINUTE else "%H:%M:%S"
        return [begin.strftime(form) for begin in self.begins]
