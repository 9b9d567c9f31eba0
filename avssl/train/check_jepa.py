"""Options of joint-embedding prediction that contradict each other. This file does not import torch."""

from ..config import TrainConfig
from ..config.jepa import JepaConfig
from ..core.errors import UserError


def check_jepa(config: TrainConfig) -> None:
    """Raise UserError for options of `jepa.*` that have no effect, or with which there is nothing to predict."""
    if "jepa" not in config.objectives:
        if config.jepa != JepaConfig():
            raise UserError("jepa.* has no effect without loss.jepa: choose objective=jepa, or set loss.jepa=1")
        return
    jepa, contrast, roles = config.jepa, config.contrast, vars(config.contrast.axes)
    if jepa.projection > config.model.hidden:
        raise UserError(
            f"jepa.projection={jepa.projection} is wider than the model.hidden={config.model.hidden} units that it is "
            f"computed from, so that no embedding could fill it: give at most {config.model.hidden}"
        )
    if roles["modality"] == "distinct":
        raise UserError(
            "contrast.axes.modality=distinct keeps video and audio apart, but loss.jepa predicts one from the other: "
            "set contrast.axes.modality=invariant"
        )
    apart = [name for name, role in roles.items() if role == "distinct" and name != "sample"]
    if apart and "contrast" not in config.objectives:
        raise UserError(
            f"contrast.axes.{apart[0]}=distinct pushes clips apart, which only contrast does: set "
            f"contrast.axes.{apart[0]}=invariant, so that loss.jepa predicts one from the other, or add loss.contrast=1"
        )
    varied = any(role == "invariant" and name not in ("sample", "modality") for name, role in roles.items())
    own = any(text.endswith(":invariant") for text in contrast.custom_axes)
    if len(config.modalities) < 2 and not (varied or own):
        raise UserError(
            f"loss.jepa predicts a view of a video from its others, but {config.modalities[0]} has one: set "
            f"contrast.axes.augmentation=invariant, or encode both modalities"
        )
