"""Augmentation, batched on the device, from per-clip draws made where the clip was decoded.

The draws are a function of (seed, pass, video) alone, so a clip is the same whatever the batch it is in, the number
of workers or of processes.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from ..config import ClipConfig


@dataclass
class Draws:
    """Random values of each clip: float [B] each, in [0, 1) for places and [-1, 1) for strengths."""

    flip: torch.Tensor
    brightness: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    volume: torch.Tensor
    freq_width: torch.Tensor
    freq_place: torch.Tensor
    time_width: torch.Tensor
    time_place: torch.Tensor

    @classmethod
    def stack(cls, rows: list[np.ndarray]) -> "Draws":
        """From one array of uniform [0, 1) values per clip."""
        columns = torch.from_numpy(np.stack(rows)).float().T
        signed = {"brightness", "contrast", "saturation", "volume"}
        return cls(*(c * 2 - 1 if f.name in signed else c for f, c in zip(fields(cls), columns, strict=True)))

    def to(self, device: torch.device) -> "Draws":
        return Draws(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


DRAWS = len(fields(Draws))
SOUND = slice(4, DRAWS)
"""The columns of a clip's draws that are the sound's: volume and masks."""


def _at(x: torch.Tensor) -> torch.Tensor:
    """[B] → [B, 1, 1, 1, 1]"""
    return x[:, None, None, None, None]


def augment_frames(frames: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] → normalised float [B, 3, T, H, W]; augmented where `draws` is given.

    Flip, then brightness, contrast and saturation scaled by 1 ± `color_jitter` (GDT appendix), the same for all
    frames of a clip, clamped to the valid range.
    """
    x = frames.permute(0, 4, 1, 2, 3).float().div_(255)
    if draws is not None and config.flip:
        x = torch.where(_at(draws.flip < 0.5), x.flip(-1), x)
    if draws is not None and config.color_jitter > 0:
        s = config.color_jitter
        x = (x * _at(1 + s * draws.brightness)).clamp_(0, 1)
        weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).reshape(1, 3, 1, 1, 1)
        grey = (x * weights).sum(1, keepdim=True)
        mean = grey.mean((1, 2, 3, 4), keepdim=True)
        x = ((x - mean) * _at(1 + s * draws.contrast) + mean).clamp_(0, 1)
        grey = (x * weights).sum(1, keepdim=True)
        x = ((x - grey) * _at(1 + s * draws.saturation) + grey).clamp_(0, 1)
    x = x.sub_(config.mean).div_(config.std)
    return x.contiguous(memory_format=torch.channels_last_3d)


def augment_samples(samples: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """float [B, n], scaled by 1 ± `volume_jitter` where `draws` is given."""
    if draws is None or config.volume_jitter == 0:
        return samples
    return samples * (1 + config.volume_jitter * draws.volume)[:, None]


def mask_spectrogram(x: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """SpecAugment (Park et al. 2019) on float [B, 1, M, F]: one band and one stretch of time set to the clip's mean."""
    if draws is None:
        return x
    mean = x.mean((2, 3), keepdim=True)
    for dim, widest, width, place in (
        (2, config.freq_mask, draws.freq_width, draws.freq_place),
        (3, config.time_mask, draws.time_width, draws.time_place),
    ):
        if widest == 0:
            continue
        size = x.shape[dim]
        wide = (width * (widest + 1)).floor()
        start = (place * (size - wide + 1)).floor()
        at = torch.arange(size, device=x.device)
        hidden = (at >= start[:, None]) & (at < (start + wide)[:, None])  # [B, size]
        x = torch.where(hidden[:, None, :, None] if dim == 2 else hidden[:, None, None, :], mean, x)
    return x
