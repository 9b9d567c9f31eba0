"""The choice of the head to report, without classes. docs/guides/labelling.md explains it.

The measures compare the most probable clusters of the training videos and are corrected for chance. Unlike the
transport cost, they do not depend on the scale of the logits. Heads that are equal in one measure, as those of few
videos often are, are compared by the next. A collapsed head is chosen only if all are collapsed.
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
"""Descriptions of the measures, the best measure first."""

EQUAL = 1e-6
"""Values that differ by less are equal."""


@dataclass(frozen=True)
class HeadChoice:
    """The chosen head, and the reason."""

    head: int | None
    """None if there are several heads and no measure."""
    by: str = ""
    """The name of the measure in `MEASURES`, of the first if several were needed; empty with one head, or if none is
    chosen."""
    values: list[float | None] | None = None
    """The value of the measure for each head, [H]."""
    collapsed: list[str] | None = None
    """How each head has collapsed (`selflabel.head_opinions`), or ""; None if that is unknown."""


def choose_head(
    heads: int, measures: Mapping[str, Sequence[float] | np.ndarray | None], collapsed: Sequence[str] | None = None
) -> HeadChoice:
    """Choose the head to report.

    Args:
        heads: number of heads, H.
        measures: values [H] by the names in `MEASURES`; NaN if unknown.
        collapsed: how each head has collapsed, or "".
    """
    kinds = None if collapsed is None else list(collapsed)
    if heads == 1:
        return HeadChoice(0, collapsed=kinds)
    left = [head for head in range(heads) if kinds is None or not kinds[head]] or list(range(heads))
    first: tuple[str, np.ndarray] | None = None
    for name in MEASURES:
        measure = measures.get(name)
        values = np.full(heads, math.nan) if measure is None else np.asarray(measure, dtype=float)
        known = [head for head in left if math.isfinite(values[head])]
        if known:
            signed = -values if name == COST else values
            left = [head for head in known if signed[head] >= signed[known].max() - EQUAL]
            first = first or (name, values)
    if first is None:
        return HeadChoice(None, collapsed=kinds)
    by, values = first
    return HeadChoice(left[0], by, [float(x) if math.isfinite(x) else None for x in values], kinds)
