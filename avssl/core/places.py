"""The positions of many paths in a file, at about 13 bytes a path: a dictionary takes 160, and 16 GB for 10⁸ paths."""

from array import array

import numpy as np

BUCKETS = 12  # bits: a look-up compares the 24,000 tags of a bucket, of 10⁸, in 5 µs


class Places:
    """Positions by the hash of a path. The paths themselves are not kept.

    The caller reads each position that `of` returns, to see whether it is the path's: two paths may have one hash.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, path: str) -> list[int]:
        """The positions of all paths with the hash of `path`, usually of one or none."""
        bucket, tag = _split(path)
        found = self._buckets.get(bucket)
        return [] if found is None else [found.place(index) for index in found.indices(tag)]

    def put(self, path: str, place: int, instead: int | None = None) -> None:
        """Add a position (below 2⁴⁸), or put it `instead` of the path's earlier one."""
        number, tag = _split(path)
        bucket = self._buckets.setdefault(number, _Bucket())
        if instead is None:
            bucket.append(tag, place)
            self._count += 1
        else:
            bucket.replace(tag, instead, place)


class _Bucket:
    """The tags and positions of the paths whose hashes begin with the same bits, in no order."""

    __slots__ = ("high", "low", "tags")

    def __init__(self) -> None:
        self.tags, self.low, self.high = array("I"), array("I"), array("H")

    def indices(self, tag: int) -> list[int]:
        found: list[int] = np.flatnonzero(np.frombuffer(self.tags, np.uint32) == tag).tolist()
        return found

    def place(self, index: int) -> int:
        return self.high[index] << 32 | self.low[index]

    def append(self, tag: int, place: int) -> None:
        self.tags.append(tag)
        self.low.append(place & 0xFFFFFFFF)
        self.high.append(place >> 32)

    def replace(self, tag: int, before: int, place: int) -> None:
        index = next(index for index in self.indices(tag) if self.place(index) == before)
        self.low[index], self.high[index] = place & 0xFFFFFFFF, place >> 32


class Hashes:
    """A set of paths by their hashes alone, at 8 bytes a path. Complete it with `sort` before it is asked.

    It may hold a path that was never added, once in 10¹¹ questions to 10⁸ paths.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, path: str) -> None:
        self._hashes.append(hash_of(path))

    def sort(self) -> None:
        np.frombuffer(self._hashes, np.uint64).sort()  # in place

    def __contains__(self, path: str) -> bool:
        hashed = np.uint64(hash_of(path))
        hashes = np.frombuffer(self._hashes, np.uint64)
        at = int(np.searchsorted(hashes, hashed))
        return at < len(hashes) and bool(hashes[at] == hashed)


def hash_of(path: str) -> int:
    """64 bits. They differ from process to process, so that nobody can make a file of paths that collide."""
    return hash(path) & 0xFFFFFFFFFFFFFFFF


def _split(path: str) -> tuple[int, int]:
    """The bucket of a path, and its tag in the bucket."""
    hashed = hash_of(path)
    return hashed >> (64 - BUCKETS), hashed >> (32 - BUCKETS) & 0xFFFFFFFF
