"""How a figure's labels were selected: alike on both sides of every comparison. This is the one place that says so.

Labels come from heads, or from k-means. Both have candidates: the heads, and the starts of k-means. *chosen* takes one
without classes: the head by its label-free measure, the start by the lowest inertia, out of equally many. *mean* is the
mean over all candidates. *best* takes the head that fits the classes best: an upper bound, to measure what choosing
costs.
"""

from collections.abc import Mapping

from avssl.config import TrainConfig
from avssl.core.errors import UserError
from avssl.evaluate.robustness import CORRUPTIONS

CHOSEN, MEAN, BEST = SELECTIONS = ("chosen", "mean", "best")

EVIDENCE = ("joint", "video", "audio")
"""Whose labels of the heads."""

CLUSTERS = tuple(f"k-means, {view}" for view in ("both", "video", "audio"))
"""k-means of features."""

DEGRADED = tuple(f"{damage}: {evidence}" for damage in CORRUPTIONS for evidence in EVIDENCE)
"""Labels of the chosen head from degraded clips."""

PLAIN = (
    *(f"features, {view}" for view in ("both", "video", "audio")), "embedding", "heat map: own audio",
    "heat map: audio of another video", "detector: own boxes", "detector: true boxes",
)  # fmt: skip
"""What has no candidates."""

FIGURES = (*EVIDENCE, *CLUSTERS, *DEGRADED, *PLAIN)
"""What an arm may be measured by."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    **{of: {CHOSEN: of, MEAN: f"{of}, all heads", BEST: f"{of}, best head"} for of in EVIDENCE},
    **{of: {CHOSEN: f"{of}, lowest inertia", MEAN: of} for of in CLUSTERS},
    **{of: {CHOSEN: of} for of in DEGRADED},
    **{of: {CHOSEN: of, MEAN: of} for of in PLAIN},
}


def measured_name(of: str, select: str) -> str:
    """The name of a figure, of those that `trained.measured` gives. UserError where it cannot be selected so."""
    names = _NAMES[of]
    if select not in names:
        raise UserError(f"{of} cannot be selected by {select}: give {' or '.join(names)}")
    return names[select]


def candidates(of: str, config: TrainConfig, starts: int) -> int:
    """Of how many candidates one is chosen: heads, or starts of k-means; 0 for what has none."""
    if of in CLUSTERS:
        return starts
    if of in PLAIN:
        return 0
    return config.labelling.heads if "labelling" in config.objectives else 1


def check_alike(sides: Mapping[str, tuple[str, str, int]]) -> None:
    """Raise UserError for a comparison whose arms are not selected alike.

    Args:
        sides: by arm, what it is measured by, how that is selected, and its number of candidates.
    """
    selecting = {name: side for name, side in sides.items() if side[2]}
    if {MEAN, CHOSEN} <= {select for _, select, _ in selecting.values()}:
        raise UserError(f"a mean is compared with what is chosen: {' and '.join(selecting)}; select both alike")
    counts = {name: count for name, (_, select, count) in selecting.items() if select == CHOSEN}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise UserError(f"one of as many has to be chosen on both sides: {told}; give both as many, or select: mean")
