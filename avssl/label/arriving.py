"""Find the videos to label: in a folder, in a folder that is watched for new files, or in a list of paths."""

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
"""Files per batch; a killed process loses at most this many results."""

POLL = 1.0
"""Seconds between two scans of a watched folder."""


def in_folder(folder: str, data: FilesConfig) -> tuple[list[File], Folder | Shards]:
    """The videos below a folder of files or shards, sorted by path. Raises UserError if there are none."""
    return find_files(_files_of(folder, data)), open_storage(folder)


def _files_of(folder: str, data: FilesConfig) -> Any:
    return FilesConfig(root=folder, extensions=data.extensions)


def named(path: str) -> File | str:
    """The file at `path`, relative to the root of the file system, or the reason why it is not a file."""
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
    """Paths from a stream (default: standard input), one per line, in batches of those that have arrived so far."""
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
                # always with a time limit; without one, an interrupt would wait for the next line
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
    """Yield batches of the new, completely written files of a folder, and an empty batch while there are none.

    A file is complete once two scans have found the same size and modification time, and that time, or the first of
    these scans, is at least `settle` seconds ago.

    Args:
        folder: the folder to watch.
        data: which files are videos.
        settle: see above, s.
        idle: end once no file has changed for this long, s; 0: never.
        stopped: called often; the generator ends once it returns True.

    Raises:
        UserError: the folder has disappeared.
    """
    seen: dict[str, tuple[File, float]] = {}  # each file as last seen, and when it was first seen in this state
    done: set[File] = set()
    quiet = time.monotonic()  # the time of the last change
    while not stopped():
        ready = []
        for file in find_files(_files_of(folder, data), watched=True):
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
    """The storage that the paths of `named` are relative to."""
    return Folder(Path("/"))
