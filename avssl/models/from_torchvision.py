"""torchvision's networks as encoders: video networks directly, image networks frame by frame or on spectrograms.

`base` is the network without its classifier; its weights have torchvision's names.
"""

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import video as video_models

from ..config.encoder_names import IMAGE_CLIP
from ..config.option import nearest
from ..core.errors import UserError
from .encoder import ShortRepr
from .frame_by_frame import of_images

CLASSIFIERS = ("fc", "classifier", "head", "heads", "dropout", "avgpool", "flatten", "aux1", "aux2", "AuxLogits")
"""Parts of a network that do not contribute to its feature map."""

LARGER = 1.25
"""Ratio of the largest to the smallest short side of training clips."""


def build(modality: str, name: str, pooling: str) -> nn.Module:
    """The encoder `torchvision:name` with random weights.

    Raises:
        UserError: torchvision has no such network for the modality.
    """
    _check(modality, name)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    base = models.get_model(name, weights=None, **extra)
    if name in _videos():
        encoder = _video(base)
        encoder.clip = clip(modality, name)  # type: ignore[assignment]
        return encoder
    image = _image(base)
    if modality == "audio":
        one_channel(base)
    return of_images(image, modality, pooling, clip(modality, name))


def clip(modality: str, name: str) -> dict[str, Any]:
    """The clip that torchvision's default weights were trained with; empty for audio."""
    _check(modality, name)
    if modality == "audio":
        return {}
    weights = models.get_model_weights(name).DEFAULT
    if name not in _videos():
        return {**IMAGE_CLIP, **_sizes(weights.transforms())}
    about = weights.meta["_docs"]
    frames, rate = re.search(r"clip_len=(\d+)", about), re.search(r"frame_rate=([\d.]+)", about)
    timing = {"frames": int(frames[1]), "fps": float(rate[1])} if frames and rate else {}
    return {**timing, **_sizes(weights.transforms())}


def _sizes(transforms: Any) -> dict[str, Any]:
    crop, side = min(transforms.crop_size), max(min(transforms.resize_size), min(transforms.crop_size))
    sides = {"short_side_min": side, "short_side_max": round(LARGER * side), "short_side_eval": side}
    return {"crop": crop, **sides, "mean": list(transforms.mean), "std": list(transforms.std)}


def _videos() -> list[str]:
    return models.list_models(module=video_models)


def _check(modality: str, name: str) -> None:
    images, videos = models.list_models(module=models), _videos()
    if modality == "audio" and name in videos:
        raise UserError(
            f"model.audio=torchvision:{name} is a video network: give an image network, such as torchvision:resnet18"
        )
    if name not in images + videos:
        known = images if modality == "audio" else videos + images
        raise UserError(f"torchvision has no network {name}{nearest(name, known)} (for example torchvision:{known[0]})")


def one_channel(network: nn.Module) -> None:
    """Replace the first convolution of a network by one with a single input channel and new random weights."""
    for parent in network.modules():
        for name, part in parent.named_children():
            if isinstance(part, nn.Conv2d):
                first = nn.Conv2d(
                    1, part.out_channels, part.kernel_size, part.stride, part.padding, part.dilation,  # type: ignore[arg-type]
                    bias=part.bias is not None,
                )  # fmt: skip
                setattr(parent, name, first)
                return


class Trunk(ShortRepr, nn.Module):
    """An image network up to its feature map; the features are the map's mean over space."""

    def __init__(self, base: nn.Module):
        super().__init__()
        for name, _ in [*base.named_children()]:
            if name in CLASSIFIERS:
                delattr(base, name)
        if hasattr(base, "aux_logits"):
            base.aux_logits = False  # type: ignore[assignment]
        self.base = base.eval()
        with torch.no_grad():
            self.dim = self._map(torch.zeros(1, 3, 224, 224)).shape[1]
        base.train()

    def _map(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.base.children():
            for layer in part if isinstance(part, nn.ModuleList) else (part,):
                x = layer(x)
        return F.relu(x) if isinstance(self.base, models.DenseNet) else x

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_map(images)[0]

    def with_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, dim] and the map [N, dim, h, w]."""
        x = self._map(images)
        return x.mean((2, 3)), x


class ClassToken(ShortRepr, nn.Module):
    """torchvision's vision transformer: the class token is the features, the other tokens are the map."""

    def __init__(self, base: models.VisionTransformer):
        super().__init__()
        del base.heads
        self.base, self.dim = base, base.hidden_dim

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_map(images)[0]

    def with_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, dim] and the map [N, dim, h, w]."""
        x = self.base._process_input(images)
        x = self.base.encoder(torch.cat([self.base.class_token.expand(x.shape[0], -1, -1), x], 1))
        rows = images.shape[-2] // self.base.patch_size
        return x[:, 0], x[:, 1:].transpose(1, 2).unflatten(2, (rows, -1))


class VideoTrunk(ShortRepr, nn.Module):
    """A video network; its features are the mean of its feature map: float [B, 3, T, H, W] → [B, dim].

    These are torchvision's r3d_18, mc3_18, r2plus1d_18, s3d and Swin transformers.
    """

    def __init__(self, base: nn.Module, dim: int, channels_first: bool = True):
        super().__init__()
        for name, _ in [*base.named_children()]:
            if name in CLASSIFIERS:
                delattr(base, name)
        self.base, self.dim, self.channels_first = base, dim, channels_first

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.with_map(video)[0]

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The map before the average over time and space: [B, dim, T', H', W']."""
        x = video
        for part in self.base.children():
            x = part(x)
        return x if self.channels_first else x.permute(0, 4, 1, 2, 3)

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map."""
        x = self.feature_map(video)
        return x.mean((2, 3, 4)), x


class MViT(ShortRepr, nn.Module):
    """torchvision's multiscale vision transformers: the class token is the features, the other tokens are the map."""

    def __init__(self, base: video_models.MViT):
        super().__init__()
        self.dim = int(base.head[-1].in_features)  # type: ignore[arg-type]
        del base.head
        self.base = base

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.with_map(video)[0]

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The last block's tokens: [B, dim, T / 2, H / 32, W / 32]."""
        return self.with_map(video)[1]

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map."""
        base, x = self.base, self.base.conv_proj(video)
        size = tuple(x.shape[2:])  # relative positions accept any size; the absolute ones of v1_b only their own
        x = base.pos_encoding(x.flatten(2).transpose(1, 2))
        for block in base.blocks:
            x, size = block(x, size)
        x = base.norm(x)
        return x[:, 0], x[:, 1:].transpose(1, 2).unflatten(2, size)


def _image(base: nn.Module) -> nn.Module:
    return ClassToken(base) if isinstance(base, models.VisionTransformer) else Trunk(base)


def _video(base: Any) -> nn.Module:
    if isinstance(base, video_models.MViT):
        return MViT(base)
    if isinstance(base, video_models.swin_transformer.SwinTransformer3d):
        return VideoTrunk(base, int(base.num_features), channels_first=False)
    dim = int(base.fc.in_features) if hasattr(base, "fc") else 1024  # s3d's
    return VideoTrunk(base, dim)
