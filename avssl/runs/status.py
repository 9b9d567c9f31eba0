"""`avssl runs`: the trainings in a folder, how far each is, and what it is good for."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..config import RunsConfig
from ..core.errors import UserError
from ..core.screen import Console, one_line
from ..core.untrusted import check_file, is_count, is_number, read_json
from ..train.log import BEAT, process_start
from .summary import chosen_metrics, figures_of, rows_of

SILENT = 10 * BEAT
"""A run that has not said for as long that it is alive is lost, s."""

LONGEST = 30
"""Characters of a run's name that stand on one line."""

STATES = ("running", "finished", "stopped", "failed")

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
    found.sort(key=lambda pair: -_time(pair[1]))
    rows = []
    for folder, status in found:
        name = str(folder.relative_to(root)) if folder != root else str(folder)
        rows.append([name, state_of(status), progress(status), *figures(folder), ago(status)])
    table = Table("run", "state", "step", "loss", "figures, %", "last seen")
    # a name that is cut short cannot be given to another command
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", max(len(row[0]) for row in rows) <= LONGEST
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    console = Console(highlight=False)
    console.print(table)
    for folder, status in found:
        if status.get("state") == "failed" and (why := str(status.get("why") or "").splitlines()):
            console.print(f"{one_line(folder)}: {one_line(why[0][:500])}", soft_wrap=True, markup=False)
    return rows


def read(path: Path) -> Status:
    """A `status.json`, or another small file of a run: its texts and finite numbers; empty where it is damaged."""
    try:
        found = read_json(path)
    except (OSError, UserError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(status: Status) -> float:
    """When a run last said something (s since 1970)."""
    said: Any = status.get("time")
    return float(said) if is_number(said) and 0 <= said < 1e11 else 0.0


def state_of(status: Status) -> str:
    """running, finished, stopped, failed, or lost: it says that it runs, and does not."""
    state = status.get("state")
    if state != "running":
        return state if state in STATES else "unknown"
    pid = status.get("pid")
    if status.get("host") == socket.gethostname() and is_count(pid) and process_start(os.getpid()) is not None:
        start = process_start(int(str(pid)))
        if start is None:
            return "lost"
        if start == status.get("pid_start"):  # this very process, however long ago it could write
            return "running"
    return "running" if time.time() - _time(status) < SILENT else "lost"


def progress(status: Status) -> str:
    step, total = status.get("step"), status.get("total")
    return f"{step} of {total}" if is_count(step) and is_count(total) else ""


def ago(status: Status) -> str:
    """How long ago a run last said something."""
    if not _time(status):
        return ""
    seconds = max(0.0, time.time() - _time(status))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def figures(folder: Path) -> tuple[str, str]:
    """The last loss, and a few figures that `avssl clusters` and `avssl evaluate` found; what is damaged is left
    out."""
    loss, told = "", []
    for line in reversed(_lines(folder / "metrics.jsonl")):
        if '"train"' in line:
            loss = _loss(line)
            break
    path = folder / "clusters" / "clustering.json"
    with suppress(UserError), figures_of(path):
        found = read(path)
        metrics = chosen_metrics(found[found["reported"]]) if found else None
        told += [f"NMI {100 * metrics['nmi']:.1f}"] if metrics else []
    path = folder / "evaluate" / "evaluate.json"
    with suppress(UserError), figures_of(path):
        found = read(path)
        rows = rows_of(found) if found.get("columns") else {}
        probed = [f"linear probe, {view}" for view in ("both", "video", "audio")]
        for name in ("video retrieval, R@1", *[name for name in probed if name in rows][:1], "finetuned, per video"):
            told += [f"{name} {100 * rows[name]:.1f}"] if name in rows else []
    return loss, ", ".join(told)


def _loss(line: str) -> str:
    """Of a line of metrics.jsonl; nan too, which JSON has no word for."""
    try:
        loss = json.loads(line).get("loss")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f"{loss:.3f}" if isinstance(loss, float) or is_count(loss) else ""


def _lines(path: Path, most: int = 1 << 16) -> list[str]:
    """The last whole lines of a file."""
    try:
        size = check_file(path)
        with path.open("rb") as file:
            file.seek(max(0, size - most))
            text = file.read(most).decode(errors="replace")
    except (OSError, UserError):
        return []
    return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
