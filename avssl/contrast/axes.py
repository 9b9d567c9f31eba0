"""The axes of a composition: one object for each transformation (GDT §3: t_m of T = t_M ∘ … ∘ t_1).

An axis of your own is a subclass that says how many levels it has, how their values are drawn and how they change a
clip; the composition, the batch and the loss need nothing else:

    @dataclass(frozen=True)
    class Echo(Axis):
        name: str = "echo"

        def apply(self, frames, sound, level, values):
            return frames, sound if level == 0 else sound + 0.5 * sound.roll(2400, -1)
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from ..core.errors import ClipError

Pair = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True)
class ClipRequest:
    """One clip to decode: from `start` (s), played `speed` times as fast.

    It takes `speed` times a clip's seconds of the file, as frames at fps / speed and sound at rate / speed, so that
    it has as many frames and samples as any other clip.
    """

    start: float
    speed: float = 1.0


@dataclass(frozen=True)
class Axis:
    """A transformation with `levels` values per video. The code of a clip along the axis is the level's number.

    `stage` is where it is applied: "decode", a clip of its own from the same open file; "augment", a copy made before
    the random augmentation, which is then drawn anew for it; "free", after augmentation and batched on the device.
    `changes` names the modalities it changes: only those can be distinct to it.
    """

    name: str
    levels: int = 2
    stage: Literal["decode", "augment", "free"] = "free"
    changes: frozenset[str] = frozenset({"video", "audio", "text"})

    @property
    def stretch(self) -> float:
        """The longest stretch of the file that a clip takes, in clips."""
        return 1.0

    def required(self, clip: float, distinct: bool) -> float:
        """The shortest video (s) that has all levels, for clips that take `clip` (s) of the file."""
        return clip

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Values of the levels for one video of `duration` (s), float [levels, k]; 0, 1, … unless told otherwise."""
        return np.arange(self.levels, dtype=np.float32)[:, None]

    def request(self, request: ClipRequest, value: np.ndarray) -> ClipRequest:
        """The clip to decode for a value, float [k]. Stage "decode" only."""
        return request

    @property
    def keeps_sound(self) -> bool:
        """Stage "augment" only: is the sound augmented alike at all levels, and then changed by `apply`?"""
        return False

    def copy(self, frames: np.ndarray, level: int) -> np.ndarray:
        """The copy at `level` of a decoded clip's frames, uint8 [T, h, w, 3]. Stage "augment" only."""
        return frames

    def apply(self, frames: torch.Tensor | None, sound: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        """Clips at `level`, of the same shapes. Stage "free", or the sound alone of an axis that `keeps_sound`.

        `frames` float [N, C, T, H, W]; `sound` float [N, samples], or a spectrogram [N, 1, mels, T]: time is last in
        both. `values` float [N, k] are each clip's draws. A modality that is not encoded is None.
        """
        return frames, sound

    def apply_to(self, clips: dict[str, torch.Tensor], level: int, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Clips by modality at `level`, of the same shapes: `apply` on "video" and "audio", and others as they are. An
        axis that changes another modality overrides this."""
        video, audio = self.apply(clips.get("video"), clips.get("audio"), level, values)
        changed = clips | {"video": video, "audio": audio}
        return {name: x for name, x in changed.items() if x is not None}


@dataclass(frozen=True)
class Sample(Axis):
    """Which video (t_1). Its levels are the videos of the batch."""

    name: str = "sample"
    levels: int = 1


@dataclass(frozen=True)
class Modality(Axis):
    """Video or sound. Its levels are the modalities that the composition encodes."""

    name: str = "modality"
    levels: int = 1


@dataclass(frozen=True)
class TimeShift(Axis):
    """Clips that start at different times, in ascending order. Distinct ones lie at least `min_gap` (s) apart.

    `independent`: start times are drawn one by one, in no order, and may overlap, as in GDT's released code.
    """

    name: str = "time_shift"
    stage: Literal["decode", "augment", "free"] = "decode"
    min_gap: float = 0.0
    independent: bool = False

    def required(self, clip: float, distinct: bool) -> float:
        apart = distinct and not self.independent
        return self.levels * clip + (self.levels - 1) * self.min_gap if apart else clip

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Uniform over all placements: sorted draws in the slack, then moved apart by what must lie between them."""
        places, slack = rng.random(self.levels), max(0.0, duration - self.required(clip, distinct))
        if self.independent:
            return places[:, None] * slack
        starts = np.sort(places) * slack
        if distinct:
            starts += np.arange(self.levels) * (clip + self.min_gap)
        return starts[:, None]

    def request(self, request: ClipRequest, value: np.ndarray) -> ClipRequest:
        return replace(request, start=float(value[0]))


@dataclass(frozen=True)
class Speed(Axis):
    """Playback speed: frames and sound resampled alike, so that a faster clip is also higher."""

    name: str = "speed"
    stage: Literal["decode", "augment", "free"] = "decode"
    speeds: tuple[float, ...] = (1.0, 2.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", len(self.speeds))

    @property
    def stretch(self) -> float:
        return max(self.speeds)

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        return np.array(self.speeds)[:, None]

    def request(self, request: ClipRequest, value: np.ndarray) -> ClipRequest:
        return replace(request, speed=float(value[0]))


@dataclass(frozen=True)
class Augmentation(Axis):
    """Copies of a clip that are augmented independently within their modality: the two views of SimCLR."""

    name: str = "augmentation"
    stage: Literal["decode", "augment", "free"] = "augment"


@dataclass(frozen=True)
class Crop(Axis):
    """Random squares of the frames, scaled back to the frames' size. `side`: the smallest, as a part of the frame's."""

    name: str = "crop"
    changes: frozenset[str] = frozenset({"video"})
    side: float = 0.5

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Side in [side, 1], and place of the square in [-1, 1] down and across, float32 [levels, 3]."""
        low, high = [self.side, -1, -1], [1, 1, 1]
        return rng.uniform(low, high, (self.levels, 3)).astype(np.float32)

    def apply(self, frames: torch.Tensor | None, sound: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        if frames is None:
            return frames, sound
        flat = frames.flatten(1, 2)  # [N, C * T, H, W]: one square for all frames of a clip
        side, down, across = values.to(flat).unbind(1)
        zero = torch.zeros_like(side)
        rows = [side, zero, (1 - side) * across, zero, side, (1 - side) * down]
        grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(flat[:, :1].shape), align_corners=False)
        return F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(frames), sound


@dataclass(frozen=True)
class Reversal(Axis):
    """Time forwards and backwards: flips the frames and the waveform, or the spectrogram. Costs no decode.

    With the stage "augment", as in GDT's released code, the decoded frames are reversed and then augmented by draws of
    their own, and the augmented spectrogram is; otherwise the augmented clip is, both of it.
    """

    name: str = "reversal"

    @property
    def keeps_sound(self) -> bool:
        return self.stage == "augment"

    def copy(self, frames: np.ndarray, level: int) -> np.ndarray:
        return frames if level == 0 else frames[::-1]

    def apply(self, frames: torch.Tensor | None, sound: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        if level == 0:
            return frames, sound
        return None if frames is None else frames.flip(-3), None if sound is None else sound.flip(-1)


AXES: tuple[Axis, ...] = (Sample(), Modality(), TimeShift(), Speed(), Augmentation(), Crop(), Reversal())


def check_long_enough(duration: float, needed: float) -> None:
    """Raises ClipError for a video of `duration` (s) shorter than `needed` (s), but for rounding."""
    if duration < needed - 1e-6:
        raise ClipError(f"{duration:.2f} s long, the contrast needs {needed:.2f} s")
