"""timm's image networks as encoders, frame by frame or on spectrograms. `base` is the network without classifier."""

import math
from typing import Any

import torch
from torch import nn

from ..config.encoder_names import IMAGE_CLIP
from ..config.option import nearest
from ..core.errors import UserError
from .encoder import ShortRepr
from .frame_by_frame import of_images
from .from_torchvision import LARGER

SIDE = 64
"""Side of the image whose map shows a network's stride, px."""


def build(modality: str, name: str, pooling: str, stride: int = 0) -> nn.Module:
    """The encoder `timm:name` with random weights; its first convolution has one channel for audio.

    Args:
        modality: "video" or "audio".
        name: timm's name of the network.
        pooling: how frames are pooled over time.
        stride: pixels per position of the map; 0: the network's own.

    Raises:
        UserError: timm has no such network, or it cannot have the stride.
    """
    network = TimmNetwork(_create(name, 3 if modality == "video" else 1, stride))
    if stride:
        _check_stride(network, name, stride)
    return of_images(network, modality, pooling, clip(modality, name))


def _check_stride(network: "TimmNetwork", name: str, stride: int) -> None:
    """Raise UserError if a network ignored the stride that it was created with."""
    with torch.no_grad(), torch.random.fork_rng([]):
        found = network.eval().with_map(torch.zeros(1, 3, SIDE, SIDE))[1].shape[-1]
    network.train()
    if found != SIDE // stride:
        raise UserError(f"model.video=timm:{name} {NO_STRIDE.format(stride)}")


NO_STRIDE = (
    "cannot have model.video_stride={}: omit it, or choose a convolutional network, most of which have 8, 16 and 32"
)


def clip(modality: str, name: str) -> dict[str, Any]:
    """The options of clips that match the training images of timm's default weights; empty for audio."""
    _check(name)
    if modality == "audio":
        return {}
    import timm

    about = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if about is None:
        return dict(IMAGE_CLIP)
    crop = int(about.input_size[-1])
    side = max(crop, math.floor(crop / (about.crop_pct or 1)))
    sides = {"short_side_min": side, "short_side_max": round(LARGER * side), "short_side_eval": side}
    return {**IMAGE_CLIP, "crop": crop, **sides, "mean": list(about.mean), "std": list(about.std)}


def _check(name: str) -> None:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        raise UserError(f"timm has no network {name}{nearest(name, timm.list_models())} (for example timm:resnet18)")


def _create(name: str, channels: int, stride: int = 0) -> nn.Module:
    import timm

    _check(name)
    plain: dict[str, Any] = {"pretrained": False, "num_classes": 0, "in_chans": channels}
    if stride:
        try:
            return timm.create_model(name, **plain, output_stride=stride)
        except (TypeError, ValueError, AssertionError, NotImplementedError, KeyError, RuntimeError):
            raise UserError(f"model.video=timm:{name} {NO_STRIDE.format(stride)}") from None
    try:  # with this, transformers accept images of any size
        return timm.create_model(name, **plain, dynamic_img_size=True, dynamic_img_pad=True)
    except TypeError:
        return timm.create_model(name, **plain)


class TimmNetwork(ShortRepr, nn.Module):
    """A timm network without its classifier: float [N, channels, H, W] → [N, dim]."""

    def __init__(self, base: Any):
        super().__init__()
        self.base, self.dim = base, int(getattr(base, "head_hidden_size", None) or base.num_features)
        self.map_dim = int(base.num_features)
        self.prefix = int(getattr(base, "num_prefix_tokens", 0) or 0)
        size = getattr(getattr(base, "patch_embed", None), "patch_size", None)
        self.patch = size[0] if isinstance(size, tuple) else size
        self.channels_last = getattr(base, "output_fmt", None) == "NHWC"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.base(images)

    def with_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, dim] and the map [N, C, h, w]."""
        x = self.base.forward_features(images)
        features = self.base.forward_head(x)
        if x.ndim == 4:
            return features, x.permute(0, 3, 1, 2) if self.channels_last else x
        tokens = x[:, self.prefix :].transpose(1, 2)
        height, width = images.shape[-2:]
        rows = -(-height // self.patch) if self.patch else round(math.sqrt(tokens.shape[-1] * height / width))
        return features, tokens.unflatten(2, (rows, -1))
