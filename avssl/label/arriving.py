"""Videos to label: a folder as it is or as it fills, a file, or a list that is read as it comes."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from stat import S_ISREG
from threading import Thread
from typing import Any, BinaryIO

from ..config import FilesConfig
from ..videos.layout import File, find_files, is_text
from ..videos.storage import Folder, Shards, open_storage

BATCH = 64
"""Files handed out at a time: what a kill loses at most."""

POLL = 1.0
"""Time between two looks at a watched folder (s)."""


def in_folder(folder: str, data: FilesConfig) -> tuple[list[File], Folder | Shards]:
    """The videos below a folder (of files, or of shards), sorted by path. UserError where there are none."""
    return find_files(_of(folder, data)), open_storage(folder)


def _of(folder: str, data: FilesConfig) -> Any:
    return FilesConfig(root=folder, extensions=data.extensions)


def named(path: str) -> File | str:
    """The file at a path, itself relative to the root of the file system; or why it is none."""
    if not is_text(path):
        return "its name is not Unicode"
    try:
        stat = os.stat(path)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not S_ISREG(stat.st_mode):
        return "a folder" if os.path.isdir(path) else "not a regular file"
    return File(os.path.abspath(path).lstrip("/"), stat.st_size, stat.st_mtime_ns)


def listed(stream: BinaryIO | None = None) -> Iterator[list[str]]:
    """Paths of a stream (default: standard input), one a line, in batches: those that have come, after a moment."""
    lines: Queue[bytes | None] = Queue(maxsize=10 * BATCH)
    source = sys.stdin.buffer if stream is None else stream

    def read() -> None:
        for line in source:
            lines.put(line)
        lines.put(None)

    Thread(target=read, daemon=True).start()
    ended = False
    while not ended:
        batch: list[str] = []
        until = float("inf")
        while len(batch) < BATCH:
            try:
                # never without a limit: an interrupt would wait for the next line
                line = lines.get(timeout=max(0.0, min(0.5, until - time.monotonic())))
            except Empty:
                if time.monotonic() >= until:
                    break
                continue
            if line is None:
                ended = True
                break
            path = os.fsdecode(line.rstrip(b"\r\n"))
            if path.strip():
                batch.append(path)
                until = min(until, time.monotonic() + 0.2)
        if batch:
            yield batch


def watched(
    folder: str, data: FilesConfig, settle: float, idle: float, stopped: Callable[[], bool]
) -> Iterator[list[File]]:
    """Batches of the files of a folder that are whole and new, as they come; an empty one where none are.

    A file is whole when two looks have found the same size and time of change, and that time, or the first of these
    looks, is `settle` (s) ago. Ends when `stopped` says so, or when nothing has changed for `idle` (s), if that is
    not 0. UserError where the folder is taken away.
    """
    seen: dict[str, tuple[File, float]] = {}  # and when it was first seen so
    done: set[File] = set()
    quiet = time.monotonic()
    while not stopped():
        ready = []
        for file in find_files(_of(folder, data), watched=True):
            now = time.monotonic()
            if file in done:
                continue
            if seen.get(file.path, (None,))[0] != file:
                seen[file.path] = file, now
                quiet = now
                continue
            since = now - seen[file.path][1]
            if since >= settle or time.time() - file.mtime_ns / 1e9 >= settle:
                ready.append(file)
        for start in range(0, len(ready), BATCH):
            if stopped():
                return
            yield ready[start : start + BATCH]
            done.update(ready[start : start + BATCH])
        if ready:
            quiet = time.monotonic()
        elif idle and time.monotonic() - quiet > idle and not [f for f, _ in seen.values() if f not in done]:
            return
        else:
            yield []
        until = time.monotonic() + POLL
        while time.monotonic() < until and not stopped():
            time.sleep(0.1)


def storage_of_list() -> Folder:
    """Where the paths of `named` start."""
    return Folder(Path("/"))
