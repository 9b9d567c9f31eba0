"""The held-out videos of a run, whose features are measured while it trains: which they are, and their clips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from ..clips.batch import Batch, unpack
from ..clips.dataset import ClipDataset, Pass
from ..clips.decode import ClipSpec
from ..clips.feature_store import StoredSplit, is_store, open_store
from ..clips.loader import load
from ..clips.requests import Requests
from ..clips.stored_clips import StoredClips
from ..config import TrainConfig
from ..core.collectives import rank_slice
from ..core.progress import Progress
from ..models.build import modalities_of
from ..videos.index import read_index, training_split
from ..videos.index_options import difference, fingerprint
from ..videos.splits import find_split
from .training_data import TrainingData

AUGMENTED = 3
"""Augmented clips of a held-out video, for LiDAR, beside its centre clip."""

CLIPS = 1 + AUGMENTED

MOST_VIDEOS = 512
"""Most held-out videos by default,"""

FEWEST_VIDEOS = 32
"""and fewest: their figures would be noise."""

FEWEST_TIMES = 4
"""A run that is too short for as many measurements is not measured by default."""

TRAINED_PER_CLIP = 20
"""By default, clips that the run trains on for each held-out clip that it encodes. A clip that is trained on takes
about three times as long, so the share of a run's time is less than a fiftieth."""

MOST_ROWS = 200_000
"""Most rows of an index that are looked at; of more, as many are drawn."""

MOST_BYTES = 2 << 30
"""Most memory of the held-out clips, in all processes together, bytes."""


def monitor_steps(total: int, times: int) -> list[int]:
    """The training steps before which features are measured, the first and the last among them; more at the start.

    Args:
        total: training steps of the run.
        times: measurements; only the last one if it is 1.
    """
    if times < 2:
        return [total][:times]
    return sorted({round(total * (i / (times - 1)) ** 1.5) for i in range(times)})


