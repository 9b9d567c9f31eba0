"""Audio encoders: residual networks over spectrograms, from torchvision's blocks, and statistics of the bands."""

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ..config.encoder_names import OUR_CLIPS, STATISTICS
from ..core.errors import UserError
from .encoder import ShortRepr


class SpectrogramResNet(ShortRepr, nn.Module):
    """ResNet-9 or -18 with one input channel (He et al. 2016): float [B, 1, mels, frames] → [B, 512]."""

    dim = 512

    def __init__(self, layers: tuple[int, int, int, int]):
        super().__init__()
        self.base = ResNet(BasicBlock, list(layers), num_classes=1)
        self.base.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.base.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.base.fc = nn.Identity()  # type: ignore[assignment]

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.base(spectrogram)

    def with_map(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, 512] and the map."""
        x = self.feature_map(spectrogram)
        return x.mean((2, 3)), x

    def feature_map(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The last feature map, before the average over bands and time: [B, 512, mels / 32, frames / 32]."""
        base = self.base
        x = base.maxpool(base.relu(base.bn1(base.conv1(spectrogram))))
        for layer in (base.layer1, base.layer2, base.layer3, base.layer4):
            x = layer(x)
        return x


class TinyAudio(ShortRepr, nn.Module):
    """Four convolutions, for CPUs: float [B, 1, mels, frames] → [B, 128]."""

    dim = 128

    def __init__(self, width: int = 32):
        super().__init__()
        widths = [1, width, 2 * width, 2 * width, self.dim]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 3, stride=2 if n != 2 else 1, padding=1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(inplace=True),
                )
                for n, (i, o) in enumerate(pairwise(widths))
            )
        )

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.feature_map(spectrogram).mean(dim=(2, 3))

    def with_map(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, 128] and the map."""
        x = self.feature_map(spectrogram)
        return x.mean((2, 3)), x

    def feature_map(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The last feature map, before the average over bands and time: [B, 128, mels / 8, frames / 8]."""
        return self.blocks(spectrogram)


class BandStatistics(ShortRepr, nn.Module):
    """Statistics of each mel band, without weights: float [B, 1, mels, frames] → [B, 3 · mels].

    They are the mean, the standard deviation and the mean absolute change from frame to frame.
    """

    clip: ClassVar[dict[str, Any]] = OUR_CLIPS["audio", STATISTICS]
    trainable = False
    dim = 3 * int(clip["mels"])

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        bands = spectrogram[:, 0]
        if 3 * bands.shape[1] != self.dim:
            raise UserError(
                f"model.audio={STATISTICS} needs {self.dim // 3} mel bands, not {bands.shape[1]}: omit clip.mels"
            )
        change = bands.diff(dim=2).abs() if bands.shape[2] > 1 else torch.zeros_like(bands)
        return torch.cat([bands.mean(2), bands.std(2, correction=0), change.mean(2)], 1)


def build_audio(name: str) -> nn.Module:
    """The encoder that the option `model.audio` names."""
    if name == STATISTICS:
        return BandStatistics()
    layers = {"resnet9": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2)}
    return TinyAudio() if name == "tiny" else SpectrogramResNet(layers[name])
