"""Plots of an evaluation: recall curves, the confusion of clusters with classes, and cluster sizes."""

import importlib.util
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.atomic import atomic_path
from .protocols import EvaluationContext

SURFACE, INK = "#ffffff", "#333333"


def draw_plots(figures: dict[str, Any], subject: EvaluationContext, out: Path, suffix: str = "") -> list[Path]:
    """The plots that there are figures for, as PNG in `out`; none where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    made = []
    if figures.get("retrieval"):
        made.append(_plot(out / f"recall{suffix}.png", lambda axes: _recall(axes, figures["retrieval"])))
    labelled = subject.labelled() if figures.get("clustering") else None
    if labelled is not None:
        column = figures["columns"][0]
        chosen = figures["clustering"][column]["labels"]["chosen_head"] or 0
        fold = subject.videos.folds[0]
        marginals = subject.source.marginals
        asked = None if marginals is None else marginals[chosen]
        labels, classes = labelled.labels["joint"][fold.test, chosen], subject.labels[column][fold.test]
        made.append(_plot(out / f"confusion{suffix}.png", lambda axes: _confusion(axes, labels, classes), square=True))
        made.append(_plot(out / f"cluster_sizes{suffix}.png", lambda axes: _sizes(axes, labels, asked)))
    if figures.get("robustness"):
        found = figures["robustness"][figures["columns"][0]]
        made.append(_plot(out / f"robustness{suffix}.png", lambda axes: _robustness(axes, found)))
    return made


def _plot(path: Path, draw: Callable[[Any], None], square: bool = False) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6) if square else (6, 3.5), layout="constrained", facecolor=SURFACE)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _recall(axes: Any, found: dict[str, dict[str, float]]) -> None:
    for column, recalls in found.items():
        ks = [int(k) for k in recalls]
        axes.plot(ks, _percents(recalls.values()), "o-", label=column)
    axes.set(xscale="log", xlabel="k, nearest training videos", ylabel="recall at k, %", ylim=(0, 102))
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if len(found) > 1:
        axes.legend(frameon=False)


def _percents(values: Iterable[float | None]) -> list[float]:
    """Gaps in the line for what has no value."""
    return [math.nan if value is None else 100 * value for value in values]


def _confusion(axes: Any, labels: np.ndarray, classes: np.ndarray) -> None:
    """Clusters in the order of their commonest class, so that a good clustering is a diagonal."""
    known = (labels >= 0) & (classes != "")
    names, ids = np.unique(classes[known], return_inverse=True)
    table = np.zeros((len(names), int(labels.max(initial=0)) + 1))
    np.add.at(table, (ids, labels[known]), 1)
    used = table.sum(0) > 0
    order = np.lexsort((-table.max(0), table.argmax(0)))
    table = table[:, order[used[order]]] / table.sum(1, keepdims=True).clip(1)
    image = axes.imshow(100 * table, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axes.figure.colorbar(image, label="% of the class's videos")
    axes.set(xlabel=f"{used.sum()} clusters", ylabel="class")
    few = len(names) <= 40
    axes.set_yticks(range(len(names)) if few else [], names if few else None, fontsize=7)


def _sizes(axes: Any, labels: np.ndarray, asked: np.ndarray | None) -> None:
    sizes = np.sort(np.bincount(labels[labels >= 0], minlength=0 if asked is None else len(asked)))[::-1]
    places = np.arange(1, len(sizes) + 1)
    axes.bar(places, sizes, width=1.0, edgecolor=SURFACE, label="found")
    wanted = np.full(len(sizes), sizes.mean()) if asked is None else np.sort(asked)[::-1] * sizes.sum()
    axes.step(places, wanted, where="mid", color=INK, linewidth=1.5, label="mean" if asked is None else "asked for")
    axes.set(xlabel="cluster, by size", ylabel="test videos")
    axes.legend(frameon=False)


def _robustness(axes: Any, found: dict[str, dict[str, dict[str, float]]]) -> None:
    damages = list(found)
    for evidence in next(iter(found.values())):
        axes.plot(damages, _percents(found[d][evidence]["nmi"] for d in damages), "o-", label=evidence)
    axes.set(ylabel="NMI, %", ylim=(0, 102))
    axes.tick_params("x", rotation=60, labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
