"""The line about an unreliable modality, for the end of a run and for `avssl clusters`."""

from collections.abc import Mapping

from ..selflabel.modality_weights import LITTLE, NOTHING


def weak_modality(repeats: Mapping[str, float]) -> str | None:
    """The modality whose clusters repeat much less than the other's; None if both are reliable, or neither is.

    Args:
        repeats: `metrics.repeatability` of each modality's features.
    """
    best = max(repeats.values(), default=0.0)
    return next((name for name, x in repeats.items() if best >= NOTHING and x < LITTLE * best), None)


def weak_line(repeats: Mapping[str, float], weights: list[str]) -> str:
    """What to do about an unreliable modality; empty if there is none.

    Args:
        repeats: as for `weak_modality`.
        weights: the run's `labelling.modality_weights`; empty for a run without self-labelling.
    """
    weak = weak_modality(repeats)
    if weak is None:
        return ""
    other = next(name for name in repeats if name != weak)
    why = (
        f"the {weak} says little about your videos: its clusters repeat on other videos to "
        f"{repeats[weak]:.0%} ({other}: {repeats[other]:.0%}, noise: 0%)"
    )
    if not weights:
        return f"{why}: use the {other}'s labels (label_{other}_*)"
    if weights == ["auto"]:
        return f"{why}; labelling.modality_weights=auto gives it little weight"
    return f"{why}: set labelling.modality_weights=auto, or use the {other}'s labels (label_{other}_*)"
