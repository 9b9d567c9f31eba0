"""From a decoded batch to the tensors that the encoders take, on the device."""

from collections.abc import Sequence

import torch
from torch import nn

from ..config import ClipConfig
from .augment import augment_frames, augment_samples, mask_spectrogram
from .dataset import Batch
from .spectrogram import spectrogram


class DeviceTransform(nn.Module):
    """Augmentation (where the batch has draws) and spectrogram, batched. `device` is where the encoders are."""

    def __init__(self, config: ClipConfig, device: torch.device):
        super().__init__()
        self.config, self.device = config, device
        self.spectrogram = spectrogram(config).to(device)

    @torch.no_grad()
    def frames(self, batch: Batch) -> torch.Tensor:
        """→ video float [N, 3, T, H, W], for the batch's N clips."""
        draws = None if batch.draws is None else batch.draws.to(self.device)
        return augment_frames(batch.frames.to(self.device, non_blocking=True), self.config, draws)

    @torch.no_grad()
    def sound(self, batch: Batch) -> torch.Tensor:
        """→ spectrogram float [N, 1, M, F], for the batch's N clips."""
        draws = None if batch.draws is None else batch.draws.to(self.device)
        samples = augment_samples(batch.samples.to(self.device, non_blocking=True), self.config, draws)
        return mask_spectrogram(self.spectrogram(samples), self.config, draws)

    def forward(self, batch: Batch, modalities: Sequence[str] = ("video", "audio")) -> dict[str, torch.Tensor]:
        """→ "video" float [N, 3, T, H, W] and "audio", the spectrogram, float [N, 1, M, F]; those of `modalities`."""
        parts = {"video": self.frames, "audio": self.sound}
        return {name: part(batch) for name, part in parts.items() if name in modalities}
