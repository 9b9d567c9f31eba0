"""The page of the experiments: tables, paired differences, verdicts and plots."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..errors import UserError
from ..intervals import Mean, difference, mean_of, verdict
from ..report import markdown_table
from ..train.run_folder import checkout
from .experiment import Arm, Comparison, Experiment
from .training import CORE_SECONDS, Figures, Scale, Training, training_of

PLAIN = (CORE_SECONDS, "seconds")
"""Metrics that are no shares."""


@dataclass
class Results:
    """Figures of every training, and the experiments that they are of."""

    scale: Scale
    seeds: list[int]
    experiments: dict[str, Experiment]
    figures: dict[Training, Figures] = field(default_factory=dict)
    missing: int = 0
    """Trainings that are not done."""
    machines: dict[Training, str] = field(default_factory=dict)
    """Of those done: where."""
    here: str = ""
    """This machine, as in `machines`."""

    def values(self, experiment: Experiment, arm: Arm, metric: str, figure: str = "") -> list[float]:
        """One a seed; NaN where there is none."""
        name = f"{'untrained, ' if arm.untrained else ''}{figure or arm.figure}/{metric}"
        name = f"training/{metric}" if metric in PLAIN else name
        found = (self.figures.get(training_of(self.scale, experiment, arm, seed), {}) for seed in self.seeds)
        return [figures.get(name, math.nan) for figures in found]

    def difference(self, experiment: Experiment, comparison: Comparison, metric: str) -> Mean | None:
        """Of the arms compared, paired by seed, over the seeds that have both; None for none."""
        names = [comparison.arm, comparison.than, *comparison.beyond]
        columns = [self.values(experiment, experiment.arms[name], metric) for name in names]
        if comparison.beyond:
            columns = [[a - b for a, b in zip(*columns[i : i + 2], strict=True)] for i in (0, 2)]
        whole = [pair for pair in zip(*columns, strict=True) if all(map(math.isfinite, pair))]
        return difference(*map(list, zip(*whole, strict=True))) if whole else None

    def verdict(self, experiment: Experiment, comparison: Comparison) -> str:
        """UserError for a figure that no training has."""
        metric = comparison.metric or experiment.metrics[0]
        found = self.difference(experiment, comparison, metric)
        if found is None and (self.missing or metric in PLAIN):  # times may be of other machines: not taken
            return "undecided"
        if found is None:
            raise UserError(f"“{experiment.title}” compares {metric} of {comparison.arm}, which no seed has")
        return verdict(found, comparison.margin)


def verdict_of_all(verdicts: Sequence[str]) -> str:
    """`holds` where all do, `does not hold` where one does not, else `undecided`."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and set(verdicts) == {"holds"} else "undecided"


def claim_verdict(results: Results, experiment: Experiment) -> str:
    """By the comparisons that decide."""
    return verdict_of_all([results.verdict(experiment, c) for c in experiment.compare if c.decides])


def page(results: Results, command: str, pictures: dict[str, Path]) -> list[str]:
    """The page, as Markdown. `pictures`: by experiment, relative to the page."""
    scale, made = results.scale, checkout()
    commit = f", commit {made['commit'][:10]}{' with changes' if made['changed'] else ''}" if made else ""
    lines = [
        "# The claims, on the sample",
        "",
        f"Made by `{command}`: {len(results.figures)} trainings of small encoders on sample videos (handwritten digits "
        f"that move, each with a sound of its own), {scale.epochs} epochs and {scale.solves} labellings each. avssl "
        f"{__version__}{commit}, {results.here}.",
        "",
        f"Seeds {', '.join(map(str, results.seeds))}, of the videos and of the training alike. Figures are of the test "
        "split, in %, mean ± half of the 95 % interval over seeds (Student's t); clusters are those of the head chosen "
        "without classes, unless said. Differences are paired by seed. A difference *holds* where its interval is "
        "above the margin, which is zero unless said, *does not hold* where it is below, and is *undecided* otherwise. "
        "A claim holds where all the differences that decide it hold, and does not where one does not.",
        "",
    ]
    elsewhere = Counter(machine for machine in results.machines.values() if machine != results.here)
    for machine, count in elsewhere.items():
        lines += [
            f"{count} of the trainings were done on another machine: {machine or 'of which nothing is known'}. The "
            "core-seconds that they took are not compared.",
            "",
        ]
    if results.missing:
        lines += [
            f"{results.missing} trainings are not done: experiments that need them have fewer seeds than the others.",
            "",
        ]
    rows = []
    for e in results.experiments.values():
        rows.append([f"[{e.title}](#{slug(e.title)})", f"**{claim_verdict(results, e)}**", _deciding(results, e)])
    lines += markdown_table(["claim", "verdict", "differences that decide, in points"], rows)
    for name, e in results.experiments.items():
        lines += ["", f"## {e.title}", "", e.claim, "", *_arms(results, e)]
        lines += ["", f"![{e.title}]({pictures[name].as_posix()})"] if name in pictures else []
        lines += ["", *_differences(results, e), "", f"The claim: **{claim_verdict(results, e)}**."]
        lines += ["", e.note] if e.note else []
    return lines


def slug(title: str) -> str:
    """A heading's anchor, as Markdown renderers make it."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return "-".join(kept.split())


def _arms(results: Results, experiment: Experiment) -> list[str]:
    rows = []
    for name, arm in experiment.arms.items():
        cells = []
        for m in experiment.metrics:
            found = [v for v in results.values(experiment, arm, m) if math.isfinite(v)]
            cells.append(_number(mean_of(found), m) if found else "")
        rows.append([name, _options(arm), *cells])
    return markdown_table(["arm", "training", *experiment.metrics], rows)


def _number(mean: Mean, metric: str, sign: str = "") -> str:
    if metric not in PLAIN:
        return mean.percent(sign)
    return f"{mean.value:{sign}.0f}" + (f" ± {mean.half:.0f}" if math.isfinite(mean.half) else "")


def _options(arm: Arm) -> str:
    sample = [f"{k}={v}".lower() for k, v in arm.sample.items()]
    words = [f"experiment={arm.experiment}", *arm.train]
    told = " ".join(f"`{w}`" for w in words) + (f", {arm.longer:g} × the epochs" if arm.longer != 1 else "")
    told += f", on videos of `{' '.join(sample)}`" if sample else ""
    return f"{told}, before training" if arm.untrained else told


def _name(c: Comparison) -> str:
    pair = f"{c.arm} − {c.than}"
    return f"({pair}) − ({' − '.join(c.beyond)})" if c.beyond else pair


def _differences(results: Results, experiment: Experiment) -> list[str]:
    rows = []
    for c in experiment.compare:
        by = c.metric or experiment.metrics[0]
        found = {m: results.difference(experiment, c, m) for m in experiment.metrics}
        cells = [
            (f"**{_number(d, m, '+')}**" if m == by else _number(d, m, "+")) if d else "" for m, d in found.items()
        ]
        decided = results.verdict(experiment, c)
        rows.append([_name(c), *cells, f"{100 * c.margin:g}", f"**{decided}**" if c.decides else f"{decided} (aside)"])
    return markdown_table(["difference", *experiment.metrics, "margin", "verdict by the bold figure"], rows)


def _deciding(results: Results, experiment: Experiment) -> str:
    told = []
    for c in experiment.compare:
        metric = c.metric or experiment.metrics[0]
        found = results.difference(experiment, c, metric)
        if c.decides and found is not None:
            margin = f" (margin {100 * c.margin:g})" if c.margin else ""
            told.append(f"{_name(c)}: {_number(found, metric, '+')}{margin}")
    return "; ".join(told)
