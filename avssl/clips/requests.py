"""The order of clips: which videos each batch of training, or of a pass over the data, contains."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from .dataset import Pass, Request

GOLDEN, OF_SEED, OF_NUMBER = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xA0761D6478BD642F
WORD = 1 << 64


class Requests(Sequence[Request]):
    """The requests of a batch as arrays, int64 [B]: request i is `Request(videos[i], kind, numbers[i])`."""

    def __init__(self, videos: np.ndarray, kind: Pass, numbers: np.ndarray):
        self.videos, self.kind, self.numbers = videos, kind, numbers

    @classmethod
    def of(cls, requests: Sequence[Request]) -> "Requests":
        """The same requests as arrays; all are of one kind."""
        if isinstance(requests, cls):
            return requests
        videos, numbers = (np.array([r[i] for r in requests], np.int64) for i in (0, 2))
        return cls(videos, requests[0].kind if requests else Pass.TRAIN, numbers)

    def __len__(self) -> int:
        return len(self.videos)

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> "Requests": ...
    def __getitem__(self, place: int | slice) -> "Request | Requests":
        if isinstance(place, slice):
            return Requests(self.videos[place], self.kind, self.numbers[place])
        return Request(int(self.videos[place]), self.kind, int(self.numbers[place]))

    def __iter__(self) -> Iterator[Request]:
        for video, number in zip(self.videos.tolist(), self.numbers.tolist(), strict=True):
            yield Request(video, self.kind, number)


def train_requests(videos: int, batch: int, seed: int, step: int, part: range | None = None) -> Requests:
    """The requests of training batch `step`, or of a part of it.

    Batches are cut from an endless stream of shuffled passes. Nothing is dropped at the end of a pass: a batch may
    contain the last videos of one pass and the first of the next. The step is the only state, so a run resumes from
    one integer.

    Args:
        videos: number of rows of the data set.
        batch: videos per batch, over all processes.
        seed: random seed of the order.
        step: the number of the batch, from 0.
        part: the positions in the batch to return; by default all.
    """
    part = range(batch) if part is None else part
    numbers, places = np.divmod(np.arange(part.start, part.stop, part.step) + step * batch, videos)
    return Requests(_permuted(videos, seed, numbers, places), Pass.TRAIN, numbers)


def pass_requests(videos: int | range, batch: int, kind: Pass, number: int) -> Iterator[Requests]:
    """Requests for every video once, in order, in batches of `batch`; the last batch may be smaller.

    `videos` is their number, or a range of rows.
    """
    rows = range(videos) if isinstance(videos, int) else videos
    for start in range(rows.start, rows.stop, batch):
        part = np.arange(start, min(start + batch, rows.stop), dtype=np.int64)
        yield Requests(part, kind, np.full(len(part), number, np.int64))


def mixed(value: np.ndarray, seed: int, numbers: np.ndarray, turn: int) -> np.ndarray:
    """A 64-bit integer hash of its inputs, uint64 [n] (the finaliser of splitmix64)."""
    x: np.ndarray = value + np.uint64((GOLDEN * (turn + 1) + seed * OF_SEED) % WORD) + numbers * np.uint64(OF_NUMBER)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def _permuted(videos: int, seed: int, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Entry `places[i]` of the permutation of pass `numbers[i]`, int64 [n], from a keyed bijection, without a table.

    The bijection is a Feistel network over the next power of four, applied until the result is in [0, videos).
    """
    half = max(1, ((videos - 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    x: np.ndarray = places.astype(np.uint64)
    keys: np.ndarray = numbers.astype(np.uint64)
    found, left_over = np.empty(len(x), np.int64), np.arange(len(x))
    while len(left_over):
        left, right = x >> shift, x & mask
        for turn in range(6):
            left, right = right, left ^ (mixed(right, seed, keys, turn) & mask)
        x = (left << shift) | right
        inside = x < np.uint64(videos)
        found[left_over[inside]] = x[inside]
        left_over, x, keys = left_over[~inside], x[~inside], keys[~inside]
    return found
