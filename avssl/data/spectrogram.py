"""Spectrograms, batched on the device."""

import torch
import torchaudio
from torch import nn

from ..config import ClipConfig


class LogMel(nn.Module):
    """Log-mel spectrogram, standardised per clip. float [B, samples] in [-1, 1] → [B, 1, mels, frames].

    Power spectrum of Hann windows of `window_ms` every `hop_ms`, slaney-normed HTK mel bands from 0 Hz to half the
    sampling rate, natural log of (x + 1e-6). Each clip then has mean 0 and deviation 1 over bands and frames, so that
    the recording's level is no cue.
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
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        x = (self.mel(samples.float()) + 1e-6).log()
        x = x - x.mean((1, 2), keepdim=True)
        return (x / x.std((1, 2), keepdim=True).clamp(min=1e-3))[:, None]
