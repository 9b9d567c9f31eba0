"""Which clips of a video the objectives of a run ask for: what this room needs to know of them, and no more."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class ClipPlan(Protocol):
    """The clips of a video that are decoded together, and the copies of each that are augmented.

    `avssl.contrast.composition.Composition` is one.
    """

    @property
    def modalities(self) -> Sequence[str]:
        """Those that are encoded: others are not decoded."""

    @property
    def copies(self) -> int:
        """Copies of each decoded clip, nested in it, that the random augmentation is drawn for anew."""

    @property
    def heard_as(self) -> np.ndarray:
        """For each of the `copies` of a clip, the one whose draws its audio is augmented by: int [copies]."""

    def required_seconds(self, clip_seconds: float) -> float:
        """The shortest video (s) that all clips can be taken from, for clips of `clip_seconds` (s)."""

    def describe_views(self) -> str:
        """The clips of a video in words, for messages."""

    def sample(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> Any:
        """The clips to decode of a video of `duration` (s), each with its `start` (s) and `speed`; and the values,
        float32 [levels, k] by name, of what is applied on the device."""

    def copy(self, frames: np.ndarray) -> list[np.ndarray]:
        """The `copies` of a decoded clip's frames, uint8 [T, h, w, 3] each, in order."""
