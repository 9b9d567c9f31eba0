"""Batches of stored features, in place of the clips of `ClipDataset`."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from ..core.errors import UserError
from ..core.mapped_rows import Column
from ..core.plurals import many
from .batch import Batch, Failure, allocate, arrays_of, unpack
from .dataset import Pass, Request
from .feature_store import StoredSplit
from .requests import Requests, mixed

REPLACEMENT = 1 << 20
"""The round of the hash that draws a replacement for a row without features."""


class StoredClips:
    """Batches of stored features. As in `ClipDataset`, a batch depends only on the seed and its requests.

    Training and labelling passes draw one of the clips of each video. No Python loop over videos is needed.

    Args:
        split: the features of the rows.
        modalities: the modalities of a batch.
        seed: random seed.
        shifts: number of clips of a video in a training batch, in the order of their times.
        apart: the shortest time between the starts of two of them (s); None: they may be the same clip.

    Raises:
        UserError: no row has features, or rows have too few clips.
    """

    def __init__(
        self,
        split: StoredSplit,
        modalities: Sequence[str],
        seed: int = 0,
        shifts: int = 1,
        apart: float | None = None,
    ):
        self.stored, self.modalities, self.seed, self.shifts = split, tuple(modalities), seed, shifts
        self.paths: Column[str] = Column(split.rows["path"])
        self.usable = np.flatnonzero(split.clips > 0)
        if not len(self.usable):
            raise UserError(f"none of {many(len(self.paths), 'row')} has features")
        self.gap = self._gap(apart)

    def __len__(self) -> int:
        return len(self.paths)

    def _gap(self, apart: float | None) -> np.ndarray:
        """The smallest distance, in clips, between two drawn clips of each row, int64 [n]."""
        clips = self.stored.clips
        gap = np.zeros(len(clips), np.int64)
        if self.shifts < 2:
            return gap
        if apart is not None:
            if self.stored.times is None:
                raise UserError("the times of these clips are not recorded: set contrast.axes.time_shift=off")
            several = clips > 1
            start = self.stored.first_time[several]
            step = (self.stored.times[start + clips[several] - 1] - self.stored.times[start]) / (clips[several] - 1)
            gap[several] = np.ceil(apart / np.maximum(step, 1e-9) - 1e-6)
            gap[clips == 1] = 1
        few = int(((clips > 0) & (clips - 1 < (self.shifts - 1) * np.maximum(gap, 1))).sum())
        if few:
            far = f", {apart:g} s apart" if apart else ""
            raise UserError(
                f"{many(few, 'video')} of the stored features have too few clips for {self.shifts} time shifts{far}: "
                f"extract more, as with `avssl features my_videos views={2 * self.shifts + 1}`, if necessary from "
                "longer videos"
            )
        return gap

    def batches(self, requests: Iterable[Sequence[Request]], pin: bool = False) -> Iterator[Batch]:
        """Yield the batch of each list of requests, which are all of one kind; `pin`: in pinned memory."""
        return (self.batch(Requests.of(each), pin) for each in requests)

    def batch(self, requests: Requests, pin: bool = False) -> Batch:
        """A batch of the requested features, in `Batch.features`."""
        stored, numbers = self.stored, requests.numbers.astype(np.uint64)
        rows, failures = requests.videos, []
        missing = stored.clips[rows] == 0
        if missing.any():
            failures = [Failure(self.paths[row], stored.reasons.get(int(row), "")) for row in rows[missing]]
            if requests.kind is Pass.TRAIN:
                drawn = self._drawn(rows, requests.kind, numbers, REPLACEMENT)
                others = self.usable[(drawn * len(self.usable)).astype(np.int64)]
                rows = np.where(missing, others, rows)
            else:
                rows, numbers = rows[~missing], numbers[~missing]
        entries = self._entries(rows, requests.kind, numbers).reshape(-1)
        tables = {name: self.stored.features[name] for name in self.modalities}
        shapes = {("features", name): (torch.float32, (len(entries), x.shape[1])) for name, x in tables.items()}
        # read from the tables straight into the memory that a GPU copies from
        empty = partial(torch.empty, pin_memory=True) if pin else torch.empty
        block, places = allocate({("index", ""): (torch.int64, (len(rows),)), **shapes}, empty)
        written = arrays_of(block, places)
        written["index", ""][:] = rows
        for name, table in tables.items():
            np.take(table, entries, axis=0, out=written["features", name], mode="clip")
        return unpack(block, places, failures)

    def _entries(self, rows: np.ndarray, kind: Pass, numbers: np.ndarray) -> np.ndarray:
        """Positions in the stored features, int64 [B, shifts] for training, else [B, 1]."""
        stored = self.stored
        if kind is Pass.EVALUATE:
            return (stored.first[rows] + (stored.clips[rows] - 1) // 2)[:, None]
        if kind is Pass.LABEL:  # each pass takes the next clip, so that consecutive passes take different ones
            turned = (self._drawn(rows, kind, np.zeros_like(numbers), 0) * stored.entries[rows]).astype(np.int64)
            return (stored.first[rows] + (turned + numbers.astype(np.int64)) % stored.entries[rows])[:, None]
        if self.shifts == 1:
            places = (self._drawn(rows, kind, numbers, 0) * stored.entries[rows]).astype(np.int64)
            return (stored.first[rows] + places)[:, None]
        gap = self.gap[rows]
        room = stored.clips[rows] - (self.shifts - 1) * gap
        drawn = [self._drawn(rows, kind, numbers, turn) * room for turn in range(self.shifts)]
        places = np.sort(np.stack(drawn, 1).astype(np.int64), 1) + np.arange(self.shifts) * gap[:, None]
        return stored.first[rows][:, None] + places

    def _drawn(self, rows: np.ndarray, kind: Pass, numbers: np.ndarray, turn: int) -> np.ndarray:
        """A number in [0, 1) for each row, which depends only on (seed, kind, pass, row)."""
        hashed = mixed(rows.astype(np.uint64), self.seed, numbers, 1000 * (int(kind) + 1) + turn)
        return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
