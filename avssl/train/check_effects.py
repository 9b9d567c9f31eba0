"""Options that have no effect with a run's objectives. This file does not import torch."""

from ..config import TrainConfig
from ..config.contrast import ContrastConfig
from ..config.monitor import MonitorConfig
from ..config.teacher import TeacherConfig
from ..config.train import CUSTOM_PREDICTED, OF_AXES
from ..core.errors import UserError

OF_CONTRAST = (
    "temperature", "projection", "dropout", "keys", "denominator", "stop_gradient", "prototypes", "block",
)  # fmt: skip
"""Options `contrast.*` of the comparison itself; the others say which clips are made."""


def check_effects(config: TrainConfig) -> None:
    """Raise UserError for an option that no objective of the run uses."""
    contrast, objectives = config.contrast, config.objectives.keys()
    usual = ContrastConfig()
    for name in OF_CONTRAST if "contrast" not in objectives else ():
        if (value := getattr(contrast, name)) != getattr(usual, name):
            raise UserError(f"contrast.{name}={value} has no effect without contrast: omit it, or add loss.contrast=1")
    varied = [name for name, role in vars(contrast.axes).items() if role in ("distinct", "invariant")]
    for name in varied if not objectives & OF_AXES else ():
        if name not in ("sample", "modality"):
            raise UserError(
                f"contrast.axes.{name}={getattr(contrast.axes, name)} has no effect with {' and '.join(objectives)}: "
                f"omit it, or add loss.contrast=1"
            )
    if config.teacher != TeacherConfig() and not objectives & {"contrast", "distillation"}:
        raise UserError("teacher.* has no effect, because no objective of the run has a teacher: omit it")
    own = any(axis.endswith(CUSTOM_PREDICTED) for axis in contrast.custom_axes)
    if config.loss.prediction and not own:
        raise UserError(
            f"loss.prediction={config.loss.prediction:g} has no effect without an axis of your own: add "
            f"contrast.custom_axes=[package.module:Class:predicted], or omit it"
        )
    if config.monitor != MonitorConfig() and config.monitor.videos is not None and not config.monitor.times:
        raise UserError(f"monitor.videos={config.monitor.videos} has no effect with monitor.times=0: omit it")
