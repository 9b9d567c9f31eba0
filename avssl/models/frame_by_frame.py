"""Image networks as encoders: of videos frame by frame, and of spectrograms as images with one channel.

An image network has `dim`, `forward(images) → [N, dim]` and `with_map(images) → [N, dim], [N, C, h, w]`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .encoder import ShortRepr


class AttentionPooling(nn.Module):
    """A weighted mean over time whose weights depend on the features: float [B, T, D] → [B, D].

    The weights are softmax(w · x) with initially w = 0, so that training starts from the mean of the frames.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weights = (features @ self.query / features.shape[-1] ** 0.5).softmax(1)
        return (weights[..., None] * features).sum(1)


class MeanPooling(nn.Module):
    """The mean over time: float [B, T, D] → [B, D]."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(1)


class FrameByFrame(ShortRepr, nn.Module):
    """A video encoder from an image network: float [B, 3, T, H, W] → [B, dim].

    Args:
        image: the image network, see above.
        pooling: how the frames' features become the clip's: `mean`, or the trained `attention`.
        clip: the options of clips that the network was trained with.
    """

    def __init__(self, image: nn.Module, pooling: str = "mean", clip: Mapping[str, Any] | None = None):
        super().__init__()
        self.image, self.dim = image, int(image.dim)  # type: ignore[arg-type]
        self.map_dim = int(getattr(image, "map_dim", self.dim))  # type: ignore[arg-type]
        self.pooling = AttentionPooling(self.dim) if pooling == "attention" else MeanPooling()
        self.clip = dict(clip or {})
        self.trainable = bool(getattr(image, "trainable", True))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self._over_time(self.image(_frames(video)), video.shape[2])

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The frames' maps, stacked over time: [B, C, T, H', W']."""
        return self.with_map(video)[1]

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map [B, C, T, H', W']."""
        features, maps = self.image.with_map(_frames(video))  # type: ignore[operator]
        return self._over_time(features, video.shape[2]), maps.unflatten(0, (-1, video.shape[2])).transpose(1, 2)

    def _over_time(self, features: torch.Tensor, frames: int) -> torch.Tensor:
        return self.pooling(features.unflatten(0, (-1, frames)))


class OnSpectrogram(ShortRepr, nn.Module):
    """An audio encoder from an image network with one input channel: float [B, 1, M, F] → [B, dim]."""

    def __init__(self, image: nn.Module, clip: Mapping[str, Any] | None = None):
        super().__init__()
        self.image, self.dim = image, int(image.dim)  # type: ignore[arg-type]
        self.clip = dict(clip or {})
        self.trainable = bool(getattr(image, "trainable", True))

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.image(spectrogram)

    def feature_map(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The map before pooling: [B, C, M', F']."""
        return self.with_map(spectrogram)[1]

    def with_map(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map [B, C, M', F']."""
        return self.image.with_map(spectrogram)  # type: ignore[operator]


def of_images(
    image: nn.Module, modality: str, pooling: str = "mean", clip: Mapping[str, Any] | None = None
) -> nn.Module:
    """The encoder of a modality from an image network; `clip` has the options of clips that it needs."""
    return FrameByFrame(image, pooling, clip) if modality == "video" else OnSpectrogram(image)


def _frames(video: torch.Tensor) -> torch.Tensor:
    """[B, 3, T, H, W] → [B · T, 3, H, W]."""
    return video.transpose(1, 2).flatten(0, 1)
