"""The mean of an evaluation's results over official folds."""

import math
from itertools import zip_longest
from typing import Any

from .intervals import mean_of

NAMES = {"head", "chosen_head", "clusters"}
"""Names of numbers that are not quantities: they are never averaged, but kept if all folds agree."""


def mean_over_folds(folds: list[Any], gaps: list[str] | None = None, name: str = "") -> Any:
    """The mean of the folds' results: numbers are averaged; dicts and lists are averaged entry by entry.

    A result that is missing in a fold (None, NaN, or no such entry) has no mean: it becomes None, and its name is added
    to `gaps`. Results over repeated draws, which are dicts with a list `values`, are averaged draw by draw before their
    interval is computed, because draws of one seed in several folds share videos and are not independent.

    Args:
        folds: the results of each fold, as in JSON; a single fold is returned unchanged.
        gaps: receives the names of results that only some folds have.
        name: the name of these results, for `gaps`.
    """
    present = [fold for fold in folds if not _is_missing(fold)]
    if len(folds) == 1 or not present:
        return folds[0] if len(folds) == 1 else None
    if all(isinstance(fold, dict) for fold in present):
        dicts = [fold if isinstance(fold, dict) else {} for fold in folds]
        if any(isinstance(fold.get("values"), list) for fold in present):
            over_draws = _over_draws([fold.get("values") for fold in dicts], gaps, name)
            if all("half" in fold and fold["half"] is None for fold in dicts):  # all draws have the same videos
                over_draws["half"] = None
        else:
            over_draws = {}
        keys = dict.fromkeys(key for fold in dicts for key in fold if key not in over_draws)
        return over_draws | {
            key: _shared([fold.get(key) for fold in dicts]) if key in NAMES
            else mean_over_folds([fold.get(key) for fold in dicts], gaps, f"{name}/{key}" if name else str(key))
            for key in keys
        }  # fmt: skip
    if all(isinstance(fold, list) for fold in present):
        entries = zip_longest(*(fold if isinstance(fold, list) else [] for fold in folds))
        return [mean_over_folds(list(entry), gaps, f"{name}/{i}") for i, entry in enumerate(entries)]
    if not all(_is_number(fold) for fold in present):
        return _shared(folds)
    if len(present) < len(folds):
        _note(gaps, name)
        return None
    return sum(folds) / len(folds)


def _over_draws(values: list[list[float] | None], gaps: list[str] | None, name: str) -> dict[str, Any]:
    """The mean over draws, half of its 95 % interval, and each draw's mean over folds."""
    draws = [x for x in values if x is not None]
    if len(draws) < len(values) or len({len(x) for x in draws}) > 1 or any(_is_missing(v) for x in draws for v in x):
        _note(gaps, name)
        return {"mean": None, "half": None, "values": None}
    means = [sum(draw) / len(draw) for draw in zip(*draws, strict=True)]
    return {**mean_of(means).to_dict(), "values": means}


def _shared(folds: list[Any]) -> Any:
    """The value of all folds if they agree, else None."""
    return folds[0] if all(type(fold) is type(folds[0]) and fold == folds[0] for fold in folds) else None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _note(gaps: list[str] | None, name: str) -> None:
    if gaps is not None:
        gaps.append(name)
