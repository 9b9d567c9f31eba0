"""Make the inputs of the encoders from a decoded batch, on the device."""

from collections.abc import Sequence

import torch
from torch import nn

from ..config import ClipConfig
from .augment import Draws, augment_frames, augment_samples, mask_spectrogram, shift_spectrogram
from .dataset import Batch
from .spectrogram import spectrogram


class VideoTransform(nn.Module):
    """uint8 frames [N, T, H, W, 3] → float [N, 3, T, H, W], augmented if there are random values."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config

    def forward(self, frames: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        return augment_frames(frames, self.config, draws)


class AudioTransform(nn.Module):
    """float samples [N, n] → spectrogram float [N, 1, M, F], augmented if there are random values."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config, self.spectrogram = config, spectrogram(config)

    def forward(self, samples: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        x = self.spectrogram(augment_samples(samples, self.config, draws))
        return mask_spectrogram(shift_spectrogram(x, self.config, draws), self.config, draws)


TRANSFORMS: dict[str, type[nn.Module]] = {"video": VideoTransform, "audio": AudioTransform}
"""The transform of each modality's clips on the device: augmentation, and the spectrogram of audio."""


def clip_shape(config: ClipConfig, modality: str) -> tuple[int, ...]:
    """The shape of an encoder's input, without the batch: (3, T, H, W) of video, (1, M, F) of audio."""
    if modality == "video":
        return 3, config.frames, config.crop, config.crop
    silence = torch.zeros(1, round(config.audio_seconds * config.audio_rate))
    return tuple(AudioTransform(config)(silence, None).shape[1:])


class DeviceTransform(nn.Module):
    """Augments a batch (if it has random values) and computes spectrograms, on the device of the encoders."""

    def __init__(self, config: ClipConfig, device: torch.device):
        super().__init__()
        self.config, self.device = config, device
        self.by_modality = nn.ModuleDict({name: kind(config) for name, kind in TRANSFORMS.items()}).to(device)

    @torch.no_grad()
    def forward(self, batch: Batch, modalities: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """The inputs of the encoders for the N clips of a batch.

        Args:
            batch: decoded clips.
            modalities: the modalities to return; by default all of the batch.

        Returns:
            By modality: "video", float [N, 3, T, H, W]; "audio", the spectrograms, float [N, 1, M, F].
        """
        batch = batch.to(self.device)
        return {
            name: transform(batch.clips[name], batch.draws)
            for name, transform in self.by_modality.items()
            if name in batch.clips and (modalities is None or name in modalities)
        }
