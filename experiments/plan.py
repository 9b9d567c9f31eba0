"""The plan: every claim with its arms, measure, direction, margin, seeds and data, fixed before its first training."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from avssl.config.compose import nearest
from avssl.core.errors import UserError
from avssl.core.untrusted import read_yaml
from experiments.selection import BEST, CHOSEN, FIGURES, MEAN, check_alike, measured_name
from experiments.significance import DIRECTIONS, EQUIVALENT
from experiments.videos import SAMPLE, SETS, TYPEFACES, VOICES

PLAN = Path(__file__).parent / "plan.yaml"

PLOTS = ("arms", "damage", "cost")

CORE_SECONDS = "core-seconds"

TIMES = (CORE_SECONDS, "seconds")
"""Measures of a training, of no figure: no shares."""


@dataclass
class Arm:
    """One side of a comparison: a training, and which of its figures count."""

    of: str = "joint"
    """What is measured, one of `selection.FIGURES`."""
    train: list[str] = field(default_factory=list)
    """Options of `avssl train`, after the claim's. {start} is the run of the arm `start`."""
    best: bool = False
    """Its labels are selected with the classes: an upper bound of what choosing can reach."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Options of `avssl sample`, beside the claim's."""
    longer: float = 1.0
    """Epochs or clips, as a multiple of the claim's."""
    as_long_as: str = ""
    """Another arm, whose core-seconds `longer` is to equal: the pilot says what it has to be."""
    untrained: bool = False
    """The figure is that of the encoders before training."""
    start: str = ""
    """Another arm, whose run this one starts from."""
    noisy: bool = False
    digits: list[int] = field(default_factory=list)
    few: int = 0
    joined: bool = False
    """Part or form of the videos, see `videos.Videos`."""


@dataclass
class Comparison:
    """`arm` against `than`, paired by seed."""

    arm: str
    than: str
    measure: str = ""
    """Empty is the claim's first."""
    direction: str = "greater"
    """greater: the mean difference is above the margin; equivalent: it is within ± the margin."""
    margin: float = 0.0
    """In points, or in core-seconds; a negative one of `greater` is what may be lost."""
    effect: float | None = None
    """The difference beyond the margin that the pilot plans for, at least; None: the plan's."""
    times: float = 1.0
    """`than` counts so many times: 0.9 asks for nine tenths of it."""
    beyond: list[str] = field(default_factory=list)
    """Two other arms, whose difference is subtracted: `arm` should gain more on `than` than the first on the second."""
    select: str = CHOSEN
    """How labels are selected, on all sides: chosen or mean, see `selection`."""
    decides: bool = True
    """Whether the claim's verdict depends on it. The others are reported without a test."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that it compares."""
        return (self.arm, self.than, *self.beyond)


@dataclass
class Claim:
    """One claim, and the trainings that test it."""

    title: str
    claim: str
    """One sentence."""
    about: str = ""
    """What is compared to test it."""
    data: list[str] = field(default_factory=lambda: [SAMPLE, TYPEFACES])
    """The data sets that decide it, each by itself; `voices` only where a folder of recordings is given."""
    seeds: int = 0
    """0: the plan's."""
    epochs: int = 0
    clips: int = 0
    """How long each arm is trained: passes over the videos, or clips; both 0: the plan's epochs."""
    steps: int = 600
    """Of the detectors."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Options of `avssl sample`; its seed is the training's."""
    train: list[str] = field(default_factory=list)
    """Options of `avssl train` of all arms."""
    tasks: list[str] = field(default_factory=lambda: ["clustering"])
    """What is measured: tasks of `avssl evaluate`, or `locate` and `detect`."""
    measures: list[str] = field(default_factory=lambda: ["NMI", "AMI", "ARI", "accuracy"])
    """Columns of the tables; the first one decides unless a comparison has another."""
    arms: dict[str, Arm] = field(default_factory=dict)
    compare: list[Comparison] = field(default_factory=list)
    plot: str = "arms"
    """arms: a row for each; damage: curves of "<damage>: <evidence>"; cost: the first measure against core-seconds."""
    exploratory: bool = False
    """Planned to be looked at, not to be decided."""
    note: str = ""

    def measure(self, comparison: Comparison) -> str:
        """What decides it."""
        return comparison.measure or self.measures[0]

    def margin(self, comparison: Comparison) -> float:
        """In the measure's own unit: shares of one, or core-seconds."""
        return comparison.margin / (1 if self.measure(comparison) in TIMES else 100)

    def figure(self, arm: Arm, select: str) -> str:
        """The name of the arm's figure, where labels are selected so."""
        name = measured_name(arm.of, BEST if arm.best else select)
        return f"{'untrained, ' if arm.untrained else ''}{name}"

    def selections(self, arm: str) -> list[str]:
        """How the comparisons select the labels of an arm."""
        found = dict.fromkeys(c.select for c in self.compare if arm in c.arms)
        return list(found) or [CHOSEN]


