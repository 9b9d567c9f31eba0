"""What an index was made with: `index.json` beside its tables, and what follows from it for those who read them."""

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
from ..core.plurals import counted
from ..core.screen import warn
from ..core.untrusted import field, read_json
from .probe import PROBE_VERSION
from .splits import RESERVED

NOTE = "index.json"

READING = fields(ReadingConfig)


def read_note(index: str | Path) -> dict[str, Any]:
    """What `index.json` holds, its `root` a text; empty where there is none. UserError for a damaged one."""
    path = Path(index) / NOTE
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{error}; run `avssl index` again, after removing it") from None
    field(found, "root", str, path)
    return found


def root_of(index: str | Path) -> Path | None:
    """The folder of an index's videos; None where there is no index. UserError for a damaged one."""
    root = read_note(index).get("root")
    return None if root is None else Path(root)


def note_begun(folder: Path, data: DataConfig) -> None:
    """Note the root and options of an index that is being made: what was noted of the tables that are there stays."""
    root = str(Path(data.root).resolve())
    write_json(folder / NOTE, {**read_note(folder), "root": root, "pending": asdict(data)})


def note_made(folder: Path, data: DataConfig, counts: dict[str, Any]) -> None:
    """Note what an index that is whole was made with, and how many rows it has."""
    root = str(Path(data.root).resolve())
    write_json(folder / NOTE, {"root": root, "probe": PROBE_VERSION, "data": asdict(data), **counts})


def own_splits(index: str | Path) -> list[str]:
    """Splits of an index by the names of their folders, which may be any name of a file."""
    rows = read_note(index).get("rows")
    names = [name for name in rows if isinstance(name, str)] if isinstance(rows, dict) else []
    return [n for n in names if n and n[0] != "." and n.casefold() not in RESERVED and not set(n) & set("/\\\0")]


@cache
def tell_if_older(index: str) -> None:
    """Say, once, that an index was made by another version of avssl, which may have seen its videos otherwise."""
    note = read_note(index)
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    if first and "data" in note and note.get("probe") != PROBE_VERSION:
        warn(
            f"the index {index} was made by another version of avssl, which measured videos differently: run "
            f"`avssl index` again"
        )


def options_of(index: str | Path, pending: bool = False) -> DataConfig | None:
    """The options that `avssl index` had; with `pending`, those of an `avssl index` that was interrupted since.

    None where there is no index, or one that does not say.

    Raises:
        UserError: the index names options that do not exist, or values that they do not take.
    """
    note, path = read_note(index), Path(index) / NOTE
    name = "pending" if pending and "pending" in note else "data"
    return from_plain(DataConfig, translated_index(field(note, name, dict, path)), path) if name in note else None


def as_indexed_before(data: ExaminedDataConfig) -> DataConfig:
    """What indexes `data.root` anew: as its index was made, and by default where there is none yet."""
    there = options_of(data.index, pending=True) or DataConfig()
    return replace(there, root=data.root, name=data.name, index=data.index)


def resolve_for_training(data: TrainedDataConfig) -> TrainedDataConfig:
    """`data` with what its index says: where the videos are, unless they have moved, and how they were read."""
    there = options_of(data.index)
    reading = ReadingConfig() if there is None else ReadingConfig(**{f.name: getattr(there, f.name) for f in READING})
    return replace(data, root=data.root or str(root_of(data.index) or ""), reading=reading)


def fingerprint(rows: pa.Table) -> dict[str, Any]:
    """What tells the rows of an index (`read_index`) from others: their number, and digests of paths and windows."""
    paths = rows["path"].to_pylist()
    windows = hashlib.sha256()
    for name in ("window_start", "window_seconds"):
        windows.update(rows[name].to_numpy().tobytes())
    return {
        "number": len(paths),
        "digest": hashlib.sha256("\0".join(paths).encode(errors="surrogateescape")).hexdigest(),
        "files": len(set(paths)),
        "windows": windows.hexdigest(),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """How the rows of one `fingerprint` differ from those of another, in a few words; empty where they do not.

    One of an earlier version, with fewer digests, is compared as far as it goes."""
    if all(before[key] == now[key] for key in now.keys() & before.keys()):
        return ""
    was, has = (counted(x["number"], x.get("files", x["number"])) for x in (before, now))
    if was != has and before["number"] != now["number"]:
        return f"{was} then, {has} now"
    return "other videos" if before.get("digest") != now["digest"] else "other windows"
