"""What a clip is, whichever decoder takes it out of a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...config import ClipConfig
from ...core.errors import ClipError

NEAR = 0.1
"""Frames no further apart than this (s) are near each other, whatever the file's rate."""

ROUNDED = 0.002
"""Times of frames are right to this (s): Matroska rounds to 1 ms."""


@dataclass(frozen=True)
class ClipSpec:
    """What a clip is: `frames` at `fps` (1/s), and `audio_seconds` (s) of sound at `audio_rate` (Hz).

    Without frames (0), or without sound (0 s), that stream of the file is not decoded.
    """

    frames: int
    fps: float
    audio_rate: int
    audio_seconds: float

    @classmethod
    def of(cls, config: ClipConfig) -> "ClipSpec":
        """As configured."""
        return cls(config.frames, config.fps, config.audio_rate, config.audio_seconds)

    @property
    def seconds(self) -> float:
        """The stretch of the file that a clip takes (s)."""
        return max(self.frames / self.fps, self.audio_seconds)

    @property
    def samples(self) -> int:
        """Samples of its sound."""
        return round(self.audio_seconds * self.audio_rate)

    def played(self, speed: float) -> "ClipSpec":
        """What to take of the file for a clip that plays `speed` times as fast, with as many frames and samples."""
        rate = round(self.audio_rate / speed)
        return replace(self, fps=self.fps / speed, audio_rate=rate, audio_seconds=self.samples / rate)


class Clip(NamedTuple):
    """`frames` uint8 [T, h, w, 3] RGB, `samples` float32 [round(audio_seconds * audio_rate)] mono in [-1, 1].

    The three planes of a frame may lie one after the other in memory: putting the pixels' bytes side by side takes
    longer than scaling them, and waits until the frames are cropped.
    """

    frames: np.ndarray
    samples: np.ndarray


class ClipSpan(NamedTuple):
    """A clip to take from the file: its start (s), and how much of it at which rates."""

    start: float
    spec: ClipSpec

    @property
    def times(self) -> list[float]:
        """When its frames are shown (s)."""
        return [self.start + k / self.spec.fps for k in range(self.spec.frames)]


def targets(wanted: Sequence[ClipSpan]) -> list[float]:
    """The times of all the clips' frames (s), ascending, each once."""
    return sorted({time for clip in wanted for time in clip.times})


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) with that short side (px), the aspect kept."""
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def turn(before: float, after: float, period: float) -> float:
    """The time (s) from which on the frame shown at `after` is chosen, and not the one at `before`.

    It is half-way where the two follow each other within about a frame period of the file, so that a clip is neither
    late nor early. Where they are further apart, as slides are, a frame is chosen as long as it is shown.
    """
    near = after - before <= max(NEAR, 1.5 * period)
    return (before + after) / 2 if near else after - ROUNDED


def check_frames(wanted: ClipSpan, first: float, last: float, until: float, period: float) -> None:
    """ClipError where the file's frames, the first shown at `first` and the last from `last` to `until` (s), leave a
    quarter of the clip without any."""
    until = max(until, last + max(period, 1 / wanted.spec.fps))
    missing = sum(t > until or t < first - period for t in wanted.times)
    if missing > wanted.spec.frames / 4:
        raise ClipError(f"{missing} of {wanted.spec.frames} frames missing at {wanted.start:.2f} s")
