"""What the folders below a root mean: splits, classes, or nothing."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import NamedTuple

from ..config import DataConfig
from ..errors import UserError
from .storage import Shards, open_storage

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "test": "test",
    "testing": "test",
}
ALL = "all"
"""The split of data that has none."""


class File(NamedTuple):
    """A file below the root, `path` relative to it with forward slashes. Small: there may be hundreds of thousands."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Video:
    """A file below the root, `path` relative to it with forward slashes."""

    path: str
    split: str
    class_name: str | None
    size: int
    mtime_ns: int
    stretch: tuple[float, float] | None = None
    """The annotated start and end in the whole video (s), where the file may be the whole video."""


def scan(data: DataConfig) -> list[Video]:
    """The videos below `data.root`, sorted by path, placed by their folders. UserError where there are none, or the
    layout does not fit."""
    found = find_files(data)
    layout = data.layout if data.layout != "auto" else guess([PurePosixPath(f.path) for f in found])
    videos = [_place(file, layout) for file in found]
    if not data.keep_classes:
        return videos
    kept = {plain(name) for name in data.keep_classes}
    chosen = [v for v in videos if v.class_name is not None and plain(v.class_name) in kept]
    if not chosen:
        raise UserError(
            f"no folder below {data.root} is named as a class of data.keep_classes (as {data.keep_classes[0]}): give "
            f"data.annotations, or data.layout=class or data.layout=split_class"
        )
    return chosen


def plain(class_name: str) -> str:
    """A class's name without what differs between copies of a data set: case, and blanks or underscores."""
    return " ".join(class_name.casefold().replace("_", " ").split())


def find_files(data: DataConfig, watched: bool = False) -> list[File]:
    """The video files below `data.root`, sorted by path. UserError where there are none.

    A folder that is `watched`, looked at again and again, may be empty, and nothing is said of what is passed over.
    """
    root = Path(data.root)
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"data.root={data.root} {what}: give the folder that holds the videos")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"data.root={data.root} cannot be read: Permission denied; give a folder that you may read")
    endings = {"." + e.lower().lstrip(".") for e in data.extensions}
    storage = open_storage(root, data.storage)
    if isinstance(storage, Shards):
        found = [File(*stamp) for stamp in storage.stamps() if _ending(stamp[0]) in endings]
    else:
        found = _walk(root, endings, watched)
    if not found and not watched:
        raise UserError(
            f"no videos in {data.root}: looked for files ending in {', '.join(sorted(endings))}; avssl index takes "
            f"others as data.extensions=…, and a run that was trained on them labels them"
        )
    return sorted(found)


def _walk(root: Path, endings: set[str], quiet: bool) -> list[File]:
    """The files below `root` with these endings; unless `quiet`, a line on the terminal for each reason to pass over
    any."""
    found: list[File] = []
    passed: dict[str, list[str]] = {}

    def pass_over(path: str, why: str) -> None:
        passed.setdefault(why, []).append(os.path.relpath(path, root))

    seen = set()
    for folder, folders, names in os.walk(
        root, followlinks=True, onerror=lambda e: pass_over(str(e.filename), f"a folder, {e.strerror}")
    ):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in endings:
                continue
            if not is_text(str(path)):
                pass_over(str(path), "its name is not Unicode")
                continue
            try:
                stat = path.stat()
            except OSError as error:
                pass_over(str(path), f"{'a link to nothing, ' if path.is_symlink() else ''}{error.strerror}")
                continue
            if not S_ISREG(stat.st_mode):  # a pipe would be waited for
                pass_over(str(path), "not a regular file")
                continue
            found.append(File(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    for why, paths in () if quiet else passed.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        first = os.fsencode(paths[0]).decode("utf-8", "backslashreplace").replace("\n", "\\n")
        print(f"avssl: passed over {first}{more}: {why}", file=sys.stderr, flush=True)
    return found


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def is_text(path: str) -> bool:
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


def _place(file: File, layout: str) -> Video:
    path, split, class_name = file.path, ALL, None
    parts = PurePosixPath(path).parts
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
    return Video(path, split, class_name, file.size, file.mtime_ns)
