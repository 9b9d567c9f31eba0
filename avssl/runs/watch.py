"""`avssl watch`: the curves of a run while it trains, in the terminal and as a page. It does not import torch."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..config import WatchConfig
from ..config.run_names import Wish, resolve_run
from ..core.errors import UserError
from ..core.progress import line_now_and_then
from ..core.screen import Console, one_line
from .watch_curves import height, limits, mean
from .watch_page import PAGE, write_page
from .watch_state import Watched, shown_value

EVERY = 2.0
"""Seconds between two looks at the run."""

WIDTH = 30
"""Characters of a curve in the terminal."""

BARS = "▁▂▃▄▅▆▇█"


def run(config: WatchConfig) -> Path:
    """Show the curves of a run until it ends, or until Ctrl-C, which leaves the run alone.

    Returns:
        The page, `watch.html` in the run folder.

    Raises:
        UserError: there is no such run, or its status.json is damaged.
    """
    folder = resolve_run(config.run, wish=Wish(any=True))
    console = Console(highlight=False, soft_wrap=True)
    watched, page = Watched(folder), folder / PAGE
    watched.read()
    watched.check()
    writable = _write(page, watched)
    if writable:
        console.print(f"page: {one_line(page)}", markup=False)
    try:
        with _sigterm_as_interrupt():
            _show(watched, page if writable else None, console)
    except KeyboardInterrupt:
        if writable:
            _write(page, watched, watching=False)
        console.print("stopped watching; the run continues")
    console.print(lines_of(watched, console))
    return page


def _show(watched: Watched, page: Path | None, console: Console) -> None:
    """Show the run until it ends: as a table that is drawn again on a terminal, else as lines."""
    if console.is_terminal and not watched.ended:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            _follow(watched, page, lambda: live.update(lines_of(watched, console), refresh=True))
    else:
        say = line_now_and_then(console)
        _follow(watched, page, lambda: say(line_of(watched)))


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the watching as Ctrl-C does. Only the main thread can set this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(watched: Watched, page: Path | None, show: Callable[[], object]) -> None:
    """Read and show until the run has ended; the page is written if the folder allows it."""
    while not watched.ended:
        show()
        time.sleep(EVERY)
        watched.read()
        watched.check()
        if page is not None:
            _write(page, watched)


def _write(page: Path, watched: Watched, watching: bool = True) -> bool:
    """Write the page. False if the folder cannot be written: the terminal still shows the run."""
    try:
        write_page(page, watched, watching)
    except (OSError, UserError):
        return False
    return True


def line_of(watched: Watched) -> str:
    """The run in one line, for a log."""
    figures = [f"{kind.title} {shown_value(kind, curve.last)}" for kind, curve in watched.curves.shown()]
    return f"{watched.progress()}: {', '.join(figures)}" if figures else watched.progress()


def lines_of(watched: Watched, console: Console) -> Group:
    """The run as a small table of curves, in 80 columns."""
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(no_wrap=True, justify="right")
    drawn = (console.encoding or "").lower().startswith("utf")
    for kind, curve in watched.curves.shown():
        values = [value for _, value in curve.points()]
        grid.add_row(kind.title, spark(values, limits(kind, values)) if drawn else "", shown_value(kind, curve.last))
    name = Text(one_line(watched.folder), style="bold", overflow="fold")
    notes = [Text(note, overflow="fold") for note in watched.notes()]
    return Group(name, Text(watched.progress()), *([grid] if grid.rows else []), *notes)


def spark(values: list[float], ends: tuple[float, float], width: int = WIDTH) -> str:
    """A curve between two values as a line of block characters; NaN is `×`."""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        parts = [values[a:b] for a, b in pairwise(edges)]
        values = [mean(part) for part in parts]
    top = len(BARS) - 1
    return "".join(BARS[round(top * height(x, *ends))] if math.isfinite(x) else "×" for x in values)
