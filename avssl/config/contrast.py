"""The options `contrast.*`: composed contrast. This file does not import torch, so that `--help` is quick."""

from dataclasses import dataclass
from typing import Any

from .model import MODALITIES
from .option import DAY, option, section


def _role(default: str, text: str, choices: str = "off distinct invariant") -> Any:
    return option(default, text, choices=choices)


PREDICTABLE = "off distinct invariant predicted"

CONTEXT_CROP = 34
"""The smallest frames (px) with 3 x 3 patches for the axis context, see `avssl.contrast.patches`."""


@dataclass
class AxesConfig:
    """The axes. Clips that differ along a distinct axis are pushed apart, along an invariant one pulled together."""

    sample: str = _role("distinct", "the video that the clip is cut from")
    modality: str = _role("invariant", "video or audio")
    time_shift: str = _role("off", "the time at which the clip starts", PREDICTABLE)
    reversal: str = _role("off", "whether the clip is played backwards", PREDICTABLE)
    speed: str = _role("off", "the playback speed of frames and audio", PREDICTABLE)
    augmentation: str = _role("off", "the random draw of augmentation within a modality")
    crop: str = _role("off", "the part of the frame that is cut out")
    rotation: str = _role("off", "by how many degrees the frames are rotated: 0, 90, 180 or 270", PREDICTABLE)
    context: str = _role("off", "one of nine patches of the frames", "off predicted")
    sync: str = _role("off", "whether audio and frames are of the same time", "off predicted")


@dataclass
class ContrastConfig:
    """contrast.*"""

    axes: AxesConfig = section(
        AxesConfig,
        "how clips may differ: distinct pushes clips that differ in this apart, invariant pulls them together, "
        "predicted has a classifier name the level, off does not vary it",
    )
    custom_axes: list[str] = option(
        [],
        "your own axes, each as package.module:Class:role, with the role distinct, invariant or predicted",
        pattern=r"[^:]+:[^:]+:(distinct|invariant|predicted)",
    )
    modalities: list[str] = option(
        ["video", "audio"],
        "modalities to encode; one modality needs compare=within_modal",
        choices=MODALITIES,
        unique=True,
    )
    released: list[str] = option(
        [],
        "follow the released code, not the paper, in these points. Of GDT: loss: a sum of pairwise terms without "
        "gradient through keys, for preset_1 to preset_9; shifts: start times are drawn independently and may overlap; "
        "reversal: reversed frames get their own augmentation, and audio is reversed after augmentation. Of NPID: nce: "
        "noise-contrastive estimation in place of the softmax, for keys=bank with negatives",
        choices="loss shifts reversal nce",
        unique=True,
    )
    compare: str = option(
        "cross_modal",
        "pairs of embeddings that are compared: across modalities, within each, or all",
        choices="cross_modal within_modal all",
    )
    denominator: str = option(
        "all", "pairs in the denominator of a positive pair; without_positives leaves out the other positives",
        choices="all without_positives",
    )  # fmt: skip
    stop_gradient: str = option(
        "none",
        "keys: no gradient flows through the embeddings that an anchor is compared to; none: they all have gradients",
        choices="none keys",
    )
    temperature: float = option(
        0.07,
        "tau, the divisor of the similarities; smaller values weigh hard negatives more",
        minimum=0.0001,
        maximum=100,
    )
    projection: int = option(256, "width of the embeddings that are compared", "units", minimum=1, maximum=65_536)
    dropout: float | None = option(
        None, "dropout in the projections; none: the same as model.dropout", minimum=0, maximum=0.95
    )
    keys: str = option(
        "batch",
        "what an embedding is compared to. batch: the other clips of the batch; queue: a slow copy's embeddings of "
        "this and of past batches (MoCo); bank: an average of the past embeddings of each video (NPID)",
        choices="batch queue bank",
    )
    queue: int | None = option(
        None,
        "keys of each modality in the queue; at most the clips of an epoch; none: the clips of half an epoch, at most "
        "65,536",
        "keys",
        minimum=1,
        maximum=10_000_000,
    )
    negatives: int = option(
        0,
        "videos of the bank that are drawn as the negatives of each step; 0: all other videos are negatives",
        "videos",
        minimum=0,
        maximum=10_000_000,
    )
    prototypes: list[int] = option(
        [],
        "numbers of clusters; a clip also predicts its video's cluster in each of these k-means of all embeddings, "
        "computed anew in every epoch (PCL); usually about 1/50, 1/25 and 1/13 of the videos; empty: none",
        "clusters",
        minimum=2,
        maximum=1_000_000,
        unique=True,
    )
    prototype_start: float = option(
        0.1, "fraction of the run's steps before prototypes are first found, for contrast.prototypes", minimum=0,
        maximum=0.99,
    )  # fmt: skip
    end: float = option(
        1.0,
        "fraction of the run's steps after which contrast ends; from then on only the other terms are trained",
        minimum=0.01,
        maximum=1,
    )
    block: int = option(
        0, "keys compared at once; fewer need less memory; 0: all", "embeddings", minimum=0, maximum=10_000_000
    )
    min_gap: float = option(
        0.0,
        "shortest time between a clip and the shifted clip of the same video, for the axis time_shift",
        "s",
        minimum=0,
        maximum=DAY,
    )
    speeds: list[float] = option(
        [1.0, 2.0], "playback speeds of the axis speed", "x", minimum=0.1, maximum=10, unique=True
    )
    crop_side: float = option(
        0.5, "smallest side of a crop as a fraction of the frame's side, for the axis crop", minimum=0.05, maximum=1
    )
