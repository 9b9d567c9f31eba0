"""An experiment: a claim, the trainings that test it, and which of their figures are compared."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avssl.config.compose import nearest
from avssl.core.errors import UserError


@dataclass
class Arm:
    """One side of a comparison: a training, and which of its figures count."""

    figure: str = "joint"
    """Whose metrics, one of `training.FIGURES`: joint, video, audio (labels of the head chosen without classes),
    "joint, best head", "joint, all heads", "k-means, both", "features, video", "no sound: joint", "training", …"""
    train: list[str] = field(default_factory=list)
    """Options of `avssl train`."""
    experiment: str = "selavi_sample"
    """Its `experiment=`."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Options of `avssl sample`, beside the experiment's."""
    longer: float = 1.0
    """Epochs, as a multiple of the profile's."""
    untrained: bool = False
    """The figure is that of the encoders before training."""
    more_seeds: list[int] = field(default_factory=list)
    """Added to those of profile=full after their figures had been seen: reported, but they decide nothing. With
    `seeds=[…]`, those alone count."""


MARGIN = 0.05
"""What a non-inferiority test allows to be lost: one margin for all of them, as shares of one."""


@dataclass
class Comparison:
    """`arm` against `than`, paired by seed. Is the mean difference above zero (superiority)?"""

    arm: str = MISSING
    than: str = MISSING
    metric: str = ""
    """Empty is the experiment's first."""
    non_inferior: bool = False
    """Whether the comparison tests that `arm` loses less than MARGIN on `than` (non-inferiority). `arm` may then
    still be better, or worse by less."""
    beyond: list[str] = field(default_factory=list)
    """Two other arms, whose difference is subtracted: `arm` should gain more on `than` than the first on the second."""
    decides: bool = True
    """Whether the claim's verdict depends on it. The others are reported without a test."""

    @property
    def margin(self) -> float:
        """What the mean difference is tested against."""
        return -MARGIN if self.non_inferior else 0.0


@dataclass
class Experiment:
    """One file of `claims/`."""

    order: int = MISSING
    """Its place on the page."""
    title: str = MISSING
    claim: str = MISSING
    """One sentence."""
    about: str = ""
    """What is compared to test it."""
    changed: str = ""
    """What of it was changed after its figures had been seen. It decides nothing then: fresh seeds are needed."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Options of `avssl sample`; its seed is the training's."""
    tasks: list[str] = field(default_factory=lambda: ["clustering"])
    """What `avssl evaluate` measures."""
    metrics: list[str] = field(default_factory=lambda: ["NMI", "AMI", "ARI", "accuracy"])
    """Columns of the tables; the first one decides unless a comparison has another."""
    arms: dict[str, Arm] = field(default_factory=dict)
    compare: list[Comparison] = field(default_factory=list)
    plot: str = "arms"
    """arms: a row for each; damage: curves of "<damage>: <evidence>"; cost: the first metric against core-seconds."""
    note: str = ""
    """What is said below the differences, as what was tried."""

    def metric(self, comparison: Comparison) -> str:
        """What decides it."""
        return comparison.metric or self.metrics[0]


def selection(figure: str) -> str:
    """How a figure's labels were selected: `mean` over heads or starts, `chosen` without classes, `best` by the
    classes; empty for what is no labels."""
    if figure.startswith("k-means"):
        return "chosen" if figure.endswith("lowest inertia") else "mean"
    if figure.startswith(("features", "embedding")):
        return ""
    return {"all heads": "mean", "best head": "best"}.get(figure.rpartition(", ")[2], "chosen")


CLAIMS = Path(__file__).parent / "claims"
PLOTS = ("arms", "damage", "cost")


def experiments() -> dict[str, Path]:
    """Name and file of each, in the order of the page."""
    files = CLAIMS.glob("*.yaml")
    return {path.stem: path for path in sorted(files, key=lambda path: (_order(path), path.stem))}


def _order(path: Path) -> float:
    found = re.search(r"^order: *(\d+)", path.read_text(), re.MULTILINE)  # parsing them all takes a second
    return float(found[1]) if found else math.inf  # what is wrong with it is reported when it is read


def read_experiment(name: str) -> Experiment:
    """The experiment of a name. UserError for an unknown one, or a file that is no experiment."""
    known = experiments()
    if name not in known:
        raise UserError(f"no experiment {name}{nearest(name, list(known))} ({', '.join(known)})")
    path = known[name]
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Experiment), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    assert isinstance(found, Experiment)
    lost = {arm for c in found.compare for arm in (c.arm, c.than, *c.beyond)} - found.arms.keys()
    if lost or not found.arms:
        raise UserError(f"{path} compares {', '.join(sorted(lost)) or 'nothing'}, which is none of its arms")
    unknown = [c.metric for c in found.compare if c.metric and c.metric not in found.metrics]
    if unknown or not found.metrics:
        raise UserError(f"{path} compares by {', '.join(unknown) or 'nothing'}, which is none of its metrics")
    if found.plot not in PLOTS:
        raise UserError(f"{path}: plot is {found.plot}, not one of {', '.join(PLOTS)}")
    if any(len(c.beyond) not in (0, 2) for c in found.compare):
        raise UserError(f"{path}: beyond takes two arms")
    for c in found.compare:
        arms = [found.arms[name] for name in (c.arm, c.than, *c.beyond)]
        if {"mean", "chosen"} <= {selection(arm.figure) for arm in arms}:
            raise UserError(f"{path} compares a mean with what is chosen: {c.arm}, {c.than}; select both sides alike")
    return found
