"""Progress of long work: a bar on a terminal, otherwise a line every half minute."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from .screen import Console
from .verbosity import is_quiet, is_verbose

Item = TypeVar("Item")

SAY_EVERY = 30.0
"""Seconds between two lines without a terminal."""

SAY_EVERY_VERBOSE = 5.0
"""The same with -v."""

Progress = Callable[[str, int, int], None]
"""The type of a function that long work calls at its start and after each part: `(name, parts done, total)`."""


def seconds_apart() -> float:
    """Seconds between two lines of progress without a terminal; infinite when quiet."""
    return math.inf if is_quiet() else SAY_EVERY_VERBOSE if is_verbose() else SAY_EVERY


def silent(text: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


def line_now_and_then(console: Console) -> Callable[[str], bool]:
    """A function that prints a line, unless there is a terminal or its last line is less than `seconds_apart` old. It
    returns whether it did."""
    printed_at = time.monotonic()

    def say(line: str) -> bool:
        nonlocal printed_at
        if console.is_terminal or time.monotonic() - printed_at <= seconds_apart():
            return False
        printed_at = time.monotonic()
        print(line, flush=True)
        return True

    return say


SETTLED = 20
"""Parts after which the time before the first one, in which processes start, no longer counts for the pace."""


class TimeLeft:
    """Estimates the remaining time from the pace since `done` parts were done."""

    def __init__(self, done: int = 0):
        self.first, self.began = done, time.monotonic()
        self.warm: tuple[int, float] | None = None
        """How many parts were done when the first of them ended, and when that was."""

    def seconds_since_first(self) -> float:
        """Seconds since the first part ended; 0 before."""
        return time.monotonic() - self.warm[1] if self.warm else 0.0

    def __call__(self, done: int, total: int) -> str:
        """ ", 1:05 left" (h:mm:ss if an hour or more); empty before the first part and after the last."""
        if done <= self.first or done >= total:
            return ""
        now = time.monotonic()
        self.warm = self.warm or (done, now)
        first, began = self.warm if done - self.warm[0] >= SETTLED else (self.first, self.began)
        seconds = round((now - began) / (done - first) * (total - done))
        hours, minutes = divmod(seconds // 60, 60)
        clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
        return f", {clock}:{seconds % 60:02} left"


FIRST_PARTS, FIRST_SECONDS = 3, 10.0
"""Parts that are done, or seconds after the first of them, from which `track` says how long the others will take: the
first part also has to wait for processes to start."""


def track(items: Iterable[Item], text: str, total: int) -> Iterator[Item]:
    """Yield the items, and show how many have been processed: off a terminal now and then, and then also at the end."""
    console = Console(stderr=True)
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    say, left = line_now_and_then(console), TimeLeft()
    with Bars(*columns, console=console, disable=not console.is_terminal or is_quiet()) as progress:
        bar, done, last, said = progress.add_task(text, total=total), 0, 0, False
        for done, item in enumerate(items, 1):
            progress.update(bar, completed=done)
            remaining = left(done, total)
            known = done >= FIRST_PARTS or left.seconds_since_first() >= FIRST_SECONDS
            if say(f"{text}: {done} of {total}{remaining if known else ''}"):
                said, last = True, done
            yield item
    if said and last < done:
        print(f"{text}: {done} of {total}", flush=True)
