"""The axes of a composition: one class per transformation (GDT §3: t_m of T = t_M ∘ … ∘ t_1).

A custom axis is a subclass that defines the number of levels, how their values are drawn, and how they change a clip.
The composition, the batch and the loss need nothing else:

    @dataclass(frozen=True)
    class Echo(Axis):
        name: str = "echo"

        def apply(self, frames, audio, level, values):
            return frames, audio if level == 0 else audio + 0.5 * audio.roll(2400, -1)
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
    """A clip to decode: from `start` (s), played `speed` times as fast.

    It covers `speed` times a clip's duration in the file, with frames at fps / speed and audio at rate / speed, so it
    has as many frames and samples as any other clip.
    """

    start: float
    speed: float = 1.0


@dataclass(frozen=True)
class Axis:
    """A transformation with several levels per video. The code of a clip along the axis is the number of its level.

    Args:
        name: its name in options and messages.
        levels: number of levels.
        stage: where it is applied. "decode" decodes a clip for each level from the same open file. "augment" copies
            clips before the random augmentation, which is drawn for each copy. "free" is applied after augmentation,
            batched on the device.
        changes: the modalities that it changes; only these can be distinct to it, or predict it.
        relative: whether the level is predicted from two clips, one at level 0 and one at another level. With two
            levels, the pair is shown in both orders, and the order is predicted.

    As a predicted axis, it must leave a clip unchanged at level 0, and its stage must be "decode" or "free".
    """

    name: str
    levels: int = 2
    stage: Literal["decode", "augment", "free"] = "free"
    changes: frozenset[str] = frozenset({"video", "audio", "text"})
    relative: bool = False

    @property
    def stretch(self) -> float:
        """The longest part of the file that a clip covers, in clip durations."""
        return 1.0

    def required(self, clip: float, distinct: bool) -> float:
        """The shortest duration (s) of a video with room for all levels, for clips that cover `clip` (s)."""
        return clip

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Draw the values of the levels for a video of `duration` (s), float [levels, k]; by default 0, 1, …"""
        return np.arange(self.levels, dtype=np.float32)[:, None]

    def request(self, request: ClipRequest, value: np.ndarray) -> ClipRequest:
        """The clip to decode for a value, float [k]. It is called only at the stage "decode"."""
        return request

    @property
    def keeps_sound(self) -> bool:
        """Whether, at the stage "augment", audio is augmented alike at all levels and then changed by `apply`."""
        return False

    def copy(self, frames: np.ndarray, level: int) -> np.ndarray:
        """The copy at `level` of a decoded clip's frames, uint8 [T, h, w, 3]; stage "augment" only."""
        return frames

    def apply(self, frames: torch.Tensor | None, audio: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        """Clips at `level`, with unchanged shapes.

        It is called at the stage "free", and only with audio for an axis that `keeps_sound`.

        Args:
            frames: float [N, C, T, H, W]; None if video is not encoded.
            audio: float [N, samples], or a spectrogram [N, 1, mels, T]; time is last in both. None if audio is not
                encoded.
            level: the number of the level.
            values: each clip's values, float [N, k].
        """
        return frames, audio

    def apply_to(self, clips: dict[str, torch.Tensor], level: int, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Clips by modality at `level`, with unchanged shapes. `apply` changes "video" and "audio"; an axis that
        changes another modality overrides this method."""
        video, audio = self.apply(clips.get("video"), clips.get("audio"), level, values)
        changed = clips | {"video": video, "audio": audio}
        return {name: x for name, x in changed.items() if x is not None}


@dataclass(frozen=True)
class Sample(Axis):
    """The video of a clip (t_1). Its levels are the videos of the batch."""

    name: str = "sample"
    levels: int = 1


@dataclass(frozen=True)
class Modality(Axis):
    """The modality of a clip. Its levels are the modalities that the composition encodes."""

    name: str = "modality"
    levels: int = 1


@dataclass(frozen=True)
class TimeShift(Axis):
    """Clips that start at different times, in ascending order; distinct clips are at least `min_gap` (s) apart.

    With `independent`, start times are drawn one by one, in any order, and clips may overlap, as in GDT's released
    code.
    """

    name: str = "time_shift"
    stage: Literal["decode", "augment", "free"] = "decode"
    relative: bool = True
    min_gap: float = 0.0
    independent: bool = False

    def required(self, clip: float, distinct: bool) -> float:
        disjoint = distinct and not self.independent
        return self.levels * clip + (self.levels - 1) * self.min_gap if disjoint else clip

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Draw uniformly from all placements: sorted draws in the slack, moved apart by clip duration and gap."""
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
    """Playback speed. Video and audio are resampled together, so a faster clip also has a higher pitch."""

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
    """Copies of a clip that are augmented independently, like the two views of SimCLR."""

    name: str = "augmentation"
    stage: Literal["decode", "augment", "free"] = "augment"


@dataclass(frozen=True)
class Crop(Axis):
    """Random squares of the frames, scaled back to the frames' size. `side` is the smallest, relative to the frame."""

    name: str = "crop"
    changes: frozenset[str] = frozenset({"video"})
    side: float = 0.5

    def sample(self, rng: np.random.Generator, duration: float, clip: float, distinct: bool) -> np.ndarray:
        """Draw the side of the square, in [side, 1], and its position down and across, in [-1, 1]: float32 [levels,
        3]."""
        low, high = [self.side, -1, -1], [1, 1, 1]
        return rng.uniform(low, high, (self.levels, 3)).astype(np.float32)

    def apply(self, frames: torch.Tensor | None, audio: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        if frames is None:
            return frames, audio
        flat = frames.flatten(1, 2)  # [N, C * T, H, W]: one square for all frames of a clip
        side, down, across = values.to(flat).unbind(1)
        zero = torch.zeros_like(side)
        rows = [side, zero, (1 - side) * across, zero, side, (1 - side) * down]
        grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(flat[:, :1].shape), align_corners=False)
        return F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(frames), audio


@dataclass(frozen=True)
class Reversal(Axis):
    """Time forwards and backwards: frames and waveform or spectrogram are flipped, without decoding again.

    At the stage "free", augmented video and audio are reversed. At the stage "augment", as in GDT's released code,
    decoded frames are reversed and then augmented with their own random values, and the augmented spectrogram is
    reversed.
    """

    name: str = "reversal"

    @property
    def keeps_sound(self) -> bool:
        return self.stage == "augment"

    def copy(self, frames: np.ndarray, level: int) -> np.ndarray:
        return frames if level == 0 else frames[::-1]

    def apply(self, frames: torch.Tensor | None, audio: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        if level == 0:
            return frames, audio
        return None if frames is None else frames.flip(-3), None if audio is None else audio.flip(-1)


@dataclass(frozen=True)
class Rotation(Axis):
    """All frames of a clip turned by 0, 90, 180 or 270 degrees, anticlockwise (RotNet, Gidaris et al., ICLR 2018).

    Frames are square. Turning them copies pixels and resamples nothing.
    """

    name: str = "rotation"
    levels: int = 4
    changes: frozenset[str] = frozenset({"video"})

    def apply(self, frames: torch.Tensor | None, audio: torch.Tensor | None, level: int, values: torch.Tensor) -> Pair:
        if frames is None or level == 0:
            return frames, audio
        return torch.rot90(frames, level, (-2, -1)).contiguous(memory_format=torch.channels_last_3d), audio


@dataclass(frozen=True)
class Context(Axis):
    """The place of a patch beside the central patch of the frames: 8 places, see `avssl.contrast.patches` (Context
    Prediction, Doersch et al., ICCV 2015). It can only be predicted."""

    name: str = "context"
    levels: int = 9
    changes: frozenset[str] = frozenset({"video"})
    relative: bool = True


@dataclass(frozen=True)
class Sync(Axis):
    """Whether audio belongs to the frames, or to another time of the same video (AVTS, Korbar et al., NeurIPS 2018).

    The two starts are at least half a clip apart. It can only be predicted, from a clip's video and audio together.
    """

    name: str = "sync"
    stage: Literal["decode", "augment", "free"] = "decode"
    changes: frozenset[str] = frozenset({"audio"})
    relative: bool = True


AXES: tuple[Axis, ...] = (
    Sample(), Modality(), TimeShift(), Speed(), Augmentation(), Crop(), Reversal(), Rotation(), Context(), Sync(),
)  # fmt: skip
PREDICTED_ONLY = ("context", "sync")
"""Axes that cannot be distinct or invariant,"""
UNPREDICTABLE = ("sample", "modality", "augmentation", "crop")
"""and axes that cannot be predicted: their levels are of the batch, or are drawn without any meaning."""


def check_long_enough(duration: float, needed: float) -> None:
    """Raise ClipError for a video of `duration` (s) that is shorter than `needed` (s) by more than rounding."""
    if duration < needed - 1e-6:
        raise ClipError(f"{duration:.2f} s long, but the clips need {needed:.2f} s")
