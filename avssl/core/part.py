"""A part of the work of a command that several jobs share."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

VARIABLE = "AVSSL_PART"
"""The environment variable that tells a process its part, as `number/of`."""

MOST_PARTS = 100_000
"""The most parts of a job."""


@dataclass(frozen=True)
class Part:
    """Part `number`, counted from 0, of `of` parts."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise ValueError(f"there is no part {self.number} of {self.of}")

    def has(self, path: str) -> bool:
        """Whether the file belongs to this part. Only the path decides, so that new files change no other's part."""
        return part_of(path, self.of) == self.number

    def rows(self, count: int) -> range:
        """This part of `range(count)`, in order. The sizes of parts differ by at most 1."""
        return range(self.number * count // self.of, (self.number + 1) * count // self.of)


def part_of(path: str, parts: int) -> int:
    """The part, 0 … parts − 1, to which a file belongs: a hash of its path."""
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % parts


def parts_of(paths: Iterable[str], parts: int) -> "np.ndarray":
    """`part_of` of each of many paths, uint64 [n], at a million paths a second."""
    import numpy as np

    hashed = hashlib.blake2b
    digests = [hashed(path.encode("utf-8", "surrogateescape"), digest_size=8).digest() for path in paths]
    return np.frombuffer(b"".join(digests), "<u8") % np.uint64(parts)


def this_part() -> Part | None:
    """The part that the environment asks of this process; None: all of the work. Raises ValueError for another word."""
    word = os.environ.get(VARIABLE, "")
    number, _, of = word.partition("/")
    part = Part(int(number), int(of)) if word else None
    if part is not None and part.of > MOST_PARTS:
        raise ValueError(f"at most {MOST_PARTS} parts")
    return part
