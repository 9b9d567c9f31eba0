"""A discrete-event simulation of the processes of a cluster: decoding workers, copies, steps, and their exchange."""

import heapq
from dataclasses import dataclass, field

import numpy as np

from avssl.plan.estimate import Target

PREFETCH = 4
"""Batches that a decoding worker is asked for in advance, as in `avssl.clips.loader`."""

BUCKET = 25 << 20
"""Bytes of gradients that are exchanged at a time; the last are exchanged after the backward pass."""

FORWARD = 1 / 3
"""Fraction of a step before its first gradients."""


@dataclass(frozen=True)
class Spread:
    """How much what is equal in a plan differs in fact."""

    clip: float
    """Standard deviation of the logarithm of a clip's decoding time."""
    step: float
    """The same of a step's time."""
    gpu: float
    """Standard deviation of the speeds of GPUs, relative to their mean."""
    pause_rate: float
    """Fraction of a process's steps in which it is held up."""
    pause: float
    """Length of such a pause, in steps."""


@dataclass(frozen=True)
class Phase:
    """What each process does: `batches` of `videos`, and after every `accumulate` of them an exchange with all.

    Args:
        batches: batches of each process.
        videos: videos of a batch.
        device: seconds to compute a batch.
        cpu: CPU seconds to decode a video.
        wall: elapsed seconds to decode a video.
        item: bytes to read for a video.
        copy: seconds to copy a batch to the device.
        accumulate: batches between exchanges; 0: the processes do not wait for each other until the end.
        gradients: bytes to exchange.
    """

    batches: int
    videos: int
    device: float
    cpu: float
    wall: float
    item: float = 0.0
    copy: float = 0.0
    accumulate: int = 0
    gradients: float = 0.0


@dataclass
class Outcome:
    """What a phase took: the ends of its exchanges (s, from its beginning) and of its last process, and the mean time
    of a process and exchange that it waited for clips and for other processes."""

    ends: list[float] = field(default_factory=list)
    end: float = 0.0
    first: float = 0.0
    """When the first batch was there, in the last process to get one."""
    waited_clips: list[float] = field(default_factory=list)
    waited_others: list[float] = field(default_factory=list)
    network: list[float] = field(default_factory=list)
    """Time of each exchange that no computation hides."""


def simulate(target: Target, phase: Phase, spread: Spread, seed: int) -> Outcome:
    """Simulate a phase of a run on all processes of `target`."""
    return _Simulation(target, phase, spread, seed).run()


