"""What the trainings found: figures by seed, paired differences, and what they decide about each claim."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from avssl.core.errors import UserError
from avssl.metrics.intervals import mean_of
from experiments.experiment import Arm, Comparison, Experiment
from experiments.significance import holm, paired_p, verdict
from experiments.trained import TIMES, Done, Scale, Training, training_of

LEAST_SEEDS = 3
"""Of a difference that decides something: two that happen to agree have an interval of no width."""


@dataclass
class Results:
    """Trainings that are done, and the experiments that they are of."""

    scale: Scale
    seeds: list[int]
    """Those that were planned: they alone decide."""
    experiments: dict[str, Experiment]
    done: dict[Training, Done] = field(default_factory=dict)
    missing: int = 0
    """Trainings that are not done."""

    @property
    def timed_on(self) -> str:
        """The machine of most trainings: times of others are not compared."""
        machines = Counter(done.machine for done in self.done.values()).most_common(1)
        return machines[0][0] if machines else ""

    def seeds_of(self, arm: Arm) -> set[int]:
        """Those of every arm, and its own."""
        return {*self.seeds, *arm.more_seeds}

    def all_seeds(self) -> list[int]:
        """Those that were planned, and after them those that some arms were given later."""
        more = {seed for e in self.experiments.values() for arm in e.arms.values() for seed in arm.more_seeds}
        return [*self.seeds, *sorted(more - {*self.seeds})]

    def training(self, experiment: Experiment, arm: Arm, seed: int) -> Training | None:
        """The arm's training of a seed; None where the arm does not have that seed, or it is not done."""
        if seed not in self.seeds_of(arm):
            return None
        job = training_of(self.scale, experiment, arm, seed)
        return job if job in self.done else None

    def value(self, experiment: Experiment, arm: Arm, metric: str, seed: int, figure: str = "") -> float:
        """The arm's figure of a seed; NaN where there is none, or its time is of another machine."""
        job = self.training(experiment, arm, seed)
        if job is None or (metric in TIMES and self.done[job].machine != self.timed_on):
            return math.nan
        name = f"{'untrained, ' if arm.untrained else ''}{figure or arm.figure}/{metric}"
        return self.done[job].figures.get(f"training/{metric}" if metric in TIMES else name, math.nan)

    def values(self, experiment: Experiment, arm: Arm, metric: str, figure: str = "") -> list[float]:
        """Its figures of the planned seeds, NaN where there is none."""
        return [self.value(experiment, arm, metric, seed, figure) for seed in self.seeds]

    def pairs(
        self, experiment: Experiment, comparison: Comparison, metric: str, seeds: Iterable[int] | None = None
    ) -> dict[int, float]:
        """The difference of the arms compared, by seed that all of them have; of the planned seeds unless others are
        given."""
        found = {}
        for seed in self.seeds if seeds is None else seeds:
            a, b, *beyond = (self.value(experiment, arm, metric, seed) for arm in _arms(experiment, comparison))
            difference = a - b - (beyond[0] - beyond[1] if beyond else 0.0)
            if math.isfinite(difference):
                found[seed] = difference
        return found

    def mixed(self, experiment: Experiment, comparison: Comparison, seeds: Iterable[int]) -> int:
        """Of how many seeds the trainings compared are not known to be of one commit and one machine."""
        count = 0
        for seed in seeds:
            jobs = {job for arm in _arms(experiment, comparison) if (job := self.training(experiment, arm, seed))}
            made = {(self.done[job].commit, self.done[job].machine) for job in jobs}
            count += len(jobs) > 1 and (len(made) > 1 or not _exact(made.pop()[0]))
        return count


def _arms(experiment: Experiment, comparison: Comparison) -> list[Arm]:
    return [experiment.arms[name] for name in (comparison.arm, comparison.than, *comparison.beyond)]


def _exact(commit: str) -> bool:
    """Whether a commit says which code ran."""
    return commit != "" and " " not in commit  # "… with changes"


@dataclass(frozen=True)
class Decided:
    """A comparison that decides, and what came of it."""

    comparison: Comparison
    metric: str
    differences: list[float]
    """One a seed."""
    mixed: int
    """Seeds whose trainings are not known to be of one commit and machine."""
    p: float
    """Of the paired t-test against the comparison's margin; 1 for fewer than LEAST_SEEDS seeds."""
    adjusted: float
    """By Holm, for all deciding comparisons of the page."""
    verdict: str


def decide(results: Results) -> dict[str, list[Decided]]:
    """What the comparisons that decide say, by experiment, adjusted for each other. UserError for a figure that no
    training has."""
    asked = [(name, c) for name, e in results.experiments.items() for c in e.compare if c.decides]
    found: list[dict[int, float]] = []
    for name, c in asked:
        e = results.experiments[name]
        found.append(results.pairs(e, c, e.metric(c)))
        if not found[-1] and not results.missing and e.metric(c) not in TIMES:  # a time may be of another machine
            raise UserError(f"“{e.title}” compares {e.metric(c)} of {c.arm} and {c.than}: no seed has it of both")
    ps = [
        paired_p([*pairs.values()], c.margin) if len(pairs) >= LEAST_SEEDS else 1.0
        for (_, c), pairs in zip(asked, found, strict=True)
    ]
    by_name: dict[str, list[Decided]] = {name: [] for name in results.experiments}
    for (name, c), pairs, p, adjusted in zip(asked, found, ps, holm(ps), strict=True):
        e, differences = results.experiments[name], [*pairs.values()]
        said = "undecided" if e.changed or not pairs else verdict(mean_of(differences).value, adjusted, c.margin)
        mixed = results.mixed(e, c, pairs)
        by_name[name].append(Decided(c, e.metric(c), differences, mixed, p, adjusted, said))
    return by_name


def verdict_of_all(verdicts: Sequence[str]) -> str:
    """`holds` where all do, `does not hold` where one does not, else `undecided`."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and set(verdicts) == {"holds"} else "undecided"


def claim_verdict(decided: Sequence[Decided]) -> str:
    """Of the claim that these comparisons decide."""
    return verdict_of_all([d.verdict for d in decided])


def weakest(decided: Sequence[Decided]) -> Decided:
    """The comparison that a claim's verdict rests on: one that does not hold, else the least certain."""
    failed = [d for d in decided if d.verdict == "does not hold"]
    return min(failed, key=lambda d: d.p) if failed else max(decided, key=lambda d: (d.adjusted, d.p))
