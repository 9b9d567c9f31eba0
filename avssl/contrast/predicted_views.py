"""The clips whose level along a predicted axis is named by a classifier (spec §11).

Level 0 is the first clip of a video, which is encoded anyway, and a group has the clips at the other levels. Clips at
all levels are made in the same way, so they differ in content alone. A clip is reversed before it is augmented and
before its spectrogram is computed, so its edges and shifts are those of any other clip. If level 0 cannot be the first
clip, the group has its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..core.errors import UserError
from .axes import Axis, ClipRequest, TimeShift
from .patches import DRAWN, PLACES, patches
from .view_plan import ByModality, GroupInput, ViewGroup

STAGES = ("decode", "free")
"""The stages at which a predicted axis may be applied."""


def first_frames(given: GroupInput, **options: float) -> torch.Tensor:
    """The frames of each video's first clip, float [B, 3, T, H, W], augmented with changed options `clip.*`."""
    video = given.transform.by_modality["video"]
    config = replace(video.config, **options)
    if config == video.config:
        return given.first["video"]
    frames = given.raw.clips["video"]
    every = len(frames) // len(given.raw.index)
    draws = None if given.raw.draws is None else given.raw.draws[::every]
    return type(video)(config)(frames[::every], draws)


class AxisGroup(ViewGroup):
    """The clips of a predicted axis at its levels 1, 2, … from a transformation on the device (stage "free").

    Args:
        axis: the axis.
        modalities: the modalities that the run encodes.

    Raises:
        UserError: the axis has one level, or changes no encoded modality.
    """

    has_first = False
    """Whether the group has a clip at level 0 of its own, before the others."""

    def __init__(self, axis: Axis, modalities: Sequence[str]):
        if axis.levels < 2:
            raise UserError(f"the axis {axis.name} has {axis.levels} level: a predicted axis needs 2 or more")
        if axis.stage not in STAGES:
            raise UserError(f"the axis {axis.name} has the stage {axis.stage}: a predicted axis needs decode or free")
        self.axis, self.name = axis, axis.name
        self.modalities = tuple(name for name in modalities if name in axis.changes)
        if not self.modalities:
            raise UserError(
                f"the predicted axis {axis.name} changes {' and '.join(sorted(axis.changes))}, but the run encodes "
                f"{' and '.join(modalities)}: change contrast.modalities"
            )
        self.clips = axis.levels - 1

    def draw(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> np.ndarray:
        """The axis's values for a video, float32 [levels, k]."""
        drawn = self.axis.sample(rng, duration, clip_seconds, True)
        if len(drawn) != self.axis.levels:
            raise UserError(
                f"the axis {self.name} has {self.axis.levels} levels, but sample() gave {len(drawn)} values"
            )
        return np.asarray(drawn, np.float32)

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        return [], self.draw(rng, duration, clip_seconds)

    def expand(self, given: GroupInput) -> ByModality:
        first = {name: given.first[name] for name in self.modalities}
        by_level = [self.axis.apply_to(first, level, given.values[:, level]) for level in range(1, self.axis.levels)]
        for clips in by_level:
            if any(name not in clips or clips[name].shape != x.shape for name, x in first.items()):
                raise UserError(f"the axis {self.name}: apply() must keep the clips' shape, at every level")
        return {name: torch.stack([clips[name] for clips in by_level], 1).flatten(0, 1) for name in first}

    def levels(self, values: torch.Tensor) -> torch.Tensor:
        """The levels of the group's clips beside level 0, int64 [B, n], from its random values, float [B, rows, k]."""
        return torch.arange(1, self.axis.levels, device=values.device).expand(len(values), -1)


class DecodedGroup(AxisGroup):
    """The clips of an axis that changes what is decoded, such as the speed, at all levels.

    Their places in the video are drawn alike, which the first clip's is not: a clip that covers less of the file begins
    later in the mean, and with a shifted clip beside it, it is the earlier one. The time would tell the level.
    """

    has_first = True

    def __init__(self, axis: Axis, modalities: Sequence[str]):
        super().__init__(axis, modalities)
        self.clips = self.decoded = axis.levels

    def required(self, clip_seconds: float) -> float:
        longest = clip_seconds * self.axis.stretch
        return max(longest, self.axis.required(longest, True))

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        longest = clip_seconds * self.axis.stretch
        values = self.axis.sample(rng, duration, longest, True)
        starts = rng.random(self.clips) * max(0.0, duration - longest)
        requests = [
            self.axis.request(replace(first, start=float(start)), value)
            for start, value in zip(starts, values, strict=True)
        ]
        return requests, np.asarray(values, np.float32)

    def expand(self, given: GroupInput) -> ByModality:
        return {name: given.own[name] for name in self.modalities}


class ReversedGroup(AxisGroup):
    """The first clip backwards, with the same random values of augmentation."""

    def expand(self, given: GroupInput) -> ByModality:
        raw, videos = given.raw, len(given.raw.index)

        def backwards(name: str) -> torch.Tensor:
            clips = raw.clips[name]
            every = len(clips) // videos
            draws = None if raw.draws is None else raw.draws[::every]
            # time is second in decoded frames [N, T, H, W, 3] and samples [N, n]
            return given.transform.by_modality[name](clips[::every].flip(1), draws)

        return {name: backwards(name) for name in self.modalities}


class RotatedGroup(AxisGroup):
    """The frames of the first clip at all rotations, without colour.

    Most files store colour at half the resolution, and its interpolation differs along rows and columns, which tells
    the rotation of frames of noise.
    """

    has_first = True

    def __init__(self, axis: Axis, modalities: Sequence[str]):
        super().__init__(axis, modalities)
        self.clips = axis.levels

    def expand(self, given: GroupInput) -> ByModality:
        frames = first_frames(given, grey=1.0)
        by_level = [self.axis.apply(frames, None, level, given.values)[0] for level in range(self.axis.levels)]
        return {"video": torch.stack([x for x in by_level if x is not None], 1).flatten(0, 1)}


class ContextGroup(AxisGroup):
    """The central patch of the first clip's frames, and one of those around it, see `patches`."""

    has_first = True

    def __init__(self, axis: Axis, modalities: Sequence[str]):
        super().__init__(axis, modalities)
        self.clips = 2

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        values = np.zeros((2, 1 + DRAWN), np.float32)
        values[1, 0] = rng.integers(1, len(PLACES))
        values[:, 1:] = rng.random((2, DRAWN))
        return [], values

    def expand(self, given: GroupInput) -> ByModality:
        # without rotation, scale and shift, whose mirrored edges tell the place
        frames = first_frames(given, rotate=0.0, scale=0.0, shift=0.0)
        return {"video": patches(frames, given.values[..., 0].long(), given.values[..., 1:])}

    def levels(self, values: torch.Tensor) -> torch.Tensor:
        return values[:, 1:, 0].long()


class ShiftedGroup(AxisGroup):
    """A clip at another time of the video than the first one.

    Starts are on a circle: if the first clip's start is uniform, so is the other's, and both may be exchanged. The time
    in the video then tells nothing.
    """

    def __init__(self, axis: Axis, modalities: Sequence[str], gap: float = 0.0):
        super().__init__(axis, modalities)
        self.clips = self.decoded = 1
        self.gap = gap

    def least(self, clip_seconds: float) -> float:
        """The least time between the two starts, s: the clips do not overlap."""
        return clip_seconds + self.gap

    def required(self, clip_seconds: float) -> float:
        return clip_seconds + 2 * self.least(clip_seconds)

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        clip = clip_seconds * first.speed
        room, least = max(0.0, duration - clip), self.least(clip)
        start = first.start + least + rng.random() * max(0.0, room - 2 * least)
        start -= room if start > room else 0.0
        return [replace(first, start=max(0.0, start))], np.array([[start > first.start]], np.float32)

    def expand(self, given: GroupInput) -> ByModality:
        return {name: given.own[name] for name in self.modalities}

    def levels(self, values: torch.Tensor) -> torch.Tensor:
        """1 for a clip that is later than the first, else 0: int64 [B, 1]."""
        return values[:, :, 0].long()


class SyncGroup(ShiftedGroup):
    """The audio of another time of the video, at least half a clip from the first clip's."""

    def __init__(self, axis: Axis, modalities: Sequence[str]):
        super().__init__(axis, modalities)
        if "video" not in modalities:
            raise UserError("the predicted axis sync compares video with audio: encode both")

    def least(self, clip_seconds: float) -> float:
        return clip_seconds / 2


def group_of(axis: Axis, modalities: Sequence[str]) -> AxisGroup:
    """The clips of a predicted axis.

    Args:
        axis: the axis, as configured.
        modalities: the modalities that the run encodes.

    Raises:
        UserError: the axis cannot be predicted.
    """
    if isinstance(axis, TimeShift):
        return ShiftedGroup(axis, modalities, axis.min_gap)
    special: dict[str, type[AxisGroup]] = {
        "reversal": ReversedGroup, "rotation": RotatedGroup, "context": ContextGroup, "sync": SyncGroup,
    }  # fmt: skip
    if axis.name in special:
        return special[axis.name](axis, modalities)
    return DecodedGroup(axis, modalities) if axis.stage == "decode" else AxisGroup(axis, modalities)
