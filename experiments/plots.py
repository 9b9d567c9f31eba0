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
from experiments.plan import CORE_SECONDS, TIMES
from experiments.verdicts import Results

COLOURS = {"joint": "#1f4e9c", "video": "#c2571a", "audio": "#3c8c4c"}


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """A PNG of each claim in `folder`, with a panel for each data set; none where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    made = {}
    for name in results.claims:
        made[name] = folder / f"{name}.png"
        KINDS[results.claim(name).plot](results, name, made[name])
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


def _arms(results: Results, name: str, path: Path) -> None:
    """A panel for each data set and each measure that decides something, of the arms that are compared by it."""
    claim, panels = results.claim(name), []
    compared = [c for c in claim.compare if c.decides] or claim.compare
    for of in results.sets(name):
        for measure in dict.fromkeys(map(claim.measure, compared)):
            arms = {arm: c.select for c in compared if claim.measure(c) == measure for arm in c.arms}
            rows = {
                arm: results.values(name, claim.arms[arm], of, measure, claim.figure(claim.arms[arm], select))
                for arm, select in arms.items()
            }
            panels.append((0.9 + 0.36 * len(rows), _rows(f"{of}: {measure}", measure, rows)))
    _figure(path, [height for height, _ in panels], *(paint for _, paint in panels))


def _rows(title: str, measure: str, values: dict[str, list[float]]) -> Callable[[Any], None]:
    names, scale = list(values), 1.0 if measure in TIMES else 100.0

    def paint(axes: Any) -> None:
        for row, name in enumerate(names):
            each, mean = _means(values[name], scale)
            axes.plot(each, [row] * len(each), "o", color=COLOURS["joint"], alpha=0.3, markersize=5)
            axes.errorbar(mean.value, row, xerr=_half(mean), fmt="D", color=INK, markersize=5, capsize=3, linewidth=1.2)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        low, high = axes.get_xlim()
        unit = "" if measure in TIMES else ", %"
        axes.set(xlabel=f"{title}{unit}; each seed, mean and 95 % interval")
        if unit:
            axes.set_xlim(max(low, -2), min(high, 102))

    return paint


def _damage(results: Results, name: str, path: Path) -> None:
    """A panel for each data set: the labels of the first arm's training, by damage and evidence."""
    claim = results.claim(name)
    measure, arm = claim.measures[0], next(iter(claim.arms.values()))

    def panel(of: str) -> Callable[[Any], None]:
        def paint(axes: Any) -> None:
            width = GROUP / len(COLOURS)
            for place, (evidence, colour) in enumerate(COLOURS.items()):
                found = [_means(results.values(name, arm, of, measure, f"{d}: {evidence}"))[1] for d in CORRUPTIONS]
                places = [i + width * (place - (len(COLOURS) - 1) / 2) for i in range(len(CORRUPTIONS))]
                bars: dict[str, Any] = {"color": colour, "edgecolor": SURFACE, "linewidth": 0.5, "label": evidence}
                whiskers = {"ecolor": INK, "capsize": 2, "elinewidth": 1}
                heights, halves = [m.value for m in found], [_half(m) for m in found]
                axes.bar(places, heights, width, yerr=halves, error_kw=whiskers, **bars)
            axes.set_xticks(range(len(CORRUPTIONS)), list(CORRUPTIONS), rotation=35, ha="right", fontsize=8)
            axes.grid(visible=False, axis="x")
            axes.set(ylabel=f"{of}: {measure}, %", ylim=(0, 102))
            axes.legend(frameon=False, title="labels by", loc="center left", bbox_to_anchor=(1.0, 0.5))

        return paint

    sets = results.sets(name)
    _figure(path, [4.2] * len(sets), *map(panel, sets))


def _cost(results: Results, name: str, path: Path) -> None:
    """A panel for each data set: the first measure of each arm against its core-seconds."""
    claim = results.claim(name)
    measure = claim.measures[0]

    def panel(of: str) -> Callable[[Any], None]:
        def paint(axes: Any) -> None:
            for arm_name, arm in claim.arms.items():
                _, cost = _means(results.values(name, arm, of, CORE_SECONDS, ""), 1.0)
                figure = claim.figure(arm, claim.selections(arm_name)[0])
                _, quality = _means(results.values(name, arm, of, measure, figure))
                if not math.isfinite(cost.value):
                    continue
                whiskers = _half(quality), _half(cost)
                axes.errorbar(cost.value, quality.value, *whiskers, fmt="o", capsize=3, label=arm_name)
            axes.set(xlabel="training, core-seconds", ylabel=f"{of}: {measure}, %")
            axes.set_xlim(left=0)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False)

        return paint

    sets = results.sets(name)
    _figure(path, [3.6] * len(sets), *map(panel, sets))


KINDS: dict[str, Callable[[Results, str, Path], None]] = {"arms": _arms, "damage": _damage, "cost": _cost}
