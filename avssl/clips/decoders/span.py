"""The definition of a clip, which all decoders share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...config import ClipConfig
from ...core.errors import ClipError

NEAR_SECONDS = 0.1
"""Frames no farther apart than this are near each other, whatever the file's rate, s."""

TIME_TOLERANCE = 0.002
"""Precision of frame times, s: Matroska rounds them to 1 ms."""


@dataclass(frozen=True)
class ClipSpec:
    """The length and rates of a clip.

    Args:
        frames: how many; with 0, video is not decoded.
        fps: frames a second.
        audio_rate: samples a second, Hz.
        audio_seconds: length of the audio, s; with 0, audio is not decoded.
    """

    frames: int
    fps: float
    audio_rate: int
    audio_seconds: float

    @classmethod
    def of(cls, config: ClipConfig) -> "ClipSpec":
        """The clips of a configuration."""
        return cls(config.frames, config.fps, config.audio_rate, config.audio_seconds)

    @property
    def seconds(self) -> float:
        """The length of the stretch of the file that a clip covers, s."""
        return max(self.frames / self.fps, self.audio_seconds)

    @property
    def samples(self) -> int:
        """The number of audio samples."""
        return round(self.audio_seconds * self.audio_rate)

    def played(self, speed: float) -> "ClipSpec":
        """The stretch of the file for a clip that plays `speed` times as fast, with as many frames and samples."""
        rate = round(self.audio_rate / speed)
        return replace(self, fps=self.fps / speed, audio_rate=rate, audio_seconds=self.samples / rate)


class Clip(NamedTuple):
    """A decoded clip: `frames` uint8 [T, h, w, 3] RGB, and `samples` float32 [round(audio_seconds * audio_rate)], mono
    in [-1, 1].

    The three colour planes of a frame may lie one after the other in memory. Interleaving them takes longer than
    scaling, and is done after the crop.
    """

    frames: np.ndarray
    samples: np.ndarray


class ClipSpan(NamedTuple):
    """A clip to read from a file: its start (s), and its length and rates."""

    start: float
    spec: ClipSpec

    @property
    def times(self) -> list[float]:
        """The times of its frames, s."""
        return [self.start + k / self.spec.fps for k in range(self.spec.frames)]


def targets(spans: Sequence[ClipSpan]) -> list[float]:
    """The times of all the clips' frames (s), ascending, each once."""
    return sorted({time for clip in spans for time in clip.times})


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) of a frame scaled to that short side, px; the aspect is kept."""
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def turn(before: float, after: float, period: float) -> float:
    """The time (s) from which on the frame at `after` is chosen, and not the one at `before`.

    It is half-way where the two frames are about a frame period of the file apart, so that a clip is neither late nor
    early. Where they are farther apart, as slides are, a frame is chosen as long as it is shown.
    """
    near = after - before <= max(NEAR_SECONDS, 1.5 * period)
    return (before + after) / 2 if near else after - TIME_TOLERANCE


def check_frames(span: ClipSpan, first: float, last: float, until: float, period: float) -> None:
    """Raise ClipError where more than a quarter of the clip's frames are missing in the file.

    The file's first frame is shown at `first`, the last one from `last` to `until` (s), and the usual time between two
    is `period` (s).
    """
    until = max(until, last + max(period, 1 / span.spec.fps))
    missing = sum(t > until or t < first - period for t in span.times)
    if missing > span.spec.frames / 4:
        raise ClipError(f"{missing} of {span.spec.frames} frames missing at {span.start:.2f} s")
