"""What cannot go together in the options of a training."""

import math
from importlib.util import find_spec

from ..config import TrainConfig
from ..contrast.config import ContrastConfig
from ..errors import UserError
from ..selflabel.marginals import make_marginal
from .task import modalities_of


def check_clusters(config: TrainConfig, videos: int) -> None:
    """UserError for more clusters than training videos."""
    if config.task != "gdt" and videos < config.labelling.clusters:
        raise UserError(
            f"labelling.clusters={config.labelling.clusters} for {videos} training videos: "
            f"ask for at most {videos} clusters"
        )


def check(config: TrainConfig) -> None:
    """UserError for options that do not go together."""
    clip = config.clip
    if not clip.crop <= clip.short_side_min <= clip.short_side_max:
        raise UserError(
            f"clip.crop={clip.crop}, clip.short_side_min={clip.short_side_min} and "
            f"clip.short_side_max={clip.short_side_max} must not fall in this order"
        )
    if 0 < clip.short_side_eval < clip.crop:
        raise UserError(
            f"clip.short_side_eval={clip.short_side_eval} is less than clip.crop={clip.crop}: give at least that, or 0"
        )
    if config.task == "selavi" and config.contrast != ContrastConfig():
        raise UserError("contrast.* has no part in task=selavi: set task=gdt, or task=both")
    if config.optim.batch < 2:
        raise UserError(
            "optim.batch=1 leaves batch norm and contrast with no other video to compare with: give at least 2"
        )
    if config.task == "both" and set(config.contrast.modalities) != set(config.labelling.modalities):
        wanted = ",".join(modalities_of(config))
        raise UserError(f"task=both encodes the same for both objectives: set contrast.modalities=[{wanted}]")
    if config.wandb and find_spec("wandb") is None:
        raise UserError(f"wandb={config.wandb} needs Weights & Biases: pip install wandb")
    labelling = config.labelling
    wrong = [name for name in labelling.modalities if name not in ("video", "audio")]
    if config.task != "gdt":
        make_marginal(labelling)
    twice = len(set(labelling.modalities)) < len(labelling.modalities)
    if config.task != "gdt" and (wrong or twice or not labelling.modalities):
        raise UserError(f"labelling.modalities={labelling.modalities}: choose from video, audio, each once")
    if config.task != "gdt" and math.isinf(labelling.lam):
        raise UserError("labelling.lam=inf: give a finite number")
    if labelling.groups > labelling.heads:
        raise UserError(
            f"labelling.groups={labelling.groups} of {labelling.heads} heads: ask for at most as many groups"
        )
    if labelling.mode != "offline" and labelling.groups > 1:
        raise UserError(
            f"labelling.groups={labelling.groups}: only mode=offline labels groups from passes of their own"
        )
    if labelling.method != "transport" and labelling.mode == "batch":
        raise UserError(f"labelling.method={labelling.method} clusters all videos: use labelling.mode=offline or bank")
    if labelling.method == "xdc" and len(labelling.modalities) < 2:
        raise UserError(
            "labelling.method=xdc labels each modality by the other: set labelling.modalities=[video,audio]"
        )
    if labelling.method == "xdc" and labelling.sharing != "per_modality":
        raise UserError(
            "labelling.method=xdc gives each modality labels of its own: set labelling.sharing=per_modality"
        )
    if labelling.sharing == "concat" and len(labelling.modalities) < 2:
        raise UserError("labelling.sharing=concat needs both modalities: set labelling.modalities=[video,audio]")
