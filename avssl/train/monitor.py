"""Monitors of the training loop: NaN or infinite losses, and throughput."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ..core.atomic import write_json
from ..core.collectives import rank
from ..core.errors import UserError


class LossMonitor:
    """Finds NaN or infinite losses one step late, because reading a loss at once would stall the GPU."""

    def __init__(self, paths: Sequence[str]):
        self.paths = paths
        self.watched: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.event: torch.cuda.Event | None = None
        self.nonfinite: list[tuple[int, float, torch.Tensor]] = []

    def watch(self, step: int, loss: torch.Tensor, index: torch.Tensor) -> None:
        """Record the loss of a batch, a scalar, and its videos `index`, int64 [B]."""
        self.watched.append((step, loss.to("cpu", non_blocking=True), index))
        if loss.is_cuda:
            self.event = torch.cuda.Event()
            self.event.record()

    def has_nonfinite(self) -> bool:
        """Whether a watched loss was NaN or infinite."""
        if self.event is not None:
            self.event.synchronize()
        self.nonfinite += [(s, float(x), index) for s, x, index in self.watched if not math.isfinite(float(x))]
        self.watched.clear()
        return bool(self.nonfinite)

    def files(self) -> list[tuple[int, float, list[str]]]:
        """(step, loss, videos) of this process's batches whose loss was NaN or infinite."""
        return [(step, loss, [self.paths[i] for i in index]) for step, loss, index in self.nonfinite]

    @staticmethod
    def error(batches: list[tuple[int, float, list[str]]], folder: Path) -> UserError:
        """The error about the `files` of all processes. It names the first videos; bad_batch.json lists them all."""
        step, loss, _ = min(batches, key=lambda batch: batch[0])
        paths = list(dict.fromkeys(path for s, _, paths in batches if s == step for path in paths))
        if rank() == 0:
            write_json(folder / "bad_batch.json", {"step": step, "loss": str(loss), "videos": paths})
        some = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more ({folder / 'bad_batch.json'})" if paths[3:] else "")
        return UserError(f"the loss is {loss} at step {step}, on {some}: lower optim.lr, or set optim.max_grad_norm=1")


class Throughput:
    """Measures videos per second, and the fraction of time spent waiting for them, between two lines of the log."""

    def __init__(self, videos: int):
        self.videos, self.waited, self.since = videos, 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def skip(self, seconds: float) -> None:
        """Exclude time that was not spent on training steps."""
        self.since += seconds

    def figures(self, videos: int) -> dict[str, float]:
        """The figures since the last call. `videos` counts those that all processes have trained on so far."""
        seconds = max(1e-9, time.monotonic() - self.since)
        figures = {"videos_per_second": (videos - self.videos) / seconds, "wait_share": min(1.0, self.waited / seconds)}
        self.videos, self.waited, self.since = videos, 0.0, time.monotonic()
        return figures
