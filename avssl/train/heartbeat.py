"""The sign of life of a run: its status.json, written every few seconds. This file does not import torch."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.atomic import write_json
from ..core.errors import UserError

BEAT = 20.0
"""How often status.json is written while the run is alive, s."""


class Heartbeat:
    """Writes a run's status.json every few seconds, from its own thread, so that a busy process still shows as alive.

    A write that fails (full disk, file system away) is skipped; the next one is tried.
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds = path, seconds
        self.status: dict[str, Any] = {}
        self.write_lock, self.closed = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def write(self, status: dict[str, Any]) -> None:
        """Write a status now; while its state is `running`, it is written again at every beat."""
        with self.write_lock:
            self.status = status
            self._write()
        if not self.thread.is_alive() and not self.closed.is_set():
            self.thread.start()

    def note(self, **values: Any) -> None:
        """Change the status that the next beat writes. This never waits for the disk."""
        self.status = self.status | values

    def close(self) -> None:
        self.closed.set()
        if self.thread.is_alive():
            self.thread.join(timeout=5)  # a file system may block it; it ends with the process

    def _run(self) -> None:
        while not self.closed.wait(self.seconds):
            with self.write_lock, suppress(OSError, UserError):
                # a run folder that somebody has removed must not come back
                if self.status["state"] == "running" and self.path.parent.is_dir():
                    self._write()

    def _write(self) -> None:
        write_json(self.path, self.status | {"time": time.time()})


def process_start(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine started; None for no such process, or without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text[text.rindex(")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None
