"""Means with 95 % intervals, over seeds or draws, and what they decide."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Mean:
    """A mean over seeds or draws; its 95 % interval is `value` ± `half` (Student's t), infinite for one value."""

    value: float
    half: float

    def to_dict(self) -> dict[str, float]:
        """`mean` and `half`."""
        return {"mean": self.value, "half": self.half}

    def percent(self, sign: str = "") -> str:
        """In percent, `value ± half`; the value alone where the interval is infinite."""
        half = f" ± {100 * self.half:.1f}" if math.isfinite(self.half) else ""
        return f"{round(100 * self.value, 1) + 0.0:{sign}.1f}{half}"  # + 0.0: no -0.0

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half


def mean_of(values: Sequence[float]) -> Mean:
    """Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    n = len(values)
    half = math.inf if n == 1 else float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Mean(statistics.fmean(values), half)


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
    """Are they the same, but for rounding? As where both arms are at 100 % for every seed."""
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
