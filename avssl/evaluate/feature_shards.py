"""Features of many videos in files of 256 each. Several processes share the work by files, and an interrupted
extraction loses at most one file."""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..clips.dataset import Batch, ClipDataset, Failure, Pass, Request
from ..clips.loader import load
from ..core.atomic import atomic_path
from ..core.errors import UserError
from ..core.part import Part
from ..core.progress import track
from ..core.untrusted import DAMAGED, open_arrays

SHARD = 256
"""Videos per file of features."""

CHUNK = 16
"""Clips encoded at once: always the same number, with each video always at the same position.

Matrix products of other shapes round differently, but features must not depend on how processes share the work.
"""

CRASHED = "crashed the decoder"
"""How the reason begins for a video that ended a decoding process (see `avssl.clips.loader`)."""

Arrays = dict[str, np.ndarray]


def process_share() -> tuple[int, int]:
    """(r, W) if torchrun or SLURM started this process as number r of W; else (0, 1)."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def shard_starts(videos: int) -> list[int]:
    """The first video of each file."""
    return list(range(0, videos, SHARD))


def shard_path(folder: Path, start: int) -> Path:
    """The file of the videos that begins at video `start`."""
    return folder / f"{start:09d}.npz"


def chunks_of(start: int, videos: int, chunk: int) -> range:
    """The first videos of the chunks of the file that begins at video `start`."""
    return range(start, min(start + SHARD, videos), chunk)


def failed_array(dataset: ClipDataset, videos: Iterable[int]) -> np.ndarray:
    """The array `failed` of a file: of the videos that failed, those that a later command tries again.

    A video that crashed the decoder is not among them. Ten crashes end a command, and one that joins what others
    have extracted must not meet the crashes of all of them again.
    """
    tried = [i for i in videos if not dataset.excluded.get(i, "").startswith(CRASHED)]
    return np.array(tried, np.int64)


@dataclass
class Chunks:
    """The files of videos that are encoded in chunks: what `extract_shards` takes.

    Args:
        dataset: the clips.
        size: videos in a chunk.
        encode: returns the arrays of a chunk, among them `rows`, given its batch and its first video. It is not called
            for a chunk without any video that could be decoded.
    """

    dataset: ClipDataset
    size: int
    encode: Callable[[Batch, int], Arrays]

    def requests(self, start: int) -> list[list[Request]]:
        """The requests of the chunks of the file that begins at video `start`."""
        chunks = chunks_of(start, len(self.dataset), self.size)
        return [[Request(i, Pass.EVALUATE, 0) for i in range(at, min(at + self.size, chunks.stop))] for at in chunks]

    def arrays(self, start: int, batches: Iterator[Batch]) -> Generator[None, None, Arrays]:
        """The arrays of a file, from the batches of its chunks. It yields once per video."""
        parts: dict[str, list[np.ndarray]] = {}
        failures: list[Failure] = []
        for at in chunks_of(start, len(self.dataset), self.size):
            batch = next(batches)
            failures += batch.failures
            if len(batch.index):
                for name, x in self.encode(batch, at).items():
                    parts.setdefault(name, []).append(x)
            yield from [None] * (len(batch.index) + len(batch.failures))
        arrays = {name: np.concatenate(x) for name, x in parts.items()}
        videos = chunks_of(start, len(self.dataset), 1)
        undecoded = np.setdiff1d(videos, arrays.get("rows", np.empty(0, np.int64))).tolist()
        return {**arrays, "failures": np.array(json.dumps(failures)), "failed": failed_array(self.dataset, undecoded)}


def failed_videos(path: Path) -> list[int] | None:
    """The videos of a file that are to be tried again; None if the file is missing, damaged or of an old version."""
    try:
        with open_arrays(path) as arrays:
            if str(arrays["failures"]) == "[]":
                return []
            failed = arrays["failed"]
    except (OSError, UserError, *DAMAGED):
        return None
    start = int(path.stem)
    if failed.ndim != 1 or failed.dtype != np.int64 or not ((failed >= start) & (failed < start + SHARD)).all():
        return None
    return failed.tolist()


def is_complete(path: Path, began: float) -> bool:
    """Whether the file exists without failures from before `began`, when a disk may have been unavailable."""
    try:
        failed = failed_videos(path)
        return failed is not None and (not failed or path.stat().st_mtime >= began)
    except OSError:
        return False


def _try_again(folder: Path, dataset: ClipDataset, starts: Sequence[int], began: float, workers: int) -> None:
    """Decode the videos again that failed in an earlier command.

    A file whose videos all fail again is as it should be, and its time of change becomes now. So a few damaged videos
    do not make a command encode all others again. A file with a video that can be read now is left for extraction.
    """
    old = [s for s in starts if failed_videos(shard_path(folder, s)) and not is_complete(shard_path(folder, s), began)]
    waiting: deque[tuple[Path, bool]] = deque()
    readable: set[Path] = set()

    def requests() -> Iterator[Sequence[Request]]:
        for start in old:
            path = shard_path(folder, start)
            failed = [] if is_complete(path, began) else failed_videos(path) or []
            for i in failed:
                if path in readable or i >= len(dataset):
                    break
                waiting.append((path, i == failed[-1]))
                yield [Request(i, Pass.EVALUATE, 0)]

    for batch in load(dataset, requests(), workers) if old else ():
        path, last = waiting.popleft()
        if len(batch.index):
            readable.add(path)
        elif last and path not in readable:
            with suppress(OSError):
                os.utime(path, (time.time(),) * 2)


def extract_shards(
    folder: Path,
    dataset: ClipDataset,
    requests_of: Callable[[int], Sequence[Sequence[Request]]],
    arrays_of: Callable[[int, Iterator[Batch]], Generator[None, None, Arrays]],
    workers: int = 0,
    pin: bool = False,
    share: tuple[int, int] | None = None,
    text: str = "features",
    part: Part | None = None,
    finished: Callable[[], bool] = lambda: False,
) -> None:
    """Write the missing files of features to `folder`.

    Args:
        folder: the folder of the files.
        dataset: the clips.
        requests_of: returns the requests of a file's batches, given its first video.
        arrays_of: returns the arrays of a file, given its first video and the batches; among them `failures`, as JSON,
            and `failed` (see `failed_array`). It yields once per answered request.
        workers: number of decoding processes.
        pin: put batches into pinned memory.
        share: (r, W) if this is process r of W that extract the same features; default: as torchrun or SLURM set it.
            Each process begins at another file and continues until all files exist, so none waits for another.
        text: name of the progress bar.
        part: write only the files of this part, whoever writes the others. Processes of a part share its files.
        finished: returns whether another process has used, and perhaps removed, the files.
    """
    starts = shard_starts(len(dataset))
    if part is not None:
        starts = starts[part.number :: part.of]
    rank, world = process_share() if share is None else share
    mine = [s for r in range(world) for s in starts[(rank + r) % world :: world]]
    began = time.time() - 1
    _try_again(folder, dataset, mine, began, workers)
    missing = [s for s in mine if not is_complete(shard_path(folder, s), began)]
    started: deque[int] = deque()

    def requests() -> Iterator[Sequence[Request]]:
        for start in missing:
            if not finished() and not is_complete(shard_path(folder, start), began):
                started.append(start)
                yield from requests_of(start)

    def answered() -> Iterator[None]:
        batches = load(dataset, requests(), workers, pin)
        for batch in batches:  # the first one of a file
            start = started.popleft()
            arrays = yield from arrays_of(start, _chain(batch, batches))
            try:
                with atomic_path(shard_path(folder, start)) as path:
                    np.savez(path, **arrays)  # type: ignore[arg-type]
            except FileNotFoundError:  # another process wrote the same file, finished, and removed the folder
                if not finished():
                    raise

    total = sum(len(batch) for start in missing for batch in requests_of(start))
    for _ in track(answered(), text, total) if missing else ():
        pass


def _chain(first: Batch, others: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from others


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn errors of a damaged file of features into a UserError that names the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}: remove it, and repeat the command") from None
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({str(error)[:100]}): remove it, and repeat the command") from None
