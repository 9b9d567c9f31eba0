"""The page of `avssl watch`: one HTML file without scripts or network requests, rewritten while the run continues."""

import math
import time
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from ..core.atomic import write_text
from .watch_curves import Curve, Kind, height, limits
from .watch_state import Watched, shown_value

PAGE = "watch.html"

RELOAD = 5
"""Seconds after which the page reloads while the run continues."""

WIDTH, HEIGHT = 400, 120
"""Size of a curve, in units of its SVG."""


MOST_MARKS = 100
"""Most passes over the data that are marked in the loss; more would cover it."""


def write_page(path: Path, watched: Watched, watching: bool = True) -> None:
    """Write the page of a run. Names and texts of the run are escaped.

    Args:
        path: the file.
        watched: the run, as it was last read.
        watching: whether the page will be written again; if not, it does not reload.
    """
    assets = files("avssl.runs")
    sheets = files("avssl.core") / "page.css", assets / "watch.css"
    facts = [*watched.progress().split(", "), f"as of {time.strftime('%H:%M:%S')}"]
    total = max(watched.total, watched.step, 1)
    cards = "".join(_card(kind, curve, total, watched.curves.passes) for kind, curve in watched.curves.shown())
    running, marked = watching and watched.state == "running", 0 < len(watched.curves.passes) <= MOST_MARKS
    text = Template((assets / "watch.html").read_text("utf-8")).substitute(
        style="".join(sheet.read_text("utf-8") for sheet in sheets),
        reload=f'<meta http-equiv="refresh" content="{RELOAD}">' if running else "",
        name=escape(watched.folder.name),
        folder=escape(str(watched.folder)),
        state=escape(watched.state),
        share=f"{watched.share:.4f}",
        percent=f"{100 * watched.share:.0f}",
        facts="".join(f"<li>{escape(fact)}</li>" for fact in facts),
        notes="".join(f'<p class="alarm">{escape(note)}</p>' for note in watched.notes()),
        cards=cards or '<p class="note">No figures yet: the log begins with the first step.</p>',
        marks="Thin vertical lines in the loss are passes over the data. " if marked else "",
        about="This page is written by <code>avssl watch</code> while it runs"
        + (f" and reloads every {RELOAD} seconds." if running else "."),
    )
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def _card(kind: Kind, curve: Curve, total: int, passes: list[int]) -> str:
    points = curve.points()
    low, high = limits(kind, [value for _, value in points])
    first, last = (shown_value(kind, value) for value in (points[0][1], curve.last))
    highest, lowest = shown_value(kind, high), shown_value(kind, low)
    label = f"{kind.title}: {first} at step {points[0][0]:,.0f}, {last} at step {points[-1][0]:,.0f}"
    marks = _marks(passes, total) if kind.line == "train" and kind.key == "loss" else ""
    return (
        f'<figure class="card"><figcaption><b>{escape(kind.title)}</b> <span class="value">{escape(last)}</span>'
        f"<small>{escape(kind.text)}</small></figcaption>"
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{marks}{_paths(points, total, low, high)}</svg>'
        f'<span class="high">{escape(highest)}</span><span class="low">{escape(lowest)}</span></div>'
        f'<div class="steps"><span>0</span><span>step {total:,}</span></div></figure>'
    )


def _paths(points: list[tuple[float, float]], total: int, low: float, high: float) -> str:
    """The curve, interrupted at NaN, and its last point."""
    parts: list[list[str]] = [[]]
    for step, value in points:
        if not math.isfinite(value):
            parts.append([])
            continue
        parts[-1].append(f"{WIDTH * step / total:.1f},{_height(value, low, high):.1f}")
    lines = "".join(f'<polyline points="{" ".join(part)}"/>' for part in parts if len(part) > 1)
    alone = [part[0] for part in parts if len(part) == 1]
    ends = [*alone, *([parts[-1][-1]] if len(parts[-1]) > 1 else [])]
    return lines + "".join(f'<path class="dot" d="M{end}h0"/>' for end in ends)


def _height(value: float, low: float, high: float) -> float:
    return 6 + (HEIGHT - 12) * (1 - height(value, low, high))


def _marks(passes: list[int], total: int) -> str:
    """A thin line at each pass over the data."""
    few = passes if len(passes) <= MOST_MARKS else []
    path = "".join(f"M{WIDTH * step / total:.1f},0v{HEIGHT}" for step in few)
    return f'<path class="passes" d="{path}"><title>passes over the data</title></path>' if path else ""
