"""The order of clips, and the workers that decode them."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from threading import current_thread, main_thread

import torch
from torch.utils.data import DataLoader, get_worker_info

from ..core.errors import UserError
from ..core.screen import warn
from ..videos.source import CHANGED
from .dataset import Batch, ClipDataset, Failure, Item, Pass, Request, collate, unwatched

CRASHES = 10
"""Videos at which decoding processes may crash or hang before the run ends."""


def train_requests(videos: int, batch: int, seed: int, step: int, part: range | None = None) -> list[Request]:
    """Batch `step` of a training, or `part` of its `batch` places: an endless stream of shuffled passes, cut up.

    Nothing is dropped at the end of a pass: a batch may hold the last videos of one and the first of the next. Which
    step comes next is all the state there is, so that resuming is one integer.
    """
    requests = []
    for place_in_batch in range(batch) if part is None else part:
        number, place = divmod(step * batch + place_in_batch, videos)
        requests.append(Request(_permutation(videos, seed, number, place), Pass.TRAIN, number))
    return requests


def _permutation(videos: int, seed: int, number: int, place: int) -> int:
    """Entry `place` of the permutation of pass `number`, by a keyed bijection: no table, any pass at once.

    A Feistel network over the next power of four, walked until it lands inside [0, videos).
    """
    half = max(1, ((videos - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    x = place
    while True:
        left, right = x >> half, x & mask
        for turn in range(6):
            left, right = right, left ^ (_mix(right, seed, number, turn) & mask)
        x = (left << half) | right
        if x < videos:
            return x


def _mix(value: int, seed: int, number: int, turn: int) -> int:
    """A 64-bit integer hash (splitmix64's finaliser) of the round's inputs."""
    x = (value + 0x9E3779B97F4A7C15 * (turn + 1) + seed * 0xD1342543DE82EF95 + number * 0xA0761D6478BD642F) % (1 << 64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) % (1 << 64)
    return x ^ (x >> 31)


def pass_requests(videos: int | range, batch: int, kind: Pass, number: int) -> Iterator[list[Request]]:
    """Every video (of a range, if it is one) once, in order, in batches of `batch`; the last may be smaller."""
    rows = range(videos) if isinstance(videos, int) else videos
    for start in range(0, len(rows), batch):
        yield [Request(i, kind, number) for i in rows[start : start + batch]]


def load(dataset: ClipDataset, batches: Iterable[list[Request]], workers: int, pin: bool = False) -> Iterator[Batch]:
    """Batches in the order asked for, decoded ahead of time by `workers` processes (0: in this one).

    A video at which such a process crashes, or hangs for twice `clip.timeout`, is one that fails, as any that cannot be
    decoded; the processes are started anew. Raises UserError that names the videos when that happens `CRASHES` times,
    or when the system kills a process.
    """
    return _Loader(dataset, batches, workers, pin)


class _Loader(Iterator[Batch]):
    def __init__(self, dataset: ClipDataset, batches: Iterable[list[Request]], workers: int, pin: bool):
        self.dataset, self.workers, self.pin = dataset, workers, pin
        self.source = iter(batches)
        self.pending: deque[list[Request]] = deque()  # asked of the processes, and not given yet
        self.crashed: list[str] = []
        self.warned = False
        self.processes: list[BaseProcess] = []
        # they ignore the signal by which Python ends them when it exits, and would be waited for
        self.at_exit = Finalize(None, _kill, (self.processes,), exitpriority=10)
        self._start()

    def __del__(self) -> None:
        # an error's traceback may keep torch's iterator, and with it the processes, longer than this
        if self.at_exit.still_active():
            self.at_exit()

    def __next__(self) -> Batch:
        while True:
            try:
                batch = next(self.batches)
            except UserError as error:  # comes from a process with its traceback: the last line is the message
                text = str(error).strip().splitlines()[-1]
                raise UserError(text.removeprefix(f"{UserError.__module__}.UserError: ")) from None
            except (RuntimeError, OSError, EOFError):
                if not self._blame():
                    raise
            else:
                self.pending.popleft()
                self._warn(batch.failures)
                return batch
            del self.batches  # ends the processes that are left
            self._start()

    def _warn(self, failures: list[Failure]) -> None:
        """Say at the first video that was replaced since it was indexed, not only when all is over."""
        changed = next((failure.path for failure in failures if failure.reason == CHANGED), None)
        if changed is not None and not self.warned:
            self.warned = True
            warn(f"{changed} {CHANGED}: it is not used; run `avssl index` again")

    def _requests(self) -> Iterator[list[Request]]:
        yield from [*self.pending]
        for requests in self.source:
            self.pending.append(requests)
            yield requests

    def _start(self) -> None:
        """Processes for the batches still to come."""
        self.watch = _Watch(self.workers, self.dataset.config.timeout) if self.workers else None
        self.dataset.watch = self.watch or unwatched
        others = set(active_children())
        handler = signal.getsignal(signal.SIGCHLD) if self.workers else None
        self.batches = iter(
            DataLoader(
                self.dataset,
                batch_sampler=self._requests(),  # type: ignore[arg-type]
                collate_fn=_collate,
                num_workers=self.workers,
                worker_init_fn=_worker,
                pin_memory=self.pin,
                generator=torch.Generator(),  # of its own: the training's random state is not the loader's to advance
                prefetch_factor=4 if self.workers else None,
            )
        )
        if handler is not None and current_thread() is main_thread():
            # torch's handler would raise wherever the training happens to be; `next` above finds the end of a process
            signal.signal(signal.SIGCHLD, handler)
        self.dataset.watch = unwatched  # in this process
        self.processes[:] = [p for p in active_children() if p not in others]

    def _blame(self) -> bool:
        """Mark the videos at which processes have ended. False: none has."""
        active_children()  # takes note of those that have ended
        ended = {p.pid: p.exitcode for p in self.processes if p.exitcode}
        if self.watch is None or not ended:
            return False
        blamed = [(index, ended[pid]) for index, pid in self.watch.decoding() if pid in ended]
        if not blamed or -signal.SIGKILL in ended.values():
            at = f" at {self.dataset.paths[blamed[0][0]]}" if blamed else ""
            why = _name(next(iter(ended.values())))
            raise UserError(
                f"a decoding process was ended by the system{at} ({why}), most likely for want of memory: "
                f"set fewer workers=… or a smaller optim.batch"
            )
        for index, code in blamed:
            path, hung = self.dataset.paths[index], code == -signal.SIGALRM
            why = f"took longer than {self.watch.patience:g} s" if hung else f"crashed the decoder ({_name(code)})"
            self.dataset.bad[index] = why
            self.crashed.append(path)
            warn(f"{path} {why}: it is left out from here on")
        if len(self.crashed) >= CRASHES:
            raise UserError(
                f"decoding processes have crashed or hung at {len(self.crashed)} videos: {', '.join(self.crashed)}; "
                f"remove or re-encode them and run `avssl index` again"
            )
        return True


class _Watch:
    """What each process decodes, for the others to see; and an alarm that ends a process which hangs."""

    def __init__(self, workers: int, timeout: float):
        self.patience = 2 * timeout  # s; a reader that can tell the time stops itself after half of it
        self.state = torch.full((workers, 2), -1, dtype=torch.int64).share_memory_()  # video and process

    @contextmanager
    def __call__(self, index: int) -> Iterator[None]:
        info = get_worker_info()
        assert info is not None
        self.state[info.id, 0], self.state[info.id, 1] = index, os.getpid()
        signal.setitimer(signal.ITIMER_REAL, self.patience)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.state[info.id, 0] = -1

    def decoding(self) -> list[tuple[int, int]]:
        """(video, process id) of each process that is at a video."""
        return [(index, pid) for index, pid in self.state.tolist() if index >= 0]


def _collate(items: list[Item]) -> Batch:
    """`collate`; in a decoding process, with its tensors in shared memory.

    torch would put them there later, in a thread whose errors lose the batch, and the training would wait for ever.
    UserError where they do not fit.
    """
    batch = collate(items)
    if get_worker_info() is None:
        return batch
    draws = [] if batch.draws is None else [getattr(batch.draws, f.name) for f in fields(batch.draws)]
    try:
        for tensor in (batch.index, *batch.clips.values(), *draws, *batch.values.values()):
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"a batch does not fit into shared memory ({why}): allow more (ulimit -f, the size of /dev/shm), or set a "
            f"smaller optim.batch, or workers=0"
        ) from None
    return batch


def _kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _name(code: int) -> str:
    """What ended a process, from its exit code."""
    return signal.Signals(-code).name if -code in [*signal.Signals] else f"exit status {code}"


def _worker(number: int) -> None:
    """One thread each; signals to the whole group (Ctrl-C, a time limit) are the training process's to answer."""
    torch.set_num_threads(1)
    for sort in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # SLURM sends them to every process
        signal.signal(sort, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
