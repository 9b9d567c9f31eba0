"""A feature store: the features of an index's clips from frozen encoders, in files that are mapped into memory.

`store.json` records the encoders, weights, clips and videos. Each split has `<split>.parquet` (a row for each row of
the index), `<split>.<modality>.npy` (float32 [n, D], clip by clip) and `<split>.times.npy`. The clips of a row are
consecutive: first those at fixed times, then the augmented ones. `encoders.ckpt` contains the weights.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import ClipConfig, ModelConfig
from ..config.from_file import from_plain
from ..config.model import MODALITIES
from ..core import untrusted
from ..core.atomic import write_json
from ..core.errors import UserError
from ..core.plurals import many
from ..core.safe_paths import below
from ..core.tables import check_paths, read_rows
from ..core.untrusted import DAMAGED, check_file, is_count, is_number, read_json
from ..core.version import __version__

NOTE, WEIGHTS, VERSION = "store.json", "encoders.ckpt", 1
ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("window_start", pa.float64()),
        ("window_seconds", pa.float64()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("clips", pa.int64()),
        ("reason", pa.string()),
    ]
)
"""`clips` counts the clips at fixed times; it is 0 for a video without features, for which `reason` says why."""
LIMITS = {
    "window_start": (0, 2**53), "window_seconds": (1e-6, 1e9), "size": (0, 2**53), "mtime_ns": (-(2**62), 2**62),
    "clips": (0, 1e9),
}  # fmt: skip
PARTS = "parts"
"""The folder of the files, of 256 rows each, that an unfinished extraction has written."""
BLOCK = 1 << 14
"""Rows of features checked at a time."""


@dataclass
class StoredSplit:
    """The features of the n rows of a split.

    Args:
        rows: path, window_start and so on, in the order of the index.
        clips: number of clips at fixed times of each row, int64 [n]; 0 without features.
        augmented: number of augmented clips of each row with features.
        features: float32 [Σ clips, D] by modality, row by row, possibly mapped into memory.
        reasons: by row, why it has no features.
        times: starts of the clips at fixed times (s), float64 [Σ clips]; None if they are unknown.
    """

    rows: pa.Table
    clips: np.ndarray
    augmented: int
    features: dict[str, np.ndarray]
    reasons: dict[int, str] = field(default_factory=dict)
    times: np.ndarray | None = None
    first: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """The position of each row's first clip in `features`, int64 [n]; by default rows are consecutive."""
    first_time: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """The same for `times`."""

    def __post_init__(self) -> None:
        self.entries = self.clips + self.augmented * (self.clips > 0)
        if len(self.first) != len(self.clips):
            self.first = np.cumsum(self.entries) - self.entries
            self.first_time = np.cumsum(self.clips) - self.clips

    def take(self, rows: np.ndarray) -> "StoredSplit":
        """Some of the rows, int64 [m]; their features are not copied."""
        reasons = {i: self.reasons[int(row)] for i, row in enumerate(rows) if int(row) in self.reasons}
        return StoredSplit(
            self.rows.take(pa.array(rows)), self.clips[rows], self.augmented, self.features, reasons, self.times,
            self.first[rows], self.first_time[rows],
        )  # fmt: skip

    @property
    def widths(self) -> dict[str, int]:
        """The width D of each modality's features."""
        return {name: x.shape[1] for name, x in self.features.items()}

    def centre(self, modality: str, rows: np.ndarray) -> np.ndarray:
        """Features of the middle clip of some rows, which must have features, float32 [n, D]."""
        return np.asarray(self.features[modality][self.first[rows] + (self.clips[rows] - 1) // 2])


@dataclass
class FeatureStore:
    """The checked contents of `store.json`."""

    folder: Path
    encoders: dict[str, str]
    """The encoders' names in `model.*`, by modality."""
    temporal_pooling: str
    init: list[str]
    weights: dict[str, str]
    """A digest of each encoder's weights."""
    source: str
    """The source and the licence of the weights, in words."""
    clip: ClipConfig
    precision: str
    views: int
    every: float
    augmented: int
    seed: int
    widths: dict[str, int]
    data: dict[str, str]
    """`root`, `name` and `index` of the videos."""
    splits: dict[str, dict[str, Any]]
    """The fingerprint of each split's rows."""
    video_stride: int = 0
    """`model.video_stride` of the video encoder, which changes its features; older stores lack it."""

    @property
    def has_centre(self) -> bool:
        """Whether a row's clips include the middle one, which evaluation uses."""
        return not self.every and self.views % 2 == 1

    def split(self, name: str) -> StoredSplit:
        """The features of a split. Raises UserError if the store lacks it, or a file is damaged."""
        if name not in self.splits:
            raise UserError(f"{self.folder} has no features of the split {name} (it has {', '.join(self.splits)})")
        with _damaged(self.folder):
            return _read_split(self, name)

    def write(self) -> None:
        """Write `store.json`, which makes the store complete."""
        content = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_json(self.folder / NOTE, {"version": VERSION, "avssl": __version__, "dtype": "float32", **content})


def is_store(path: str | Path) -> bool:
    """Whether this is the folder of a store, possibly unfinished."""
    return os.path.isdir(path)


def is_complete_store(folder: str | Path) -> bool:
    """Whether an extraction into the folder has finished."""
    return os.path.isfile(os.path.join(folder, NOTE))


def open_store(folder: str | Path) -> FeatureStore:
    """Read and check the description of an untrusted store; its features are not read.

    Raises:
        UserError: it is missing, unfinished or damaged.
    """
    path = Path(folder) / NOTE
    try:
        note = read_json(path)
    except OSError:
        parts = (Path(folder) / PARTS).is_dir()
        raise UserError(
            f"the features in {folder} are incomplete: repeat the `avssl features` command that began them" if parts
            else f"{folder} contains no features: `avssl features my_videos out={folder}` writes them"
        ) from None  # fmt: skip
    get = untrusted.field
    if get(note, "version", is_count, path) != VERSION:
        raise UserError(f"{path} was written by another version of avssl: extract the features again")
    known = set(MODALITIES.split())

    def by_modality(value: Any, fits: Any) -> bool:
        return isinstance(value, dict) and bool(value) and value.keys() <= known and all(map(fits, value.values()))

    def are_splits(value: Any) -> bool:
        return isinstance(value, dict) and bool(value) and all(_is_fingerprint(x) for x in value.values())

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(x, str) for x in value)

    def names_videos(value: Any) -> bool:
        needed = isinstance(value, dict) and value.keys() >= {"root", "name", "index"}
        return needed and all(isinstance(x, str) for x in value.values())

    are_texts = partial(by_modality, fits=lambda x: isinstance(x, str))
    store = FeatureStore(
        folder=Path(folder),
        encoders=get(note, "encoders", are_texts, path),
        temporal_pooling=get(note, "temporal_pooling", str, path),
        init=get(note, "init", texts, path),
        weights=get(note, "weights", are_texts, path),
        source=get(note, "source", str, path),
        clip=from_plain(ClipConfig, get(note, "clip", dict, path), path),
        precision=get(note, "precision", str, path),
        views=get(note, "views", is_count, path),
        every=float(get(note, "every", is_number, path)),
        augmented=get(note, "augmented", is_count, path),
        seed=get(note, "seed", is_count, path),
        widths=get(note, "widths", partial(by_modality, fits=lambda d: is_count(d) and 0 < d < 1 << 24), path),
        data=get(note, "data", names_videos, path),
        splits=get(note, "splits", are_splits, path),
        video_stride=get({"video_stride": 0} | note, "video_stride", is_count, path),
    )
    if not store.encoders.keys() == store.widths.keys() == store.weights.keys():
        raise UserError(f"{path}: encoders, weights and widths belong to different modalities")
    pooling, stride = store.temporal_pooling, store.video_stride
    from_plain(ModelConfig, {**store.encoders, "temporal_pooling": pooling, "video_stride": stride}, path)  # checks
    for name in store.splits:
        below(folder, f"{name}.parquet")
    return store


def _is_fingerprint(value: Any) -> bool:
    return isinstance(value, dict) and is_count(value.get("number")) and isinstance(value.get("digest"), str)


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    fix = "extract the features again"
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{folder} is damaged ({error.filename} is missing): {fix}") from None
    except UserError as error:
        raise UserError(f"{error}: {fix}") from None
    except DAMAGED as error:
        raise UserError(f"{folder} is damaged ({str(error)[:100]}): {fix}") from None


def _read_split(store: FeatureStore, name: str) -> StoredSplit:
    path = below(store.folder, f"{name}.parquet")
    rows = read_rows(path, ROWS, ("path",), LIMITS)
    check_paths(rows["path"], path)
    if rows.num_rows != store.splits[name]["number"]:
        raise UserError(f"{path} has {rows.num_rows} rows, not {store.splits[name]['number']}")
    clips = rows["clips"].to_numpy()
    entries = int((clips + store.augmented * (clips > 0)).sum())
    features = {}
    for modality, width in store.widths.items():
        file = below(store.folder, f"{name}.{modality}.npy")
        features[modality] = _mapped(file, np.float32, (entries, width))
        _check_finite(file, features[modality])
    times = _mapped(below(store.folder, f"{name}.times.npy"), np.float64, (int(clips.sum()),))
    reasons = {int(i): rows["reason"][int(i)].as_py() or "" for i in np.flatnonzero(clips == 0)}
    return StoredSplit(rows, clips, store.augmented, features, reasons, times)


def _mapped(path: Path, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a .npy file, mapped into memory. Raises UserError for another type or shape."""
    size = check_file(path)
    needed = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not needed <= size <= needed + 4096:
        raise UserError(f"{path} is damaged: it has {size} bytes, but needs {needed}")
    try:
        array = np.load(path, mmap_mode="r" if needed else None, allow_pickle=False)
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({str(error)[:100]})") from None
    if array.dtype != kind or array.shape != shape or not array.flags.c_contiguous:
        raise UserError(f"{path} is damaged: it contains {array.dtype} {list(array.shape)}, not {list(shape)}")
    return array


def _check_finite(path: Path, x: np.ndarray) -> None:
    for start in range(0, len(x), BLOCK):
        if not np.isfinite(x[start : start + BLOCK]).all():
            raise UserError(f"{path} is damaged: it contains NaN or infinite numbers")


def describe_missing(split: StoredSplit) -> str:
    """A sentence about rows without features; empty if there are none."""
    if not split.reasons:
        return ""
    row, why = next(iter(split.reasons.items()))
    return f"{many(len(split.reasons), 'row')} without features; the first is {split.rows['path'][row].as_py()} ({why})"
