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
from .video import build_video

OURS: dict[str, Callable[[str], nn.Module]] = {"video": build_video, "audio": build_audio}
"""The function that builds our encoders, for each modality."""

MODULES = {
    "torchvision": "avssl.models.from_torchvision", "timm": "avssl.models.from_timm",
    "hf": "avssl.models.from_transformers", "onnx": "avssl.models.from_onnx",
}  # fmt: skip
"""The module for each prefix. Its `build(modality, name, pooling)` returns an encoder, its `clip(modality, name)` the
clip that this was trained with. The module and its library are imported when a name has the prefix."""


def build_encoder(modality: str, name: str, pooling: str = "mean") -> nn.Module:
    """An encoder with random weights.

    Args:
        modality: "video" or "audio".
        name: a value of the options `model.video` and `model.audio`.
        pooling: how image networks pool over time, `mean` or `attention`.

    Raises:
        UserError: there is no such encoder, a package is missing, a user's callable returns no encoder, or there are
            no frames to pool.
    """
    encoder = _named(modality, name, pooling)
    if modality == "video" and pooling != "mean" and not isinstance(encoder, FrameByFrame):
        raise UserError(
            f"model.temporal_pooling={pooling} pools frames, but model.video={name} encodes whole clips: omit it"
        )
    return encoder


def _named(modality: str, name: str, pooling: str) -> nn.Module:
    prefix, _, rest = name.partition(":")
    if not rest:
        return _ours(modality, name, pooling)
    if prefix == TABLE:
        return OfTable(int(rest))
    option = f"model.{modality}"
    check_encoder_name(option, name)
    if prefix in LIBRARIES:
        encoder: Any = resolve_name(f"{MODULES[prefix]}:build")(modality, rest, pooling)
    else:
        from .own_encoder import call

        encoder = call(option, name)
    return check_contract(encoder, option, name)


def _ours(modality: str, name: str, pooling: str) -> nn.Module:
    if name == "efficientnet_lite0":
        image = EfficientNetLite0(3 if modality == "video" else 1)
        return of_images(image, modality, pooling, OUR_CLIPS.get((modality, name)))
    return OURS[modality](name)
