"""What the training loop watches: whether the loss is a number, and how fast it goes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..core.atomic import write_json
from ..core.collectives import rank
from ..core.errors import UserError


class LossMonitor:
    """Losses that are looked at a step later: asking a GPU for one at once would make it wait for this process."""

    def __init__(self, paths: list[str]):
        self.paths = paths
        self.watched: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.event: torch.cuda.Event | None = None
        self.found: list[tuple[int, float, torch.Tensor]] = []

    def watch(self, step: int, loss: torch.Tensor, index: torch.Tensor) -> None:
        """The loss of a batch, a scalar, and its videos."""
        self.watched.append((step, loss.to("cpu", non_blocking=True), index))
        if loss.is_cuda:
            self.event = torch.cuda.Event()
            self.event.record()

    def has_nonfinite(self) -> bool:
        """Was one of those watched since the last call no number?"""
        if self.event is not None:
            self.event.synchronize()
        self.found += [(s, float(x), index) for s, x, index in self.watched if not math.isfinite(float(x))]
        self.watched.clear()
        return bool(self.found)

    def files(self) -> list[tuple[int, float, list[str]]]:
        """(step, loss, videos) of this process's batches whose loss was no number."""
        return [(step, loss, [self.paths[i] for i in index]) for step, loss, index in self.found]

    @staticmethod
    def error(found: list[tuple[int, float, list[str]]], folder: Path) -> UserError:
        """What to say of those of all processes: the videos are in a file, the first few in the line."""
        step, loss, _ = min(found, key=lambda part: part[0])
        paths = list(dict.fromkeys(path for s, _, paths in found if s == step for path in paths))
        if rank() == 0:
            write_json(folder / "bad_batch.json", {"step": step, "loss": str(loss), "videos": paths})
        some = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more ({folder / 'bad_batch.json'})" if paths[3:] else "")
        return UserError(
            f"the loss is {loss} at step {step}, with {some}: lower optim.lr, or set optim.max_grad_norm=1"
        )


class Throughput:
    """Videos a second, and the share of the time that is spent waiting for them, between two lines of the log."""

    def __init__(self, videos: int):
        self.videos, self.waited, self.since = videos, 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def skip(self, seconds: float) -> None:
        """Time that is not training's."""
        self.since += seconds

    def figures(self, videos: int) -> dict[str, float]:
        """`videos`: as many have been trained on by now, in all processes."""
        seconds = max(1e-9, time.monotonic() - self.since)
        found = {"videos_per_second": (videos - self.videos) / seconds, "wait_share": min(1.0, self.waited / seconds)}
        self.videos, self.waited, self.since = videos, 0.0, time.monotonic()
        return found
