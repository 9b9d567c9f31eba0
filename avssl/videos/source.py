"""What is opened for a video: a file, or a stretch of one."""

import os
from pathlib import Path
from typing import NamedTuple

from ..core.errors import ClipError


class Member(NamedTuple):
    """`size` bytes of the file `shard`, from byte `offset` on, uncompressed."""

    shard: str
    offset: int
    size: int


Source = str | Path | Member
"""What `Media` and `read_clips` open."""


def url(source: Source) -> str:
    """The source as FFmpeg names it, whatever characters its name has."""
    if isinstance(source, Member):
        return f"subfile,,start,{source.offset},end,{source.offset + source.size},,:file:{source.shard}"
    return f"file:{source}"


def size(source: Source) -> int:
    """Bytes. Raises OSError where a file is not there."""
    return source.size if isinstance(source, Member) else Path(source).stat().st_size


CHANGED = "has changed since it was indexed"
"""Why a video that was replaced gives no clip."""


class Stamp(NamedTuple):
    """The size (bytes) and time of change (ns since 1970) of a file, as the index has them."""

    size: int
    mtime_ns: int

    def is_of(self, size: int, mtime_ns: int) -> bool:
        """Is a file of this size and time the same? Some copies keep times to the second, or to two."""
        near = mtime_ns % 10**9 == 0 and abs(self.mtime_ns - mtime_ns) < 2 * 10**9
        return self.size == size and (near or self.mtime_ns == mtime_ns)


def check_unchanged(source: Source, indexed: Stamp, packed: Stamp | None = None) -> None:
    """ClipError where a file is not the one that was indexed; one that is gone is left for its reader to report.

    `packed` is the stamp of the file that a member of a shard was made of.
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
    """The file that holds the source's bytes."""
    return source.shard if isinstance(source, Member) else source
