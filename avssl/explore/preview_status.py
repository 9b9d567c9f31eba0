"""Which previews are there: a small script that the page reads again while previews are being made."""

import time
from collections.abc import Callable, Mapping
from typing import Any

EVERY = 1.5
"""Seconds between two writes while previews are being made."""


class PreviewStatus:
    """Counts the previews, and writes their state now and then.

    Args:
        positions: the position of each preview's video in the page's order, by preview name.
        silent: names of previews without audio.
        write: writes a state for the page.
    """

    def __init__(self, positions: Mapping[str, int], silent: set[str], write: Callable[[dict[str, Any]], None]):
        self.positions, self.silent, self._write = positions, silent, write
        self.made: set[str] = set()
        self.failed: set[str] = set()
        self._written = 0.0

    def state(self, finished: bool = False) -> dict[str, Any]:
        """What the page needs: while previews are made, those that are there; afterwards, those that failed."""
        return {
            "total": len(self.positions),
            "finished": finished,
            "made": None if finished else self._at(self.made),
            "failed": self._at(self.failed),
            "silent": self._at(self.silent),
            "time": round(time.time()),
        }

    def _at(self, names: set[str]) -> list[int]:
        return sorted(self.positions[name] for name in names)

    def __call__(self, name: str, why: str) -> None:
        """Note that a preview is there, or why it could not be made."""
        (self.failed if why else self.made).add(name)
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self, finished: bool = False) -> None:
        """Write the state now."""
        self._written = time.monotonic()
        self._write(self.state(finished))
