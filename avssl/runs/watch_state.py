"""What `avssl watch` shows of a run at one moment: its state, its step, the time left, and its curves."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.screen import one_line
from ..core.untrusted import is_count
from .sign_of_life import Status, ago, read, state_of
from .status import MANY_DIGITS, short_figure
from .watch_curves import Curves, Kind

ENDED = ("finished", "stopped", "failed", "lost")

HINTS = {
    "stopped": "repeat the command of the run to resume it",
    "lost": "its process died: repeat the command of the run to resume it",
}


@dataclass
class Watched:
    """A run as it is seen from outside: everything is read from its folder."""

    folder: Path
    curves: Curves = field(init=False)
    status: Status = field(init=False, default_factory=dict)
    first: tuple[float, int] | None = None
    """The time (s) and the step at which the watch began, for the pace."""

    def __post_init__(self) -> None:
        self.curves = Curves(self.folder / "metrics.jsonl")

    def read(self) -> None:
        """Read what the run has written since."""
        self.status = read(self.folder / "status.json")
        self.curves.read()
        if self.state == "running" and self.first is None and self.step:
            self.first = time.monotonic(), self.step

    def check(self) -> None:
        """Raise UserError if status.json exists but is damaged: it would never say that the run has ended."""
        path = self.folder / "status.json"
        if os.path.lexists(path) and (self.state == "unknown" or not all(map(self._is_count, ("step", "total")))):
            self.status = read(path)  # it may have been written for the first time since
            if self.state == "unknown" or not all(map(self._is_count, ("step", "total"))):
                raise UserError(f"{one_line(path)} is damaged: remove it, and repeat the command of the run")

    def _is_count(self, name: str) -> bool:
        return name not in self.status or is_count(self.status[name])

    @property
    def state(self) -> str:
        return state_of(self.status)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def step(self) -> int:
        """The newest step that is known; status.json is some seconds behind the log while the run continues."""
        known: Any = self.status.get("step")
        return max(known if is_count(known) else 0, self.curves.step)

    @property
    def total(self) -> int:
        """The steps of the run; 0 if they are unknown."""
        total: Any = self.status.get("total")
        return total if is_count(total) else 0

    @property
    def share(self) -> float:
        return min(1.0, self.step / self.total) if self.total else 0.0

    def left(self) -> str:
        """`1:05 left`, from the speed since the watch began; empty if that is unknown."""
        if self.state != "running" or self.first is None or self.step <= self.first[1]:
            return ""
        pace = (time.monotonic() - self.first[0]) / (self.step - self.first[1])
        seconds = round(pace * max(0, self.total - self.step))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{f'{hours}:{minutes:02}' if hours else minutes}:{seconds % 60:02} left"

    def progress(self) -> str:
        """`running, step 465 of 700, 0:16 left`."""
        step = f"step {self.step:,} of {self.total:,}" if self.total else ""
        seen = f"last seen {ago(self.status)}" if self.state == "lost" else ""
        return ", ".join(filter(None, [self.state, step, self.left(), seen]))

    def notes(self) -> list[str]:
        """What to know beside the curves: why the run failed, what to do, and NaN or infinite losses."""
        lines = [HINTS[self.state]] if self.state in HINTS else []
        if self.state == "failed" and (why := str(self.status.get("why") or "").splitlines()):
            lines.append(one_line(why[0][:500]))
        if self.curves.nonfinite:
            lines.append("some figures of the log are NaN or infinite: if the loss is, lower optim.lr")
        return lines


def shown_value(kind: Kind, value: float) -> str:
    """A value of a curve as text."""
    if value != value:
        return "NaN"
    if kind.percent and abs(value) < MANY_DIGITS:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if 100 <= abs(value) < MANY_DIGITS else short_figure(value)
