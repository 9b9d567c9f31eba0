"""`avssl runs`: the progress and the figures of every run in a folder."""

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
from ..config.run_folder import NON_COMMERCIAL, licences
from ..core.errors import UserError
from ..core.screen import Console, one_line
from ..core.untrusted import check_file, is_count, is_number, read_json
from ..train.heartbeat import BEAT, process_start
from .summary import chosen_metrics, figures_of, rows_of

LOST_AFTER = 10 * BEAT
"""Seconds without a sign of life after which a run is lost."""

MAX_NAME = 30
"""Longest run name that the table keeps on one line, in characters."""

STATES = ("running", "finished", "stopped", "failed")

Status = dict[str, Any]


def run(config: RunsConfig) -> list[list[str]]:
    """Print a line for each run folder below `config.folder`, the newest first, and return the lines' cells.

    Raises:
        UserError: the folder is missing or holds no run.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise UserError(f"no folder {root}: give the folder that holds run folders, as folder=runs")
    runs = [
        (path.parent, read(path))
        for path in sorted(root.rglob("status.json"))
        if (path.parent / "config.yaml").is_file()
    ]
    if not runs:
        raise UserError(f"no run in {root}: give the folder that holds the run folders of `avssl train`")
    runs.sort(key=lambda pair: -_time(pair[1]))
    rows = []
    for folder, status in runs:
        name = str(folder.relative_to(root)) if folder != root else str(folder)
        rows.append([name, state_of(status), progress(status), *figures(folder), ago(status)])
    table = Table("run", "state", "step", "loss", "figures, %", "last seen")
    # fold long names instead of cutting them: users copy them into other commands
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", max(len(row[0]) for row in rows) <= MAX_NAME
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    console = Console(highlight=False)
    console.print(table)
    for folder, _ in runs:
        for licence in sorted({x for x in licences(folder).values() if NON_COMMERCIAL.search(x)}):
            text = f"{one_line(folder)}: started from weights that are not for commercial use: {one_line(licence)}"
            console.print(text, soft_wrap=True, markup=False)
    for folder, status in runs:
        if status.get("state") == "failed" and (why := str(status.get("why") or "").splitlines()):
            console.print(f"{one_line(folder)}: {one_line(why[0][:500])}", soft_wrap=True, markup=False)
    return rows


def read(path: Path) -> Status:
    """The contents of a `status.json`, or of another small JSON file of a run; empty for a damaged file."""
    try:
        content = read_json(path)
    except (OSError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def _time(status: Status) -> float:
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
    return "running" if time.time() - _time(status) < LOST_AFTER else "lost"


def progress(status: Status) -> str:
    step, total = status.get("step"), status.get("total")
    return f"{step} of {total}" if is_count(step) and is_count(total) else ""


def ago(status: Status) -> str:
    """Time since a run's last sign of life, as text."""
    if not _time(status):
        return ""
    seconds = max(0.0, time.time() - _time(status))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def figures(folder: Path) -> tuple[str, str]:
    """The last loss, and a few figures of `avssl clusters` and `avssl evaluate`; damaged files are skipped."""
    loss, texts = "", []
    for line in reversed(_lines(folder / "metrics.jsonl")):
        if '"train"' in line:
            loss = _loss(line)
            break
    path = folder / "clusters" / "clustering.json"
    with suppress(UserError), figures_of(path):
        content = read(path)
        metrics = chosen_metrics(content[content["reported"]]) if content else None
        texts += [f"NMI {100 * metrics['nmi']:.1f}"] if metrics else []
    path = folder / "evaluate" / "evaluate.json"
    with suppress(UserError), figures_of(path):
        content = read(path)
        rows = rows_of(content) if content.get("columns") else {}
        probed = [f"linear probe, {view}" for view in ("both", "video", "audio")]
        for name in ("video retrieval, R@1", *[name for name in probed if name in rows][:1], "finetuned, per video"):
            texts += [f"{name} {100 * rows[name]:.1f}"] if name in rows else []
    return loss, ", ".join(texts)


def _loss(line: str) -> str:
    """The loss in a line of metrics.jsonl. It may be NaN, which strict JSON does not allow."""
    try:
        loss = json.loads(line).get("loss")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f"{loss:.3f}" if isinstance(loss, float) or is_count(loss) else ""


def _lines(path: Path, max_bytes: int = 1 << 16) -> list[str]:
    """The complete lines among the last bytes of a file."""
    try:
        size = check_file(path)
        with path.open("rb") as file:
            file.seek(max(0, size - max_bytes))
            text = file.read(max_bytes).decode(errors="replace")
    except (OSError, UserError):
        return []
    return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
