"""The processes of a run: how they meet, agree when to save and stop, and notice that one has ended."""

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..core.collectives import world_size
from ..core.errors import FailedError
from .signals import StopSignals

GRACE = 3.0
"""How long the remaining processes wait for a sign of life from each other, s."""


class LostProcessError(FailedError):
    """Another process of the run has ended, or has not answered for too long."""


@contextmanager
def process_group(device: torch.device, timeout: float) -> Iterator[None]:
    """Join the processes that a launcher has started, with NCCL between GPUs and gloo between CPUs.

    The launcher sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Without them, this process works alone.

    Args:
        device: the device of this process.
        timeout: how long this process waits for another one, s.

    Raises:
        LostProcessError: another process has ended, or did not answer in time. It replaces torch's own error.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise LostProcessError(
            f"the {os.environ['WORLD_SIZE']} processes did not meet at {where}: {_line(error)}"
        ) from None
    try:
        yield
    except RuntimeError as error:
        if not _is_loss(error):
            raise
        raise LostProcessError(f"{_missing()}: {_line(error)}") from None
    # not in a `finally`, because after an error it would wait for processes that have ended
    dist.barrier()
    dist.destroy_process_group()


def _is_loss(error: RuntimeError) -> bool:
    words = ("gloo", "NCCL", "Connection", "connection", "Broken pipe", "timed out", "Timed out", "timeout")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _missing() -> str:
    """A sentence that names the lost processes, which give no sign of life within GRACE."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=2))
        store.set(f"left/{dist.get_rank()}", socket.gethostname())
        time.sleep(GRACE)
        lost = [str(r) for r in range(dist.get_world_size()) if not store.check([f"left/{r}"])]
    except Exception:  # the lost process may be the one that hosts the store
        return f"process {os.environ['RANK']} has lost another process"
    if not lost:
        return "the processes have lost their connection"
    return f"process {', '.join(lost)} of {dist.get_world_size()} has ended or does not answer"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


@dataclass
class StepDecision:
    """What all processes do at the end of a step because at least one of them requested it."""

    stop: bool
    requeue: bool
    save: bool
    nonfinite: bool
    """A loss was NaN or infinite."""


class StepConsensus:
    """A joint decision of all processes. Requests are sent at the beginning of a step, and decided at the end of the
    next one, so that no process waits for a slower one; a single process decides at the end of the same step."""

    def __init__(self, signals: StopSignals):
        self.signals = signals
        # a separate group, because the flags are exchanged at the same time as the gradients
        self.group: dist.ProcessGroup | None = dist.new_group(backend="gloo") if world_size() > 1 else None  # type: ignore[assignment]
        self.sent: deque[tuple[torch.Tensor, dist.Work | None]] = deque()
        """The requests that are not yet decided, oldest first. What is still wanted is sent again with every step."""
        self.last = StepDecision(False, False, False, False)

    def start(self, save: bool = False, nonfinite: bool = False) -> None:
        """Send this process's requests without waiting: a checkpoint is due, or a loss was NaN or infinite. Received
        signals are added."""
        flags = torch.tensor([bool(self.signals), self.signals.requeue, save, nonfinite], dtype=torch.int32)
        work = None
        if world_size() > 1:
            work = dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.group, async_op=True)
        self.sent.append((flags, work))

    def decide(self) -> StepDecision:
        """The decision at the end of a step: on the requests of the step before it, or of this one in a single
        process."""
        return self._received(1 if world_size() > 1 else 0)

    def wait(self) -> StepDecision:
        """The decision of all processes on all requests so far; without new ones, the last decision."""
        return self._received(0) if self.sent else self.last

    def _received(self, undecided: int) -> StepDecision:
        asked = torch.zeros(4, dtype=torch.int32)
        while len(self.sent) > undecided:
            flags, work = self.sent.popleft()
            if work is not None:
                work.wait()
            asked = asked.maximum(flags)
        self.last = StepDecision(*map(bool, asked.tolist()))
        return self.last

    def stop(self) -> bool:
        """Whether any process has received a signal to stop. All processes call this together."""
        self.start()
        return self.wait().stop


def collect(things: list[Any]) -> list[Any]:
    """The lists of all processes, concatenated in the order of ranks. All processes call this together."""
    if world_size() == 1:
        return things
    by_rank: list[Any] = [None] * world_size()
    dist.all_gather_object(by_rank, things)
    return [thing for rank_things in by_rank for thing in rank_things]
