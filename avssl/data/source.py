"""What is opened for a video: a file, or a stretch of one."""

from pathlib import Path
from typing import NamedTuple


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


def file_of(source: Source) -> str | Path:
    """The file that holds the source's bytes."""
    return source.shard if isinstance(source, Member) else source
