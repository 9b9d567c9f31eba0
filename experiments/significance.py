"""What differences between seeds show: paired tests, adjusted for all that are looked at, and verdicts."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import nct, t

from avssl.metrics.intervals import mean_of

GREATER, EQUIVALENT = DIRECTIONS = ("greater", "equivalent")

HOLDS, FAILS, UNDECIDED = ("holds", "does not hold", "undecided")

LEVEL = 0.05
"""A comparison decides where its adjusted p-value is below this."""

MOST_SEEDS = 1000
"""Of `seeds_needed`."""


def paired_p(differences: Sequence[float], margin: float = 0.0) -> float:
    """The two-sided p-value of the paired t-test that the mean of `differences`, [n], is `margin`.

    1 where there is no spread to test with: fewer than two differences, or all of them alike.
    """
    n = len(differences)
    if alike(differences):
        return 1.0
    away = statistics.fmean(differences) - margin
    return float(2 * t.sf(abs(away) / (statistics.stdev(differences) / math.sqrt(n)), n - 1))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """The p-value of the equivalence test that the mean of `differences`, [n], is within ± `margin`: the larger one of
    two one-sided paired t-tests (Schuirmann 1987). 1 where there is no spread to test with."""
    if alike(differences):
        return 1.0
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return float(t.sf((margin - abs(statistics.fmean(differences))) / error, len(differences) - 1))


def decision(differences: Sequence[float], direction: str, margin: float) -> tuple[str, float]:
    """What `differences`, [n], point to, and the p-value of that.

    greater: the mean is above `margin` (holds) or below it (does not hold), by the two-sided test. equivalent: the mean
    is within ± `margin` (holds, by the equivalence test), or outside (does not hold, by the two-sided test against the
    nearer bound).
    """
    if alike(differences):
        return UNDECIDED, 1.0
    mean = statistics.fmean(differences)
    if direction == GREATER:
        return HOLDS if mean > margin else FAILS, paired_p(differences, margin)
    if abs(mean) < margin:
        return HOLDS, equivalence_p(differences, margin)
    return FAILS, paired_p(differences, math.copysign(margin, mean))


def interval(differences: Sequence[float], level: float) -> tuple[float, float]:
    """The interval of the mean of `differences`, [n], with the confidence 1 - `level` (Student's t)."""
    mean, n = statistics.fmean(differences), len(differences)
    if n < 2:
        return -math.inf, math.inf
    half = float(t.ppf(1 - level / 2, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return mean - half, mean + half


def alike(differences: Sequence[float]) -> bool:
    """Whether they are the same up to rounding, for example because both arms reach 100 % for every seed."""
    return not differences or max(differences) - min(differences) < 1e-9


def holm(ps: Sequence[float]) -> list[float]:
    """P-values adjusted for all of `ps` being looked at, in the same order: the chance of one false decision among them
    stays below the level (Holm 1979, step-down)."""
    adjusted, largest = [1.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


def holm_levels(ps: Sequence[float], level: float) -> list[float]:
    """The level that Holm's method tests each of `ps` at, in the same order: `level` by how many are left. It stops at
    the first that is too large, and its level is that of all after it: an interval with that confidence agrees with the
    test."""
    levels, stopped = [level] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        levels[i] = stopped or level / (len(ps) - rank)
        if not ps[i] < levels[i]:
            stopped = levels[i]
    return levels


def verdict(value: float, p: float, margin: float = 0.0) -> str:
    """`holds` where a mean difference is shown to be above `margin`, `does not hold` where it is shown to be below it,
    else `undecided`. `p` is adjusted for every comparison that is looked at."""
    if not p < LEVEL:  # also for a NaN
        return UNDECIDED
    return HOLDS if value > margin else FAILS


def power(n: int, spread: float, direction: str, margin: float, true: float, level: float) -> float:
    """The chance that `n` seeds show what a comparison claims, where the true mean difference is `true`.

    Args:
        n: number of seeds.
        spread: standard deviation of a seed's difference.
        direction, margin: what is claimed, see `decision`.
        true: the true mean difference.
        level: of the two-sided test, or of the equivalence test.
    """
    error = spread / math.sqrt(n)
    if direction == GREATER:
        return float(nct.sf(t.ppf(1 - level / 2, n - 1), n - 1, (true - margin) / error))
    bound = t.ppf(1 - level, n - 1)
    missed = sum(float(nct.cdf(bound, n - 1, away / error)) for away in (margin - true, margin + true))
    return max(0.0, 1 - missed)


def seeds_needed(
    spread: float, direction: str, margin: float, true: float, level: float, wanted: float, least: int = 3
) -> int | None:
    """The fewest seeds with a `power` of `wanted`; None for more than MOST_SEEDS, or where `true` is not claimed."""
    claimed = true > margin if direction == GREATER else abs(true) < margin
    if not claimed:
        return None
    low, high = least - 1, MOST_SEEDS
    if not power(high, spread, direction, margin, true, level) >= wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(middle, spread, direction, margin, true, level) >= wanted:
            high = middle
        else:
            low = middle
    return high


def cautious(differences: Sequence[float], direction: str, effect: float, margin: float) -> float:
    """The true mean difference that a pilot's `differences`, [n], justify planning for.

    A pilot flatters: for `greater`, the lower end of the 60 % interval of its mean (Perugini et al. 2014), but at least
    `effect` above the margin; for `equivalent`, 0.
    """
    if direction == EQUIVALENT:
        return 0.0
    return max(margin + effect, interval(differences, 0.4)[0]) if mean_of(differences).value > margin else margin