@dataclass
class Plan:
    """`plan.yaml`."""

    first_seed: int = 100
    seeds: int = 8
    """Of each claim, from `first_seed` on; a seed sets the videos and the training."""
    pilot_seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    epochs: int = 40
    passes: int = 16
    """Labelling passes of arms that are trained for epochs."""
    starts: int = 6
    """Of k-means: as many as the heads that labels are chosen from."""
    level: float = 0.05
    """Of all deciding comparisons together, by Holm's method."""
    power: float = 0.8
    effect: float = 5.0
    """The difference beyond its margin that a comparison should be able to show, in points (or core-seconds)."""
    core_hours: float = 16.0
    excluded: list[str] = field(default_factory=list)
    """The rules by which a seed of a comparison is left out, in words."""
    not_decidable: dict[str, str] = field(default_factory=dict)
    """Claims that are dropped, and why: what the pilot said they would need."""
    claims: dict[str, Claim] = field(default_factory=dict)

    def seeds_of(self, claim: Claim) -> list[int]:
        """The planned seeds of a claim."""
        return [*range(self.first_seed, self.first_seed + (claim.seeds or self.seeds))]

    def deciding(self, voices: bool) -> Iterator[tuple[str, str, Comparison]]:
        """The family that is adjusted for: claim, data set and comparison of all that decides."""
        for name, claim in self.claims.items():
            if claim.exploratory or name in self.not_decidable:
                continue
            for of in sets_of(claim, voices):
                yield from ((name, of, c) for c in claim.compare if c.decides)


def sets_of(claim: Claim, voices: bool) -> list[str]:
    """The data sets of a claim; recorded voices only where there are any."""
    return [of for of in claim.data if of != VOICES or voices]


def read_plan(path: Path = PLAN) -> Plan:
    """The plan. UserError, in one line, for a file that is none."""
    plan: Plan
    try:
        plan = built(Plan, read_yaml(path), "")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    _check_plan(plan, path)
    for name, claim in plan.claims.items():
        try:
            check_claim(claim)
        except UserError as error:
            raise UserError(f"{path}: {name}: {error}") from None
    return plan


def built(kind: Any, found: Any, where: str) -> Any:
    """What a YAML node holds, as a type of this file or a plain one; UserError with the node's place for another."""
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(found, dict):
            raise UserError(f"{where or 'the file'} has no keys")
        types = _types(kind)
        for key in found:
            if key not in types:
                raise UserError(f"{where}{': ' if where else ''}no key {key}{nearest(str(key), list(types))}")
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        lost = [name for name in needed if name not in found]
        if lost:
            raise UserError(f"{where}: {' and '.join(lost)} is missing")
        return kind(
            **{key: built(types[key], value, f"{where}{'.' if where else ''}{key}") for key, value in found.items()}
        )
    base, inner = get_origin(kind), get_args(kind)
    if base is list and isinstance(found, list):
        return [built(inner[0], value, f"{where}[{i}]") for i, value in enumerate(found)]
    if base is dict and isinstance(found, dict):
        return {str(key): built(inner[1], value, f"{where}.{key}") for key, value in found.items()}
    one_of = get_args(kind) if base is UnionType else (kind,)
    if kind is Any or type(found) in one_of:
        return found
    if float in one_of and type(found) is int:
        return float(found)
    raise UserError(f"{where} is {str(found)[:60]!r}, which is no {getattr(kind, '__name__', kind)}")


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_plan(plan: Plan, path: Path) -> None:
    most = max([plan.seeds, *(claim.seeds for claim in plan.claims.values())])
    for holds, message in (
        (plan.claims, "there is no claim"),
        (plan.seeds >= 3, f"seeds: {plan.seeds} decide nothing; give 3 or more"),
        (
            not {*plan.pilot_seeds} & {*range(plan.first_seed, plan.first_seed + most)},
            "pilot_seeds are among the seeds that decide: these have to be fresh",
        ),
        (0 < plan.level < 0.5, f"level: {plan.level:g} is not between 0 and 0.5"),
        (0 < plan.power < 1, f"power: {plan.power:g} is not between 0 and 1"),
        (min(plan.epochs, plan.passes, plan.starts) >= 1, "epochs, passes and starts are at least 1"),
    ):
        if not holds:
            raise UserError(f"{path}: {message}")
    for name in plan.not_decidable:
        if name not in plan.claims:
            raise UserError(f"{path}: not_decidable names {name}{nearest(name, list(plan.claims))}, which is no claim")


