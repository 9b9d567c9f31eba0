"""From a decoded batch to the tensors that the encoders take, on the device."""

import torch
from torch import nn

from ..config import ClipConfig
from .augment import augment_frames, augment_samples, mask_spectrogram
from .clips import Batch
from .spectrogram import LogMel


class DeviceTransform(nn.Module):
    """Augmentation (where the batch has draws) and spectrogram, batched. `device` is where the encoders are."""

    def __init__(self, config: ClipConfig, device: torch.device):
        super().__init__()
        self.config, self.device = config, device
        self.spectrogram = LogMel(config).to(device)

    @torch.no_grad()
    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """→ video float [B, 3, T, H, W] and spectrogram float [B, 1, M, F]."""
        draws = None if batch.draws is None else batch.draws.to(self.device)
        frames = batch.frames.to(self.device, non_blocking=True)
        samples = batch.samples.to(self.device, non_blocking=True)
        video = augment_frames(frames, self.config, draws)
        sound = self.spectrogram(augment_samples(samples, self.config, draws))
        return video, mask_spectrogram(sound, self.config, draws)
