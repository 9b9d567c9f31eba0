"""`avssl runs`: the progress and the results of every run in a folder."""

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import RunsConfig
from ..config.run_folder import NON_COMMERCIAL, licences
from ..core.columns import columns
from ..core.errors import UserError
from ..core.json_output import prints_json
from ..core.screen import Console, one_line
from ..core.untrusted import check_file, is_count
from .jobs import JobStatus, jobs_below, print_jobs
from .sign_of_life import Status, age, read, state_of, time_of
from .summary import chosen_metrics, figures_of, rows_of

MANY_DIGITS = 1e6
"""From this size, figures are shown with an exponent."""


@dataclass(frozen=True)
class RunStatus:
    """What `avssl runs` shows of a run."""

    run: str
    state: str
    step: int | None
    total: int | None
    loss: float | None
    figures: dict[str, float]
    """Results as fractions, by name."""
    age_seconds: float | None
    """Seconds since the run's last sign of life."""
    why: str
    """Why the run failed."""

    def cells(self, name: str) -> list[str]:
        """The run's line in the table."""
        step = "" if self.step is None or self.total is None else f"{self.step:,} of {self.total:,}"
        loss = "" if self.loss is None else short_figure(self.loss)
        best = next((f"{figure} {_percent(value)}" for figure, value in self.figures.items()), "")
        return [one_line(name), self.state, step, loss, best, "" if self.age_seconds is None else age(self.age_seconds)]


def document(config: RunsConfig, found: tuple[list[RunStatus], list[JobStatus]]) -> dict[str, Any]:
    """What `avssl runs json=true` prints; fractions are from 0 to 1."""
    runs, jobs = ([asdict(entry) for entry in entries] for entries in found)
    return {"folder": config.folder, "runs": runs, "jobs": jobs}


@prints_json(document)
def run(config: RunsConfig) -> tuple[list[RunStatus], list[JobStatus]]:
    """Print a line for each run folder below `config.folder`, the newest first, then one for each job.

    Raises:
        UserError: the folder is missing or contains no run and no job.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise UserError(f"no folder {root}: give the folder that contains run folders, such as `avssl runs runs`")
    folders = [path.parent for path in sorted(root.rglob("status.json")) if (path.parent / "config.yaml").is_file()]
    jobs = jobs_below(root)
    if not folders and not jobs:
        raise UserError(f"no run in {root}: give the folder that contains the run folders of `avssl train`")
    runs = _print_runs(root, folders) if folders else []
    if jobs:
        print_jobs(jobs)
    return runs, jobs


def _print_runs(root: Path, folders: list[Path]) -> list[RunStatus]:
    found = [(folder, read(folder / "status.json")) for folder in folders]
    found.sort(key=lambda pair: -time_of(pair[1]))
    runs = [status_of(folder, status) for folder, status in found]
    names = [str(folder.relative_to(root)) if folder != root else str(folder) for folder, _ in found]
    console = Console(highlight=False, soft_wrap=True)
    cells = [run.cells(name) for name, run in zip(names, runs, strict=True)]
    console.print(columns(["run", "state", "step", "loss", "best figure", "seen"], cells, right=(3,)), markup=False)
    for folder in folders:
        for licence in sorted({x for x in licences(folder).values() if NON_COMMERCIAL.search(x)}):
            text = f"{one_line(folder)}: started from weights that are not for commercial use: {one_line(licence)}"
            console.print(text, markup=False)
    for entry in runs:
        if entry.why:
            console.print(f"{one_line(entry.run)}: {one_line(entry.why)}", markup=False)
    return runs


def status_of(folder: Path, status: Status) -> RunStatus:
    """What is known of a run. `status`: the contents of its status.json."""
    state, seen = state_of(status), time_of(status)
    loss, found = figures(folder)
    why = str(status.get("why") or "").splitlines() if state == "failed" else []
    step, total = ((x if is_count(x) else None) for x in (status.get("step"), status.get("total")))
    since = max(0.0, time.time() - seen) if seen else None
    return RunStatus(str(folder), state, step, total, loss, found, since, why[0][:500] if why else "")


def short_figure(value: float) -> str:
    """A figure with three decimals, or with an exponent if it is large."""
    return f"{value:.3g}" if MANY_DIGITS <= abs(value) < math.inf else f"{value:.3f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %" if abs(fraction) < MANY_DIGITS else f"{fraction:.3g}"


def figures(folder: Path) -> tuple[float | None, dict[str, float]]:
    """The last loss, and a few results of `avssl clusters` and `avssl evaluate` by name; damaged files are skipped."""
    loss: float | None = None
    for line in reversed(_lines(folder / "metrics.jsonl")):
        if '"train"' in line:
            loss = _loss(line)
            break
    found: dict[str, float] = {}
    path = folder / "clusters" / "clustering.json"
    with suppress(UserError), figures_of(path):
        content = read(path)
        metrics = chosen_metrics(content[content["reported"]]) if content else None
        found |= {"NMI": float(metrics["nmi"])} if metrics else {}
    path = folder / "evaluate" / "evaluate.json"
    with suppress(UserError), figures_of(path):
        content = read(path)
        rows = rows_of(content) if content.get("columns") else {}
        probed = [f"linear probe, {view}" for view in ("both", "video", "audio")]
        for name in ("video retrieval, R@1", *[name for name in probed if name in rows][:1], "finetuned, per video"):
            found |= {name: rows[name]} if name in rows else {}
    return loss, found


def _loss(line: str) -> float | None:
    """The loss in a line of metrics.jsonl. It may be NaN, which strict JSON does not allow."""
    try:
        loss = json.loads(line).get("loss")
    except (ValueError, AttributeError, RecursionError):
        return None
    return float(loss) if isinstance(loss, float) or is_count(loss) else None


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
