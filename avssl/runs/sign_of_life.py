"""The state of a process that writes its status to a small JSON file every few seconds, as others see it."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.untrusted import is_count, is_number, read_json
from ..train.heartbeat import BEAT, process_start

LOST_AFTER = 10 * BEAT
"""Seconds without a sign of life after which a run is lost."""

STATES = ("running", "finished", "stopped", "failed")

Status = dict[str, Any]


def read(path: Path) -> Status:
    """The contents of a `status.json`, or of another small JSON file of a run; empty if the file is damaged."""
    try:
        content = read_json(path)
    except (OSError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def step_words(run: str | Path, step: int | None) -> str:
    """The step of a run that is used: `step 1,500`, or `step 33 of 50 (the run is not finished)`.

    Args:
        run: its folder.
        step: the step; None: it is unknown.
    """
    total = read(Path(run) / "status.json").get("total")
    if step is None or not is_count(total) or step >= int(str(total)):
        return f"step {step or 0:,}"
    return f"step {step:,} of {int(str(total)):,} (the run is not finished)"


def time_of(status: Status) -> float:
    """Time of a run's last sign of life (s since 1970); 0 if there is none."""
    value: Any = status.get("time")
    return float(value) if is_number(value) and 0 <= value < 1e11 else 0.0


def state_of(status: Status) -> str:
    """running, finished, stopped, failed, or lost: the process died without updating its status."""
    state = status.get("state")
    if state != "running":
        return state if state in STATES else "unknown"
    pid = status.get("pid")
    if status.get("host") == socket.gethostname() and is_count(pid) and process_start(os.getpid()) is not None:
        start = process_start(int(str(pid)))
        if start is None:
            return "lost"
        if start == status.get("pid_start"):  # the same process, even if it could not write for long
            return "running"
    return "running" if time.time() - time_of(status) < LOST_AFTER else "lost"


def ago(status: Status) -> str:
    """Time since a run's last sign of life, as text; empty if it is unknown."""
    return age(max(0.0, time.time() - time_of(status))) if time_of(status) else ""


def age(seconds: float) -> str:
    """`3 h ago`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