class _Simulation:
    def __init__(self, target: Target, phase: Phase, spread: Spread, seed: int):
        self.target, self.phase, self.spread = target, phase, spread
        self.rng = np.random.default_rng([seed, phase.batches])
        processes, self.workers = target.world, max(1, target.workers)
        self.events: list[tuple[float, int, str, int, int]] = []
        self.number = 0
        self.speed = np.exp(self.rng.normal(0, spread.gpu, processes)) if spread.gpu else np.ones(processes)
        self.busy = [0] * target.nodes  # decoding workers
        self.disk = [0.0] * target.nodes  # when each machine's storage is free again
        self.next_of_worker = np.tile(np.arange(self.workers), (processes, 1))
        self.idle = np.ones((processes, self.workers), bool)
        self.ready: list[dict[int, float]] = [{} for _ in range(processes)]
        self.taken = [0] * processes
        self.computing = [False] * processes
        self.copy_free = [0.0] * processes
        self.free_since = [0.0] * processes  # when each device became free
        self.arrived: list[float] = []
        self.waits = 0.0  # of all processes for clips, since the last exchange
        self.outcome = Outcome()

    def run(self) -> Outcome:
        for process in range(self.target.world):
            for worker in range(self.workers):
                self._start_worker(0.0, process, worker)
        while self.events:
            now, _, kind, process, what = heapq.heappop(self.events)
            getattr(self, kind)(now, process, what)
        return self.outcome

    def _at(self, time: float, kind: str, process: int, what: int = 0) -> None:
        self.number += 1  # events of one time keep their order
        heapq.heappush(self.events, (time, self.number, kind, process, what))

    def _start_worker(self, now: float, process: int, worker: int) -> None:
        batch, phase = int(self.next_of_worker[process, worker]), self.phase
        if not self.idle[process, worker] or batch >= phase.batches:
            return
        if batch >= self.taken[process] + PREFETCH * self.workers:  # not asked for yet
            return
        node = process // self.target.processes
        self.idle[process, worker] = False
        self.busy[node] += 1
        threads = self.target.processes * self.target.threads
        crowded = max(1.0, (self.busy[node] + threads) / self.target.cores)
        sigma = self.spread.clip
        clips = np.exp(self.rng.normal(-sigma * sigma / 2, sigma, phase.videos)).sum()  # of mean 1
        seconds = float(clips) * (phase.wall + (crowded - 1) * phase.cpu)
        read = phase.videos * phase.item / self.target.storage
        self.disk[node] = max(now, self.disk[node]) + read
        self._at(max(now + seconds, self.disk[node]), "decoded", process, worker)

    def decoded(self, now: float, process: int, worker: int) -> None:
        """A worker has made its batch."""
        batch = int(self.next_of_worker[process, worker])
        self.next_of_worker[process, worker] += self.workers
        self.idle[process, worker] = True
        self.busy[process // self.target.processes] -= 1
        self.ready[process][batch] = now
        self._start_worker(now, process, worker)
        if batch == self.taken[process] and not self.computing[process]:
            self._compute(now, process)

    def _compute(self, now: float, process: int) -> None:
        """Begin the next batch, if it is there."""
        batch, phase = self.taken[process], self.phase
        if batch >= phase.batches or batch not in self.ready[process]:
            return
        # batches are copied one after the other while the device computes
        copied = max(self.ready[process].pop(batch), self.copy_free[process]) + phase.copy
        self.copy_free[process] = copied
        begin = max(now, copied)
        self.waits += begin - self.free_since[process]
        if batch == 0:
            self.outcome.first = max(self.outcome.first, begin)
        self.taken[process] += 1
        self.computing[process] = True
        self._start_worker(now, process, batch % self.workers)
        jitter = self.spread.step
        seconds = phase.device * float(self.speed[process] * np.exp(self.rng.normal(-jitter * jitter / 2, jitter)))
        if self.rng.random() < self.spread.pause_rate:
            seconds += phase.device * self.spread.pause
        self._at(begin + seconds, "computed", process, batch)

    def computed(self, now: float, process: int, batch: int) -> None:
        """A device has computed a batch."""
        phase = self.phase
        if not phase.accumulate or (batch + 1) % phase.accumulate:
            self.computing[process] = False
            self.free_since[process] = now
            self.outcome.end = max(self.outcome.end, now)
            self._compute(now, process)
            return
        self.arrived.append(now)
        if len(self.arrived) == self.target.world:
            self._exchange(now)

    def _exchange(self, now: float) -> None:
        """All have their gradients: most were exchanged during the backward pass of the slowest."""
        t, phase = self.target, self.phase
        network = 2 * phase.gradients * (t.nodes - 1) / t.nodes / t.network
        tail = network * min(1.0, BUCKET / max(1.0, phase.gradients))
        end = max(now + tail, now - (1 - FORWARD) * phase.device + network)
        outcome = self.outcome
        outcome.ends.append(end)
        outcome.end = end
        outcome.network.append(end - now)
        outcome.waited_others.append(now - float(np.mean(self.arrived)))
        outcome.waited_clips.append(self.waits / t.world)
        self.arrived, self.waits = [], 0.0
        for process in range(t.world):
            self._at(end, "freed", process)

    def freed(self, now: float, process: int, _: int) -> None:
        """A device goes on after an exchange."""
        self.computing[process] = False
        self.free_since[process] = now
        self._compute(now, process)
