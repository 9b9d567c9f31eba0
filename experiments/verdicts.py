"""What the trainings found: figures by seed, paired differences, and what they decide about each claim."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from avssl.core.errors import UserError
from experiments.plan import TIMES, Arm, Claim, Comparison, Plan, sets_of
from experiments.significance import EQUIVALENT, FAILS, HOLDS, UNDECIDED, alike, decision, holm, holm_levels, interval
from experiments.trained import Done, Scale, Training, training_of

LEAST_SEEDS = 3
"""Of a difference that decides something: two that happen to agree have an interval of no width."""


@dataclass
class Results:
    """Trainings that are done, and the claims that they are of."""

    plan: Plan
    scale: Scale
    claims: list[str]
    """Names of those that are looked at."""
    seeds: dict[str, list[int]]
    """Of each claim."""
    voices: bool = False
    """Whether there are recorded voices."""
    exploratory: dict[str, str] = field(default_factory=dict)
    """Claims that decide nothing here, and why."""
    done: dict[str, Done] = field(default_factory=dict)
    """By the name of a training."""
    missing: int = 0
    """Trainings that are not done."""
    family: int = 0
    """Number of the comparisons that are adjusted for: all that decided when the first training began."""

    def claim(self, name: str) -> Claim:
        """A claim by its name."""
        return self.plan.claims[name]

    def sets(self, name: str) -> list[str]:
        """The data sets of a claim."""
        return sets_of(self.claim(name), self.voices)

    def training(self, name: str, arm: Arm, of: str, seed: int) -> Training:
        """The training of an arm of a claim."""
        return training_of(self.plan, self.scale, self.claim(name), arm, of, seed)

    def value(self, name: str, arm: Arm, of: str, measure: str, seed: int, figure: str) -> float:
        """The arm's figure of a seed; NaN where there is none."""
        done = self.done.get(self.training(name, arm, of, seed).name)
        if done is None:
            return math.nan
        return done.figures.get(f"training/{measure}" if measure in TIMES else f"{figure}/{measure}", math.nan)

    def values(self, name: str, arm: Arm, of: str, measure: str, figure: str) -> list[float]:
        """Its figures, one a seed, NaN where there is none."""
        return [self.value(name, arm, of, measure, seed, figure) for seed in self.seeds[name]]

    def pairs(self, name: str, c: Comparison, of: str, measure: str = "") -> dict[int, float]:
        """The difference of the arms compared, by seed that all of them have."""
        claim, found = self.claim(name), {}
        arms = [claim.arms[arm] for arm in c.arms]
        for seed in self.seeds[name]:
            a, b, *beyond = (
                self.value(name, arm, of, measure or claim.measure(c), seed, claim.figure(arm, c.select))
                for arm in arms
            )
            difference = a - c.times * b - (beyond[0] - beyond[1] if beyond else 0.0)
            if math.isfinite(difference):
                found[seed] = difference
        return found

    def of_claim(self, name: str) -> list[Done]:
        """What is done of the trainings that a claim compares."""
        claim = self.claim(name)
        names = {
            self.training(name, arm, of, seed).name
            for of in self.sets(name) for arm in claim.arms.values() for seed in self.seeds[name]
        }  # fmt: skip
        return [self.done[job] for job in sorted(names) if job in self.done]


@dataclass(frozen=True)
class Decided:
    """A comparison on a data set, and what came of it."""

    claim: str
    data: str
    comparison: Comparison
    differences: list[float]
    """One a seed."""
    p: float
    """Of `significance.decision`; 1 for fewer than LEAST_SEEDS seeds."""
    adjusted: float
    """By Holm, for all deciding comparisons of the plan."""
    interval: tuple[float, float]
    """Of the mean difference, with the confidence that Holm's method asks of it."""
    verdict: str


def decide(results: Results) -> list[Decided]:
    """What the comparisons that decide say. All that the plan lets decide are adjusted for, also those that are not
    looked at here. UserError for a figure that no training has."""
    plan = results.plan
    family = [
        (name, of, c) for name, of, c in plan.deciding(results.voices)
        if name in results.claims and name not in results.exploratory
    ]  # fmt: skip
    found, said, ps = [], [], []
    for name, of, c in family:
        claim = results.claim(name)
        differences = [*results.pairs(name, c, of).values()]
        if not differences and not results.missing and claim.measure(c) not in TIMES:
            raise UserError(
                f"“{claim.title}” compares {claim.measure(c)} of {c.arm} and {c.than}: no seed has it of both"
            )
        points_to, p = (
            decision(differences, c.direction, claim.margin(c)) if len(differences) >= LEAST_SEEDS else (UNDECIDED, 1.0)
        )
        found.append(differences)
        said.append(points_to)
        ps.append(p)
    others = [1.0] * (results.family - len(ps))
    decided = []
    for (name, of, c), differences, points_to, p, adjusted, level in zip(
        family, found, said, ps, holm([*ps, *others]), holm_levels([*ps, *others], plan.level), strict=False
    ):
        # an equivalence test has the level on each side
        sides = 2 if (c.direction, points_to) == (EQUIVALENT, HOLDS) else 1
        width = interval(differences, sides * level) if differences else (-math.inf, math.inf)
        verdict = points_to if adjusted < plan.level else UNDECIDED
        decided.append(Decided(name, of, c, differences, p, adjusted, width, verdict))
    return decided


def verdict_of_all(verdicts: Sequence[str]) -> str:
    """`holds` where all do, `does not hold` where one does not, else `undecided`."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and set(verdicts) == {HOLDS} else UNDECIDED


def by_set(decided: Sequence[Decided], name: str) -> dict[str, str]:
    """The verdict of a claim on each data set."""
    sets = dict.fromkeys(d.data for d in decided if d.claim == name)
    return {of: verdict_of_all([d.verdict for d in decided if (d.claim, d.data) == (name, of)]) for of in sets}


def claim_verdict(verdicts: dict[str, str]) -> str:
    """Of a claim, in words that name the data sets: it holds on all of them, or on which alone."""
    if not verdicts:
        return UNDECIDED
    if len(verdicts) == 1:
        of, verdict = next(iter(verdicts.items()))
        return f"{verdict} (on {of} alone)"
    counts = Counter(verdicts.values())
    if len(counts) == 1:
        verdict = next(iter(counts))
        return f"{verdict} on {'both' if len(verdicts) == 2 else f'all {len(verdicts)}'}"
    return "; ".join(
        f"{verdict} on {' and '.join(o for o, v in verdicts.items() if v == verdict)}" for verdict in counts
    )


def weakest(decided: Sequence[Decided]) -> Decided:
    """The comparison that a verdict rests on: one that does not hold, else the least certain."""
    failed = [d for d in decided if d.verdict == FAILS]
    return min(failed, key=lambda d: d.p) if failed else max(decided, key=lambda d: (d.adjusted, d.p))


def without_spread(differences: Sequence[float]) -> bool:
    """Whether there is nothing to test with, though there are seeds."""
    return len(differences) >= LEAST_SEEDS and alike(differences)
