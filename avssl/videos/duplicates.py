"""Find files with the same content: compare their sizes, then their ends, then all of their bytes."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from ..core.journal import Journal
from ..core.progress import track
from .journal_entries import is_hashed
from .layout import File
from .source import Member, Source, size
from .storage import open_storage

ENDS = 1 << 16
"""Bytes at each end of a file that are compared before the whole file."""

JOURNAL = "hashes.jsonl"
VERSION = 1

Key = TypeVar("Key", bound=Hashable)


def find_duplicates(files: Iterable[File], root: Path, folder: Path, workers: int) -> list[list[str]]:
    """Find files with the same bytes.

    Only files of equal size are opened, and only those with the same 64 KiB at both ends are read completely. A journal
    in `folder` stores the hashes.

    Args:
        files: the files.
        root: the folder that their paths are relative to.
        folder: the folder of the journal.
        workers: number of threads that read files.

    Returns:
        Sorted groups of two or more paths. Files that cannot be read are in no group.
    """
    with Journal(folder / JOURNAL, VERSION, is_hashed) as journal, ThreadPoolExecutor(max(1, workers)) as pool:

        def split(groups: list[list[File]], whole: bool) -> list[list[File]]:
            """Split each of `groups` into groups with the same hash."""
            todo = [file for group in groups for file in group if _stored(journal, file, whole) is None]
            unreadable = set()
            for file, digest in track(_hashes(todo, root, whole, pool), "comparing", len(todo)):
                if digest is None:
                    unreadable.add(file.path)
                else:
                    _store(journal, file, whole, digest)
            result: list[list[File]] = []
            for group in groups:
                result += _groups((_stored(journal, f, whole), f) for f in group if f.path not in unreadable)
            return result

        alike = split(_groups((file.size, file) for file in files), whole=False)
        same = [group for group in alike if group[0].size <= 2 * ENDS]
        same += split([group for group in alike if group[0].size > 2 * ENDS], whole=True)
    return sorted(sorted(file.path for file in group) for group in same)


def _hashes(files: list[File], root: Path, whole: bool, pool: ThreadPoolExecutor) -> Iterator[tuple[File, str | None]]:
    """Each file with its hash; the pool gets a few hundred files at a time."""
    storage = open_storage(root)
    for first in range(0, len(files), 512):
        block = files[first : first + 512]
        yield from zip(block, pool.map(lambda file: _hash(storage.locate(file.path), whole), block), strict=True)


def _groups(pairs: Iterable[tuple[Key, File]]) -> list[list[File]]:
    """The files of each key with two or more files."""
    by_key: dict[Key, list[File]] = defaultdict(list)
    for key, file in pairs:
        by_key[key].append(file)
    return [group for group in by_key.values() if len(group) > 1]


def _stored(journal: Journal, file: File, whole: bool) -> str | None:
    entry = journal.get(file.path)
    if entry is None or (entry["size"], entry["mtime_ns"]) != (file.size, file.mtime_ns):
        return None
    return entry.get("whole" if whole else "ends")


def _store(journal: Journal, file: File, whole: bool, digest: str) -> None:
    hashes = {"ends": _stored(journal, file, False), "whole": digest} if whole else {"ends": digest}
    journal.add(file.path, {"size": file.size, "mtime_ns": file.mtime_ns, **hashes})


def _hash(source: Source, whole: bool) -> str | None:
    """The hash of both ends of a file, or of the whole file; None if it cannot be read."""
    digest = blake2b(digest_size=16)
    shard, start = (source.shard, source.offset) if isinstance(source, Member) else (source, 0)
    try:
        end = start + size(source)
        with Path(shard).open("rb") as file:
            file.seek(start)
            if not whole:
                digest.update(file.read(min(ENDS, end - start)))
                file.seek(max(file.tell(), end - ENDS))
            while block := file.read(min(1 << 20, end - file.tell())):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
