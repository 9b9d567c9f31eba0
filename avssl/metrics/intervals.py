"""Means with 95 % intervals, over seeds or draws."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Mean:
    """A mean over seeds or draws. Its 95 % interval is `value` ± `half` (Student's t), infinite for one value."""

    value: float
    half: float

    def to_dict(self) -> dict[str, float]:
        """The mean for JSON, as `mean` and `half`."""
        return {"mean": self.value, "half": self.half}

    def percent(self, sign: str = "") -> str:
        """The mean in percent, as `value ± half`; only the value if the interval is infinite."""
        half = f" ± {100 * self.half:.1f}" if math.isfinite(self.half) else ""
        return f"{round(100 * self.value, 1) + 0.0:{sign}.1f}{half}"  # + 0.0: no -0.0


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of values, with its interval. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    n = len(values)
    half = math.inf if n == 1 else float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Mean(statistics.fmean(values), half)
