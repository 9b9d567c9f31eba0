"""Progress of long work: a bar on a terminal, a line a minute elsewhere."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def track(items: Iterable[Item], text: str, total: int) -> Iterator[Item]:
    """The items, counted as they pass."""
    console = Console(stderr=True)
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(text, total=total)
        for done, item in enumerate(items, 1):
            progress.update(bar, completed=done)
            if not console.is_terminal and time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{text}: {done} of {total}", flush=True)
            yield item
