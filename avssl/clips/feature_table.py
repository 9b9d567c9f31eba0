"""The user's own features: a table, .parquet or .npz, with `path` and a column of vectors for each modality."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.model import MODALITIES
from ..core.errors import UserError
from ..core.plurals import many
from ..core.safe_paths import strays
from ..core.tables import MAX_TEXT_BYTES, checked_rows, open_table, parquet_errors
from ..core.untrusted import open_arrays
from ..videos.index import SCHEMA
from ..videos.splits import ALL
from .feature_store import LIMITS, StoredSplit

TEXTS = ("path", "split", "class")
NUMBERS = ("window_start",)
FIX = "give .parquet or .npz with `path` and a column of vectors for each modality (video, audio)"

SPLIT = re.compile(r"\w[\w.-]{0,99}")
"""Matches the name of a split, which becomes a file name in the run's index."""
MAX_SPLITS = 100


@dataclass
class FeatureTable:
    """A checked table of n rows.

    Args:
        path: the file.
        features: float32 [n, D] by modality.
        columns: `path` and, if the table has them, `split`, `class` and `window_start`, [n] each.
        unused: the names of the other columns.
    """

    path: Path
    features: dict[str, np.ndarray]
    columns: dict[str, list[Any]]
    unused: list[str] = field(default_factory=list)

    @property
    def widths(self) -> dict[str, int]:
        """The width D of each modality's features."""
        return {name: x.shape[1] for name, x in self.features.items()}

    def digest(self, modality: str) -> str:
        """The SHA-256 of a modality's features and of their paths."""
        sha256 = hashlib.sha256(json.dumps(self.keys()).encode())
        sha256.update(self.features[modality].tobytes())
        return sha256.hexdigest()

    def keys(self) -> list[tuple[str, float]]:
        """The path and the start of each row's window; 0 without windows."""
        starts = self.columns.get("window_start") or [0.0] * len(self.columns["path"])
        return list(zip(self.columns["path"], starts, strict=True))

    def of_index(self, rows_by_split: dict[str, pa.Table]) -> tuple[dict[str, StoredSplit], list[str]]:
        """The features of the rows of an index, by split, and sentences about rows that do not match.

        Raises:
            UserError: no row matches, or the index has windows and the table has no `window_start`.
        """
        windows = "window_start" in self.columns
        position = {key: i for i, key in enumerate(self.keys())}
        found, used = {}, set()
        for name, rows in rows_by_split.items():
            paths, starts = rows["path"].to_pylist(), rows["window_start"].to_pylist()
            if not windows and len(set(paths)) < len(paths):
                raise UserError(
                    f"{self.path} needs a column window_start, because the index contains windows of videos"
                )
            keys = list(zip(paths, starts if windows else [0.0] * len(paths), strict=True))
            at = np.array([position.get(key, -1) for key in keys], np.int64)
            used |= {int(i) for i in at if i >= 0}
            found[name] = self._stored(rows, at)
        if not used:
            raise UserError(f"{self.path} matches no video of the index: its first path is {self.keys()[0][0]}")
        lines = [
            f"{self.path} has no features for {self._some(s)} of the split {n}" for n, s in found.items() if s.reasons
        ]
        others = [i for i in range(len(position)) if i not in used]
        if others:
            first = self.columns["path"][others[0]]
            lines.append(
                f"{self.path} has {many(len(others), 'row')} of videos outside the index; the first is {first}"
            )
        return found, lines

    def alone(self) -> dict[str, StoredSplit]:
        """The features by the table's own column `split`, or all rows as one split."""
        names = self.columns.get("split") or [ALL] * len(self.columns["path"])
        by_split = {}
        for name in sorted({name or ALL for name in names}):
            at = np.array([i for i, x in enumerate(names) if (x or ALL) == name], np.int64)
            classes = self.columns.get("class") or [None] * len(names)
            starts = self.columns.get("window_start") or [0.0] * len(names)
            known: dict[str, list[Any]] = {
                "path": [self.columns["path"][i] for i in at], "split": [name] * len(at),
                "class": [classes[i] for i in at], "window_start": [starts[i] for i in at],
                "window_seconds": [1.0] * len(at), "variable_rate": [False] * len(at),
                "audio_rate": [int("audio" in self.features)] * len(at),
            }  # fmt: skip
            zeros = {f.name: [0] * len(at) for f in SCHEMA if not pa.types.is_string(f.type)}
            texts = {f.name: [""] * len(at) for f in SCHEMA if pa.types.is_string(f.type)}
            rows = pa.table({f.name: pa.array({**zeros, **texts, **known}[f.name], f.type) for f in SCHEMA})
            by_split[name] = self._stored(rows, at)
        return by_split

    def _stored(self, rows: pa.Table, at: np.ndarray) -> StoredSplit:
        """The rows `at` of the table, -1 for none, as the features of `rows`."""
        clips = (at >= 0).astype(np.int64)
        reasons = {int(i): f"not in {self.path}" for i in np.flatnonzero(clips == 0)}
        first = np.maximum(at, 0)
        return StoredSplit(rows, clips, 0, self.features, reasons, None, first, first)

    def _some(self, stored: StoredSplit) -> str:
        first = stored.rows["path"][next(iter(stored.reasons))].as_py()
        return f"{len(stored.reasons):,} of {many(len(stored.clips), 'row')}, the first {first},"


