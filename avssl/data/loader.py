"""The order of clips, and the workers that decode them."""

import signal
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader

from .clips import Batch, ClipDataset, Pass, Request, collate


def train_requests(videos: int, batch: int, seed: int, step: int) -> list[Request]:
    """The batch of training step `step`: an endless stream of shuffled passes, cut into batches.

    Nothing is dropped at the end of a pass: a batch may hold the last videos of one and the first of the next. Which
    step comes next is all the state there is, so that resuming is one integer.
    """
    requests = []
    for position in range(step * batch, (step + 1) * batch):
        number, place = divmod(position, videos)
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


def pass_requests(videos: int, batch: int, kind: Pass, number: int) -> Iterator[list[Request]]:
    """Every video once, in order, in batches of `batch`; the last may be smaller."""
    for start in range(0, videos, batch):
        yield [Request(i, kind, number) for i in range(start, min(start + batch, videos))]


def load(dataset: ClipDataset, batches: Iterable[list[Request]], workers: int, pin: bool = False) -> Iterator[Batch]:
    """Batches in the order asked for, decoded ahead of time by `workers` processes (0: in this one)."""
    return iter(
        DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=_worker,
            pin_memory=pin,
            generator=torch.Generator(),  # of its own: the training's random state is not the loader's to advance
            prefetch_factor=4 if workers else None,
        )
    )


def _worker(number: int) -> None:
    """One thread each; signals to the whole group (Ctrl-C, a time limit) are the training process's to answer."""
    torch.set_num_threads(1)
    for sort in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sort, signal.SIG_IGN)
