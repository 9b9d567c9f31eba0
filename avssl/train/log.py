"""A run's reports: metrics.jsonl, TensorBoard, W&B, status.json, and progress as a bar or as lines."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ..core import progress
from ..core.atomic import write_json, write_text
from ..core.collectives import rank, world_size
from ..core.errors import UserError
from ..core.screen import Console
from ..core.untrusted import is_count, read_text

MOST_LOGGED = 1 << 30
"""Largest metrics.jsonl that is read, bytes; a line takes a few hundred."""

BEAT = 20.0
"""Time between two writes of status.json while the run is alive, s."""


class Heartbeat:
    """Writes a run's status.json every few seconds from its own thread, so that a busy process still counts as alive.

    A write that fails (full disk, missing file system) is skipped; the next one is tried.
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds = path, seconds
        self.status: dict[str, Any] = {}
        self.write_lock, self.closed = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def write(self, status: dict[str, Any]) -> None:
        """Write a status now, and, while its state is `running`, again at every beat."""
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
            self.thread.join(timeout=5)  # a file system may block it; it then ends with the process

    def _run(self) -> None:
        while not self.closed.wait(self.seconds):
            with self.write_lock, suppress(OSError, UserError):
                # a removed run folder must not be created again
                if self.status["state"] == "running" and self.path.parent.is_dir():
                    self._write()

    def _write(self) -> None:
        write_json(self.path, self.status | {"time": time.time()})


def process_start(pid: int) -> int | None:
    """The start of a process, in clock ticks since the machine started; None without such a process, or without
    /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text[text.rindex(")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class RunLog:
    """The log of a run: its files and its printed lines. Only the first process writes and prints.

    Args:
        folder: the run folder.
        step: the training step at which the run begins or resumes. Lines of this step and later ones are dropped,
            because these steps are done again.
        total: the training steps of the whole run.
        wandb: the Weights & Biases project that receives the metrics; empty: none.
        done: whether nothing is left to do, not even the labelling pass at `step`, whose lines therefore stay.
    """

    def __init__(self, folder: Path, step: int, total: int, wandb: str = "", done: bool = False):
        self.folder, self.total, self.step, self.first = folder, total, step, rank() == 0
        self.printed_at, self.left = time.monotonic(), progress.TimeLeft(step)
        self.console = Console(highlight=False, quiet=not self.first)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (self.console.is_terminal and self.first),
        )
        self.bar = self.progress.add_task("training", total=total, completed=step, note="")
        self.part: tuple[str, TaskID, progress.TimeLeft] | None = None
        """Work shown beside the training steps, such as a labelling pass: its name, bar and pace."""
        if self.first:
            path = folder / "metrics.jsonl"
            lines = read_text(path, MOST_LOGGED).splitlines(keepends=True) if path.exists() else []
            kept = [line for line in lines if _step(line) < step + done]
            if kept != lines:
                write_text(path, "".join(kept))
            self.file = path.open("a")
            self.board = SummaryWriter(str(folder), purge_step=step + done)
            self.wandb = _wandb(wandb, folder) if wandb else None
            self.heartbeat = Heartbeat(folder / "status.json", BEAT)
            self.status("running")
        self.progress.start()

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Write a line of metrics.jsonl, and the numbers among `values` to TensorBoard as `kind/name`."""
        if not self.first:
            return
        self.file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self.file.flush()
        numbers = {f"{kind}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        for name, value in numbers.items():
            self.board.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(numbers, step=step)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a kind in metrics.jsonl, including those before the run was resumed. Only the first process gets
        any."""
        if not self.first:
            return []
        with suppress(OSError, UserError):
            texts = read_text(self.folder / "metrics.jsonl", MOST_LOGGED).splitlines()
            candidates = [_line(text) for text in texts if f'"{kind}"' in text]
            return [line for line in candidates if line.get("kind") == kind]
        return []

    def advance(self, step: int, note: str) -> None:
        """Show that training step `step` comes next, with a note such as the loss."""
        self.step = step
        self.progress.update(self.bar, completed=step, note=note)
        self._say_now_and_then(f"step {step} of {self.total}: {note}{self.left(step, self.total)}")
        if self.first:
            self.heartbeat.note(step=step)

    def show(self, text: str, done: int, total: int) -> None:
        """Show work beside the training steps, such as a labelling pass: `done` of `total`, see `Progress`."""
        if self.part is None or self.part[0] != text:
            self._end_part()
            bar = self.progress.add_task(text, total=total, completed=done, note="")
            self.part = text, bar, progress.TimeLeft(done)
        _, bar, left = self.part
        self.progress.update(bar, completed=done)
        training = f"step {self.step} of {self.total}{self.left(self.step, self.total)}"
        self._say_now_and_then(f"{training}; {text}: {done} of {total}{left(done, total)} of that")
        if done >= total:
            self._end_part()

    def _end_part(self) -> None:
        if self.part is not None:
            self.progress.remove_task(self.part[1])
            self.part = None

    def _say_now_and_then(self, line: str) -> None:
        """Print a line if there is no progress bar and the last line is some time ago."""
        now = time.monotonic()
        if self.progress.disable and now - self.printed_at > progress.SAY_EVERY:
            self.printed_at = now
            self.say(line)

    def status(self, state: str, why: str = "") -> None:
        """Write status.json. `state` is running, finished, stopped or failed; `why` explains a failure.

        A failed write at the end of a run is only reported, because the run's results are complete.
        """
        if not self.first:
            return
        pid = os.getpid()
        process = {"host": socket.gethostname(), "pid": pid, "pid_start": process_start(pid)}
        process |= {"job": os.environ.get("SLURM_JOB_ID", "")}
        reached = {"step": self.step, "total": self.total, "processes": world_size()}
        try:
            self.heartbeat.write({"state": state, "why": why} | reached | process)
        except (OSError, UserError) as error:
            if state == "running":
                raise
            self.say(f"{self.heartbeat.path} could not be written: {error}")

    def say(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        self.console.print(text, soft_wrap=True, markup=False)
        self.console.file.flush()

    def close(self) -> None:
        self._end_part()
        self.progress.stop()
        if self.first:
            self.heartbeat.close()
            self.file.close()
            self.board.close()
            if self.wandb is not None:
                self.wandb.finish()


def _wandb(project: str, folder: Path) -> Any:
    """A run of Weights & Biases; if this folder has one, it is resumed."""
    import wandb

    return wandb.init(project=project, name=folder.name, id=folder.name, dir=str(folder), resume="allow")


def _line(text: str) -> dict[str, Any]:
    """A line of metrics.jsonl as a dict; empty if the line is damaged or incomplete."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def _step(line: str) -> float:
    step: Any = _line(line).get("step")
    return step if is_count(step) else float("inf")
