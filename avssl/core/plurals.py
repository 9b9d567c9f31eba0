"""Counts in words. A row of an index is a video, or a window of one; the words say which."""

from collections.abc import Collection


def counted(rows: int, videos: int, what: str = "video") -> str:
    """`800 videos`, or `3,200 windows of 800 videos` if videos have several rows."""
    return many(videos, what) if rows == videos else f"{many(rows, 'window')} of {many(videos, what)}"


def out_of(part: int, rows: int, videos: int) -> str:
    """`1 of 36 videos`, or `3 of 80 windows of 36 videos`."""
    whole = f"{rows:,} windows of {videos:,}" if rows != videos else f"{videos:,}"
    return f"{part:,} of {whole} videos"


def counted_paths(paths: Collection[str]) -> str:
    """`counted`, for the paths of all rows."""
    return counted(len(paths), len(set(paths)))


def describe_missing_audio(count: int) -> str:
    """`1 video has no audio`, `2 videos have no audio`."""
    return f"{many(count, 'video')} {'has' if count == 1 else 'have'} no audio"


def many(count: int, what: str) -> str:
    """`1 video`, `2,000 videos`, `3 boxes`, `4 classes`."""
    plural = "es" if what.endswith(("x", "ss")) else "s"
    return f"{count:,} {what}{plural * (count != 1)}"
