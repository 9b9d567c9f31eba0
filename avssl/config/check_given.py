"""Options that a user gave and no objective of the run uses. A preset's options are not refused, because it may be
chosen for others."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from ..core.errors import UserError
from .localisation import LocalisationConfig
from .option import shown
from .train import OF_AXES, TrainConfig

FOR_CONTRAST = "without contrast", "add loss.contrast=1"
FOR_LABELLING = "without labelling", "add loss.labelling=1"
FOR_TEACHER = "without a teacher", "set contrast.keys=queue"
FOR_LOCALISATION = "without localisation", "add loss.localisation=1"
FOR_WINDOW = "without localisation of the form max", "set loss.localisation=1 localisation.form=max"


def _contrasts(config: TrainConfig) -> bool:
    return "contrast" in config.objectives


def _labels(config: TrainConfig) -> bool:
    return "labelling" in config.objectives


def _localises(config: TrainConfig) -> bool:
    return "localisation" in config.objectives


def _averages(config: TrainConfig) -> bool:
    return _localises(config) and config.localisation.form == "max"


def _uses(axis: str) -> Callable[[TrainConfig], bool]:
    """Whether a run compares clips along an axis, or predicts it."""

    def used(config: TrainConfig) -> bool:
        compared = getattr(config.contrast.axes, axis) in ("distinct", "invariant")
        return axis in config.predicted or (compared and bool(config.objectives.keys() & OF_AXES))

    return used


def _for(axis: str) -> tuple[str, str]:
    return f"without the axis {axis}", f"set contrast.axes.{axis}=invariant"


NEEDED: dict[str, tuple[Callable[[TrainConfig], bool], tuple[str, str]]] = {
    "contrast.compare": (_contrasts, FOR_CONTRAST),
    "contrast.released": (_contrasts, FOR_CONTRAST),
    "contrast.axes.sample": (_contrasts, FOR_CONTRAST),
    "contrast.min_gap": (_uses("time_shift"), _for("time_shift")),
    "contrast.speeds": (_uses("speed"), _for("speed")),
    "contrast.crop_side": (_uses("crop"), _for("crop")),
    "labelling.clusters": (_labels, FOR_LABELLING),
    "labelling.passes": (_labels, FOR_LABELLING),
    **{f"localisation.{x.name}": (_localises, FOR_LOCALISATION) for x in fields(LocalisationConfig)},
    "localisation.window": (_averages, FOR_WINDOW),
    "teacher.momentum": (lambda config: config.has_teacher, FOR_TEACHER),
    "teacher.momentum_end": (lambda config: config.has_teacher, FOR_TEACHER),
}
"""By option: whether a run uses it, what it lacks if not, and how to add that."""


def check_given(configs: Sequence[Any], words: Sequence[str]) -> None:
    """Raise UserError for an option that the user gave, and that none of the runs uses.

    Args:
        configs: the config of each run; several with --multirun.
        words: what the user typed, `key=value`.
    """
    if not isinstance(configs[0], TrainConfig):
        return
    for word in words:
        used, (lacks, fix) = NEEDED.get(word.partition("=")[0], (None, ("", "")))
        if used is not None and not any(map(used, configs)):
            raise UserError(f"{shown(word)} has no effect {lacks}: omit it, or {fix}")
