"""What a run tells: metrics.jsonl, TensorBoard, and progress on the terminal or a line a minute elsewhere."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Opens the log of a run at training step `step`; lines of later steps, from work that was lost, are dropped."""

    def __init__(self, folder: Path, step: int, total: int):
        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines(keepends=True) if _step(line) < step]
        self.file = self.path.open("w")
        self.file.writelines(kept)
        self.file.flush()
        self.board = SummaryWriter(str(folder), purge_step=step)
        self.console = Console(highlight=False)
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.bar = self.progress.add_task("training", total=total, completed=step, note="")
        self.progress.start()
        self.total, self.spoken = total, time.monotonic()

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """A line of metrics.jsonl, and the numbers among `values` to TensorBoard as `kind/name`."""
        self.file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def advance(self, step: int, note: str) -> None:
        """Step `step` of the training is next."""
        self.progress.update(self.bar, completed=step, note=note)
        if self.progress.disable and time.monotonic() - self.spoken > 60:
            self.spoken = time.monotonic()
            self.say(f"step {step} of {self.total}: {note}")

    def say(self, text: str) -> None:
        """A line to the terminal, above the progress bar."""
        self.console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        self.progress.stop()
        self.file.close()
        self.board.close()


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")  # a line torn by a kill
