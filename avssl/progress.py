"""Progress of long work: a bar on a terminal, a line a minute elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .core.screen import Console

Item = TypeVar("Item")

SAY_EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


def line_a_minute(console: Console) -> Callable[[str], None]:
    """What prints a line, unless `console` is a terminal or the last line was less than a minute ago."""
    said = time.monotonic()

    def say(line: str) -> None:
        nonlocal said
        if not console.is_terminal and time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            print(line, flush=True)

    return say


def track(items: Iterable[Item], text: str, total: int) -> Iterator[Item]:
    """The items, counted as they pass."""
    console = Console(stderr=True)
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    say = line_a_minute(console)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(text, total=total)
        for done, item in enumerate(items, 1):
            progress.update(bar, completed=done)
            say(f"{text}: {done} of {total}")
            yield item
