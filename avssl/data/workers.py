"""A function run on many items in processes of their own: one that hangs or crashes is the only one lost."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """What became of an item without a result: `timeout` or `crashed`."""

    reason: str


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    item: Any = None
    deadline: float = 0.0
    """When its item is given up."""
    busy: bool = False


def run_isolated(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, timeout: float
) -> Iterator[tuple[Item, Result | Lost]]:
    """(item, function(item)) as they come, in any order; `Lost` for an item that took longer than `timeout` (s) or
    ended its process, which is replaced.

    `function` must be importable, and must not raise. Raises RuntimeError when a process cannot start.
    """
    source = iter(items)
    pool = [_start(function) for _ in range(workers)]
    try:
        for place in range(len(pool)):
            _give(pool, place, function, source, timeout)
        while any(worker.busy for worker in pool):
            left = min(worker.deadline for worker in pool if worker.busy) - time.monotonic()
            ready = wait([worker.pipe for worker in pool if worker.busy], max(0.0, left))
            for place, worker in enumerate(pool):
                if not worker.busy:
                    continue
                result: Any = None
                if worker.pipe in ready:
                    try:
                        result = worker.pipe.recv()
                    except (EOFError, OSError):
                        result = Lost("crashed")
                elif time.monotonic() > worker.deadline:
                    result = Lost("timeout")
                else:
                    continue
                item = worker.item
                if isinstance(result, Lost):
                    _stop(worker)
                    pool[place] = _start(function)
                _give(pool, place, function, source, timeout)
                yield item, result
    finally:
        for worker in pool:
            _stop(worker)


def _start(function: Callable[[Any], Any]) -> _Worker:
    context = get_context("spawn")  # a forked child of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
    except EOFError:
        raise RuntimeError("a worker process could not start") from None
    return _Worker(process, ours)


def _give(
    pool: list[_Worker], place: int, function: Callable[[Any], Any], source: Iterator[Any], timeout: float
) -> None:
    """The next item to the worker at `place`, which stays idle when there is none."""
    try:
        item = next(source)
    except StopIteration:
        pool[place].busy = False
        return
    try:
        pool[place].pipe.send(item)
    except OSError:  # it ended between two items
        _stop(pool[place])
        pool[place] = _start(function)
        pool[place].pipe.send(item)
    worker = pool[place]
    worker.item, worker.busy, worker.deadline = item, True, time.monotonic() + timeout


def _stop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    pipe.send("ready")
    try:
        while True:
            pipe.send(function(pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return  # the parent is done, or was interrupted