def affordable(config: TrainConfig, trained: int, available: int, clip_bytes: float) -> tuple[int, int]:
    """How often the run measures how many held-out videos; (0, 0) if it is too short, or there are too few of them.

    Args:
        config: the options of the run.
        trained: clips that the whole run trains on.
        available: usable held-out videos.
        clip_bytes: memory of a clip, bytes.
    """
    monitor = config.monitor
    room = min(available, int(MOST_BYTES / (CLIPS * max(1.0, clip_bytes))))
    if monitor.videos is not None or not monitor.times:
        count = min(monitor.videos or 0, room)
        return (monitor.times, count) if monitor.times and count >= 2 else (0, 0)
    looks = trained // (TRAINED_PER_CLIP * CLIPS)  # times × videos
    times = max(min(monitor.times, FEWEST_TIMES), min(monitor.times, looks // FEWEST_VIDEOS))
    videos = min(MOST_VIDEOS, room, looks // times)
    return (times, videos) if videos >= FEWEST_VIDEOS else (0, 0)


@dataclass
class HeldOut:
    """The held-out videos of a run.

    Args:
        origin: where they are from, for messages.
        dataset: the clips, or stored features.
        chosen: rows of `dataset`, int64 [n].
        videos: the video of each, by path, [n].
        classes: its class; None if a class is unknown, or all are the same.
    """

    origin: str
    dataset: ClipDataset | StoredClips
    chosen: np.ndarray
    videos: np.ndarray
    classes: np.ndarray | None

    def requests(self, batch: int) -> Iterator[tuple[int, Requests]]:
        """The clips of this process's part, `batch` at a time: the number of the clip, and the requests."""
        part = rank_slice(len(self.chosen))
        rows = self.chosen[part.start : part.stop]
        for number in range(CLIPS):
            kind, turn = (Pass.EVALUATE, 0) if number == 0 else (Pass.LABEL, number - 1)
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                yield number, Requests(some, kind, np.full(len(some), turn, np.int64))

    def batches(self, batch: int, workers: int, progress: Progress) -> list[tuple[int, Batch]]:
        """All clips of this process's part, on the CPU, with the number of the clip."""
        numbered = [*self.requests(batch)]
        found = []
        loaded = load(self.dataset, [requests for _, requests in numbered], workers)
        for done, ((number, _), each) in enumerate(zip(numbered, loaded, strict=True), 1):
            found.append((number, _copied(each)))
            progress("held-out videos, batches", done, len(numbered))
        return found


def _copied(batch: Batch) -> Batch:
    # a worker's batch is in shared memory, of which there is little
    return batch if batch.block is None else unpack(batch.block.clone(), batch.places, [])


def clip_bytes(config: TrainConfig) -> float:
    """Memory of a clip's frames and samples, bytes; of stored features it is counted as none."""
    if config.data.features:
        return 0.0
    modalities, clip = modalities_of(config), config.clip
    frames = 3.0 * clip.frames * clip.crop**2 if "video" in modalities else 0.0
    return frames + (4 * clip.audio_seconds * clip.audio_rate if "audio" in modalities else 0.0)


Open = Callable[[np.ndarray], tuple[ClipDataset | StoredClips, np.ndarray]]
"""Makes a data set of some rows, int64 [n]. Returns also their numbers in it, int64 [n]."""


def open_held_out(config: TrainConfig, data: TrainingData, trained: int) -> tuple[int, HeldOut | None]:
    """How often a run measures its features, and the held-out videos; (0, None) if it is too short, or if it is off.

    They are from the test split of the index. Without one, they are training videos.

    Args:
        config: the options of the run.
        data: its training data.
        trained: clips that the whole run trains on.
    """
    for origin, rows, usable, open_dataset in _candidates(config, data) if config.monitor.times else []:
        times, count = affordable(config, trained, len(usable), clip_bytes(config))
        if times:
            drawn = np.random.default_rng([config.seed, 0x48454C44]).choice(usable, count, replace=False)
            drawn.sort()
            dataset, chosen = open_dataset(drawn)
            some = rows.take(pa.array(drawn))
            return times, HeldOut(origin, dataset, chosen, np.array(some["path"].to_pylist()), _classes(some))
    return 0, None


def _candidates(config: TrainConfig, data: TrainingData) -> Iterator[tuple[str, pa.Table, np.ndarray, Open]]:
    """Where held-out videos may be from, the best first: the name, the rows of the index, the usable ones among them,
    int64 [n], and how to open them."""
    modalities, features = modalities_of(config), config.data.features
    test = find_split(data.splits, config.data.test_split)
    if test == training_split(config.data, data.splits):
        test = None
    if not features:
        for origin, rows in _named_rows(config, data, test):
            yield origin, rows, _usable(config, rows, modalities), partial(_clips_of, config, rows, modalities)
        return
    if test is not None and is_store(features) and test in (store := open_store(features)).splits:
        rows = read_index(config.data.index, test)
        if not difference(store.splits[test], fingerprint(rows)):
            yield f"videos of the split {test}", rows, *_stored(config, store.split(test), modalities)
    if isinstance(data.dataset, StoredClips):
        yield "training videos", data.rows, *_stored(config, data.dataset.stored, modalities)


def _named_rows(config: TrainConfig, data: TrainingData, test: str | None) -> Iterator[tuple[str, pa.Table]]:
    if test is not None:
        yield f"videos of the split {test}", read_index(config.data.index, test)
    yield "training videos", data.rows


def _usable(config: TrainConfig, rows: pa.Table, modalities: Sequence[str]) -> np.ndarray:
    """The rows that can be decoded, int64 [n]; of very many rows, some of them."""
    some = np.arange(rows.num_rows)
    if len(some) > MOST_ROWS:
        some = np.sort(np.random.default_rng(config.seed).choice(rows.num_rows, MOST_ROWS, replace=False))
    part = rows.select(["window_seconds", "audio_rate"]).take(pa.array(some))
    return some[_decodable(config, part, modalities)]


def _decodable(config: TrainConfig, rows: pa.Table, modalities: Sequence[str]) -> np.ndarray:
    """Whether each row is long enough for a clip, and has audio if it is needed."""
    long = rows["window_seconds"].to_numpy() >= ClipSpec.of(config.clip).seconds
    return long & (rows["audio_rate"].to_numpy() > 0) if "audio" in modalities else long


def _clips_of(
    config: TrainConfig, rows: pa.Table, modalities: Sequence[str], drawn: np.ndarray
) -> tuple[ClipDataset, np.ndarray]:
    clip = replace(config.clip, cache_mb=0)  # the cache is for videos that are decoded again and again
    dataset = ClipDataset(rows.take(pa.array(drawn)), config.data.root, clip, config.seed, modalities=modalities)
    return dataset, np.arange(len(drawn))


def _stored(config: TrainConfig, split: StoredSplit, modalities: Sequence[str]) -> tuple[np.ndarray, Open]:
    """The rows of stored features that have any, and how to open them."""
    return np.flatnonzero(split.clips > 0), lambda drawn: (StoredClips(split, modalities, config.seed), drawn)


def _classes(rows: pa.Table) -> np.ndarray | None:
    names = rows["class"].to_pylist() if "class" in rows.column_names else []
    return np.array(names) if names and None not in names and len({*names}) > 1 else None
