"""Counts in words: what has a row may be a video, or a window of one, and the words say which."""

from collections.abc import Collection


def counted(rows: int, videos: int, what: str = "video") -> str:
    """`800 videos`, or `3,200 windows of 800 videos` where videos have several rows."""
    return many(videos, what) if rows == videos else f"{many(rows, 'window')} of {many(videos, what)}"


def counted_paths(paths: Collection[str]) -> str:
    """The same of the paths of rows, one for each row."""
    return counted(len(paths), len(set(paths)))


def unit(rows: int, videos: int) -> str:
    """What a row is: `videos`, or `windows` where videos have several rows."""
    return "videos" if rows == videos else "windows"


def many(count: int, what: str) -> str:
    """`1 video`, `2,000 videos`."""
    return f"{count:,} {what}{'s' * (count != 1)}"
