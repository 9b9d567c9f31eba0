"""A journal of results by path: one JSON line per result, appended at once and read one at a time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .atomic import atomic_path, naming
from .errors import UserError

MAX_LINE_BYTES = 4 << 20
"""Longest line of an entry."""


class Journal:
    """The newest entry of each path, in a file that is only appended to, so that a kill loses at most one line.

    Only the position of each entry in the file is kept in memory. Entries of another version are ignored. The file is
    compacted, atomically, once ignored and replaced entries outnumber the others. Use it as a context.

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
        self._places: dict[str, int] = {}
        self._outdated: set[str] = set()
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

    def paths(self) -> list[str]:
        """All paths that have an entry."""
        return list(self._places)

    def get(self, path: str) -> dict[str, Any] | None:
        """The newest entry of `path`, or None."""
        place = self._places.get(path)
        if place is None:
            return None
        self._file.seek(place)
        entry = json.loads(self._file.readline())
        return entry if place >= self._own_start or self.valid(entry) else None

    def is_outdated(self, path: str) -> bool:
        """Whether `path` has entries, but none of this version."""
        return path in self._outdated and path not in self._places

    def add(self, path: str, entry: dict[str, Any]) -> None:
        """Append an entry and flush it."""
        self._places[path] = self._file.seek(0, 2)
        with naming(self.path):
            self._file.write(self._line(path, entry))
            self._file.flush()

    def _line(self, path: str, entry: dict[str, Any]) -> bytes:
        return json.dumps({"version": self.version, "path": path, **entry}).encode() + b"\n"

    def _read(self) -> int:
        """Find the entries' positions, and return the number of ignored lines. A line cut by a kill gets a line end."""
        self._file.seek(0)
        place, stale, line = 0, 0, b"\n"
        for line in self._lines():
            try:
                entry = json.loads(line)
                if entry["version"] == self.version and line.endswith(b"\n"):
                    stale += entry["path"] in self._places
                    self._places[str(entry["path"])] = place
                else:
                    stale += 1
                    if entry["version"] != self.version:
                        self._outdated.add(str(entry["path"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                stale += 1
            place += len(line)
        if not line.endswith(b"\n") and not self.read_only:
            self._file.write(b"\n")
            self._file.flush()
        return stale

    def _lines(self) -> Iterator[bytes]:
        """The lines. A line that is too long comes in parts without a line end, which are ignored."""
        while line := self._file.readline(MAX_LINE_BYTES):
            yield line

    def _compact(self) -> None:
        places: dict[str, int] = {}
        with atomic_path(self.path) as temporary:
            with temporary.open("wb") as file:
                for path, place in self._places.items():
                    self._file.seek(place)
                    places[path] = file.tell()
                    file.write(self._file.readline())
            self._file.close()
        self._file, self._places = self.path.open("a+b"), places
        self._own_start = self._file.seek(0, 2)
