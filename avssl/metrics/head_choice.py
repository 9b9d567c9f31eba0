"""Which of a model's heads stands for it, chosen without classes; docs/labelling.md has the measurement behind it.

Measures look at most probable clusters of the training videos and are corrected for chance, so that they do not change
with the logits' scale as the transport cost does. A collapsed head is chosen only where all are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

AGREEMENT, STABILITY, COST = "agreement", "stability", "cost"

MEASURES = {
    STABILITY: "the highest stability of the labels (AMI of two augmented passes)",
    AGREEMENT: "the highest agreement of the labels by video alone and by audio alone (AMI)",
    COST: "the lowest transport cost",
}
"""In words, the best first."""


@dataclass(frozen=True)
class HeadChoice:
    """A head, and how it came to be chosen."""

    head: int | None
    """None where there are several, and nothing is known of them."""
    by: str = ""
    """The measure, of `MEASURES`; empty where there is one head, or none is chosen."""
    values: list[float | None] | None = None
    """The measure of each head, [H]."""
    collapsed: list[str] | None = None
    """Which way each head has collapsed (`selflabel.opinions`), or ""; None where that is not known."""


def choose_head(
    heads: int, measures: Mapping[str, Sequence[float] | np.ndarray | None], collapsed: Sequence[str] | None = None
) -> HeadChoice:
    """The head to report.

    Args:
        heads: H.
        measures: values [H] by name, of `MEASURES`; NaN where one is not known.
        collapsed: which way each head has collapsed, or "".
    """
    lost = None if collapsed is None else list(collapsed)
    if heads == 1:
        return HeadChoice(0, collapsed=lost)
    whole = [head for head in range(heads) if lost is None or not lost[head]] or list(range(heads))
    for name in MEASURES:
        given = measures.get(name)
        values = np.full(heads, math.nan) if given is None else np.asarray(given, dtype=float)
        candidates = [head for head in whole if math.isfinite(values[head])]
        if candidates:
            sign = -1 if name == COST else 1
            best = max(candidates, key=lambda head: (sign * values[head], -head))
            return HeadChoice(best, name, [float(x) if math.isfinite(x) else None for x in values], lost)
    return HeadChoice(None, collapsed=lost)
