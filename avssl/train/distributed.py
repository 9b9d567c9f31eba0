"""The processes of a training: meeting, agreeing when to save and to stop, and noticing that one is gone."""

import os
import socket
import time
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
"""How long those that are left wait for one another to say so, s."""


class LostProcessError(FailedError):
    """Another process of the training has ended, or has not answered for too long."""


@contextmanager
def process_group(device: torch.device, timeout: float) -> Iterator[None]:
    """Meet the processes that a launcher has started, as it says in RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT;
    alone where it says nothing. NCCL between GPUs, gloo between CPUs.

    Raises LostProcessError in place of what torch raises when another is gone, or has kept this one waiting for
    `timeout` (s).
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
    # not on the way out of an error: it would wait for processes that are gone
    dist.barrier()
    dist.destroy_process_group()


def _is_loss(error: RuntimeError) -> bool:
    known = ("gloo", "NCCL", "Connection", "connection", "Broken pipe", "timed out", "Timed out", "timeout")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in known)


def _missing() -> str:
    """Which processes do not say within GRACE that they too miss one."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=2))
        store.set(f"left/{dist.get_rank()}", socket.gethostname())
        time.sleep(GRACE)
        gone = [str(r) for r in range(dist.get_world_size()) if not store.check([f"left/{r}"])]
    except Exception:  # the process that kept the store may be the one that is gone
        return f"process {os.environ['RANK']} has lost another process"
    if not gone:
        return "the processes have lost touch"
    return f"process {', '.join(gone)} of {dist.get_world_size()} has ended or does not answer"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


@dataclass
class StepDecision:
    """What all processes do at the end of a step, because one of them asked for it."""

    stop: bool
    requeue: bool
    save: bool
    bad: bool
    """A loss was no number."""


class StepConsensus:
    """All processes decide as one: asked at the start of a step, answered at its end, while the step computes."""

    def __init__(self, signals: StopSignals):
        self.signals = signals
        # a group of its own: what is asked crosses while gradients do
        self.group: dist.ProcessGroup | None = dist.new_group(backend="gloo") if world_size() > 1 else None  # type: ignore[assignment]
        self.work: dist.Work | None = None
        self.flags = torch.zeros(4, dtype=torch.int32)

    def start(self, save: bool = False, bad: bool = False) -> None:
        """`save`: a checkpoint is due, by this process's clock."""
        self.flags = torch.tensor([bool(self.signals), self.signals.requeue, save, bad], dtype=torch.int32)
        if self.group is not None:
            self.work = dist.all_reduce(self.flags, dist.ReduceOp.MAX, group=self.group, async_op=True)

    def wait(self) -> StepDecision:
        if self.work is not None:
            self.work.wait()
            self.work = None
        return StepDecision(*map(bool, self.flags.tolist()))

    def stop(self) -> bool:
        """Has any process been told to stop? Called by all alike."""
        self.start()
        return self.wait().stop


def collect(things: list[Any]) -> list[Any]:
    """What all processes give, in the order of their ranks. Called by all or none."""
    if world_size() == 1:
        return things
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, things)
    return [thing for part in parts for thing in part]
