"""What a run reports: metrics.jsonl, TensorBoard, W&B, status.json, and progress on the terminal or line by line."""

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
"""Bytes of metrics.jsonl; a line takes some hundreds."""

BEAT = 20.0
"""How often status.json says that the run is alive, s."""


class Heartbeat:
    """Writes a run's status.json now and then from a thread of its own, whatever else the process is busy with.

    A beat that cannot be written (a full disk, a file system that is away) is left out; the next one is tried.
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds = path, seconds
        self.status: dict[str, Any] = {}
        self.writing, self.end = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def write(self, status: dict[str, Any]) -> None:
        """Write a status now, and again at every beat as long as it says that the run is running."""
        with self.writing:
            self.status = status
            self._write()
        if not self.thread.is_alive() and not self.end.is_set():
            self.thread.start()

    def note(self, **values: Any) -> None:
        """What the next beat will say. Never waits for the disk."""
        self.status = self.status | values

    def close(self) -> None:
        self.end.set()
        if self.thread.is_alive():
            self.thread.join(timeout=5)  # it may be stuck in a file system; it ends with the process

    def _run(self) -> None:
        while not self.end.wait(self.seconds):
            with self.writing, suppress(OSError, UserError):
                # a folder that somebody took away is not made anew
                if self.status["state"] == "running" and self.path.parent.is_dir():
                    self._write()

    def _write(self) -> None:
        write_json(self.path, self.status | {"time": time.time()})


def process_start(pid: int) -> int | None:
    """When a process of this machine began, in ticks since its start; None for no such process, or without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text[text.rindex(")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class RunLog:
    """Opens the log of a run at training step `step`; lines of what is done anew, this step and later ones, are
    dropped. `done`: nothing is left to do, not even the labelling at this step.

    Only the first process of a training writes and speaks. With `wandb`, a project of Weights & Biases, figures go
    there too.
    """

    def __init__(self, folder: Path, step: int, total: int, wandb: str = "", done: bool = False):
        self.folder, self.total, self.step, self.first = folder, total, step, rank() == 0
        self.spoken, self.left = time.monotonic(), progress.TimeLeft(step)
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
        """The part of the work that is shown beside the training: its name, bar and pace."""
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
        """A line of metrics.jsonl, and the numbers among `values` to TensorBoard as `kind/name`."""
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
        """The lines of a kind in metrics.jsonl, of this run and, where it was resumed, of before; none but in the first
        process."""
        if not self.first:
            return []
        with suppress(OSError, UserError):
            texts = read_text(self.folder / "metrics.jsonl", MOST_LOGGED).splitlines()
            found = [_line(text) for text in texts if f'"{kind}"' in text]
            return [line for line in found if line.get("kind") == kind]
        return []

    def advance(self, step: int, note: str) -> None:
        """Step `step` of the training is next."""
        self.step = step
        self.progress.update(self.bar, completed=step, note=note)
        self._say_now_and_then(f"step {step} of {self.total}: {note}{self.left(step, self.total)}")
        if self.first:
            self.heartbeat.note(step=step)

    def show(self, text: str, done: int, total: int) -> None:
        """A part of the work beside training steps, such as a labelling pass: `done` of `total`, see `Progress`."""
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
        """A line, where there is no bar and the last one was some time ago."""
        now = time.monotonic()
        if self.progress.disable and now - self.spoken > progress.SAY_EVERY:
            self.spoken = now
            self.say(line)

    def status(self, state: str, why: str = "") -> None:
        """Write status.json: running, finished, stopped or failed. The end of a run is not spoilt by a disk that takes
        no status: that is said."""
        if not self.first:
            return
        pid = os.getpid()
        here = {"host": socket.gethostname(), "pid": pid, "pid_start": process_start(pid)}
        here |= {"job": os.environ.get("SLURM_JOB_ID", "")}
        where = {"step": self.step, "total": self.total, "processes": world_size()}
        try:
            self.heartbeat.write({"state": state, "why": why} | where | here)
        except (OSError, UserError) as error:
            if state == "running":
                raise
            self.say(f"{self.heartbeat.path} could not be written: {error}")

    def say(self, text: str) -> None:
        """A line to the terminal, above the progress bar."""
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
    """A run of Weights & Biases, gone on with where this folder had one."""
    import wandb

    return wandb.init(project=project, name=folder.name, id=folder.name, dir=str(folder), resume="allow")


def _line(text: str) -> dict[str, Any]:
    """A line of metrics.jsonl; empty where it is torn by a kill, or damaged."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def _step(line: str) -> float:
    step: Any = _line(line).get("step")
    return step if is_count(step) else float("inf")
