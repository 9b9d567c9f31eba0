"""Monitors of the training loop: NaN or infinite losses, and throughput."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.atomic import write_json
from ..core.collectives import rank, sum_over_processes, world_size
from ..core.errors import UserError
from ..core.host_copy import HostCopy
from ..objectives.objective import LoggedFigures


@dataclass(eq=False)  # compared by identity
class Watched:
    """The loss of a batch, and its videos, int64 [B]."""

    step: int
    loss: HostCopy
    index: torch.Tensor


class LossMonitor:
    """Finds NaN or infinite losses one or two steps late, because reading a loss at once would stall the GPU.

    A loss is read as soon as it is there. Only one from before the last step is waited for: the GPU then still has the
    whole last step to do.
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = paths
        self.watched: list[Watched] = []
        self.nonfinite: list[tuple[int, float, torch.Tensor]] = []

    def watch(self, step: int, loss: torch.Tensor, index: torch.Tensor) -> None:
        """Record the loss of a batch, a scalar, and its videos `index`, int64 [B]."""
        self.watched.append(Watched(step, HostCopy(loss), index))

    def has_nonfinite(self, step: int | None = None) -> bool:
        """Whether a watched loss was NaN or infinite; before training step `step`, of those that need no waiting."""
        read = [w for w in self.watched if step is None or w.step < step - 1 or w.loss.ready()]
        self.watched = [w for w in self.watched if w not in read]
        losses = [(w.step, float(w.loss.wait()), w.index) for w in read]
        self.nonfinite += [each for each in losses if not math.isfinite(each[1])]
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


class StepFigures:
    """The figures of a logged step, averaged over the processes, on their way to the CPU.

    Args:
        step: the training step.
        rate: its learning rate.
        figures: scalars by name.
        failures: number of videos that this process could not decode; the processes' numbers are added up.
        device: the device of the run.
    """

    def __init__(self, step: int, rate: float, figures: LoggedFigures, failures: int, device: torch.device):
        self.step, self.rate = step, rate
        named = figures | {"failed": float(failures * world_size())}
        # GPUs average them on their own; elsewhere the CPU does, because not all devices have float64
        place = device if device.type == "cuda" else torch.device("cpu")
        self.names = [*named]
        self.copy = HostCopy(sum_over_processes(torch.stack([_scalar(x, place) for x in named.values()])))

    def read(self) -> dict[str, float]:
        """The figures by name; on a GPU this waits for the step."""
        return dict(zip(self.names, (self.copy.wait() / world_size()).tolist(), strict=True))


def _scalar(x: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """A figure as float64 on a device, without waiting for it."""
    if isinstance(x, torch.Tensor):
        return x.detach().to(device, torch.float64)
    return torch.full((), x, dtype=torch.float64, device=device)


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
