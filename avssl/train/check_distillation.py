"""Checks of the options of distillation. This file does not import torch, so that errors come quickly."""

from ..config import TrainConfig
from ..config.distillation import DistillationConfig
from ..core.cores import check_memory
from ..core.errors import UserError


def check_distillation(config: TrainConfig) -> None:
    """Raise UserError for options of distillation that have no effect, or leave nothing to predict."""
    options, objectives = config.distillation, config.objectives
    if "distillation" not in objectives:
        if options != DistillationConfig():
            raise UserError(
                "distillation.* has no effect without distillation: choose objective=swav or dino, or omit it"
            )
        return
    roles = vars(config.contrast.axes)
    pulled = [name for name, role in roles.items() if role == "invariant" and name not in ("sample", "modality")]
    custom = [axis for axis in config.contrast.custom_axes if axis.endswith(":invariant")]
    if len(config.modalities) < 2 and not pulled + custom:
        raise UserError(
            f"distillation predicts other views of a video, but the {config.modalities[0]} of one clip is a single "
            "view: set contrast.axes.augmentation=invariant, or encode both modalities"
        )
    if "contrast" not in objectives:
        for name, role in roles.items():
            if role == "distinct" and name != "sample":
                raise UserError(
                    f"contrast.axes.{name}=distinct pushes clips apart, but distillation pulls all views of a video "
                    f"together: set contrast.axes.{name}=invariant, or add loss.contrast=1"
                )
    if options.queue and options.target == "centring":
        raise UserError(
            f"distillation.queue={options.queue} has no effect with distillation.target=centring: set it to 0, or the "
            "target to sinkhorn or softmax"
        )
    if options.first_target_temperature is None and options.warmup != DistillationConfig.warmup:
        raise UserError(
            f"distillation.warmup={options.warmup:g} has no effect without distillation.first_target_temperature"
        )
    if config.launch.where == "local":
        weights = 16.0 * options.prototypes * options.width  # with gradient, momentum and the teacher's
        check_memory(f"distillation.prototypes={options.prototypes}", weights, "the prototypes and their gradients")
        batch = 16.0 * config.optim.batch * options.prototypes * 2 * len(config.modalities)
        check_memory(f"distillation.prototypes={options.prototypes}", batch, "the scores of a batch")
        queue = 8.0 * options.queue * (options.width + options.prototypes) * len(config.modalities)
        check_memory(f"distillation.queue={options.queue}", queue, "the queue and its scores")


def distillation_warnings(config: TrainConfig, batch: int) -> list[str]:
    """What in a run with distillation is likely to fail.

    Args:
        config: the options of the run.
        batch: videos per step of all processes.
    """
    options = config.distillation
    found: list[str] = []
    if "distillation" not in config.objectives:
        return found
    if options.target == "centring" and not options.teacher:
        found.append(
            "distillation.target=centring without a teacher collapses (ImageNet: 0.1 %): set "
            "distillation.teacher=true, or distillation.target=sinkhorn"
        )
    together = batch + options.queue
    if options.target != "centring" and options.prototypes > together:
        found.append(
            f"{together} embeddings cannot use all of distillation.prototypes={options.prototypes} equally: lower it, "
            f"or set distillation.queue={options.prototypes - batch} or more"
        )
    return found
