"""Spectrograms, batched on the device."""

import math

import torch
import torchaudio
from torch import nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import get_mel_banks

from ..config import ClipConfig
from ..core.errors import UserError


class LogMel(nn.Module):
    """Log-mel spectrogram, standardised per clip: float [B, samples] in [-1, 1] → [B, 1, mels, frames].

    It takes the power spectrum of Hann windows of `window_ms` every `hop_ms`, sums it in HTK mel bands (slaney norm)
    from 0 Hz to half the sampling rate, and takes the natural logarithm of (x + 1e-6). Each clip is then shifted and
    scaled to mean 0 and deviation 1 over bands and frames, so that the recording's level is not a cue.
    """

    def __init__(self, config: ClipConfig):
        super().__init__()
        rate = config.audio_rate
        window = round(rate * config.window_ms / 1000)
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=rate,
            n_fft=1 << (window - 1).bit_length(),
            win_length=window,
            hop_length=round(rate * config.hop_ms / 1000),
            n_mels=config.mels,
            norm="slaney",
            mel_scale="htk",
            power=None,  # type: ignore[arg-type]
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(self.mel.spectrogram(samples.float()))
        power = parts[..., 0].square() + parts[..., 1].square()  # `abs` of complex numbers takes ten times as long
        x = (self.mel.mel_scale(power) + 1e-6).log()
        x = x - x.mean((1, 2), keepdim=True)
        return (x / x.std((1, 2), keepdim=True).clamp(min=1e-3))[:, None]


class LogFbank(nn.Module):
    """Log mel filter bank of the published SeLaVi and GDT: float [B, samples] in [-1, 1] → [B, 1, mels, frames].

    The steps: samples scaled to int16; pre-emphasis 0.97; rectangular windows of `window_ms` every `hop_ms` that lie
    wholly in the clip (frames = 1 + (samples - window) // hop); power spectrum of 1024 points (the next power of two
    for longer windows) divided by their number; `mel_filters`; natural logarithm with float64's epsilon for zeros;
    (x - `audio_mean`) / `audio_std`. GDT (Patrick et al. 2021) has 40 filters, SeLaVi (Asano et al. 2020) has 257.

    It is computed in float64, or in float32 on MPS, which lacks float64. The narrow filters at low frequency contain so
    little of a frame's energy that float32 has errors of about 1e-4.
    """

    filters: torch.Tensor

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.window = round(config.audio_rate * config.window_ms / 1000)
        self.hop = round(config.audio_rate * config.hop_ms / 1000)
        if round(config.audio_seconds * config.audio_rate) < self.window:
            raise UserError(f"clip.window_ms={config.window_ms:g} is longer than clip.audio_seconds: shorten it")
        self.points = max(1024, 1 << (self.window - 1).bit_length())
        self.mean, self.std = config.audio_mean, config.audio_std
        self.register_buffer("filters", mel_filters(config.mels, config.audio_rate, self.points), persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        dtype = torch.float32 if samples.device.type == "mps" else torch.float64
        with torch.autocast(samples.device.type, enabled=False):
            x = samples.to(dtype) * 32768
            x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], 1)
            frames = x.unfold(1, self.window, self.hop)  # [B, frames, window]
            parts = torch.view_as_real(torch.fft.rfft(frames, self.points)).square()
            power = (parts[..., 0] + parts[..., 1]) / self.points  # `sum` over the two parts is ten times slower
            energy = self.filters.to(dtype) @ power.mT  # [B, mels, frames]
            log = energy.where(energy != 0, torch.finfo(torch.float64).eps).log()
            return ((log - self.mean) / self.std).float()[:, None]


class KaldiFbank(nn.Module):
    """Kaldi's log mel filter bank, for audio transformers: float [B, samples] in [-1, 1] → [B, 1, mels, frames].

    It equals torchaudio's `compliance.kaldi.fbank` with Hann windows and without dither, for a batch. The steps for
    each
    window: subtract its mean; pre-emphasis 0.97; power spectrum; mel bands from 20 Hz to half the rate; natural
    logarithm; then (x - `audio_mean`) / `audio_std`.
    """

    filters: torch.Tensor
    hann: torch.Tensor

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.window = int(config.audio_rate * config.window_ms / 1000)
        self.hop = int(config.audio_rate * config.hop_ms / 1000)
        self.points = 1 << (self.window - 1).bit_length()
        self.mean, self.std = config.audio_mean, config.audio_std
        self.register_buffer("hann", torch.hann_window(self.window, periodic=False), persistent=False)
        filters, _ = get_mel_banks(config.mels, self.points, config.audio_rate, 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("filters", F.pad(filters, (0, 1)), persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        with torch.autocast(samples.device.type, enabled=False):
            frames = samples.float().unfold(1, self.window, self.hop)  # [B, frames, window]
            frames = frames - frames.mean(2, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
            parts = torch.view_as_real(torch.fft.rfft((frames - 0.97 * before) * self.hann, self.points)).square()
            energy = self.filters.to(parts.dtype) @ (parts[..., 0] + parts[..., 1]).mT
            log = energy.clamp(min=torch.finfo(torch.float32).eps).log()
            return ((log - self.mean) / self.std)[:, None]


def mel_filters(filters: int, rate: int, points: int) -> torch.Tensor:
    """Triangular filters, evenly spaced on the mel scale (2595 log10(1 + f / 700)) from 0 Hz to half the rate.

    Their edges are at whole bins, floor((points + 1) f / rate). A filter whose edges fall into one bin is empty.

    Args:
        filters: number of filters.
        rate: sampling rate, Hz.
        points: points of the Fourier transform.

    Returns:
        float [filters, points // 2 + 1].
    """
    mels = torch.linspace(0, 2595 * math.log10(1 + rate / 2 / 700), filters + 2, dtype=torch.float64)
    edges = ((points + 1) * 700 * (10 ** (mels / 2595) - 1) / rate).floor()[:, None]
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    bins = torch.arange(points // 2 + 1, dtype=torch.float64)
    rise = ((bins - low) / (peak - low)).where((low <= bins) & (bins < peak), 0)
    fall = ((high - bins) / (high - peak)).where((peak <= bins) & (bins < high), 0)
    return (rise + fall).float()


def spectrogram(config: ClipConfig) -> nn.Module:
    """The spectrogram that `config.spectrogram` names. Raises UserError if a hop is shorter than a sample."""
    if round(config.audio_rate * config.hop_ms / 1000) < 1:
        raise UserError(
            f"clip.hop_ms={config.hop_ms:g} is shorter than one sample at clip.audio_rate={config.audio_rate}: raise it"
        )
    return SPECTROGRAMS[config.spectrogram](config)


SPECTROGRAMS: dict[str, type[nn.Module]] = {"logmel": LogMel, "logfbank": LogFbank, "kaldi": KaldiFbank}
"""The spectrograms by their names in `clip.spectrogram`."""
