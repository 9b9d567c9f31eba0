"""Options of localisation, and of the encoders' maps, that contradict each other. This file does not import torch."""

from ..config import TrainConfig
from ..config.encoder_names import OURS
from ..core.cores import check_memory
from ..core.errors import UserError

STRIDES = {"tiny": (4, 8, 16), "r2plus1d_18": (4, 8, 16), "r2plus1d_34": (4, 8, 16), "efficientnet_lite0": (32,)}
"""The possible values of `model.video_stride` of our encoders, px; `avssl.models.stride` has those of others."""

WITH_MAPS = "tiny, r2plus1d_18, torchvision:resnet18 or timm:resnet18"


def check_localisation(config: TrainConfig) -> None:
    """Raise UserError for a run with localisation but without maps or audio, or for a stride that cannot be had."""
    check_stride(config)
    if "localisation" not in config.objectives:
        return
    missing = [name for name in ("video", "audio") if name not in config.modalities]
    if missing:
        section = "labelling" if "labelling" in config.objectives else "contrast"
        raise UserError(
            f"loss.localisation compares frames with audio, but the run does not encode {missing[0]}: set "
            f"{section}.modalities=[video,audio]"
        )
    options = config.localisation
    if options.window % 2 == 0:
        raise UserError(
            f"localisation.window={options.window} has no position in its middle: choose an odd number, such as "
            f"{options.window + 1}"
        )
    if config.data.features:
        raise UserError(
            f"loss.localisation needs feature maps of the frames, which data.features={config.data.features} does not "
            "contain: omit it, or loss.localisation"
        )
    if config.model.video.startswith("onnx:"):
        raise UserError(
            f"loss.localisation needs an encoder with a feature map of the frames, which model.video="
            f"{config.model.video} may lack: choose {WITH_MAPS}"
        )
    alone = [*config.objectives] == ["localisation"]
    if alone and config.model.adapter:
        raise UserError(
            f"model.adapter={config.model.adapter} adapts pooled features, but loss.localisation alone compares those "
            "of positions: omit it"
        )
    if alone and config.model.temporal_pooling != "mean":
        raise UserError(
            f"model.temporal_pooling={config.model.temporal_pooling} has no effect with loss.localisation alone, which "
            "compares every frame: omit it"
        )
    if config.launch.where == "local":
        width = config.localisation.projection
        check_memory(f"localisation.projection={width}", 12.0 * width * 512, "the projections and their gradients")


def check_stride(config: TrainConfig) -> None:
    """Raise UserError for a `model.video_stride` that the video encoder cannot have."""
    model = config.model
    option = f"model.video_stride={model.video_stride}"
    if not model.video_stride:
        return
    if "video" not in config.modalities:
        raise UserError(f"{option} has no effect: the run does not encode video")
    if model.video in OURS["video"] and model.video_stride not in STRIDES[model.video]:
        possible = STRIDES[model.video]
        rest = f"{possible[0]} only: omit it" if len(possible) == 1 else f"{', '.join(map(str, possible))}: choose one"
        raise UserError(f"{option}: model.video={model.video} has the strides {rest}")
