"""Match files to annotated videos by the id in their names, whatever the layout of the folders."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import DataConfig
from ..core.atomic import atomic_path
from ..core.csv_cells import quoted_row
from ..core.errors import UserError
from .annotations import BY_NAME, Entry, read_annotations
from .layout import Video, find_files, plain

MISSING, UNLISTED = "missing.csv", "unlisted.csv"

TIMES = re.compile(r"_(\d+(?:\.\d+)?)(?:_\d+(?:\.\d+)?)?")
"""The start, and usually the end, which follow the id in the name of a cut file."""

PREFIXES = ("v_", "Y")
"""Prefixes that some tools put before an id."""


@dataclass
class Matched:
    """The annotated videos that have a file, sorted by path, with counts by split."""

    videos: list[Video] = field(default_factory=list)
    annotated: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    classes: int = 0
    unlisted: int = 0
    """Number of files without an annotation, and of further copies of annotated ones."""
    left_out: int = 0
    """Number of files whose annotation is in no split of this fold, or has a class that is not kept."""


def match_annotations(data: DataConfig, folder: Path) -> Matched:
    """Match `data.annotations` to the files below `data.root`.

    Annotated videos without a file are written to `folder`/missing.csv, files without an annotation to
    `folder`/unlisted.csv. Only the list of files is kept in memory; annotations are read line by line.

    Raises:
        UserError: no file is annotated, or for the reasons of `read_annotations` and `find_files`.
    """
    matcher, entries = _Matcher(data), read_annotations(data)
    with ExitStack() as stack:
        missing = stack.enter_context(_table(folder / MISSING, ["split", "class", "id", "start", "end"]))
        unlisted = stack.enter_context(_table(folder / UNLISTED, ["path", "reason"]))
        for entry in entries:
            if not matcher.take(entry):
                missing([entry.split, entry.class_name, entry.key, entry.start, entry.end])
        result = matcher.result()
        if not result.videos:
            kept = f" of a class as {data.keep_classes[0]}" if data.keep_classes else ""
            raise UserError(
                f"{data.annotations} lists no file below {data.root}{kept}: files have names such as "
                f"{PurePosixPath(matcher.files[0].path).name}, but must have {_shape(data)}"
            )
        for path, reason in matcher.unlisted():
            result.unlisted += 1
            unlisted([path, reason])
    return result


def _shape(data: DataConfig) -> str:
    if data.format in BY_NAME:
        return "the names of the split files"
    return "the ids of the split files: <id>.mp4, <id>_<start>.mp4 or <id>_<start>_<end>.mp4"


def possible_ids(stem: str) -> Iterator[str]:
    """The ids that a name may contain. An id may itself contain `_` and digits, and begin with `-`."""
    for name in (stem, *(stem.removeprefix(p) for p in PREFIXES if stem.startswith(p))):
        yield name
        for _ in range(2):
            name, mark, time = name.rpartition("_")
            if not mark or not name or not time.replace(".", "", 1).isdecimal():
                break
            yield name


def start_in_name(stem: str, key: str) -> float | None:
    """The start in a name, after the id `key` that it contains; None if there is none."""
    times = TIMES.fullmatch(stem[stem.index(key) + len(key) :])
    return None if times is None else float(times[1])


def same_start(named: float, start: float) -> bool:
    """Whether the start in a name, in seconds or milliseconds, is `start` (s)."""
    return abs(named - start) < 1 or (named >= 1000 and abs(named / 1000 - start) < 1)


class _Matcher:
    def __init__(self, data: DataConfig):
        self.data = data
        self.files = find_files(data)
        self.by_name = data.format in BY_NAME
        self.kept = {plain(name) for name in data.keep_classes}
        self.readings: dict[str, int | list[int]] = {}  # possible id → the files that may have it
        for i, file in enumerate(self.files):
            for name in self._readings(PurePosixPath(file.path).stem):
                others = self.readings.get(name)
                if others is None:
                    self.readings[name] = i
                elif isinstance(others, int):
                    self.readings[name] = [others, i]
                else:
                    others.append(i)
        self.rows: dict[int, list[Video]] = {}
        self.out: set[int] = set()
        self.copies: set[int] = set()
        self.matched = Matched()
        self.classes: set[str] = set()

    def _readings(self, stem: str) -> Iterator[str]:
        yield from [stem.casefold()] if self.by_name else possible_ids(stem)

    def _start(self, file: int, key: str) -> float | None:
        return start_in_name(PurePosixPath(self.files[file].path).stem, key)

    def _fits(self, file: int, entry: Entry) -> bool:
        """Whether the start in a file's name is the entry's start."""
        if self.by_name or entry.start is None:
            return True
        start = self._start(file, entry.key)
        return start is None or same_start(start, entry.start)

    def take(self, entry: Entry) -> bool:
        """Match an entry to its files. Returns False if the entry should be used but has no file."""
        named = self.readings.get(entry.key.casefold() if self.by_name else entry.key, [])
        files = [i for i in ([named] if isinstance(named, int) else named) if self._fits(i, entry)]
        if entry.split is None or (self.kept and plain(entry.class_name or "") not in self.kept):
            self.out.update(files)
            return True
        if entry.class_name is not None:
            self.classes.add(entry.class_name)
        if not files:
            self.matched.annotated[entry.split] += 1
            return False
        if len(files) > 1:
            files.sort(key=lambda i: self._distance(i, entry))
            self.copies.update(files[1:])
        video = self._video(files[0], entry)
        rows = self.rows.setdefault(files[0], [])
        if video not in rows:
            rows.append(video)
            self.matched.annotated[entry.split] += 1
            self.matched.found[entry.split] += 1
        return True

    def _distance(self, file: int, entry: Entry) -> tuple[bool, int]:
        """The sort key of an entry's files: files in the class's folder first, then those with short names."""
        path = PurePosixPath(self.files[file].path)
        return plain(path.parent.name) != plain(entry.class_name or ""), len(path.stem)

    def _video(self, file: int, entry: Entry) -> Video:
        path, size, mtime_ns = self.files[file]
        stretch = None
        if entry.start is not None and entry.end is not None and self.data.trimmed != "always":
            whole = self.data.trimmed == "never" or self._start(file, entry.key) is None
            stretch = (entry.start, entry.end) if whole else None
        assert entry.split is not None
        return Video(path, entry.split, entry.class_name, size, mtime_ns, stretch)

    def result(self) -> Matched:
        matched = self.matched
        matched.videos = [video for file in sorted(self.rows) for video in self.rows[file]]
        matched.classes = len(self.classes)
        matched.left_out = len(self.out - self.rows.keys())
        return matched

    def unlisted(self) -> Iterator[tuple[str, str]]:
        """Yield the files that are not used, with the reason."""
        for i, file in enumerate(self.files):
            if i not in self.rows and i not in self.out:
                yield file.path, "another file of an annotated video" if i in self.copies else "not annotated"


@contextmanager
def _table(path: Path, columns: list[str]) -> Iterator[Any]:
    """A context that yields a function, which writes a row of a CSV file. The file appears if no error occurs."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        yield lambda row: rows.writerow(quoted_row(row))
