"""Augmentation, batched on the device, from random values that the decoding process draws for each clip.

These depend only on (seed, pass, video). A clip is therefore the same in any batch, and with any number of workers and
processes.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional

from ..config import ClipConfig
from ..config.clip import by_channel

NAMES = (
    "flip", "brightness", "contrast", "saturation", "volume", "freq_width", "freq_place", "time_width", "time_place",
    "rotate", "scale", "shift_x", "shift_y", "grey", "audio_shift", "freq_shift", "noise", "noise_kind", "noise_place",
    "freq_width_2", "freq_place_2", "time_width_2", "time_place_2",
)  # fmt: skip
"""The random values of a clip, in the order in which they are drawn."""

COLUMNS = {name: column for column, name in enumerate(NAMES)}

DRAWS = len(NAMES)
"""Number of random values per clip."""


@dataclass(frozen=True)
class Draws:
    """Random values of N clips, float32 [N, DRAWS]: strengths in [-1, 1), all others in [0, 1).

    Each column is an attribute of the name in `NAMES`, float32 [N].
    """

    values: torch.Tensor

    def __getattr__(self, name: str) -> torch.Tensor:
        if name not in COLUMNS:
            raise AttributeError(name)
        return self.values[:, COLUMNS[name]]

    def __getitem__(self, clips: slice | torch.Tensor) -> "Draws":
        return Draws(self.values[clips])

    @classmethod
    def stack(cls, rows: list[np.ndarray]) -> "Draws":
        """Make `Draws` from an array of uniform [0, 1) values for each clip, [DRAWS]."""
        values = np.empty((len(rows), DRAWS), np.float32)
        spread(np.stack(rows), values)
        return cls(torch.from_numpy(values))


FIRST_DRAWS = 9
"""Number of values that the first version drew. Later ones are drawn after these, so that these do not change."""

SIGNED = {
    "brightness", "contrast", "saturation", "volume", "rotate", "scale", "shift_x", "shift_y", "audio_shift",
    "freq_shift",
}  # fmt: skip
VIDEO = {"flip", "brightness", "contrast", "saturation", "rotate", "scale", "shift_x", "shift_y", "grey"}

STRENGTHS = [column for column, name in enumerate(NAMES) if name in SIGNED]

AUDIO_DRAWS = [column for column, name in enumerate(NAMES) if name not in VIDEO]
"""The positions of the values for audio."""

NOISE_SAMPLES = 1 << 20
"""Samples of the noise from which clips take parts."""


def draw(rng: np.random.Generator, clips: int) -> np.ndarray:
    """The random values of `clips` clips, float [clips, DRAWS] in [0, 1)."""
    return np.concatenate([rng.random((clips, FIRST_DRAWS)), rng.random((clips, DRAWS - FIRST_DRAWS))], 1)


def spread(drawn: np.ndarray, values: np.ndarray) -> None:
    """Write uniform values, float [N, DRAWS] in [0, 1), as `Draws.values`, float32 [N, DRAWS]."""
    values[:] = drawn
    values[:, STRENGTHS] = values[:, STRENGTHS] * 2 - 1


def _per_clip(x: torch.Tensor) -> torch.Tensor:
    """[B] → [B, 1, 1, 1, 1], to broadcast over frames [B, 3, T, H, W]."""
    return x[:, None, None, None, None]


def _by_channel(values: list[float], device: torch.device) -> float | torch.Tensor:
    """Three numbers as [1, 3, 1, 1, 1], to broadcast over frames; a single number if they are equal."""
    value = by_channel(values)
    return value if isinstance(value, float | int) else _colours(tuple(value), str(device))


@cache  # copied to the device once, because a copy of a few numbers at each step would stop the run
def _colours(values: tuple[float, ...], device: str) -> torch.Tensor:
    return torch.tensor(values, device=device).reshape(1, 3, 1, 1, 1)


def augment_frames(frames: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Normalise frames, uint8 [B, T, H, W, 3] → float [B, 3, T, H, W], and augment them if `draws` is given.

    Clips are flipped; then brightness, contrast and saturation are scaled by 1 ± `color_jitter` (GDT appendix) and
    clamped to the valid range; some clips become grey; then frames are rotated, scaled and shifted. All frames of a
    clip are augmented in the same way.
    """
    x = frames.permute(0, 4, 1, 2, 3).float().div_(255)
    if draws is not None and config.flip:
        x = torch.where(_per_clip(draws.flip < 0.5), x.flip(-1), x)
    if draws is not None and config.color_jitter > 0:
        jitter = config.color_jitter
        x = (x * _per_clip(1 + jitter * draws.brightness)).clamp_(0, 1)
        grey = _grey(x)
        mean = grey.mean((1, 2, 3, 4), keepdim=True)
        x = ((x - mean) * _per_clip(1 + jitter * draws.contrast) + mean).clamp_(0, 1)
        grey = _grey(x)
        x = ((x - grey) * _per_clip(1 + jitter * draws.saturation) + grey).clamp_(0, 1)
    if draws is not None and config.grey > 0:
        x = torch.where(_per_clip(draws.grey < config.grey), _grey(x), x)
    if draws is not None and (config.rotate or config.scale or config.shift):
        x = move_frames(x, config, draws)
    x = x.sub_(_by_channel(config.mean, x.device)).div_(_by_channel(config.std, x.device))
    return x.contiguous(memory_format=torch.channels_last_3d)


