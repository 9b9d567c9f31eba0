"""A journal of results by path: one JSON line per result, appended at once and read one at a time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .atomic import atomic_path, naming
from .errors import UserError
from .places import Hashes, Places

MAX_LINE_BYTES = 4 << 20
"""Longest line of an entry."""


class Journal:
    """The newest entry of each path, in a file that is only appended to, so that a kill loses at most one line.

    Only the position of each entry in the file is kept in memory, in about 13 bytes (`Places`). Entries of another
    version are ignored. The file is compacted, atomically, once ignored and replaced entries outnumber the others.
    Use it as a context.

    Args:
        path: the file, created if it is missing.
        version: the version of the entries.
        valid: a test for entries of earlier commands; those that fail it are ignored.
        read_only: change nothing, because another process may write to the file; the file must exist.

    Raises:
        UserError: the path is not a regular file.
    """

    def __init__(
        self, path: str | Path, version: int, valid: Callable[[dict[str, Any]], bool] = lambda entry: True,
        read_only: bool = False,
    ):  # fmt: skip
        self.path, self.version, self.valid = Path(path), version, valid
        self.read_only = read_only
        self._places, self._outdated = Places(), Hashes()
        if self.path.exists() and not self.path.is_file():
            raise UserError(f"{self.path} is not a regular file: remove it")
        self._file: BinaryIO = self.path.open("rb" if read_only else "a+b")
        stale = self._read()
        self._own_start = self._file.seek(0, 2)
        if not read_only and stale > 1000 + len(self._places):
            self._compact()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def paths(self) -> Iterator[str]:
        """All paths that have an entry, in the order of their first ones. They are read from the file."""
        replaced: set[str] = set()  # paths whose newest entry comes later in the file
        for place, line in self._lines(self._file.seek(0, 2)):
            version, path = _head(line)
            if version != self.version or path is None or path in replaced:
                continue
            if place not in self._places.of(path):
                replaced.add(path)
            yield path

    def get(self, path: str) -> dict[str, Any] | None:
        """The newest entry of `path`, or None."""
        place, entry = self._find(path)  # reads the entry, to compare its path
        return entry if entry is None or place >= self._own_start or self.valid(entry) else None

    def is_outdated(self, path: str) -> bool:
        """Whether `path` has entries, but none of this version."""
        return path in self._outdated and self._find(path)[1] is None

    def add(self, path: str, entry: dict[str, Any]) -> None:
        """Append an entry and flush it."""
        before, found = self._find(path)
        place = self._file.seek(0, 2)
        with naming(self.path):
            self._file.write(self._line(path, entry))
            self._file.flush()
        self._places.put(path, place, None if found is None else before)

    def _find(self, path: str) -> tuple[int, dict[str, Any] | None]:
        """The position of the newest entry of `path`, and the entry; None if there is none."""
        for place in self._places.of(path):
            self._file.seek(place)
            entry: dict[str, Any] = json.loads(self._file.readline())
            if entry["path"] == path:
                return place, entry
        return 0, None

    def _line(self, path: str, entry: dict[str, Any]) -> bytes:
        return json.dumps({"version": self.version, "path": path, **entry}).encode() + b"\n"

    def _read(self) -> int:
        """Find the entries' positions, and return the number of ignored lines. A line cut by a kill gets a line end."""
        stale, line = 0, b"\n"
        for place, line in self._lines(self._file.seek(0, 2)):
            version, path = _head(line)
            if path is not None and version == self.version:
                before, found = self._find(path)
                stale += found is not None
                self._places.put(path, place, None if found is None else before)
                continue
            stale += 1
            if path is not None:
                self._outdated.add(path)
        self._outdated.sort()
        if not line.endswith(b"\n") and not self.read_only:
            self._file.write(b"\n")
            self._file.flush()
        return stale

    def _lines(self, end: int) -> Iterator[tuple[int, bytes]]:
        """The lines before `end`, with their positions. Between two of them, other entries may be read.

        A line that is too long comes in parts without a line end, which are ignored.
        """
        place = 0
        while place < end:
            self._file.seek(place)  # without a read if it is where the file is
            line = self._file.readline(MAX_LINE_BYTES)
            if not line:
                return
            yield place, line
            place += len(line)

    def _compact(self) -> None:
        with atomic_path(self.path) as temporary:
            with temporary.open("wb") as file:
                for path in self.paths():
                    self._file.seek(self._find(path)[0])
                    file.write(self._file.readline())
            self._file.close()
        self._file, self._places = self.path.open("a+b"), Places()
        self._read()
        self._own_start = self._file.seek(0, 2)


def _head(line: bytes) -> tuple[Any, str | None]:
    """The version and the path of a line. The path is None if the line is damaged."""
    try:
        entry = json.loads(line)
        if line.endswith(b"\n") and isinstance(entry["path"], str):
            return entry["version"], entry["path"]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None, None
