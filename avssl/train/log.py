"""A run's reports: metrics.jsonl, TensorBoard, W&B, status.json, and progress as a bar or as lines."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ..core import progress
from ..core.atomic import write_text
from ..core.collectives import rank, world_size
from ..core.errors import UserError
from ..core.screen import Console
from ..core.untrusted import is_count, read_text
from ..core.verbosity import is_quiet
from .heartbeat import BEAT, Heartbeat, process_start

MOST_LOGGED = 1 << 30
"""Largest metrics.jsonl that is read, bytes; a line takes a few hundred."""


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
            disable=not (self.console.is_terminal and self.first) or is_quiet(),
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
        if self.progress.disable and now - self.printed_at > progress.seconds_apart():
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
            self.say(f"{self.heartbeat.path} could not be written: {error}", result=True)

    def say(self, text: str, result: bool = False) -> None:
        """Print a line, above the progress bar if there is one; when quiet, only a result or an error."""
        if is_quiet() and not result:
            return
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
