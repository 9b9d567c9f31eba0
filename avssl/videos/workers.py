"""Run a function on many items in separate processes. An item that hangs or crashes affects no other item."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from selectors import EVENT_READ, DefaultSelector
from threading import Thread
from typing import Any, TypeVar

from ..core.errors import FailedError

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_WAIT = 3600.0
"""Longest single wait (s), which is repeated as needed; the system call accepts at most 24 days."""

ITEMS_QUEUED = 2
"""Items sent to a process in advance, so that it does not wait between items."""


@dataclass(frozen=True)
class Lost:
    """The outcome of an item without a result: `timeout` or `crashed`."""

    reason: str


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    items: deque[Any] = field(default_factory=deque)
    """Items that were sent and have no result; the process works on the first."""
    deadline: float = 0.0
    """Time at which the first item exceeds its limit."""


def run_isolated(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    timeout: float,
    memory: int | None = None,
) -> Iterator[tuple[Item, Result | Lost]]:
    """Yield (item, function(item)) as results arrive, in any order.

    The processes end with this one, even if it is killed.

    Args:
        function: an importable function that does not raise.
        items: the items.
        workers: number of processes.
        timeout: time limit of an item, s.
        memory: bytes that a process may allocate beyond its initial size, on systems that support this limit.

    Yields:
        The item with its result, or with `Lost` if it took longer than `timeout` or ended its process. The process is
        then replaced.

    Raises:
        FailedError: a process cannot start.
    """
    pool = _Pool(function, iter(items), timeout, memory)
    try:
        pool.start([()] * workers)
        while pool.busy:
            yield from pool.results()
    finally:
        pool.close()


class _Pool:
    """The processes of `run_isolated`, and the items that each has."""

    def __init__(self, function: Callable[[Any], Any], source: Iterator[Any], timeout: float, memory: int | None):
        self.function, self.source, self.timeout, self.memory = function, source, timeout, memory
        self.selector = DefaultSelector()
        self.workers: dict[int, _Worker] = {}

    @property
    def busy(self) -> bool:
        return any(worker.items for worker in self.workers.values())

    def start(self, items: Sequence[Iterable[Any]]) -> None:
        """Start a process for each of `items`, to be done before items of the source. Processes import in parallel."""
        new = [_start(self.function, self.memory) for _ in items]
        for worker in new:
            self.workers[worker.pipe.fileno()] = worker
            self.selector.register(worker.pipe, EVENT_READ, worker)
        for worker in new:
            try:
                worker.pipe.recv()
            except EOFError:
                raise FailedError(
                    "a process that reads the videos was killed at its start (out of memory?): repeat the command to "
                    "resume"
                ) from None
        for worker, given in zip(new, items, strict=True):
            self._fill(worker, given)

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Wait for a result or a lost item, and yield all that have arrived."""
        left = min(worker.deadline for worker in self.workers.values() if worker.items) - time.monotonic()
        ready = [key.data for key, _ in self.selector.select(min(max(0.0, left), LONGEST_WAIT))]
        late = [w for w in self.workers.values() if w.items and w.deadline < time.monotonic() and w not in ready]
        for worker in ready:
            try:
                result = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._lose(worker, "crashed")
                continue
            item = worker.items.popleft()
            worker.deadline = time.monotonic() + self.timeout
            self._fill(worker)
            yield item, result
        for worker in late:
            if not worker.pipe.poll():
                yield from self._lose(worker, "timeout")

    def close(self) -> None:
        for worker in [*self.workers.values()]:
            self._stop(worker)
        self.selector.close()

    def _lose(self, worker: _Worker, reason: str) -> Iterator[tuple[Any, Lost]]:
        """Replace a process. Items that it has not begun go to the new one."""
        self._stop(worker)
        lost, rest = worker.items.popleft() if worker.items else None, worker.items
        self.start([rest])
        if lost is not None:
            yield lost, Lost(reason)

    def _stop(self, worker: _Worker) -> None:
        self.selector.unregister(worker.pipe)
        del self.workers[worker.pipe.fileno()]
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()

    def _fill(self, worker: _Worker, items: Iterable[Any] = ()) -> None:
        """Send `items`, then items of the source until `ITEMS_QUEUED` wait; an idle process's time limit starts."""
        if not worker.items:
            worker.deadline = time.monotonic() + self.timeout
        new = [*items]
        new += islice(self.source, max(0, 1 + ITEMS_QUEUED - len(worker.items) - len(new)))
        worker.items += new
        try:
            for item in new:
                worker.pipe.send(item)
        except OSError:  # it has ended; the next read from it notices this, and its items go to a new process
            return


def _start(function: Callable[[Any], Any], memory: int | None) -> _Worker:
    """Start a process, which sends a message when it is ready."""
    context = get_context("spawn")  # a forked child of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs, memory), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(function: Callable[[Any], Any], pipe: Connection, memory: int | None) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    if memory is not None:
        _limit(memory)
    try:
        pipe.send("ready")
        while True:
            pipe.send(function(pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        return  # the parent has finished, or was interrupted


def _end_with_parent() -> None:
    """End this process when its parent ends. Otherwise it would notice a killed parent only after its item."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _limit(memory: int) -> None:
    """Limit this process to `memory` bytes more than it has mapped so far, if the system supports this."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = mapped + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    except (ImportError, OSError, ValueError):
        return
