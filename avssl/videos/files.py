"""The video files below a folder. Hidden files, broken links and circular links are skipped with a message."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from ..config import FilesConfig
from ..core.errors import UserError
from ..core.screen import warn
from .many_files import File as File
from .many_files import sorted_files
from .storage import Shards, open_storage

SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information", "__pycache__"}
"""Folders that operating systems and storage devices create, in lower case. Their files are ignored."""


def find_files(data: FilesConfig, watched: bool = False) -> list[File]:
    """`list_files` as a list."""
    return list(list_files(data, watched))


def list_files(data: FilesConfig, watched: bool = False) -> Sequence[File]:
    """The video files below `data.root`, sorted by path. Very many are in a file on disk, not in memory.

    Args:
        data: the folder, and which files are videos.
        watched: the folder is scanned repeatedly: it may be empty, and no messages about skipped files are printed.

    Raises:
        UserError: the folder is missing, cannot be read, or has no videos.
    """
    root = Path(data.root)
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"data.root={data.root} {what}: give the folder of your videos")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"data.root={data.root} cannot be read (permission denied): give a folder that you may read")
    endings = {"." + e.lower().lstrip(".") for e in data.extensions}
    storage = open_storage(root)
    if isinstance(storage, Shards):
        files = sorted_files(File(*stamp) for stamp in storage.stamps() if _ending(stamp[0]) in endings)
    else:
        walk = _Walk(root, endings)
        files = sorted_files(walk.files())
        if not watched:
            walk.report_skipped()
    if not files and not watched:
        raise UserError(
            f"there are no videos in {data.root}: no file ends in {', '.join(sorted(endings))}; give other endings to "
            f"`avssl index` as data.extensions=…; a run that was trained on such files can also label them"
        )
    return files


class _Walk:
    """Goes through the folders below `root`, each once by its real path, and folders before links to them."""

    def __init__(self, root: Path, endings: set[str]):
        self.root, self.endings = root, endings
        self.skipped: dict[str, list[str]] = {}
        """Skipped paths, by reason."""
        self.seen: set[str] = set()
        self.links: list[str] = []

    def files(self) -> Iterator[File]:
        yield from self._below(str(self.root))
        above = os.path.realpath(self.root)
        for link in self.links:  # the list grows: a linked folder may contain links
            real = os.path.realpath(link)
            if (above + os.sep).startswith(real.rstrip(os.sep) + os.sep):
                self._skip(link, "a link to a folder above it")
            elif real in self.seen:
                self._skip(link, "a link to a folder that is already read")
            else:
                yield from self._below(link)

    def report_skipped(self) -> None:
        """Print a line for each reason for which paths were skipped."""
        for why, paths in self.skipped.items():
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            first = os.fsencode(paths[0]).decode("utf-8", "backslashreplace")
            warn(f"skipped {first}{more}: {why}")

    def _below(self, top: str) -> Iterator[File]:
        def refused(error: OSError) -> None:
            if not self._hidden(str(error.filename)):
                self._skip(str(error.filename), f"a folder, {error.strerror}")

        for folder, folders, names in os.walk(top, onerror=refused):
            hidden = self._hidden(folder)
            real = os.path.realpath(folder)
            if real in self.seen:
                folders.clear()
                continue
            self.seen.add(real)
            if not (folders or names or hidden) and folder != str(self.root):
                self._skip(folder, "an empty folder")
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            if not hidden:
                self.links += [os.path.join(folder, name) for name in sorted(links) if not is_hidden(name)]
            folders[:] = sorted(set(folders) - set(links))
            for name in sorted(names):
                if _ending(name) not in self.endings:
                    continue
                if hidden or is_hidden(name):
                    self._skip(os.path.join(folder, name), "hidden, or in a hidden or a system's folder")
                elif (file := self._file(os.path.join(folder, name))) is not None:
                    yield file

    def _file(self, path: str) -> File | None:
        if not is_text(path):
            self._skip(path, "its name is not Unicode")
            return None
        try:
            stat = os.stat(path)
        except OSError as error:
            self._skip(path, f"{'a link to nothing, ' if os.path.islink(path) else ''}{error.strerror}")
            return None
        if not S_ISREG(stat.st_mode):  # opening a pipe would wait forever
            self._skip(path, "not a regular file")
            return None
        return File(Path(path).relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime_ns)

    def _hidden(self, folder: str) -> bool:
        return any(is_hidden(part) for part in Path(folder).relative_to(self.root).parts)

    def _skip(self, path: str, why: str) -> None:
        self.skipped.setdefault(why, []).append(os.path.relpath(path, self.root))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one of `SYSTEM`."""
    return name.startswith(".") or name.casefold() in SYSTEM


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def is_text(path: str) -> bool:
    """Whether the path can be stored as Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
