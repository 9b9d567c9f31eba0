"""The interface with which the objectives of a run request several clips of a video."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class ClipPlan(Protocol):
    """The clips of a video to decode together, and how many augmented copies each of them gets.

    `avssl.contrast.composition.Composition` and `avssl.contrast.view_plan.ViewPlan` are such plans.
    """

    @property
    def further(self) -> int:
        """The number of clips at the end of those to decode that have no copies."""

    @property
    def modalities(self) -> Sequence[str]:
        """The modalities to encode; others are not decoded."""

    @property
    def copies(self) -> int:
        """The number of copies of each decoded clip, each with its own random augmentation."""

    @property
    def heard_as(self) -> np.ndarray:
        """For each copy of a clip, the number of the copy whose random values augment its audio: int [copies]."""

    def required_seconds(self, clip_seconds: float) -> float:
        """The shortest duration (s) of a video with room for all clips of `clip_seconds` (s) each."""

    def describe_views(self) -> str:
        """A description of the clips of a video, for messages."""

    def sample(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> Any:
        """Draw the clips of a video.

        Args:
            rng: the random numbers.
            duration: duration of the video, s.
            clip_seconds: duration of a clip, s.

        Returns:
            The clips to decode, each with its `start` (s) and `speed`, and the random values of the transformations on
            the device, float32 [levels, k] by name.
        """

    def copy(self, frames: np.ndarray) -> list[np.ndarray]:
        """The copies of a decoded clip's frames, uint8 [T, h, w, 3] each, in order."""
