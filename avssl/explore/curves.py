"""The course of a run's training, from its metrics.jsonl, for the plots of the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.untrusted import check_file, is_count, is_number

POINTS = 300
"""Most points of a curve."""

HEADS = 32
"""Most heads that have a curve of their own."""

MOST_BYTES, MOST_LINE = 1 << 30, 1 << 20
"""Largest metrics.jsonl that is read, and its longest line, bytes."""

PER_HEAD = ("nmi", "entropy")


def read_curves(run: Path) -> dict[str, Any] | None:
    """Loss, changed labels, NMI between labelling passes and entropy of the cluster sizes, over the training steps.

    Args:
        run: the run folder, whose log somebody else may have written: what is not a number is left out.

    Returns:
        `train` with `step` and `loss`, and `labelling` with `step`, `changed`, and a list by head for `nmi` and
        `entropy`; None if there is nothing to plot.
    """
    path = run / "metrics.jsonl"
    try:
        check_file(path, MOST_BYTES)
        places = _places(path)
        train = _lines(path, places["train"], "train")
        passes = _lines(path, places["labelling"], "labelling")
    except (OSError, UserError):
        return None
    if not train and not passes:
        return None
    heads = max(
        (len(line[name]) for line in passes for name in PER_HEAD if isinstance(line.get(name), list)), default=0
    )
    return {
        "train": {"step": [line["step"] for line in train], "loss": [_number(line.get("loss")) for line in train]},
        "labelling": {
            "step": [line["step"] for line in passes],
            "changed": [_number(line.get("changed")) for line in passes],
            **{
                name: [[_of_head(line.get(name), head) for line in passes] for head in range(min(heads, HEADS))]
                for name in PER_HEAD
            },
        },
    }


def _places(path: Path) -> dict[str, list[int]]:
    """Where the lines of each kind begin. A line is parsed only if it is plotted."""
    places: dict[str, list[int]] = {"train": [], "labelling": []}
    marks = {kind: f'"kind": "{kind}"'.encode() for kind in places}
    with path.open("rb") as file:
        at = 0
        while line := file.readline(MOST_LINE):
            for kind, mark in marks.items():
                if mark in line:
                    places[kind].append(at)
            at += len(line)
    return places


def _lines(path: Path, places: Sequence[int], kind: str) -> list[dict[str, Any]]:
    """Up to `POINTS` lines of a kind, evenly spaced, of rising steps."""
    if len(places) > POINTS:
        places = [places[round(i * (len(places) - 1) / (POINTS - 1))] for i in range(POINTS)]
    lines: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            try:
                line = json.loads(file.readline(MOST_LINE))
            except (ValueError, RecursionError):
                continue
            if not isinstance(line, dict) or line.get("kind") != kind or not is_count(line.get("step")):
                continue
            if not lines or line["step"] > lines[-1]["step"]:
                lines.append(line)
    return lines


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _of_head(values: Any, head: int) -> float | None:
    return _number(values[head]) if isinstance(values, list) and head < len(values) else None
