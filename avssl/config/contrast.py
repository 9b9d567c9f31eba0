"""The options of composed contrast. No import of torch, so that `--help` is quick."""

from dataclasses import dataclass
from typing import Any

from .option import DAY, option, section


def _role(default: str, text: str) -> Any:
    return option(default, text, choices="off distinct invariant")


@dataclass
class AxesConfig:
    """Each axis is distinct (clips that differ in it repel), invariant (they attract) or off (it is not built)."""

    sample: str = _role("distinct", "which video")
    modality: str = _role("invariant", "video or audio")
    time_shift: str = _role("off", "where in the video the clip starts")
    reversal: str = _role("off", "whether time runs backwards")
    speed: str = _role("off", "how fast time runs, for frames and audio alike")
    augmentation: str = _role("off", "which draw of the random augmentation within a modality")
    crop: str = _role("off", "which part of the frames")


@dataclass
class ContrastConfig:
    """contrast.*"""

    axes: AxesConfig = section(AxesConfig, "what to be distinct and invariant to")
    custom_axes: list[str] = option([], "axes of your own, each package.module:Class:distinct or :invariant")
    modalities: list[str] = option(
        ["video", "audio"], "what is encoded; one of them suffices for within_modal", choices="video audio", unique=True
    )
    released: list[str] = option(
        [],
        "what is done as GDT's released code does it. loss: for preset_1 to preset_9, a sum of pairwise terms instead "
        "of every pair that the axes allow at once, without gradient through keys; shifts: start times are drawn one "
        "by one and may overlap; reversal: frames are reversed first and augmented by draws of their own, and audio "
        "after augmentation",
        choices="loss shifts reversal",
        unique=True,
    )
    compare: str = option("cross_modal", "which pairs are compared", choices="cross_modal within_modal all")
    denominator: str = option(
        "all", "pairs in the denominator: all compared ones, or without the other positives",
        choices="all without_positives",
    )  # fmt: skip
    stop_gradient: str = option("none", "keys: no gradient through what an anchor is compared to", choices="none keys")
    temperature: float = option(0.07, "tau: similarities are divided by this", minimum=0.0001, maximum=100)
    projection: int = option(256, "width of the embeddings that are compared", "units", minimum=1, maximum=65_536)
    weight: float = option(1.0, "weight of the contrast's loss, for task=both", minimum=0, maximum=1000)
    block: int = option(
        0, "keys compared at once, to save memory; 0 is all", "embeddings", minimum=0, maximum=10_000_000
    )
    min_gap: float = option(
        0.0, "least time between the end of a clip and the start of its distinct shift", "s", minimum=0, maximum=DAY
    )
    speeds: list[float] = option(
        [1.0, 2.0], "playback speeds, for the axis speed", "x", minimum=0.1, maximum=10, unique=True
    )
    crop_side: float = option(
        0.5, "smallest side of a crop as a part of the frame's, for the axis crop", minimum=0.05, maximum=1
    )
