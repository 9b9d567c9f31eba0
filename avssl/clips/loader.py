"""The worker processes that decode clips, batch by batch."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from threading import current_thread, main_thread

import torch
from torch.utils.data import DataLoader, get_worker_info

from ..core.errors import UserError
from ..core.screen import warn
from ..videos.source import CHANGED
from .dataset import Batch, ClipDataset, Failure, Item, Request, collate, no_watch
from .requests import pass_requests as pass_requests
from .requests import train_requests as train_requests
from .stored_clips import StoredClips

CRASHES = 10
"""Number of videos that may crash or hang a decoding process before the run ends."""


def load(
    dataset: ClipDataset | StoredClips, batches: Iterable[Sequence[Request]], workers: int, pin: bool = False
) -> Iterator[Batch]:
    """Load batches in the order of their requests, from worker processes that decode ahead, or from stored features.

    A video that crashes a worker, or hangs it for twice `clip.timeout`, fails like a video that cannot be decoded, and
    the workers are restarted.

    Args:
        dataset: the clips, or their features.
        batches: the requests of each batch.
        workers: number of processes; 0: decode in this process.
        pin: put batches into pinned memory, for GPUs.

    Raises:
        UserError: `CRASHES` videos crashed or hung workers, or the system killed a worker. The message names them.
    """
    if isinstance(dataset, StoredClips):
        return dataset.batches(batches, pin)
    return _Loader(dataset, batches, workers, pin)


class _Loader(Iterator[Batch]):
    def __init__(self, dataset: ClipDataset, batches: Iterable[Sequence[Request]], workers: int, pin: bool):
        self.dataset, self.workers, self.pin = dataset, workers, pin
        self.source = iter(batches)
        self.pending: deque[Sequence[Request]] = deque()  # requests without an answer
        self.crashed: list[str] = []
        self.warned = False
        self.processes: list[BaseProcess] = []
        # workers ignore the signal with which Python ends them at exit, so Python would wait for them
        self.at_exit = Finalize(None, _kill, (self.processes,), exitpriority=10)
        self._start()

    def __del__(self) -> None:
        # an error's traceback may keep torch's iterator, and its processes, alive longer than this object
        if self.at_exit.still_active():
            self.at_exit()

    def __next__(self) -> Batch:
        while True:
            try:
                batch = next(self.batches)
            except UserError as error:  # a worker sends its traceback, whose last line is the message
                text = str(error).strip().splitlines()[-1]
                raise UserError(text.removeprefix(f"{UserError.__module__}.UserError: ")) from None
            except (RuntimeError, OSError, EOFError):
                if not self._blame():
                    raise
            else:
                self.pending.popleft()
                self._warn(batch.failures)
                return batch
            del self.batches  # ends the remaining workers
            self._start()

    def _warn(self, failures: list[Failure]) -> None:
        """Warn at once, not only at the end of the run, about the first video that has changed since it was indexed."""
        changed = next((failure.path for failure in failures if failure.reason == CHANGED), None)
        if changed is not None and not self.warned:
            self.warned = True
            warn(f"{changed} {CHANGED}: it is not used; run `avssl index` again")

    def _requests(self) -> Iterator[Sequence[Request]]:
        yield from [*self.pending]
        for requests in self.source:
            self.pending.append(requests)
            yield requests

    def _start(self) -> None:
        """Start workers for the remaining batches."""
        self.watch = _Watch(self.workers, self.dataset.config.timeout) if self.workers else None
        self.dataset.watch = self.watch or no_watch
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
                generator=torch.Generator(),  # separate, so that the loader does not advance the run's random state
                prefetch_factor=4 if self.workers else None,
            )
        )
        if handler is not None and current_thread() is main_thread():
            # torch's handler would raise anywhere in the run; `__next__` notices the end of a worker without it
            signal.signal(signal.SIGCHLD, handler)
        self.dataset.watch = no_watch  # in this process
        self.processes[:] = [p for p in active_children() if p not in others]

    def _blame(self) -> bool:
        """Exclude the videos that ended workers. Returns False if no worker has ended."""
        active_children()  # updates exit codes
        ended = {p.pid: p.exitcode for p in self.processes if p.exitcode}
        if self.watch is None or not ended:
            return False
        blamed = [(index, ended[pid]) for index, pid in self.watch.decoding() if pid in ended]
        if not blamed or -signal.SIGKILL in ended.values():
            where = f" at {self.dataset.paths[blamed[0][0]]}" if blamed else ""
            why = _name(next(iter(ended.values())))
            raise UserError(
                f"the system killed a decoding process{where} ({why}), most likely because memory ran out: "
                f"lower workers or optim.batch"
            )
        for index, code in blamed:
            path, hung = self.dataset.paths[index], code == -signal.SIGALRM
            why = f"took longer than {self.watch.patience:g} s" if hung else f"crashed the decoder ({_name(code)})"
            self.dataset.excluded[index] = why
            self.crashed.append(path)
            warn(f"{path} {why}: skipping it from now on")
        if len(self.crashed) >= CRASHES:
            raise UserError(
                f"{len(self.crashed)} videos have crashed or hung the decoder: {', '.join(self.crashed)}: "
                f"remove or re-encode them, and run `avssl index` again"
            )
        return True


class _Watch:
    """Records which video each worker decodes, and sets an alarm that ends a worker that hangs."""

    def __init__(self, workers: int, timeout: float):
        self.patience = 2 * timeout  # s; a decoder that can be interrupted stops after half of this
        self.state = torch.full((workers, 2), -1, dtype=torch.int64).share_memory_()  # video and process id

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
        """(video, process id) of each worker that is decoding a video."""
        return [(index, pid) for index, pid in self.state.tolist() if index >= 0]


def _collate(items: list[Item]) -> Batch:
    """`collate`, which in a worker writes into shared memory, so that nothing is copied on the way to the run.

    torch would do so later, in a thread whose errors lose the batch, and the run would wait forever. Raises UserError
    if they do not fit.
    """
    if get_worker_info() is None:
        return collate(items)
    try:
        return collate(items, _shared)
    except (RuntimeError, OSError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"a batch does not fit into shared memory ({why}): allow more (ulimit -f, the size of /dev/shm), lower "
            f"optim.batch, or set workers=0"
        ) from None


def _shared(size: int, dtype: torch.dtype) -> torch.Tensor:
    """`torch.empty` in shared memory."""
    storage = torch.UntypedStorage._new_shared(size * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage)


def _kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _name(code: int) -> str:
    """The signal or exit status behind an exit code."""
    return signal.Signals(-code).name if -code in [*signal.Signals] else f"exit status {code}"


def _worker(number: int) -> None:
    """Set up a worker: one thread, and signals (Ctrl-C, a time limit) ignored, because the main process handles
    them."""
    torch.set_num_threads(1)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # SLURM sends them to every process
        signal.signal(stop, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