def check_claim(claim: Claim) -> None:
    """Raise UserError for a claim that contradicts itself; its words are checked by `trained.check_words`."""
    used = {name for c in claim.compare for name in c.arms} | {
        name for arm in claim.arms.values() for name in (arm.start, arm.as_long_as) if name
    }
    unknown = sorted(used - claim.arms.keys())
    unmeasured = [c.measure for c in claim.compare if c.measure and c.measure not in claim.measures]
    sets = [of for of in claim.data if of not in SETS]
    for holds, message in (
        (claim.arms and claim.compare, "it compares nothing"),
        (not unknown, f"{', '.join(unknown)} is none of its arms"),
        (claim.measures and not unmeasured, f"{', '.join(unmeasured) or 'nothing'} is none of its measures"),
        (claim.plot in PLOTS, f"plot is {claim.plot}, not one of {', '.join(PLOTS)}"),
        (claim.data and not sets, f"data: {', '.join(sets) or 'nothing'} is not one of {', '.join(SETS)}"),
        (claim.seeds == 0 or claim.seeds >= 3, f"seeds: {claim.seeds} decide nothing; give 3 or more, or 0"),
        (not (claim.epochs and claim.clips), "give epochs or clips, not both"),
    ):
        if not holds:
            raise UserError(message)
    for name, arm in claim.arms.items():
        if arm.of not in FIGURES:
            raise UserError(f"{name} is measured by {arm.of}{nearest(arm.of, [*FIGURES])}, which is no figure")
        if not math.isfinite(arm.longer) or arm.longer <= 0:
            raise UserError(f"{name}: longer is {arm.longer:g}, not above 0")
        if arm.start and claim.arms[arm.start].start:
            raise UserError(f"{name} starts from {arm.start}, which starts from another arm itself")
    for c in claim.compare:
        _check_comparison(claim, c)


def _check_comparison(claim: Claim, c: Comparison) -> None:
    told = f"{c.arm} − {c.than}"
    for holds, message in (
        (c.direction in DIRECTIONS, f"direction is {c.direction}, not {' or '.join(DIRECTIONS)}"),
        (c.select in (CHOSEN, MEAN), f"select is {c.select}, not {CHOSEN} or {MEAN}"),
        (c.direction != EQUIVALENT or c.margin > 0, "an equivalence test needs a margin above 0"),
        (len(c.beyond) in (0, 2), "beyond takes two arms"),
        (c.arm != c.than, "an arm is compared with itself"),
    ):
        if not holds:
            raise UserError(f"{told}: {message}")
    for name in c.arms:
        claim.figure(claim.arms[name], c.select)


def check_selection(claim: Claim, counts: dict[str, int]) -> None:
    """Raise UserError for a comparison whose sides are not selected alike.

    Args:
        claim: the claim.
        counts: the number of candidates of each arm, see `selection.candidates`.
    """
    for c in claim.compare:
        sides = {}
        for name in c.arms:
            arm = claim.arms[name]
            sides[name] = (arm.of, BEST if arm.best else c.select, counts[name])
        check_alike(sides)


READING = ("title", "about", "note", "plot")
"""What of a claim may be reworded after its first training."""


def digest(path: Path = PLAN) -> str:
    """Of the plan's file: 12 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def as_planned(plan: Plan, name: str) -> Any:
    """What of a claim is fixed before its first training, with the defaults that it takes; None where it does not
    decide."""
    if name not in plan.claims or plan.claims[name].exploratory or name in plan.not_decidable:
        return None
    defaults = {key: value for key, value in asdict(plan).items() if key not in ("claims", "not_decidable")}
    claim = {key: value for key, value in asdict(plan.claims[name]).items() if key not in READING}
    return defaults, claim
