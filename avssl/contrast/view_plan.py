"""The plan of a video's clips for all objectives together: the clips of a composition, and groups of further clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .axes import ClipRequest
from .composition import Composition, Views

ByModality = dict[str, torch.Tensor]


@dataclass
class GroupInput:
    """What the clips of a group are made from, on the device, for B videos.

    Args:
        first: the augmented first clip of each video, at level 0 of all axes, [B, …] by modality.
        main: all augmented clips of the composition before its free axes, [B · V, …] by modality.
        own: the clips that were decoded for the group, augmented, [B · decoded, …] by modality.
        values: the group's random values, float32 [B, rows, k].
        raw: the batch as it was decoded: its clips are those of `main`, then those of all groups, video by video.
        transform: makes inputs of the encoders from decoded clips, see `avssl.clips.transform.DeviceTransform`.
    """

    first: ByModality
    main: ByModality
    own: ByModality
    values: torch.Tensor
    raw: Any
    transform: Any


class ViewGroup:
    """Further clips of a video that an objective needs, beside those of the composition. A subclass overrides what it
    needs."""

    name: str
    """The key of its clips in a batch."""
    modalities: tuple[str, ...]
    """The modalities that are encoded of it."""
    clips: int
    """Encoded clips of each of these modalities per video."""
    decoded: int = 0
    """Clips decoded for it per video."""

    def required(self, clip_seconds: float) -> float:
        """The shortest duration (s) of a video with room for its clips, for clips of `clip_seconds` (s)."""
        return clip_seconds

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        """Draw its clips to decode, `decoded` of them, and its random values for the device, float32 [rows, k].

        Args:
            rng: the random numbers.
            duration: duration of the video, s.
            clip_seconds: duration of a clip, s.
            first: the request of the composition's first clip.
        """
        return [], np.zeros((1, 1), np.float32)

    def expand(self, given: GroupInput) -> ByModality:
        """The clips to encode, [B · clips, …] by modality, video by video; without gradient."""
        raise NotImplementedError


@dataclass(frozen=True)
class ViewPlan:
    """The clips of a composition, or a single one, and those of the groups.

    It is a `avssl.clips.views.ClipPlan`.

    Args:
        composition: the composition of the main clips; None: one clip.
        groups: the further clips.
        modalities: the modalities to encode.
    """

    composition: Composition | None
    groups: tuple[ViewGroup, ...]
    modalities: tuple[str, ...]

    @cached_property
    def main(self) -> int:
        """The number of clips decoded for the composition."""
        return 1 if self.composition is None else self.composition.plan(1).decoded_per_video

    @property
    def copies(self) -> int:
        """The number of copies of each of the composition's decoded clips, each with its own random augmentation."""
        return 1 if self.composition is None else self.composition.copies

    @property
    def heard_as(self) -> np.ndarray:
        """See `Composition.heard_as`."""
        return np.zeros(1, int) if self.composition is None else self.composition.heard_as

    @property
    def further(self) -> int:
        """The number of clips decoded for the groups, after those of the composition."""
        return sum(group.decoded for group in self.groups)

    @property
    def decoded(self) -> int:
        """The number of clips decoded per video."""
        return self.main + self.further

    def required_seconds(self, clip_seconds: float) -> float:
        """The shortest duration (s) of a video with room for all clips of `clip_seconds` (s) each."""
        main = clip_seconds if self.composition is None else self.composition.required_seconds(clip_seconds)
        return max([main, *(group.required(clip_seconds) for group in self.groups)])

    def describe_views(self) -> str:
        """A description of the clips of a video, for messages."""
        main = "one clip" if self.composition is None else self.composition.describe_views()
        return ", ".join([main, *(group.name for group in self.groups)])

    def sample(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> Views:
        """Draw the clips of a video, see `Composition.sample`: first those of the composition, then those of the
        groups."""
        if self.composition is None:
            views = Views([ClipRequest(rng.random() * max(0.0, duration - clip_seconds))], {})
        else:
            views = self.composition.sample(rng, duration, clip_seconds)
        requests, values = list(views.requests), dict(views.values)
        for group in self.groups:
            further, values[group.name] = group.sample(rng, duration, clip_seconds, views.requests[0])
            assert len(further) == group.decoded
            requests += further
        return Views(requests, values)

    def copy(self, frames: np.ndarray) -> list[np.ndarray]:
        """The copies of a decoded clip of the composition, see `Composition.copy`."""
        return [frames] if self.composition is None else self.composition.copy(frames)

    def expand(self, clips: ByModality, values: Mapping[str, torch.Tensor], raw: Any, transform: Any) -> "Encodable":
        """All clips to encode.

        Args:
            clips: the augmented clips of B videos, [B · (main + further), …] by modality, video by video.
            values: the values from `sample`, stacked over the batch: float [B, levels, k] by name.
            raw, transform: see `GroupInput`.
        """
        rows = self.main * self.copies
        per_video = {name: x.unflatten(0, (-1, rows + self.further)) for name, x in clips.items()}
        main = {name: x[:, :rows].flatten(0, 1) for name, x in per_video.items()}
        first = {name: x[:, 0] for name, x in per_video.items()}
        groups, start = {}, rows
        for group in self.groups:
            own = {name: x[:, start : start + group.decoded].flatten(0, 1) for name, x in per_video.items()}
            start += group.decoded
            groups[group.name] = group.expand(GroupInput(first, main, own, values[group.name], raw, transform))
        return Encodable(main if self.composition is None else self.composition.expand(main, values), groups)


@dataclass
class Encodable:
    """Clips to encode, by modality: `main` [B · V, …], and `groups` [B · clips, …] by the name of the group."""

    main: ByModality
    groups: dict[str, ByModality]


def by_shape(parts: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of the parts, [n, …] each, that have the same shape but for n, and can be encoded together."""
    groups: dict[torch.Size, list[str]] = {}
    for name, part in parts.items():
        groups.setdefault(part.shape[1:], []).append(name)
    return list(groups.values())