def read_feature_table(path: str | Path) -> FeatureTable:
    """Read and check an untrusted table.

    Raises:
        UserError: it is missing or has the wrong form, a path occurs twice or leaves its folder, or features are NaN
            or infinite.
    """
    path = Path(path)
    try:
        columns, features, unused = (_of_npz if path.suffix == ".npz" else _of_parquet)(path)
    except FileNotFoundError:
        raise UserError(
            f"there are no features in {path}: give a folder that `avssl features` wrote, or a table"
        ) from None
    except UserError as error:
        raise UserError(f"{error}; {FIX}" if str(path) in str(error) else f"{path}: {error}; {FIX}") from None
    table = FeatureTable(path, features, columns, unused)
    if not features:
        raise UserError(f"{path} has no column of features: {FIX}")
    _check_keys(table)
    for name, x in features.items():
        wrong = ~np.isfinite(x).all(1)
        if wrong.any():
            first = columns["path"][int(np.flatnonzero(wrong)[0])]
            raise UserError(
                f"{path}: the {name} features of {many(int(wrong.sum()), 'row')} are NaN or infinite; the first is "
                f"{first}"
            )
    return table


def _check_keys(table: FeatureTable) -> None:
    if not table.columns["path"]:
        raise UserError(f"{table.path} has no rows")
    twice = [key for key, count in Counter(table.keys()).items() if count > 1]
    if twice:
        raise UserError(f"{table.path} has {many(len(twice), 'path')} more than once; the first is {twice[0][0]}")
    wrong = next((p for p in table.columns["path"] if strays(p)), None)
    if wrong is not None:
        raise UserError(f"{table.path}: the path {wrong!r} {strays(wrong)}: paths are relative to the folder of videos")
    names = {name for name in table.columns.get("split", ()) if name}
    odd = next((name for name in sorted(names) if not SPLIT.fullmatch(name)), None)
    if odd is not None:
        raise UserError(f"{table.path}: the split {odd[:60]!r} is not a valid name: use letters, digits, `_` and `-`")
    if len(names) > MAX_SPLITS:
        raise UserError(f"{table.path} has {len(names)} splits, more than {MAX_SPLITS}: use train, val and test")


Columns = tuple[dict[str, list[Any]], dict[str, np.ndarray], list[str]]


def _of_npz(path: Path) -> Columns:
    known = {*TEXTS, *NUMBERS, *MODALITIES.split()}
    with open_arrays(path) as arrays:
        read = {name: arrays[name] for name in arrays.files if name in known}
        unused = [name for name in arrays.files if name not in known]
    if "path" not in read:
        raise UserError("it has no column path")
    count = len(read["path"]) if read["path"].ndim == 1 else -1
    for name, x in read.items():
        vectors, kinds = name in MODALITIES.split(), "U" if name in TEXTS else "fiu"
        if x.dtype.kind not in kinds or x.ndim != 1 + vectors or len(x) != count or (vectors and not x.shape[1]):
            what = "vectors of numbers, [paths, D]" if vectors else "texts" if name in TEXTS else "numbers"
            raise UserError(f"{name} is {x.dtype} {list(x.shape)}, not {what}")
    columns = {name: read[name].tolist() for name in TEXTS if name in read}
    for name, texts in columns.items():
        wrong = next((x for x in texts if not _is_writable(x)), None)
        if wrong is not None:
            raise UserError(f"{name} has a text that is too long or not UTF-8, {wrong[:40]!r}")
    for name in NUMBERS:
        if name in read:
            columns[name] = (x := read[name].astype(np.float64)).tolist()
            low, high = LIMITS[name]
            if not (fits := (x >= low) & (x <= high)).all():  # false for NaN
                raise UserError(f"{name} is {x[~fits][0]:g}, but must be from {low:g} to {high:g}")
    return columns, {n: _single(read[n]) for n in MODALITIES.split() if n in read}, unused


def _is_writable(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def _single(x: np.ndarray) -> np.ndarray:
    """Numbers as float32; those that are too large become infinite without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32)


def _of_parquet(path: Path) -> Columns:
    schema = pa.schema([("path", pa.string())])
    with open_table(path, schema) as file, parquet_errors(path):
        names = file.schema_arrow.names
        kinds = {"split": pa.string(), "class": pa.string(), "window_start": pa.float64()}
        schema = pa.schema([("path", pa.string()), *((n, k) for n, k in kinds.items() if n in names)])
        features = [name for name in MODALITIES.split() if name in names]
        _check_size(path, file.metadata)
    with open_table(path, schema) as file, parquet_errors(path):
        table = file.read([*schema.names, *features], use_threads=False)
    limits = {name: LIMITS[name] for name in NUMBERS if name in schema.names}
    rows = checked_rows(table, schema, path, ("path",), limits)
    unused = [name for name in names if name not in schema.names and name not in features]
    return {n: rows[n].to_pylist() for n in schema.names}, {n: _vectors(table[n], n) for n in features}, unused


def _check_size(path: Path, metadata: Any) -> None:
    """Raise UserError for a file that unpacks to far more numbers than its size allows, because any number of equal
    values fits into a few bytes."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    numbers = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    if numbers * 4 > max(64 << 20, 20 * path.stat().st_size):
        raise UserError(f"{path} is damaged: it claims {numbers} numbers in {path.stat().st_size} bytes")


def _vectors(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """A column of lists of D numbers as float32 [n, D]."""
    inner = getattr(column.type, "value_type", pa.null())
    if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        raise UserError(f"{name} is not a column of lists of numbers")
    lists = column.combine_chunks()
    numbers = lists.flatten()  # without rows that are null
    lengths = pc.min_max(pc.list_value_length(lists)).as_py()
    if lists.null_count or numbers.null_count or lengths["min"] != lengths["max"] or not lengths["min"]:
        raise UserError(f"{name}: some numbers are missing, or its lists have different lengths")
    return _single(numbers.to_numpy(zero_copy_only=False)).reshape(len(lists), -1)
