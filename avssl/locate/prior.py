"""The object prior: where an image encoder is active, whatever the sound (EZ-VSL, arXiv 2203.09324, section 3.3)."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..config import ClipConfig, ModelConfig
from ..config.encoder_names import is_own
from ..core.errors import UserError
from ..models.by_name import build_encoder
from ..models.encoder import has_map
from ..models.multi_stream import MultiStream
from ..models.start import start
from ..models.taken_clip import encoder_clip

ROUNDED = 1e-6
"""A map whose values differ by less is the same everywhere."""


class Prior:
    """The activation of an image or video encoder, as maps.

    Args:
        name: the encoder, as in `model.video`. Its library's weights are loaded; a user's own encoder brings its own.
        clip: the clips that the maps are of.
        device: where to compute.

    Raises:
        UserError: there is no such encoder, it has no feature map, or its weights cannot be read.
    """

    def __init__(self, name: str, clip: ClipConfig, device: torch.device):
        with torch.random.fork_rng(devices=[]):
            self.encoder: nn.Module = build_encoder("video", name)
        if not has_map(self.encoder):
            raise UserError(
                f"prior={name} has no feature map: give an encoder that has one, such as torchvision:resnet18"
            )
        if not is_own(name):
            start(MultiStream({"video": self.encoder}), ModelConfig(video=name, init=["pretrained"]))
        self.encoder.eval().to(device)
        taken = {key: x for key, x in encoder_clip("video", name).items() if key in ("mean", "std", "crop")}
        self.own, self.clip = replace(clip, **taken), clip

    @torch.no_grad()
    def __call__(self, frames: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        """The mean magnitude over the channels of the last map of frames [B, 3, T, H, W]: float [B, *shape].

        The frames are normalised and enlarged as the encoder's own clips are.
        """
        x = frames.float() * _channels(self.clip.std, frames) + _channels(self.clip.mean, frames)
        x = (x - _channels(self.own.mean, frames)) / _channels(self.own.std, frames)
        if self.own.crop > x.shape[-1]:
            x = F.interpolate(x, (x.shape[2], self.own.crop, self.own.crop), mode="trilinear", align_corners=False)
        maps: torch.Tensor = self.encoder.feature_map(x)  # type: ignore[operator]
        active = maps.float().abs().mean(1, keepdim=True)
        if active.shape[2] > shape[0]:
            active = F.adaptive_avg_pool3d(active, (shape[0], *active.shape[3:]))
        return F.interpolate(active, shape, mode="trilinear", align_corners=False)[:, 0]


def _channels(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[None, :, None, None, None]


def scaled(maps: np.ndarray) -> np.ndarray:
    """Maps [..., h, w], each from its minimum (0) to its maximum (1); a constant one is 0, and one of NaN stays so."""
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    return np.where(high - low <= ROUNDED, 0, (maps - low) / np.maximum(high - low, ROUNDED)).astype(np.float32)


def with_prior(heat: np.ndarray, prior: np.ndarray | None, weight: float) -> np.ndarray:
    """(1 − weight) · heat + weight · prior, both scaled to 0..1 by picture; without a prior, the heat maps themselves.

    Args:
        heat, prior: float [..., h, w].
        weight: the weight of the prior; EZ-VSL has 0.6, which it writes as α = 0.4 of the heat map.
    """
    return heat if prior is None else ((1 - weight) * scaled(heat) + weight * scaled(prior)).astype(np.float32)
