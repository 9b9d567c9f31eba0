"""The detectors of torchvision, trained from random weights on pictures of any size; and their file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.resnet import BasicBlock
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..core.checkpoint_file import load_checkpoint, save_checkpoint
from ..core.errors import UserError
from ..core.untrusted import field, is_count
from ..explore.names import MAX_CLUSTER
from ..train.checkpoint_state import tensor_of

FILE = "detector.pt"
VERSION = 2

FOR_CPUS = "faster_rcnn_small"
KINDS = FOR_CPUS, "faster_rcnn_resnet50", "fcos_resnet50"

LEAST_SCORE = 0.05
"""Detections with a lower score are never returned."""

LARGEST_SIDE = {FOR_CPUS: 480}
"""Largest short side of pictures, px; 800 for the other detectors, as in torchvision."""

ENLARGED = 320
"""Smaller pictures are enlarged up to two times, but not beyond this short side, px, because a position of the feature
maps covers 8 pixels or more."""

JITTER = (0.8, 0.9, 1.1, 1.2, 1.0)
"""Scales of training pictures. The last one is that of the pictures in which objects are found."""

MOST_CATEGORIES = 1_000_000

ABOUT_COUNTS = {"step", "clusters", "chosen_head"}
"""The numbers in `Detector.about`; the head is none in a run without clusters."""


@dataclass
class Detector:
    """A detector and its categories.

    Args:
        model: torchvision's model; label k + 1 is category k.
        kind: one of `KINDS`.
        side: short side to which pictures are scaled, px.
        categories: the cluster of each category, or the number of its class.
        titles: their names.
        about: of what it was trained on: the run, its step, head and weights; empty for true boxes.
    """

    model: nn.Module
    kind: str
    side: int
    categories: list[int]
    titles: list[str]
    about: dict[str, Any]


def working_side(short_side: int, kind: str) -> int:
    """The short side to which a detector scales pictures (px), for videos whose usual short side is `short_side`."""
    side = max(short_side, min(2 * short_side, ENLARGED))
    return max(64, 32 * round(min(side, LARGEST_SIDE.get(kind, 800)) / 32))


def build(kind: str, categories: int, side: int) -> nn.Module:
    """A detector with random weights. Nothing is downloaded.

    All layers are trained, with batch normalisation, because no published weights are used. The one for CPUs has a
    small residual network, finer feature maps and fewer proposals. From random weights it learns in fewer steps than
    one with a deep network such as MobileNet, and a step takes a third of the time.

    Args:
        kind: one of `KINDS`.
        categories: the number of categories, without the background.
        side: see `working_side`.
    """
    common: dict[str, Any] = {"min_size": side, "max_size": 2 * side, "num_classes": categories + 1}
    if kind == "fcos_resnet50":
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5,
            returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
        )  # fmt: skip
        model = FCOS(backbone, score_thresh=LEAST_SCORE, **common)
    elif kind == "faster_rcnn_resnet50":
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        model = FasterRCNN(backbone, rpn_anchor_generator=_anchors(side, 5), box_score_thresh=LEAST_SCORE, **common)
    else:
        model = _for_cpus(side, common)
    return model


def _anchors(side: int, levels: int) -> AnchorGenerator:
    """Anchors from a twelfth to three quarters of the picture's short side."""
    sizes = tuple((max(4, round(side * x)),) for x in np.geomspace(0.15 if levels < 5 else 0.08, 0.7, levels))
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * levels)


def _for_cpus(side: int, common: dict[str, Any]) -> nn.Module:
    width, pooled, hidden = 64, 5, 256
    # the feature maps of every 8, 16 and 32 pixels
    body = nn.Sequential(_layer(3, 32), _layer(32, 32), _residual(32, 64, 2), _residual(64, 128, 2),
                         _residual(128, 128, 2))  # fmt: skip
    backbone = BackboneWithFPN(body, {"2": "0", "3": "1", "4": "2"}, [64, 128, 128], width)
    classes = common.pop("num_classes")
    return FasterRCNN(
        backbone, rpn_anchor_generator=_anchors(side, 4), box_score_thresh=LEAST_SCORE,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], pooled, 1), box_head=TwoMLPHead(width * pooled**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, classes), box_batch_size_per_image=32, rpn_batch_size_per_image=64,
        rpn_pre_nms_top_n_train=300, rpn_post_nms_top_n_train=100, rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=100, **common,
    )  # fmt: skip


def _layer(inputs: int, outputs: int) -> nn.Module:
    """A convolution that halves the picture, with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )  # fmt: skip


def _residual(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A residual block of two convolutions."""
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


def set_jitter(model: nn.Module, side: int, jitter: bool) -> None:
    """Scale training pictures at random, or not; outside training they always have the short side `side`."""
    sizes = [round(side * scale) for scale in JITTER] if jitter else [side]
    model.transform.min_size = tuple(sizes)  # type: ignore[union-attr]
    model.transform.max_size = 2 * max(sizes)  # type: ignore[union-attr]


def save_detector(path: Path, detector: Detector) -> None:
    """Write a detector."""
    state = {
        "version": VERSION, "kind": detector.kind, "side": detector.side, "categories": detector.categories,
        "titles": detector.titles, "about": _plain(detector.about), "model": detector.model.state_dict(),
    }  # fmt: skip
    save_checkpoint(path, state)


def load_detector(path: Path) -> Detector:
    """The detector in a file, which is untrusted.

    Raises:
        UserError: the file is damaged, or is no detector.
    """
    state = load_checkpoint(path)
    field(state, "version", lambda x: x == VERSION, path)
    kind = field(state, "kind", lambda x: x in KINDS, path)
    side = field(state, "side", lambda x: is_count(x) and 64 <= x <= 4096, path)
    categories = field(state, "categories", _are_categories, path)
    titles = field(state, "titles", lambda x: isinstance(x, list) and all(isinstance(t, str) for t in x), path)
    if len(titles) != len(categories):
        raise UserError(f"{path}: there are {len(titles)} titles of {len(categories)} categories")
    about = field(state, "about", dict, path)
    for name in ABOUT_COUNTS & about.keys():
        field(about, name, lambda x: x is None or is_count(x), path)
    weights = field(state, "model", lambda x: isinstance(x, dict) and all(map(tensor_of(), x.values())), path)
    with torch.device("meta"):
        shapes = {name: x.shape for name, x in build(kind, len(categories), side).state_dict().items()}
    if {name: x.shape for name, x in weights.items()} != shapes:
        raise UserError(f"{path}: its weights do not fit a {kind} of {len(categories)} categories")
    model = build(kind, len(categories), side)
    model.load_state_dict(weights)
    return Detector(model.eval(), kind, side, categories, titles, about)


def _are_categories(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MOST_CATEGORIES
        and all(is_count(x) and x < MAX_CLUSTER for x in value)
        and len(set(value)) == len(value)
    )


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    """The entries of a description that are texts or numbers."""
    return {k: x for k, x in about.items() if isinstance(x, str | int | float | bool | None)}
