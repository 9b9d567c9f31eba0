"""The options of composed contrast. No import of torch, so that `--help` is quick."""

from dataclasses import dataclass
from typing import Any

from .model import MODALITIES
from .option import DAY, option, section


def _role(default: str, text: str) -> Any:
    return option(default, text, choices="off distinct invariant")


@dataclass
class AxesConfig:
    """Axes: clips that differ in a distinct axis are pushed apart, in an invariant one pulled together; off: unused."""

    sample: str = _role("distinct", "the video that the clip is cut from")
    modality: str = _role("invariant", "video or audio")
    time_shift: str = _role("off", "the time at which the clip starts")
    reversal: str = _role("off", "whether the clip is played backwards")
    speed: str = _role("off", "the playback speed of frames and audio")
    augmentation: str = _role("off", "the draw of random augmentation within a modality")
    crop: str = _role("off", "the part of the frame that is cut out")


@dataclass
class ContrastConfig:
    """contrast.*"""

    axes: AxesConfig = section(
        AxesConfig, "clips that differ in a distinct axis are pushed apart, in an invariant axis pulled together"
    )
    custom_axes: list[str] = option([], "your own axes, each as package.module:Class:distinct or :invariant")
    modalities: list[str] = option(
        ["video", "audio"],
        "modalities to encode; compare=within_modal works with one",
        choices=MODALITIES,
        unique=True,
    )
    released: list[str] = option(
        [],
        "follow GDT's released code in these. loss: a sum of pairwise terms without gradient through keys, for "
        "preset_1 to preset_9; shifts: start times are drawn independently and may overlap; reversal: reversed frames "
        "get augmentations of their own, and audio is reversed after augmentation",
        choices="loss shifts reversal",
        unique=True,
    )
    compare: str = option("cross_modal", "pairs that are compared", choices="cross_modal within_modal all")
    denominator: str = option(
        "all", "pairs in the denominator of a positive pair; without_positives leaves the other positives out",
        choices="all without_positives",
    )  # fmt: skip
    stop_gradient: str = option(
        "none", "keys: no gradient through the embeddings that an anchor is compared to", choices="none keys"
    )
    temperature: float = option(0.07, "tau, which similarities are divided by", minimum=0.0001, maximum=100)
    projection: int = option(256, "width of the embeddings that are compared", "units", minimum=1, maximum=65_536)
    dropout: float | None = option(
        None, "dropout in the projections; none: that of the heads, model.dropout", minimum=0, maximum=0.95
    )
    weight: float = option(1.0, "weight of the contrastive loss, for task=both", minimum=0, maximum=1000)
    end: float = option(
        1.0,
        "share of the run's steps after which contrast ends, for task=both; labelling alone is trained from then on",
        minimum=0.01,
        maximum=1,
    )
    block: int = option(
        0, "keys compared at once: fewer save memory; 0: all", "embeddings", minimum=0, maximum=10_000_000
    )
    min_gap: float = option(0.0, "shortest gap between a clip and its distinct time shift", "s", minimum=0, maximum=DAY)
    speeds: list[float] = option(
        [1.0, 2.0], "playback speeds of the axis speed", "x", minimum=0.1, maximum=10, unique=True
    )
    crop_side: float = option(
        0.5, "smallest side of a crop as a fraction of the frame's, for the axis crop", minimum=0.05, maximum=1
    )
