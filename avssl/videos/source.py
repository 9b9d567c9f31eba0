"""The source of a video's bytes: a file, or a part of a tar file."""

import os
from pathlib import Path
from typing import NamedTuple

from ..core.errors import ClipError


class Member(NamedTuple):
    """An uncompressed part of the file `shard`: `size` bytes from byte `offset` on."""

    shard: str
    offset: int
    size: int


Source = str | Path | Member
"""The argument of `Media` and `read_clips`."""


def url(source: Source) -> str:
    """The source as a URL for FFmpeg, safe for all characters of a file name."""
    if isinstance(source, Member):
        return f"subfile,,start,{source.offset},end,{source.offset + source.size},,:file:{source.shard}"
    return f"file:{source}"


def size(source: Source) -> int:
    """The size in bytes. Raises OSError if the file does not exist."""
    return source.size if isinstance(source, Member) else Path(source).stat().st_size


CHANGED = "has changed since it was indexed"
"""The reason why a replaced video yields no clip."""


class Stamp(NamedTuple):
    """The size (bytes) and modification time (ns since 1970) of a file."""

    size: int
    mtime_ns: int

    def is_of(self, size: int, mtime_ns: int) -> bool:
        """Whether size and time match this stamp. Some file systems round times to one or two seconds."""
        near = mtime_ns % 10**9 == 0 and abs(self.mtime_ns - mtime_ns) < 2 * 10**9
        return self.size == size and (near or self.mtime_ns == mtime_ns)


def check_unchanged(source: Source, indexed: Stamp, packed: Stamp | None = None) -> None:
    """Raise ClipError if a file has changed since it was indexed; the reader reports a missing file.

    Args:
        source: the file.
        indexed: the file's stamp in the index.
        packed: for a member of a shard, the stamp of the file that was packed.
    """
    now = packed
    if now is None:
        try:
            stat = os.stat(str(source))
        except OSError:
            return
        now = Stamp(stat.st_size, stat.st_mtime_ns)
    if not indexed.is_of(*now):
        raise ClipError(CHANGED)


def file_of(source: Source) -> str | Path:
    """The file that contains the source's bytes."""
    return source.shard if isinstance(source, Member) else source
