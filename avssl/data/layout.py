"""What the folders below a root mean: splits, classes, or nothing."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..config import DataConfig
from ..errors import UserError
from .storage import Shards, open_storage

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ALL = "all"
"""The split of data that has none."""


@dataclass(frozen=True)
class Video:
    """A file below the root, `path` relative to it with forward slashes."""

    path: str
    split: str
    class_name: str | None
    size: int
    mtime_ns: int


def scan(data: DataConfig) -> list[Video]:
    """The videos below `data.root`, sorted by path. UserError where there are none, or the layout does not fit."""
    root = Path(data.root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"data.root={data.root} {what}: give the folder that holds the videos")
    endings = {"." + e.lower().lstrip(".") for e in data.extensions}
    storage = open_storage(root, data.storage)
    found: list[tuple[PurePosixPath, Any]] = []
    if isinstance(storage, Shards):
        found = [(PurePosixPath(path), _Stamp(*stamp)) for path, *stamp in storage.stamps() if _ending(path) in endings]
    seen = set()
    for folder, folders, names in [] if found else os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in endings or not _is_text(str(path)):
                continue
            try:
                found.append((PurePosixPath(path.relative_to(root).as_posix()), path.stat()))
            except OSError:  # a link to nothing
                continue
    if not found:
        raise UserError(
            f"no videos in {data.root}: looked for files ending in {', '.join(sorted(endings))} (data.extensions=…)"
        )
    layout = data.layout if data.layout != "auto" else guess([p for p, _ in found])
    return [_place(path, stat, layout) for path, stat in sorted(found, key=lambda f: str(f[0]))]


class _Stamp(NamedTuple):
    """What `os.stat` told of a member when it was packed."""

    st_size: int
    st_mtime_ns: int


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _is_text(path: str) -> bool:
    """Can the path be stored as Unicode?"""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def guess(paths: list[PurePosixPath]) -> str:
    """`split_class` where every top folder is named as a split; `class` where every video is exactly one folder deep
    and there are two folders or more; else `flat`."""
    tops = {p.parts[0] for p in paths if len(p.parts) > 1}
    if tops and tops <= SPLIT_NAMES.keys() and all(len(p.parts) > 1 for p in paths):
        return "split_class"
    return "class" if len(tops) >= 2 and all(len(p.parts) == 2 for p in paths) else "flat"


def _place(path: PurePosixPath, stat: Any, layout: str) -> Video:
    split, class_name, parts = ALL, None, path.parts
    if layout == "split_class":
        if len(parts) < 2 or parts[0] not in SPLIT_NAMES:
            raise UserError(
                f"{path} is in no split: data.layout=split_class needs {{split}}/{{class}}/{{video}}; try "
                f"data.layout=class or data.layout=flat"
            )
        split = SPLIT_NAMES[parts[0]]
        class_name = parts[1] if len(parts) > 2 else None
    elif layout == "class":
        if len(parts) < 2:
            raise UserError(f"{path} is in no class folder: data.layout=class needs {{class}}/{{video}}; try flat")
        class_name = parts[0]
    return Video(str(path), split, class_name, stat.st_size, stat.st_mtime_ns)
