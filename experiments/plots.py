"""The experiments' pictures: a row an arm with every seed's value, curves under damage, quality against cost."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avssl.core.atomic import atomic_path
from avssl.evaluate.plots import GROUP, INK, SURFACE
from avssl.evaluate.robustness import CORRUPTIONS
from avssl.metrics.intervals import Mean, mean_of
from experiments.experiment import Experiment
from experiments.trained import CORE_SECONDS
from experiments.verdicts import Results

COLOURS = {"joint": "#1f4e9c", "video": "#c2571a", "audio": "#3c8c4c"}


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """A PNG of each experiment in `folder`; none where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    made = {}
    for name, experiment in results.experiments.items():
        made[name] = folder / f"{name}.png"
        KINDS[experiment.plot](results, experiment, made[name])
    return made


def _means(values: list[float], scale: float = 100.0) -> tuple[list[float], Mean]:
    kept = [scale * v for v in values if math.isfinite(v)] or [math.nan]
    return kept, mean_of(kept)


def _half(mean: Mean) -> float:
    return mean.half if math.isfinite(mean.half) else 0.0


def _figure(path: Path, heights: list[float], *paint: Callable[[Any], None]) -> None:
    """Panels below each other, of such heights (inches)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, sum(heights)), layout="constrained", facecolor=SURFACE)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    for row, fill in enumerate(paint):
        axes = figure.add_subplot(grid[row])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        fill(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Software": None})


def _arms(results: Results, experiment: Experiment, path: Path) -> None:
    """A panel for each metric that decides something, of the arms that have it."""
    metrics = dict.fromkeys(experiment.metric(c) for c in experiment.compare if c.decides)
    found = {
        metric: {name: results.values(experiment, arm, metric) for name, arm in experiment.arms.items()}
        for metric in metrics or experiment.metrics[:1]
    }
    rows = {m: {n: v for n, v in of.items() if any(map(math.isfinite, v))} or of for m, of in found.items()}
    _figure(path, [0.9 + 0.36 * len(of) for of in rows.values()], *(_rows(m, of) for m, of in rows.items()))


def _rows(metric: str, values: dict[str, list[float]]) -> Callable[[Any], None]:
    names = list(values)

    def paint(axes: Any) -> None:
        for row, name in enumerate(names):
            each, mean = _means(values[name])
            axes.plot(each, [row] * len(each), "o", color=COLOURS["joint"], alpha=0.3, markersize=5)
            axes.errorbar(mean.value, row, xerr=_half(mean), fmt="D", color=INK, markersize=5, capsize=3, linewidth=1.2)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set(xlabel=f"{metric}, %; each seed, mean and 95 % interval", xlim=(max(low, -2), min(high, 102)))

    return paint


def _damage(results: Results, experiment: Experiment, path: Path) -> None:
    metric, arm = experiment.metrics[0], next(iter(experiment.arms.values()))

    def paint(axes: Any) -> None:
        width = GROUP / len(COLOURS)
        for place, (evidence, colour) in enumerate(COLOURS.items()):
            found = [_means(results.values(experiment, arm, metric, f"{d}: {evidence}"))[1] for d in CORRUPTIONS]
            places = [i + width * (place - (len(COLOURS) - 1) / 2) for i in range(len(CORRUPTIONS))]
            bars: dict[str, Any] = {"color": colour, "edgecolor": SURFACE, "linewidth": 0.5, "label": evidence}
            whiskers = {"ecolor": INK, "capsize": 2, "elinewidth": 1}
            axes.bar(places, [m.value for m in found], width, yerr=[_half(m) for m in found], error_kw=whiskers, **bars)
        axes.set_xticks(range(len(CORRUPTIONS)), list(CORRUPTIONS), rotation=35, ha="right", fontsize=8)
        axes.grid(visible=False, axis="x")
        axes.set(ylabel=f"{metric}, %", ylim=(0, 102))
        axes.legend(frameon=False, title="labels by", loc="center left", bbox_to_anchor=(1.0, 0.5))

    _figure(path, [4.2], paint)


def _cost(results: Results, experiment: Experiment, path: Path) -> None:
    metric = experiment.metrics[0]

    def paint(axes: Any) -> None:
        for name, arm in experiment.arms.items():
            _, cost = _means(results.values(experiment, arm, CORE_SECONDS), 1.0)
            _, quality = _means(results.values(experiment, arm, metric))
            if not math.isfinite(cost.value):  # no training of this machine
                continue
            axes.errorbar(
                cost.value, quality.value, _half(quality), _half(cost), fmt="o", capsize=3, label=name,
            )  # fmt: skip
        axes.set(xlabel="training, core-seconds", ylabel=f"{metric}, %")
        axes.set_xlim(left=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)

    _figure(path, [3.6], paint)


KINDS: dict[str, Callable[[Results, Experiment, Path], None]] = {"arms": _arms, "damage": _damage, "cost": _cost}
