"""How a video's frames are shown: upright, with square pixels, and within limits of size."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import VideoReformatter

from ..core.errors import ClipError

MOST_PIXELS = 67_000_000
"""Most pixels of a frame (twice those of 8K video), because decoders keep a dozen frames in memory."""

LONGEST_SIDE = 32
"""Largest ratio of a frame's sides; longer frames, scaled by their short side, would fill the memory."""

ALONG = 0.97
"""A row of a display matrix counts as an axis if its cosine with it is at least this, so 14 degrees are ignored."""


class Orientation(NamedTuple):
    """The steps from a coded frame to a shown one, in this order: transpose, mirror, turn upside down."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) at which a frame of this coded size is shown."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """A plane [h, w], or several [..., h, w], as shown: a view."""
        if self.transposed:
            plane = plane.swapaxes(-1, -2)
        return plane[..., :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


AS_CODED = Orientation()
_TURNED = {
    90: Orientation(transposed=True, mirrored=True),
    180: Orientation(mirrored=True, upside_down=True),
    270: Orientation(transposed=True, upside_down=True),
}  # clockwise


def matrix_orientation(matrix: np.ndarray) -> Orientation | None:
    """The orientation of a display matrix int32 [9] of any scale; None if it is none of the eight, but singular, askew,
    or extremely wide.

    A point (x, y) of the coded frame, y downwards, is shown at (a x + c y, b x + d y), where the matrix begins
    a, b, u, c, d (ISO/IEC 14496-12, 6.2.2).
    """
    rows = np.array([matrix[0:2], matrix[3:5]], np.float64)
    lengths = np.hypot(*rows.T)
    if lengths.min() == 0 or lengths.max() > LONGEST_SIDE * lengths.min():
        return None
    (a, b), (c, d) = rows / lengths[:, None]
    if min(abs(a), abs(d)) >= ALONG:
        return Orientation(False, bool(a < 0), bool(d < 0))
    if min(abs(b), abs(c)) >= ALONG:
        return Orientation(True, bool(c < 0), bool(b < 0))
    return None


def tagged_orientation(tags: Mapping[str, str]) -> Orientation:
    """The orientation from the stream's tag `rotate` (degrees clockwise), which older programs wrote instead."""
    for name, value in tags.items():
        if name.lower() == "rotate":
            try:
                return _TURNED.get(round(float(value) / 90) % 4 * 90, AS_CODED)
            except (ValueError, OverflowError):
                return AS_CODED
    return AS_CODED


class Display:
    """How the frames of a stream are shown, by its first decoded frame, its pixels' shape and its tags: turned by
    `orientation`, each pixel `shape` times as wide as high. It is `plain` if the file says nothing about turning.

    A display matrix has precedence over the tag. The pixels' shape (width to height) is the container's, else the
    codec's: `stream.sample_aspect_ratio` has that order, and `shape` is the codec's if it does not know it.
    """

    def __init__(self, stream: Any, frame: Any, shape: Fraction | None = None):
        found = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
        shape = stream.sample_aspect_ratio or shape or Fraction(1)
        if found is None:
            self.orientation = tagged_orientation(stream.metadata)
            self.plain = not any(name.lower() == "rotate" for name in stream.metadata)
        else:
            self.plain = False
            matrix = np.frombuffer(found, np.int32)[:9]
            orientation = matrix_orientation(matrix) if len(matrix) == 9 else None
            self.orientation = AS_CODED if orientation is None else orientation
            if orientation is None and _stretches(matrix, shape):
                shape = stream.codec_context.sample_aspect_ratio or Fraction(1)
        self.shape = shape if shape > 0 else Fraction(1)

    def unturned(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a coded frame with square pixels, before it is turned.

        Raises:
            ClipError: it is too large or too narrow.
        """
        check_size(width, height)
        if self.shape != 1:
            width = max(1, round(width * self.shape))
            check_size(width, height)
        return width, height

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) at which a frame of this coded size is shown. Raises ClipError, as `unturned` does."""
        return self.orientation.size(*self.unturned(width, height))


def _stretches(matrix: np.ndarray, shape: Fraction) -> bool:
    """Whether FFmpeg derived the pixels' shape from this matrix."""
    if len(matrix) != 9:
        return False
    across, down = np.hypot(*np.array([matrix[0:2], matrix[3:5]], np.float64))
    return bool(down > 0 and abs(across / down - 1) > 0.01 and abs(across / down / float(shape) - 1) < 1e-3)


def check_size(width: int, height: int) -> None:
    """Raise ClipError for frames that are too large or too narrow to be decoded and scaled in little memory."""
    if width * height > MOST_PIXELS:
        raise ClipError(f"unreadable: its frames are {width}×{height}, more than {MOST_PIXELS // 10**6} million pixels")
    if max(width, height) > LONGEST_SIDE * max(1, min(width, height)) and min(width, height) > 0:
        raise ClipError(f"unreadable: its frames are {width}×{height}, longer than {LONGEST_SIDE} to 1")


class Resizer:
    """Scales and converts frames in one thread, because the callers run one process per core."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.options: dict[str, int] = {"threads": 1}

    def __call__(self, frame: Any, size: tuple[int, int], pixels: str, interpolation: Any = None) -> Any:
        """The frame at `size` (width, height, px), in FFmpeg's pixel format `pixels`."""
        try:
            return self.reformatter.reformat(frame, *size, pixels, interpolation=interpolation, **self.options)
        except TypeError:  # an older PyAV, without that option
            if not self.options:
                raise
            self.options = {}
            return self(frame, size, pixels, interpolation)
