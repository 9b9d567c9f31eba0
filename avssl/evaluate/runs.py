"""`avssl runs`: the trainings in a folder, how far each is, and what it is good for."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..config import RunsConfig
from ..errors import UserError
from ..train.log import BEAT, process_start
from .summary import chosen_metrics, rows_of

SILENT = 10 * BEAT
"""A run that has not said for as long that it is alive is lost, s."""

Status = dict[str, Any]


def run(config: RunsConfig) -> list[list[str]]:
    """Print a line for each run folder below `config.folder`, the newest first, and return them.

    UserError for a folder that is missing or holds no run.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise UserError(f"no folder {root}: give the one that holds run folders, as folder=runs")
    found = [
        (path.parent, read(path))
        for path in sorted(root.rglob("status.json"))
        if (path.parent / "config.yaml").is_file()
    ]
    if not found:
        raise UserError(f"no run in {root}: give the folder that holds the run folders of `avssl train`")
    found.sort(key=lambda pair: -pair[1].get("time", 0.0))
    table = Table("run", "state", "step", "loss", "figures", "last seen")
    rows = []
    for folder, status in found:
        name = str(folder.relative_to(root)) if folder != root else str(folder)
        rows.append([name, state_of(status), progress(status), *figures(folder), ago(status)])
        table.add_row(*rows[-1])
    console = Console(highlight=False)
    console.print(table)
    for folder, status in found:
        if status.get("state") == "failed" and status.get("why"):
            console.print(f"{folder}: {status['why'].splitlines()[0]}", soft_wrap=True, markup=False)
    return rows


def read(path: Path) -> Status:
    """A `status.json`; empty where it is damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def state_of(status: Status) -> str:
    """running, finished, stopped, failed, or lost: it says that it runs, and does not."""
    state = str(status.get("state", "unknown"))
    if state != "running":
        return state
    if status.get("host") == socket.gethostname() and process_start(os.getpid()) is not None:
        start = process_start(status.get("pid", 0))
        if start is None:
            return "lost"
        if start == status.get("pid_start"):  # this very process, however long ago it could write
            return "running"
    return "running" if time.time() - status.get("time", 0.0) < SILENT else "lost"


def progress(status: Status) -> str:
    return f"{status['step']} of {status['total']}" if {"step", "total"} <= status.keys() else ""


def ago(status: Status) -> str:
    """How long ago a run last said something."""
    seconds = max(0.0, time.time() - status.get("time", 0.0))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def figures(folder: Path) -> tuple[str, str]:
    """The last loss, and the best figures that `avssl clusters` and `avssl evaluate` found."""
    loss, told = "", []
    for line in reversed(_lines(folder / "metrics.jsonl")):
        if '"train"' in line:
            loss = f"{json.loads(line).get('loss', float('nan')):.3f}"
            break
    found = read(folder / "clusters" / "clustering.json")
    if found.get("reported") in found:
        metrics = chosen_metrics(found[found["reported"]])
        told += [f"NMI {metrics['nmi']:.3f}"] if metrics else []
    found = read(folder / "evaluate" / "evaluate.json")
    if found.get("columns"):
        rows = rows_of(found)
        for name in ("video retrieval, R@1", *(r for r in rows if r.startswith(("linear", "finetuned, per video")))):
            told += [f"{name} {100 * rows[name]:.1f}"] if name in rows else []
    return loss, ", ".join(told)


def _lines(path: Path, most: int = 1 << 16) -> list[str]:
    """The last whole lines of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
