"""What a run tells: metrics.jsonl, TensorBoard, W&B, status.json, and progress on the terminal or a line a minute."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ..atomic import write_json, write_text
from ..collectives import rank, world_size
from ..core.foreign import is_count, read_text
from ..core.screen import Console

MOST_LOGGED = 1 << 30
"""Bytes of metrics.jsonl; a line takes some hundreds."""

BEAT = 20.0
"""How often status.json says that the run is alive, s."""


class RunLog:
    """Opens the log of a run at training step `step`; lines of what is done anew, this step and later ones, are
    dropped. `done`: nothing is left to do, not even the labelling at this step.

    Only the first process of a training writes and speaks. With `wandb`, a project of Weights & Biases, figures go
    there too.
    """

    def __init__(self, folder: Path, step: int, total: int, wandb: str = "", done: bool = False):
        self.folder, self.total, self.step, self.first = folder, total, step, rank() == 0
        self.spoken = self.beat = time.monotonic()
        self.console = Console(highlight=False, quiet=not self.first)
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (self.console.is_terminal and self.first),
        )
        self.bar = self.progress.add_task("training", total=total, completed=step, note="")
        if self.first:
            path = folder / "metrics.jsonl"
            lines = read_text(path, MOST_LOGGED).splitlines(keepends=True) if path.exists() else []
            kept = [line for line in lines if _step(line) < step + done]
            if kept != lines:
                write_text(path, "".join(kept))
            self.file = path.open("a")
            self.board = SummaryWriter(str(folder), purge_step=step + done)
            self.wandb = _wandb(wandb, folder) if wandb else None
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

    def advance(self, step: int, note: str) -> None:
        """Step `step` of the training is next."""
        self.step = step
        self.progress.update(self.bar, completed=step, note=note)
        now = time.monotonic()
        if self.progress.disable and now - self.spoken > 60:
            self.spoken = now
            self.say(f"step {step} of {self.total}: {note}")
        if self.first and now - self.beat > BEAT:
            self.status("running")

    def status(self, state: str, why: str = "") -> None:
        """Write status.json: running, finished, stopped or failed."""
        self.beat = time.monotonic()
        if self.first:
            here = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
            where = {"step": self.step, "total": self.total, "processes": world_size()}
            write_json(self.folder / "status.json", {"state": state, "why": why, "time": time.time()} | where | here)

    def say(self, text: str) -> None:
        """A line to the terminal, above the progress bar."""
        self.console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        self.progress.stop()
        if self.first:
            self.file.close()
            self.board.close()
            if self.wandb is not None:
                self.wandb.finish()


def _wandb(project: str, folder: Path) -> Any:
    """A run of Weights & Biases, gone on with where this folder had one."""
    import wandb

    return wandb.init(project=project, name=folder.name, id=folder.name, dir=str(folder), resume="allow")


def _step(line: str) -> float:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # a line torn by a kill
    return step if is_count(step) else float("inf")
