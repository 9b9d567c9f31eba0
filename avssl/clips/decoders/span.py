"""What a clip is, for all decoders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...config import ClipConfig
from ...core.errors import ClipError

NEAR_SECONDS = 0.1
"""Frames at most this far apart count as adjacent, whatever the file's rate, s."""

TIME_TOLERANCE = 0.002
"""Precision of frame times, s; Matroska rounds them to 1 ms."""


@dataclass(frozen=True)
class ClipSpec:
    """The length and rates of a clip.

    Args:
        frames: number of frames; 0: video is not decoded.
        fps: frames per second.
        audio_rate: sampling rate, Hz.
        audio_seconds: duration of the audio, s; 0: audio is not decoded.
    """

    frames: int
    fps: float
    audio_rate: int
    audio_seconds: float

    @classmethod
    def of(cls, config: ClipConfig) -> "ClipSpec":
        """The clips that the options describe."""
        return cls(config.frames, config.fps, config.audio_rate, config.audio_seconds)

    @property
    def seconds(self) -> float:
        """The duration of the part of the file that a clip covers, s."""
        return max(self.frames / self.fps, self.audio_seconds)

    @property
    def samples(self) -> int:
        """The number of audio samples."""
        return round(self.audio_seconds * self.audio_rate)

    def played(self, speed: float) -> "ClipSpec":
        """The part of the file for a clip that plays `speed` times as fast, with the same number of frames and
        samples."""
        rate = round(self.audio_rate / speed)
        return replace(self, fps=self.fps / speed, audio_rate=rate, audio_seconds=self.samples / rate)


class Clip(NamedTuple):
    """A decoded clip: `frames` uint8 [T, h, w, 3] RGB, and `samples` float32 [round(audio_seconds * audio_rate)], mono
    in [-1, 1].

    The three colour planes of a frame may be stored one after the other. Interleaving them takes longer than scaling,
    and is done after the crop.
    """

    frames: np.ndarray
    samples: np.ndarray


class ClipSpan(NamedTuple):
    """A clip to read from a file: its start (s), its length and its rates."""

    start: float
    spec: ClipSpec

    @property
    def times(self) -> list[float]:
        """The times of its frames, s."""
        return [self.start + k / self.spec.fps for k in range(self.spec.frames)]


def targets(spans: Sequence[ClipSpan]) -> list[float]:
    """The times of all clips' frames (s), ascending and without duplicates."""
    return sorted({time for clip in spans for time in clip.times})


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) of a frame scaled to this short side, px; the aspect ratio stays."""
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def turn(before: float, after: float, period: float) -> float:
    """The time (s) from which the frame at `after` is chosen instead of the one at `before`.

    If the two frames are about a frame period of the file apart, it is half-way, so that a clip is neither late nor
    early. If they are farther apart, like slides, a frame is chosen for as long as it is shown.
    """
    near = after - before <= max(NEAR_SECONDS, 1.5 * period)
    return (before + after) / 2 if near else after - TIME_TOLERANCE


def check_frames(span: ClipSpan, first: float, last: float, until: float, period: float) -> None:
    """Raise ClipError if more than a quarter of the clip's frames are missing in the file.

    The file shows its first frame at `first` and its last one from `last` to `until` (s). The usual time between frames
    is `period` (s).
    """
    until = max(until, last + max(period, 1 / span.spec.fps))
    missing = sum(t > until or t < first - period for t in span.times)
    if missing > span.spec.frames / 4:
        raise ClipError(f"{missing} of {span.spec.frames} frames missing at {span.start:.2f} s")
