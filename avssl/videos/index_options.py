"""The options that an index was made with, in `index.json` beside its tables, and what runs use of them."""

import hashlib
import os
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..config import DataConfig, ExaminedDataConfig, ReadingConfig, TrainedDataConfig
from ..config.from_file import from_plain
from ..config.renamed import translated_index
from ..core.atomic import write_json
from ..core.errors import UserError
from ..core.mapped_rows import BLOCK, Column
from ..core.plurals import counted
from ..core.screen import warn
from ..core.untrusted import field, read_json
from .probe import PROBE_VERSION
from .splits import RESERVED

NOTE = "index.json"

READING = fields(ReadingConfig)


def read_note(index: str | Path) -> dict[str, Any]:
    """The contents of `index.json`; empty if there is none. Raises UserError for a damaged file."""
    path = Path(index) / NOTE
    try:
        note = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{error}: remove it, and run `avssl index` again") from None
    field(note, "root", str, path)
    return note


def root_of(index: str | Path) -> Path | None:
    """The folder of an index's videos; None if there is no index. Raises UserError for a damaged index."""
    root = read_note(index).get("root")
    return None if root is None else Path(root)


def note_begun(folder: Path, data: DataConfig) -> None:
    """Write the root and options of an index in progress; the notes on existing tables stay."""
    root = str(Path(data.root).resolve())
    write_json(folder / NOTE, {**read_note(folder), "root": root, "pending": asdict(data)})


def note_made(folder: Path, data: DataConfig, counts: dict[str, Any]) -> None:
    """Write the options of a completed index, and the numbers of its rows."""
    root = str(Path(data.root).resolve())
    write_json(folder / NOTE, {"root": root, "probe": PROBE_VERSION, "data": asdict(data), **counts})


def own_splits(index: str | Path) -> list[str]:
    """Splits of an index that are named after folders; such a name can be any file name."""
    rows = read_note(index).get("rows")
    names = [name for name in rows if isinstance(name, str)] if isinstance(rows, dict) else []
    return [n for n in names if n and n[0] != "." and n.casefold() not in RESERVED and not set(n) & set("/\\\0")]


@cache
def tell_if_older(index: str) -> None:
    """Print a warning, once, if another version of avssl made the index, because it may have measured differently."""
    note = read_note(index)
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    if first and "data" in note and note.get("probe") != PROBE_VERSION:
        warn(
            f"the index {index} was made by another version of avssl, which measured videos differently: run "
            f"`avssl index` again"
        )


def options_of(index: str | Path, pending: bool = False) -> DataConfig | None:
    """The options that an index was made with; None if there is no index, or it does not record them.

    Args:
        index: the folder of the index.
        pending: prefer the options of a later `avssl index` that was interrupted.

    Raises:
        UserError: the index has unknown options or invalid values.
    """
    note, path = read_note(index), Path(index) / NOTE
    name = "pending" if pending and "pending" in note else "data"
    return from_plain(DataConfig, translated_index(field(note, name, dict, path)), path) if name in note else None


def as_indexed_before(data: ExaminedDataConfig) -> DataConfig:
    """The options to index `data.root` again: those of its index, or the defaults if there is none yet."""
    before = options_of(data.index, pending=True) or DataConfig()
    return replace(before, root=data.root, name=data.name, index=data.index)


def resolve_for_training(data: TrainedDataConfig) -> TrainedDataConfig:
    """`data` completed from its index: the folder of the videos, unless given, and how the videos were probed."""
    made_with = options_of(data.index)
    reading = (
        ReadingConfig() if made_with is None else ReadingConfig(**{f.name: getattr(made_with, f.name) for f in READING})
    )
    return replace(data, root=data.root or str(root_of(data.index) or ""), reading=reading)


def fingerprint(rows: pa.Table) -> dict[str, Any]:
    """The fingerprint of the rows of an index (`read_index`): their number, and digests of paths and windows."""
    paths, digest = Column[str](rows["path"]), hashlib.sha256()
    for start in range(0, len(paths), BLOCK):  # block by block, because all paths take 10 GB at 10⁸ rows
        text = ("\0" if start else "") + "\0".join(paths[start : start + BLOCK])
        digest.update(text.encode(errors="surrogateescape"))
    windows = hashlib.sha256()
    for name in ("window_start", "window_seconds"):
        for block in Column[float](rows[name]).blocks():
            windows.update(block.tobytes())
    return {
        "number": len(paths),
        "digest": digest.hexdigest(),
        "files": paths.distinct(),
        "windows": windows.hexdigest(),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The difference between two fingerprints in a few words; empty if there is none.

    A fingerprint of an earlier version has fewer digests; only those that both have are compared.
    """
    if all(before[key] == now[key] for key in now.keys() & before.keys()):
        return ""
    was, has = (counted(x["number"], x.get("files", x["number"])) for x in (before, now))
    if was != has and before["number"] != now["number"]:
        return f"{was} then, {has} now"
    return "other videos" if before.get("digest") != now["digest"] else "other windows"
