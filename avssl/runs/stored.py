"""Stored features of a run's videos, which save decoding and encoding clips again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..clips.feature_store import StoredSplit, is_complete_store, open_store
from ..clips.feature_table import read_feature_table
from ..clips.stored_clips import StoredClips
from ..core.checkpoint_file import digest
from ..core.errors import UserError
from ..models.of_table import OfTable
from .open import Source


@dataclass
class Stored:
    """The stored features that a run was trained on, by split."""

    splits: dict[str, StoredSplit]
    is_table: bool
    has_centre: bool
    """Whether a row's clips include the middle one, which gives its label."""


def stored_of(source: Source) -> Stored | None:
    """The features that the run was trained on, or others from its encoders in the usual place; None without any.

    Raises:
        UserError: the run was trained on a table that cannot be read.
    """
    if source.data is None or source.model is None:
        return None
    features = source.data.features
    if of_table(source):
        return _table(features, Path(features).stat().st_mtime_ns if Path(features).is_file() else 0)
    for folder in dict.fromkeys([features, f"features/{source.data.name}"]):
        if folder and is_complete_store(folder) and (found := _of_store(source, folder)) is not None:
            return found
    return None


def _of_store(source: Source, folder: str) -> Stored | None:
    """The features in a store; None if it is damaged, or belongs to other encoders or clips."""
    assert source.model is not None
    try:
        store = open_store(folder)
        if not source.model.encoders.keys() <= store.encoders.keys():
            return None
        if store.clip.identity() != source.clip.identity() or store.precision != source.precision:
            return None
        if any(digest(encoder) != store.weights[name] for name, encoder in source.model.encoders.items()):
            return None
        return Stored({name: store.split(name) for name in store.splits}, False, store.has_centre)
    except UserError:
        return None


@lru_cache(maxsize=1)
def _table(path: str, changed: int) -> Stored:
    return Stored(read_feature_table(path).alone(), True, True)


def of_table(source: Source) -> bool:
    """Whether the run was trained on a table of features, so that it has no encoders."""
    return source.model is not None and any(isinstance(x, OfTable) for x in source.model.encoders.values())


def refuse_table(source: Source, what: str) -> None:
    """Raise UserError for a run without encoders, which cannot do `what`."""
    if of_table(source):
        raise UserError(
            f"{source.name} was trained on a table of features and has no encoders, so it cannot {what}: it can only "
            f"label the features of its table, with `avssl clusters {source.name}`"
        )


def stored_clips(
    source: Source, rows: pa.Table, modalities: Sequence[str], several: bool = False, seed: int = 0
) -> StoredClips | None:
    """The stored features of some rows of an index; None if these must be decoded and encoded.

    Args:
        source: the run.
        rows: rows of an index.
        modalities: the needed modalities.
        several: whether two different clips of each row are needed, instead of the middle one.
        seed: random seed of the draws of clips.

    Raises:
        UserError: the run was trained on a table that contains none of the rows.
    """
    stored = stored_of(source)
    if stored is None or not (several or stored.has_centre):
        return None
    if any(name not in split.features for split in stored.splits.values() for name in modalities):
        return None
    found = _found(stored, rows)
    if found is None or (several and int(found.entries[found.clips > 0].min(initial=2)) < 2):
        return None
    return StoredClips(found, modalities, seed)


def _found(stored: Stored, rows: pa.Table) -> StoredSplit | None:
    """The features of the rows; None if a store lacks any. A table may lack some."""
    columns = ["path", "window_start"] + ([] if stored.is_table else ["window_seconds", "size", "mtime_ns"])
    if stored.is_table and not any(split.rows["window_start"].to_numpy().any() for split in stored.splits.values()):
        columns = ["path"]  # whole videos, which may start later than at 0

    def keys(table: pa.Table) -> list[tuple]:
        return list(zip(*(table[name].to_pylist() for name in columns), strict=True))

    for split in stored.splits.values():
        if not stored.is_table and rows.select(columns).equals(split.rows.select(columns)):
            return split
    place: dict[tuple, tuple[str, int]] = {}
    for name, split in stored.splits.items():
        place |= {key: (name, row) for row, key in enumerate(keys(split.rows))}
    at = [place.get(key) for key in keys(rows)]
    missing = any(x is None for x in at)
    if missing and not stored.is_table:
        return None
    names = {x[0] for x in at if x is not None}
    if len(names) == 1 and not missing:
        return stored.splits[names.pop()].take(np.array([x[1] for x in at if x is not None], np.int64))
    return _centres(stored, rows, at)


def _centres(stored: Stored, rows: pa.Table, at: list[tuple[str, int] | None]) -> StoredSplit:
    """The middle clips of rows of several splits, copied into memory."""
    widths = next(iter(stored.splits.values())).widths
    features = {name: np.zeros((len(at), width), np.float32) for name, width in widths.items()}
    clips, reasons = np.zeros(len(at), np.int64), {i: "no stored features" for i, x in enumerate(at) if x is None}
    for name, split in stored.splits.items():
        here = np.array([i for i, x in enumerate(at) if x is not None and x[0] == name], np.int64)
        theirs = np.array([x[1] for x in at if x is not None and x[0] == name], np.int64)
        usable = split.clips[theirs] > 0
        missing = zip(here[~usable], theirs[~usable], strict=True)
        reasons |= {int(i): split.reasons.get(int(row), "") for i, row in missing}
        clips[here[usable]] = 1
        for modality, x in features.items():
            x[here[usable]] = split.centre(modality, theirs[usable])
    everywhere = np.arange(len(at))
    return StoredSplit(rows, clips, 0, features, reasons, None, everywhere, everywhere)
