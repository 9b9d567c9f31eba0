"""The options to change against each kind of collapse, for each objective: all advice of `avssl.train.collapse`."""

from collections.abc import Callable

from ..config import LabellingConfig, TrainConfig
from ..selflabel.head_opinions import UNRELATED
from ..selflabel.marginals import Empirical

CONSTANT, LOW_RANK, CHANCE = "constant features", "low rank", "neighbours at chance"
"""The kinds of collapse of features; those of labels are in `avssl.selflabel.head_opinions`."""

FEW_NEGATIVES = 64
"""Videos per step from which contrast does not collapse for want of negatives."""


def label_remedy(kind: str, labelling: LabellingConfig) -> str:
    """The options to change against a kind of collapse of labels."""
    if kind == UNRELATED:
        return "lower optim.lr, or lengthen optim.warmup_epochs"
    if labelling.method != "transport":
        return f"lower labelling.clusters (now {labelling.clusters}), or set labelling.method=transport"
    if labelling.marginal == "empirical":
        floor = Empirical.floor if labelling.marginal_parameter is None else labelling.marginal_parameter
        return f"raise labelling.marginal_parameter (now {floor:g}, at most 1), or set labelling.marginal=uniform"
    longer = "train longer with optim.epochs or optim.clips, or lower optim.lr"
    return longer if labelling.clusters <= 2 else f"{longer} or labelling.clusters (now {labelling.clusters})"


def feature_remedy(kind: str, config: TrainConfig, videos: int) -> str:
    """The options to change against a kind of collapse of features: advice on the objective with the largest weight.

    Args:
        kind: `CONSTANT`, `LOW_RANK` or `CHANCE`.
        config: the options of the run.
        videos: videos per step, over all processes.
    """
    name = max(config.objectives, key=config.objectives.__getitem__, default="")
    of_objective = BY_OBJECTIVE.get(name, lambda kind, config, videos: "")(kind, config, videos)
    slower = f"lower optim.lr (now {config.optim.lr:g})"
    general = "train longer with optim.epochs or optim.clips" if kind == CHANCE else slower
    return f"{of_objective}, or {general}" if of_objective else general


def _contrast(kind: str, config: TrainConfig, videos: int) -> str:
    contrast = config.contrast
    if getattr(contrast, "keys", "batch") == "batch" and videos < FEW_NEGATIVES:
        return f"raise optim.batch (a step has {videos} videos, and each needs others to differ from)"
    if kind == CHANCE:
        return "augment more (clip.color_jitter, clip.noise), so that no detail tells videos apart"
    return f"change contrast.temperature (now {contrast.temperature:g}; usual: 0.07 to 0.2)"


def _labelling(kind: str, config: TrainConfig, videos: int) -> str:
    labelling = config.labelling
    if kind == CHANCE:
        return f"raise labelling.passes (now {labelling.passes}), because the labels are still those of early features"
    if labelling.method != "transport":
        return "set labelling.method=transport, which fills all clusters"
    return f"raise labelling.clusters (now {labelling.clusters})"


def _prediction(kind: str, config: TrainConfig, videos: int) -> str:
    if kind == CHANCE:
        return "augment more (clip.color_jitter, clip.noise), so that no detail tells the level"
    return "add a term that tells videos apart, such as loss.contrast=1"


def _distillation(kind: str, config: TrainConfig, videos: int) -> str:
    distillation, teacher = config.distillation, config.teacher
    target = getattr(distillation, "target", "")
    if target == "centring" and not distillation.teacher:
        return "set distillation.teacher=true, without which centring collapses, or distillation.target=sinkhorn"
    if target == "centring":
        return (
            f"set distillation.target=sinkhorn, lower distillation.target_temperature, or raise teacher.momentum (now "
            f"{teacher.momentum:g})"
        )
    if kind == CHANCE:
        return "raise distillation.prototypes"
    return "raise distillation.queue, so that the prototypes are balanced over more videos"


def _jepa(kind: str, config: TrainConfig, videos: int) -> str:
    return "raise jepa.lam, the weight of the term that spreads the embeddings out"


BY_OBJECTIVE: dict[str, Callable[[str, TrainConfig, int], str]] = {
    "contrast": _contrast,
    "labelling": _labelling,
    "prediction": _prediction,
    "distillation": _distillation,
    "jepa": _jepa,
}
"""Advice on each objective, from the kind of collapse, the options and the videos per step."""
