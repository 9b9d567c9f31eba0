"""The video files below a folder: hidden ones and links that lead nowhere or in circles are skipped, aloud."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import NamedTuple

from ..config import FilesConfig
from ..core.errors import UserError
from ..core.screen import warn
from .storage import Shards, open_storage

SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information", "__pycache__"}
"""Folders of operating systems and storage boxes, in lower case: what lies in them is nobody's data."""


class File(NamedTuple):
    """A file below the root, `path` relative to it with forward slashes. Small: there may be hundreds of thousands."""

    path: str
    size: int
    mtime_ns: int


def find_files(data: FilesConfig, watched: bool = False) -> list[File]:
    """The video files below `data.root`, sorted by path. UserError where there are none.

    A folder that is `watched`, looked at again and again, may be empty, and nothing is said of what is skipped.
    """
    root = Path(data.root)
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"data.root={data.root} {what}: give the folder that holds the videos")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"data.root={data.root} cannot be read: Permission denied; give a folder that you may read")
    endings = {"." + e.lower().lstrip(".") for e in data.extensions}
    storage = open_storage(root)
    if isinstance(storage, Shards):
        found = [File(*stamp) for stamp in storage.stamps() if _ending(stamp[0]) in endings]
    else:
        walk = _Walk(root, endings)
        found = list(walk.files())
        if not watched:
            walk.tell()
    if not found and not watched:
        raise UserError(
            f"no videos in {data.root}: looked for files ending in {', '.join(sorted(endings))}; avssl index takes "
            f"others as data.extensions=…, and a run that was trained on them labels them"
        )
    return sorted(found)


class _Walk:
    """Through the folders below `root`, each once by its real place: folders themselves before links to them."""

    def __init__(self, root: Path, endings: set[str]):
        self.root, self.endings = root, endings
        self.passed: dict[str, list[str]] = {}
        """Paths by the reason for which they were skipped."""
        self.seen: set[str] = set()
        self.links: list[str] = []

    def files(self) -> Iterator[File]:
        yield from self._below(str(self.root))
        above = os.path.realpath(self.root)
        for link in self.links:  # grows: what a link leads to may hold links
            real = os.path.realpath(link)
            if (above + os.sep).startswith(real.rstrip(os.sep) + os.sep):
                self._pass_over(link, "a link to a folder above it")
            elif real in self.seen:
                self._pass_over(link, "a link to a folder that is read already")
            else:
                yield from self._below(link)

    def tell(self) -> None:
        """A line on the terminal for each reason to pass over anything."""
        for why, paths in self.passed.items():
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            first = os.fsencode(paths[0]).decode("utf-8", "backslashreplace")
            warn(f"skipped {first}{more}: {why}")

    def _below(self, top: str) -> Iterator[File]:
        def refused(error: OSError) -> None:
            if not self._hidden(str(error.filename)):
                self._pass_over(str(error.filename), f"a folder, {error.strerror}")

        for folder, folders, names in os.walk(top, onerror=refused):
            hidden = self._hidden(folder)
            real = os.path.realpath(folder)
            if real in self.seen:
                folders.clear()
                continue
            self.seen.add(real)
            if not (folders or names or hidden) and folder != str(self.root):
                self._pass_over(folder, "an empty folder")
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            if not hidden:
                self.links += [os.path.join(folder, name) for name in sorted(links) if not is_hidden(name)]
            folders[:] = sorted(set(folders) - set(links))
            for name in sorted(names):
                if _ending(name) not in self.endings:
                    continue
                if hidden or is_hidden(name):
                    self._pass_over(os.path.join(folder, name), "hidden, or in a hidden or a system's folder")
                elif (file := self._file(os.path.join(folder, name))) is not None:
                    yield file

    def _file(self, path: str) -> File | None:
        if not is_text(path):
            self._pass_over(path, "its name is not Unicode")
            return None
        try:
            stat = os.stat(path)
        except OSError as error:
            self._pass_over(path, f"{'a link to nothing, ' if os.path.islink(path) else ''}{error.strerror}")
            return None
        if not S_ISREG(stat.st_mode):  # a pipe would be waited for
            self._pass_over(path, "not a regular file")
            return None
        return File(Path(path).relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime_ns)

    def _hidden(self, folder: str) -> bool:
        return any(is_hidden(part) for part in Path(folder).relative_to(self.root).parts)

    def _pass_over(self, path: str, why: str) -> None:
        self.passed.setdefault(why, []).append(os.path.relpath(path, self.root))


def is_hidden(name: str) -> bool:
    """Is a file or folder of this name hidden, or a system's?"""
    return name.startswith(".") or name.casefold() in SYSTEM


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def is_text(path: str) -> bool:
    """Can the path be stored as Unicode?"""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
