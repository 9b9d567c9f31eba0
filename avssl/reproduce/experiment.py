"""An experiment: a claim, the trainings that test it, and which of them are compared."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..assets import assets_root
from ..compose import nearest
from ..errors import UserError


@dataclass
class Comparison:
    """`arm` against `than`, paired by seed. It holds where the 95 % interval of the difference is above `margin`."""

    arm: str = MISSING
    than: str = MISSING
    margin: float = 0.0
    """Below zero for a claim that nothing more than this is lost."""


@dataclass
class Experiment:
    """One file of `configs/reproduce/`."""

    claim: str = MISSING
    sample: dict[str, Any] = field(default_factory=dict)
    """Options of `avssl sample`; its seed is the training's."""
    words: list[str] = field(default_factory=list)
    """Options of `avssl train` that all arms have."""
    arms: dict[str, list[str]] = field(default_factory=dict)
    """Name and options of `avssl train` of each arm."""
    compare: list[Comparison] = field(default_factory=list)


def experiments() -> dict[str, Path]:
    """Name and file of each."""
    return {path.stem: path for path in sorted((assets_root() / "configs" / "reproduce").glob("*.yaml"))}


def read_experiment(name: str) -> Experiment:
    """The experiment of a name. UserError for an unknown one, or a file that is no experiment."""
    known = experiments()
    if name not in known:
        raise UserError(f"no experiment {name}{nearest(name, list(known))} ({', '.join(known)})")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Experiment), OmegaConf.load(known[name]))
        found = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UserError(f"{known[name]}: {str(error).splitlines()[0]}") from None
    assert isinstance(found, Experiment)
    lost = {arm for c in found.compare for arm in (c.arm, c.than)} - found.arms.keys()
    if lost or not found.arms:
        raise UserError(f"{known[name]} compares {', '.join(sorted(lost)) or 'nothing'}, which is none of its arms")
    return found
