"""The mean of an evaluation's figures over official folds."""

import math
from itertools import zip_longest
from typing import Any

from .intervals import mean_of

NAMES = {"head", "chosen_head", "clusters"}
"""Numbers that are no quantities: folds have them in common, or not at all."""


def mean_over_folds(folds: list[Any], gaps: list[str] | None = None, name: str = "") -> Any:
    """The folds' figures as one: numbers become their mean, dicts and lists are met entry by entry.

    A figure that a fold lacks (None, NaN, or no such entry) has no mean: it is None, and its name is added to `gaps`.
    Figures over repeated draws, dicts with `values` of one each, are averaged draw by draw before their interval is
    found: draws of one seed in several folds share videos, and are no independent values.

    Args:
        folds: what each fold found, as JSON has it; one alone is returned as it is.
        gaps: takes the names of what some folds have and others lack.
        name: of these figures, for `gaps`.
    """
    there = [fold for fold in folds if not _lacks(fold)]
    if len(folds) == 1 or not there:
        return folds[0] if len(folds) == 1 else None
    if all(isinstance(fold, dict) for fold in there):
        whole = [fold if isinstance(fold, dict) else {} for fold in folds]
        if any(isinstance(fold.get("values"), list) for fold in there):
            drawn = _over_draws([fold.get("values") for fold in whole], gaps, name)
            if all("half" in fold and fold["half"] is None for fold in whole):  # every draw is of the same videos
                drawn["half"] = None
        else:
            drawn = {}
        keys = dict.fromkeys(key for fold in whole for key in fold if key not in drawn)
        return drawn | {
            key: _shared([fold.get(key) for fold in whole]) if key in NAMES
            else mean_over_folds([fold.get(key) for fold in whole], gaps, f"{name}/{key}" if name else str(key))
            for key in keys
        }  # fmt: skip
    if all(isinstance(fold, list) for fold in there):
        entries = zip_longest(*(fold if isinstance(fold, list) else [] for fold in folds))
        return [mean_over_folds(list(entry), gaps, f"{name}/{i}") for i, entry in enumerate(entries)]
    if not all(_is_number(fold) for fold in there):
        return _shared(folds)
    if len(there) < len(folds):
        _note(gaps, name)
        return None
    return sum(folds) / len(folds)


def _over_draws(values: list[list[float] | None], gaps: list[str] | None, name: str) -> dict[str, Any]:
    """Mean, half of the 95 % interval, and the values, of draws that are each the mean over folds."""
    draws = [x for x in values if x is not None]
    if len(draws) < len(values) or len({len(x) for x in draws}) > 1 or any(_lacks(v) for x in draws for v in x):
        _note(gaps, name)
        return {"mean": None, "half": None, "values": None}
    means = [sum(draw) / len(draw) for draw in zip(*draws, strict=True)]
    return {**mean_of(means).to_dict(), "values": means}


def _shared(folds: list[Any]) -> Any:
    """What all folds agree on, else None."""
    return folds[0] if all(type(fold) is type(folds[0]) and fold == folds[0] for fold in folds) else None


def _lacks(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _note(gaps: list[str] | None, name: str) -> None:
    if gaps is not None:
        gaps.append(name)
