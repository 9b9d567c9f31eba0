"""What differences between seeds show: paired tests, adjusted for all that are looked at, and verdicts."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t


def paired_p(differences: Sequence[float], margin: float = 0.0) -> float:
    """The two-sided p-value of the paired t-test that the mean of `differences`, [n], is `margin`.

    1 where there is no spread to test with: fewer than two differences, or all of them alike.
    """
    n = len(differences)
    if alike(differences):
        return 1.0
    away = statistics.fmean(differences) - margin
    return float(2 * t.sf(abs(away) / (statistics.stdev(differences) / math.sqrt(n)), n - 1))


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


LEVEL = 0.05
"""A comparison decides where its adjusted p-value is below this."""


def verdict(value: float, p: float, margin: float = 0.0) -> str:
    """`holds` where a mean difference is shown to be above `margin`, `does not hold` where it is shown to be below it,
    else `undecided`. `p` is adjusted for every comparison that is looked at."""
    if not p < LEVEL:  # also for a NaN
        return "undecided"
    return "holds" if value > margin else "does not hold"
