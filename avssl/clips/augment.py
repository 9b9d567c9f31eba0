"""Augmentation, batched on the device, from random numbers that are drawn for each clip where it is decoded.

The draws depend on (seed, pass, video) alone. A clip is therefore the same in any batch, and with any number of workers
and processes.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from ..config import ClipConfig
from ..config.clip import by_channel


@dataclass
class Draws:
    """Random values of each clip, float [B] each: strengths in [-1, 1), all others in [0, 1)."""

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
        """Make draws from an array of uniform [0, 1) values for each clip, [DRAWS]."""
        columns = torch.from_numpy(np.stack(rows)).float().T
        signed = {"brightness", "contrast", "saturation", "volume"}
        return cls(*(c * 2 - 1 if f.name in signed else c for f, c in zip(fields(cls), columns, strict=True)))

    def to(self, device: torch.device) -> "Draws":
        return Draws(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


DRAWS = len(fields(Draws))
"""Values that are drawn for each clip."""

AUDIO_DRAWS = slice(4, DRAWS)
"""The draws that are for audio: volume and masks."""


def _per_clip(x: torch.Tensor) -> torch.Tensor:
    """[B] → [B, 1, 1, 1, 1], to broadcast over frames [B, 3, T, H, W]."""
    return x[:, None, None, None, None]


def _by_channel(values: list[float], device: torch.device) -> float | torch.Tensor:
    """Three numbers as [1, 3, 1, 1, 1], to broadcast over frames; one number where they are equal."""
    value = by_channel(values)
    return value if isinstance(value, float | int) else torch.tensor(value, device=device).reshape(1, 3, 1, 1, 1)


def augment_frames(frames: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Normalise frames, uint8 [B, T, H, W, 3] → float [B, 3, T, H, W], and augment them where `draws` is given.

    Clips are flipped; then brightness, contrast and saturation are scaled by 1 ± `color_jitter` (GDT appendix) and
    clamped to the valid range. All frames of a clip are augmented in the same way.
    """
    x = frames.permute(0, 4, 1, 2, 3).float().div_(255)
    if draws is not None and config.flip:
        x = torch.where(_per_clip(draws.flip < 0.5), x.flip(-1), x)
    if draws is not None and config.color_jitter > 0:
        jitter = config.color_jitter
        x = (x * _per_clip(1 + jitter * draws.brightness)).clamp_(0, 1)
        weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).reshape(1, 3, 1, 1, 1)
        grey = (x * weights).sum(1, keepdim=True)
        mean = grey.mean((1, 2, 3, 4), keepdim=True)
        x = ((x - mean) * _per_clip(1 + jitter * draws.contrast) + mean).clamp_(0, 1)
        grey = (x * weights).sum(1, keepdim=True)
        x = ((x - grey) * _per_clip(1 + jitter * draws.saturation) + grey).clamp_(0, 1)
    x = x.sub_(_by_channel(config.mean, x.device)).div_(_by_channel(config.std, x.device))
    return x.contiguous(memory_format=torch.channels_last_3d)


def augment_samples(samples: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Scale audio samples, float [B, n], by 1 ± `volume_jitter` where `draws` is given."""
    if draws is None or config.volume_jitter == 0:
        return samples
    return samples * (1 + config.volume_jitter * draws.volume)[:, None]


def mask_spectrogram(x: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Set one band and one stretch of time of spectrograms, float [B, 1, M, F], to the clip's mean, where `draws` is
    given (SpecAugment, Park et al. 2019)."""
    if draws is None:
        return x
    mean = x.mean((2, 3), keepdim=True)
    for dim, max_width, width, place in (
        (2, config.freq_mask, draws.freq_width, draws.freq_place),
        (3, config.time_mask, draws.time_width, draws.time_place),
    ):
        if max_width == 0:
            continue
        size = x.shape[dim]
        length = (width * (max_width + 1)).floor()
        start = (place * (size - length + 1)).floor()
        position = torch.arange(size, device=x.device)
        masked = (position >= start[:, None]) & (position < (start + length)[:, None])  # [B, size]
        x = torch.where(masked[:, None, :, None] if dim == 2 else masked[:, None, None, :], mean, x)
    return x