def _grey(x: torch.Tensor) -> torch.Tensor:
    """The brightness of frames [B, 3, T, H, W], [B, 1, T, H, W]."""
    return x[:, :1] * 0.299 + x[:, 1:2] * 0.587 + x[:, 2:] * 0.114  # `sum` over the colours takes twice as long


def move_frames(x: torch.Tensor, config: ClipConfig, draws: Draws) -> torch.Tensor:
    """Rotate, scale and shift frames, float [B, C, T, H, W], by bilinear sampling; beyond their edges they are
    mirrored.

    All frames of a clip move alike, by at most `rotate`, `scale` and `shift`.
    """
    clips, colours, frames, height, width = x.shape
    angle = (draws.rotate * math.radians(config.rotate))[:, None, None]
    zoom = (1 + config.scale * draws.scale)[:, None, None]  # to enlarge a frame, less of it is sampled
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    right, down = ((2 * config.shift * each)[:, None, None] for each in (draws.shift_x, draws.shift_y))
    across = (2 * torch.arange(width, device=x.device) + 1) / width - 1
    along = ((2 * torch.arange(height, device=x.device) + 1) / height - 1)[:, None]
    # element by element, because a matrix product, as in `affine_grid`, rounds differently in another batch
    columns = across * cos - along * sin * (height / width) + right
    rows = across * sin * (width / height) + along * cos + down
    grid = torch.stack([columns, rows], -1)
    flat = x.reshape(clips, colours * frames, height, width)
    moved = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved.reshape(x.shape)


def augment_samples(samples: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Scale audio samples, float [B, n], by 1 ± `volume_jitter` and add `noise`, if `draws` is given."""
    if draws is None:
        return samples
    if config.volume_jitter:
        samples = samples * (1 + config.volume_jitter * draws.volume)[:, None]
    if config.noise:
        level = config.noise * draws.noise * samples.square().mean(1).sqrt()
        samples = samples + level[:, None] * _noise(samples.shape[1], draws)
    return samples


def _noise(samples: int, draws: Draws) -> torch.Tensor:
    """Noise for each clip, float [B, samples], of deviation 1: white for half of the clips, else pink."""
    table = _noise_table(samples, str(draws.noise.device))
    start = (draws.noise_place * (table.shape[1] - samples)).long()
    kind = (draws.noise_kind * 2).long()
    return table.unfold(1, samples, 1)[kind, start]  # copies whole stretches


@cache
def _noise_table(samples: int, device: str) -> torch.Tensor:
    """White and pink noise, float [2, n] of deviation 1, the same on every device and in every process."""
    size = max(NOISE_SAMPLES, 1 << (4 * samples - 1).bit_length())
    white = torch.randn(size, generator=torch.Generator().manual_seed(0))
    parts = torch.fft.rfft(white)
    parts[1:] /= torch.arange(1, len(parts)).sqrt()
    parts[0] = 0
    pink = torch.fft.irfft(parts, size)
    return torch.stack([white / white.std(), pink / pink.std()]).to(device)


def shift_spectrogram(x: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Shift spectrograms, float [B, 1, M, F], in time and over mel bands by whole frames and bands, if `draws` is
    given. What leaves at one end of time enters at the other; the outermost band is repeated."""
    if draws is None or not (config.audio_shift or config.freq_shift):
        return x
    clips, _, bands, length = x.shape
    later = (draws.audio_shift * config.audio_shift * 1000 / config.hop_ms).round().long()
    higher = (draws.freq_shift * (config.freq_shift + 0.5)).round().long()
    time = (torch.arange(length, device=x.device) - later[:, None]) % length
    band = (torch.arange(bands, device=x.device) - higher[:, None]).clamp(0, bands - 1)
    clip = torch.arange(clips, device=x.device)[:, None, None]
    return x[:, 0][clip, band[:, :, None], time[:, None]][:, None]


def mask_spectrogram(x: torch.Tensor, config: ClipConfig, draws: Draws | None) -> torch.Tensor:
    """Set `masks` ranges of bands and as many of time to the clip's mean, in spectrograms float [B, 1, M, F], if
    `draws` is given (SpecAugment, Park et al. 2019)."""
    if draws is None:
        return x
    mean = x.mean((2, 3), keepdim=True)
    masks = [
        (2, config.freq_mask, draws.freq_width, draws.freq_place),
        (3, config.time_mask, draws.time_width, draws.time_place),
        (2, config.freq_mask, draws.freq_width_2, draws.freq_place_2),
        (3, config.time_mask, draws.time_width_2, draws.time_place_2),
    ]
    for dim, max_width, width, place in masks[: 2 * config.masks]:
        if max_width == 0:
            continue
        size = x.shape[dim]
        length = (width * (max_width + 1)).floor()
        start = (place * (size - length + 1)).floor()
        position = torch.arange(size, device=x.device)
        masked = (position >= start[:, None]) & (position < (start + length)[:, None])  # [B, size]
        x = torch.where(masked[:, None, :, None] if dim == 2 else masked[:, None, None, :], mean, x)
    return x
