"""Video encoders: R(2+1)D (Tran et al., CVPR 2018) from torchvision's blocks."""

import torch
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

from .encoder import ShortRepr


class R2Plus1D(ShortRepr, nn.Module):
    """R(2+1)D-18 or -34 without its classifier: float [B, 3, T, H, W] → [B, 512]."""

    dim = 512

    def __init__(self, layers: tuple[int, int, int, int]):
        super().__init__()
        self.base = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, list(layers), R2Plus1dStem, num_classes=1)
        self.base.fc = nn.Identity()

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.base(video)

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, 512] and the map."""
        x = self.feature_map(video)
        return x.mean((2, 3, 4)), x

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The last feature map, before the average over time and space: [B, 512, T / 8, H / 16, W / 16]."""
        base, x = self.base, self.base.stem(video)
        for layer in (base.layer1, base.layer2, base.layer3, base.layer4):
            x = layer(x)
        return x


def _tiny_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    middle = (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)
    return nn.Sequential(Conv2Plus1D(inputs, outputs, middle, stride), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class TinyVideo(ShortRepr, nn.Module):
    """A stack of (2+1)D convolutions for CPUs: float [B, 3, T, H, W] → [B, 128].

    It needs about 1 % of R(2+1)D-18's operations per pixel. The stem reduces space by 4; the second and the third block
    each reduce space and time by 2.
    """

    dim = 128

    def __init__(self, width: int = 32):
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            nn.Conv3d(3, w, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), bias=False),
            nn.BatchNorm3d(w),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 2, 2)),
        )
        self.blocks = nn.Sequential(_tiny_block(w, w, 1), _tiny_block(w, 2 * w, 2), _tiny_block(2 * w, self.dim, 2))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.feature_map(video).mean(dim=(2, 3, 4))

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, 128] and the map."""
        x = self.feature_map(video)
        return x.mean((2, 3, 4)), x

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The last feature map, before the average over time and space: [B, 128, T / 4, H / 16, W / 16]."""
        return self.blocks(self.stem(video))


def build_video(name: str) -> R2Plus1D | TinyVideo:
    """The encoder that the option `model.video` names."""
    layers = {"r2plus1d_18": (2, 2, 2, 2), "r2plus1d_34": (3, 4, 6, 3)}
    return TinyVideo() if name == "tiny" else R2Plus1D(layers[name])
