"""The jobs of long commands whose parts run in several processes: `runs/jobs/<command>_<name>/`.

`job.json` says which command it is. Each part writes a mark to `parts/<number>.json` while it runs and when it ends.
The command itself, which takes over what the parts have done, writes `command.json`. A part without a mark waits.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.run_names import RUNS
from ..core.atomic import write_json
from ..core.columns import columns
from ..core.errors import FailedError, UserError
from ..core.part import MOST_PARTS
from ..core.screen import Console, one_line
from ..core.untrusted import is_count
from ..train.heartbeat import BEAT, Heartbeat, process_start
from .sign_of_life import Status, age, read, state_of, time_of

JOBS = RUNS / "jobs"
NOTE, PARTS, COMMAND = "job.json", "parts", "command.json"
Mark = Status


@dataclass(frozen=True)
class Job:
    """A command whose work has parts, and the folder of its marks."""

    folder: Path
    command: str
    target: str
    """What the command writes to or works on, as an absolute path."""
    digest: str
    """Of the options that decide what the command writes."""

    def note(self) -> Status:
        """The contents of `job.json`; empty if there is none, or if it is damaged."""
        return read_note(self.folder)

    def begin(self, parts: int, **more: Any) -> None:
        """Write `job.json`."""
        about = {"command": self.command, "target": self.target, "digest": self.digest, "parts": parts}
        write_json(self.folder / NOTE, {**about, "time": time.time(), **more})

    def part_mark(self, number: int) -> Path:
        """The mark of a part."""
        return self.folder / PARTS / f"{number:05d}.json"

    def state(self, number: int) -> tuple[str, Mark]:
        """The state of a part, and its mark. A mark of a command with other options counts as none."""
        mark = read(self.part_mark(number))
        return ("waiting", {}) if mark.get("digest") != self.digest else (_state(mark), mark)

    @property
    def is_finished(self) -> bool:
        """Whether the command has taken over what the parts have done."""
        mark = read(self.folder / COMMAND)
        return mark.get("digest") == self.digest and mark.get("state") == "finished"

    @contextmanager
    def marked(self, number: int | None, **more: Any) -> Iterator[None]:
        """A context of a part, or of the command for None, that says in its mark that it runs, and how it ended."""
        path = self.folder / COMMAND if number is None else self.part_mark(number)
        process = {"host": socket.gethostname(), "pid": os.getpid(), "pid_start": process_start(os.getpid())}
        mark = {"digest": self.digest, **process, **more, "began": time.time()}
        heartbeat = Heartbeat(path, BEAT)
        heartbeat.write({**mark, "state": "running"})
        try:
            yield
        except BaseException as error:
            heartbeat.write({**mark, "state": "failed", "why": _why(error)})
            raise
        else:
            heartbeat.write({**mark, "state": "finished"})
        finally:
            heartbeat.close()


def read_note(folder: Path) -> Status:
    """The contents of a job's `job.json`, checked; empty if there is none, or if it is damaged."""
    note = read(folder / NOTE)
    texts = all(isinstance(note.get(name), str) for name in ("command", "target", "digest"))
    return note if texts and is_count(note.get("parts")) and 0 < note["parts"] <= MOST_PARTS else {}


def _state(mark: Mark) -> str:
    state = state_of(mark)
    return "lost" if state == "unknown" else state


def _why(error: BaseException) -> str:
    """The error of a part in one line."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    text = str(error) if isinstance(error, UserError | FailedError) else f"{type(error).__name__}: {error}"
    return (text.strip().splitlines() or [""])[0][:500]


@dataclass(frozen=True)
class JobStatus:
    """What `avssl runs` shows of a job."""

    job: str
    command: str
    parts: int
    done: int
    failed: int
    lost: int
    """Parts whose process died without saying so."""
    running: int
    waiting: int
    state: str
    """waiting, running, finished, failed or lost: of the whole, the command that takes over the parts included."""
    age_seconds: float | None
    """Seconds since the last sign of life of any part."""
    why: list[str]
    """`part 3: …` for each part that failed or was lost."""

    def cells(self) -> list[str]:
        """The job's line in the table."""
        if self.state == "finished" and self.done < self.parts:
            parts = f"{self.done} of {self.parts} done, the rest by the command"
            return [one_line(Path(self.job).name), self.state, parts, age(self.age_seconds or 0.0)]
        counts = {"failed": self.failed, "lost": self.lost, "running": self.running, "waiting": self.waiting}
        parts = ", ".join([f"{self.done} of {self.parts} done", *(f"{n} {x}" for x, n in counts.items() if n)])
        seen = "" if self.age_seconds is None else age(self.age_seconds)
        return [one_line(Path(self.job).name), self.state, parts, seen]


def status_of_job(folder: Path) -> JobStatus | None:
    """What is known of a job; None if its `job.json` is missing or damaged."""
    note = read_note(folder)
    if not note:
        return None
    job = Job(folder, note["command"], note["target"], note["digest"])
    found = [job.state(number) for number in range(note["parts"])]
    counts = Counter(state for state, _ in found)
    merge = read(folder / COMMAND)
    whole = _state(merge) if merge.get("digest") == job.digest else ""
    seen = max([time_of(note), *(time_of(mark) for _, mark in found), time_of(merge) if whole else 0.0])
    bad = [(number, *pair) for number, pair in enumerate(found) if pair[0] in ("failed", "lost")]
    why = [f"part {number}: {mark.get('why') or 'its process died'}"[:500] for number, _, mark in bad]
    if whole in ("failed", "lost"):
        why.append(f"the command itself: {merge.get('why') or 'its process died'}"[:500])
    live = counts["running"] or whole == "running"
    state = "running" if live else "finished" if whole == "finished" else "failed" if why else "waiting"
    since = max(0.0, time.time() - seen) if seen else None
    return JobStatus(
        str(folder), job.command, note["parts"], counts["finished"], counts["failed"] + counts["stopped"],
        counts["lost"], counts["running"], counts["waiting"], state, since, why,
    )  # fmt: skip


def jobs_below(root: Path) -> list[JobStatus]:
    """The jobs in `<root>/jobs`, the newest first."""
    found = [status_of_job(path.parent) for path in sorted((root / JOBS.name).glob(f"*/{NOTE}"))]
    return sorted((job for job in found if job is not None), key=lambda job: job.age_seconds or 0.0)


def print_jobs(jobs: list[JobStatus]) -> None:
    """Print a line for each job, and why its parts failed."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(columns(["job", "state", "parts", "seen"], [job.cells() for job in jobs]), markup=False)
    for job in jobs:
        for line in job.why[:3]:
            console.print(f"{one_line(Path(job.job).name)}: {one_line(line)}", markup=False)
        if len(job.why) > 3:
            console.print(f"{one_line(Path(job.job).name)}: {len(job.why) - 3} more", markup=False)
