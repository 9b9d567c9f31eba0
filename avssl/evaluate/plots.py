"""Plots of an evaluation: recall curves, clusters against classes, cluster sizes and robustness."""

import importlib.util
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.atomic import atomic_path
from .protocols import EvaluationContext

SURFACE, INK = "#ffffff", "#333333"

GROUP = 0.8
"""Width of a group of bars; the rest of 1 is the gap between groups."""


PLOTTED = ("retrieval", "clustering", "robustness")
"""Tasks whose results are plotted."""


def has_matplotlib() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw_plots(figures: dict[str, Any], context: EvaluationContext, out: Path, suffix: str = "") -> list[Path]:
    """Write a PNG to `out` for each plot with results, and return the files; none without matplotlib."""
    if not has_matplotlib():
        return []
    written = []
    if figures.get("retrieval"):
        written.append(_plot(out / f"recall{suffix}.png", lambda axes: _recall(axes, figures["retrieval"])))
    labelled = context.labelled() if figures.get("clustering") else None
    if labelled is not None:
        column = figures["columns"][0]
        chosen = figures["clustering"][column]["labels"]["chosen_head"] or 0
        fold = context.videos.folds[0]
        marginals = context.source.marginals
        targets = None if marginals is None else marginals[chosen]
        labels, classes = labelled.labels["joint"][fold.test, chosen], context.labels[column][fold.test]
        written.append(
            _plot(out / f"confusion{suffix}.png", lambda axes: _confusion(axes, labels, classes), square=True)
        )
        written.append(_plot(out / f"cluster_sizes{suffix}.png", lambda axes: _sizes(axes, labels, targets)))
    if figures.get("robustness"):
        by_damage = figures["robustness"][figures["columns"][0]]
        written.append(_plot(out / f"robustness{suffix}.png", lambda axes: _robustness(axes, by_damage)))
    return written


def _plot(path: Path, draw: Callable[[Any], None], square: bool = False) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6) if square else (6, 3.5), layout="constrained", facecolor=SURFACE)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _recall(axes: Any, by_column: dict[str, dict[str, float]]) -> None:
    for column, recalls in by_column.items():
        ks = [int(k) for k in recalls]
        axes.plot(ks, _percents(recalls.values()), "o-", label=column)
    axes.set(xscale="log", xlabel="k, nearest training videos", ylabel="recall at k, %", ylim=(0, 102))
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if len(by_column) > 1:
        axes.legend(frameon=False)


def _percents(values: Iterable[float | None]) -> list[float]:
    """Values in percent; a missing value is NaN, which leaves a gap in the line."""
    return [math.nan if value is None else 100 * value for value in values]


def _confusion(axes: Any, labels: np.ndarray, classes: np.ndarray) -> None:
    """Clusters are ordered by their most common class, so that a good clustering is a diagonal."""
    counted = (labels >= 0) & (classes != "")
    names, ids = np.unique(classes[counted], return_inverse=True)
    table = np.zeros((len(names), int(labels.max(initial=0)) + 1))
    np.add.at(table, (ids, labels[counted]), 1)
    used = table.sum(0) > 0
    order = np.lexsort((-table.max(0), table.argmax(0)))
    table = table[:, order[used[order]]] / table.sum(1, keepdims=True).clip(1)
    image = axes.imshow(100 * table, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axes.figure.colorbar(image, label="% of the class's videos")
    axes.set(xlabel=f"{used.sum()} clusters", ylabel="class")
    few = len(names) <= 40
    axes.set_yticks(range(len(names)) if few else [], names if few else None, fontsize=7)


def _sizes(axes: Any, labels: np.ndarray, targets: np.ndarray | None) -> None:
    sizes = np.sort(np.bincount(labels[labels >= 0], minlength=0 if targets is None else len(targets)))[::-1]
    places = np.arange(1, len(sizes) + 1)
    axes.bar(places, sizes, width=1.0, edgecolor=SURFACE, label="actual")
    line = np.full(len(sizes), sizes.mean()) if targets is None else np.sort(targets)[::-1] * sizes.sum()
    axes.step(places, line, where="mid", color=INK, linewidth=1.5, label="mean" if targets is None else "target")
    axes.set(xlabel="cluster, by size", ylabel="test videos")
    axes.legend(frameon=False)


def _robustness(axes: Any, by_damage: dict[str, dict[str, dict[str, float]]]) -> None:
    """A group of bars for each kind of damage: the kinds have no order, so no line joins them."""
    damages, evidences = list(by_damage), list(next(iter(by_damage.values())))
    width = GROUP / len(evidences)
    for place, evidence in enumerate(evidences):
        shift = width * (place - (len(evidences) - 1) / 2)
        nmi = _percents(by_damage[damage][evidence]["nmi"] for damage in damages)
        axes.bar(np.arange(len(damages)) + shift, nmi, width=width, edgecolor=SURFACE, linewidth=0.5, label=evidence)
    axes.set(ylabel="NMI, %", ylim=(0, 102))
    axes.set_xticks(range(len(damages)), damages, rotation=35, ha="right", fontsize=7)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, title="labels by", loc="center left", bbox_to_anchor=(1.0, 0.5))
