"""`model.video_stride`: a finer feature map from the same weights, by dilated convolutions (Chen et al. 2017; DRN).

Where a stage no longer skips positions, the convolutions after it skip as many inputs as before. So each position that
the map had before keeps its value, and the new ones lie between them. No weight changes.
"""

from collections.abc import Sequence

from torch import nn
from torchvision.models import ResNet
from torchvision.models.video.resnet import VideoResNet

from ..core.errors import UserError
from .frame_by_frame import FrameByFrame
from .video import TinyVideo

OTHERS = "omit it, or choose another encoder, such as tiny, r2plus1d_18 or torchvision:resnet18"


def refine_map(encoder: nn.Module, stride: int, option: str) -> None:
    """Give an encoder's map one position for `stride` pixels of a frame, in place. Time is not affected.

    Raises:
        UserError: the encoder cannot have this stride.
    """
    stages, own = _stages(encoder)
    possible = [own >> undone for undone in range(len(stages) + 1)]
    if not own:
        raise UserError(f"model.video_stride={stride}: the map of {option} cannot be made finer: {OTHERS}")
    if stride not in possible:
        words = ", ".join(map(str, sorted(possible)))
        raise UserError(f"model.video_stride={stride}: {option} has the strides {words}")
    dilate(stages[len(stages) - possible.index(stride) :])


def _stages(encoder: nn.Module) -> tuple[Sequence[nn.Module], int]:
    """The last stages of an encoder that each halve the map, in the order of use, and its own stride; without stages
    that can be changed, none and 0."""
    if isinstance(encoder, TinyVideo):
        return [*encoder.blocks][1:], 16
    base = getattr(encoder.image if isinstance(encoder, FrameByFrame) else encoder, "base", None)
    if isinstance(base, VideoResNet):
        return (base.layer3, base.layer4), 16
    if isinstance(base, ResNet):
        return (base.layer3, base.layer4), 32
    return (), 0


def dilate(stages: Sequence[nn.Module]) -> None:
    """Undo the spatial strides of consecutive stages, each of which halves the map once, and dilate what comes after.

    Args:
        stages: the last stages of a network, whose convolutions are listed in the order of use. A 1 x 1 convolution
            with stride beside them, as in a residual block, only loses its stride.
    """
    dilation = 1
    for stage in stages:
        before = dilation
        for conv in stage.modules():
            if not isinstance(conv, nn.Conv2d | nn.Conv3d):
                continue
            if conv.stride[-1] == 2:
                conv.stride = (*conv.stride[:-2], 1, 1)
                _set_dilation(conv, before)
                dilation = 2 * before
            else:
                _set_dilation(conv, dilation)


def _set_dilation(conv: nn.Conv2d | nn.Conv3d, dilation: int) -> None:
    """Dilate a convolution in space, with the padding that keeps the map's size."""
    sizes = conv.kernel_size[-2:]
    conv.dilation = (*conv.dilation[:-2], *(dilation if size > 1 else 1 for size in sizes))
    padding = tuple(dilation * (size // 2) for size in sizes)
    assert not isinstance(conv.padding, str)
    conv.padding = (*conv.padding[:-2], *padding)
