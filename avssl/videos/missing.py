"""Which videos are to be probed: a list of 10⁸ of them would take 30 GB."""

from collections.abc import Iterator, Sequence
from itertools import compress

from .layout import Video


class Missing:
    """Which of the videos are to be probed, at a byte a video. They are iterated file by file, in order."""

    def __init__(self, videos: Sequence[Video]):
        self.videos, self._flags = videos, bytearray(len(videos))
        self._last = ("", -1)

    def add(self, number: int, video: Video) -> bool:
        """Add the next video; of several that are segments of one file, which follow each other, only the last is
        kept. Whether the file is new."""
        path, before = self._last
        new = path != video.path or before < 0
        if not new:
            self._flags[before] = 0
        self._flags[number], self._last = 1, (video.path, number)
        return new

    def __len__(self) -> int:
        return self._flags.count(1)

    def __iter__(self) -> Iterator[Video]:
        return compress(self.videos, self._flags)
