"""Encoders by name: ours, those of torchvision, timm, transformers and ONNX files, and the user's own."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from torch import nn

from ..config.encoder_names import LIBRARIES, OUR_CLIPS, TABLE, check_encoder_name
from ..core.errors import UserError
from .audio import build_audio
from .efficientnet_lite import EfficientNetLite0
from .encoder import check_contract
from .frame_by_frame import FrameByFrame, of_images
from .of_table import OfTable
from .stride import refine_map
from .video import build_video

OURS: dict[str, Callable[[str], nn.Module]] = {"video": build_video, "audio": build_audio}
"""The function that builds our encoders, for each modality."""

MODULES = {
    "torchvision": "avssl.models.from_torchvision", "timm": "avssl.models.from_timm",
    "hf": "avssl.models.from_transformers", "onnx": "avssl.models.from_onnx",
}  # fmt: skip
"""The module for each prefix. Its `build(modality, name, pooling)` returns an encoder, its `clip(modality, name)` the
clip that this was trained with. The module and its library are imported when a name has the prefix."""


def build_encoder(modality: str, name: str, pooling: str = "mean", stride: int = 0) -> nn.Module:
    """An encoder with random weights.

    Args:
        modality: "video" or "audio".
        name: a value of the options `model.video` and `model.audio`.
        pooling: how image networks pool over time, `mean` or `attention`.
        stride: pixels of a frame per position of the feature map; 0: the encoder's own.

    Raises:
        UserError: there is no such encoder, a package is missing, a user's callable returns no encoder, there are no
            frames to pool, or the encoder cannot have the stride.
    """
    encoder = _named(modality, name, pooling, stride)
    if modality == "video" and pooling != "mean" and not isinstance(encoder, FrameByFrame):
        raise UserError(
            f"model.temporal_pooling={pooling} pools frames, but model.video={name} encodes whole clips: omit it"
        )
    return encoder


def _named(modality: str, name: str, pooling: str, stride: int) -> nn.Module:
    prefix, _, rest = name.partition(":")
    option = f"model.{modality}"
    if not rest:
        return _refined(_ours(modality, name, pooling), stride, f"{option}={name}")
    if prefix == TABLE:
        return OfTable(int(rest))
    check_encoder_name(option, name)
    if prefix == "timm" and stride:  # timm dilates its networks itself
        encoder: Any = resolve_name(f"{MODULES[prefix]}:build")(modality, rest, pooling, stride)
        return check_contract(encoder, option, name)
    if prefix in LIBRARIES:
        encoder = resolve_name(f"{MODULES[prefix]}:build")(modality, rest, pooling)
    else:
        from .own_encoder import call

        encoder = call(option, name)
    return _refined(check_contract(encoder, option, name), stride, f"{option}={name}")


def _refined(encoder: nn.Module, stride: int, option: str) -> nn.Module:
    if stride:
        refine_map(encoder, stride, option)
    return encoder


def _ours(modality: str, name: str, pooling: str) -> nn.Module:
    if name == "efficientnet_lite0":
        image = EfficientNetLite0(3 if modality == "video" else 1)
        return of_images(image, modality, pooling, OUR_CLIPS.get((modality, name)))
    return OURS[modality](name)
