"""The page of the experiments: tables, paired differences, verdicts and plots."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..errors import UserError
from ..intervals import Mean, mean_of, verdict
from ..report import markdown_table
from .experiment import Arm, Comparison, Experiment
from .training import CORE_SECONDS, TIMES, Done, Scale, Training, commit, training_of

LEAST_SEEDS = 3
"""Of a difference that decides something: two that happen to agree have an interval of no width."""


@dataclass
class Results:
    """Trainings that are done, and the experiments that they are of."""

    scale: Scale
    seeds: list[int]
    experiments: dict[str, Experiment]
    done: dict[Training, Done] = field(default_factory=dict)
    missing: int = 0
    """Trainings that are not done."""
    here: str = ""
    """This machine: times of others are not compared."""

    def seeds_of(self, arm: Arm) -> set[int]:
        """Those of every arm, and its own."""
        return {*self.seeds, *arm.more_seeds}

    def all_seeds(self) -> list[int]:
        """Those of every arm, and after them those that some have beside."""
        more = {seed for e in self.experiments.values() for arm in e.arms.values() for seed in arm.more_seeds}
        return [*self.seeds, *sorted(more - {*self.seeds})]

    def values(self, experiment: Experiment, arm: Arm, metric: str, figure: str = "") -> list[float]:
        """One a seed of all; NaN where there is none, or the arm does not have that seed."""
        name = f"{'untrained, ' if arm.untrained else ''}{figure or arm.figure}/{metric}"
        name = f"training/{metric}" if metric in TIMES else name
        own = self.seeds_of(arm)
        found = (
            self.done.get(training_of(self.scale, experiment, arm, seed)) if seed in own else None
            for seed in self.all_seeds()
        )
        return [
            math.nan if done is None or (metric in TIMES and done.machine != self.here)
            else done.figures.get(name, math.nan)
            for done in found
        ]  # fmt: skip

    def differences(self, experiment: Experiment, comparison: Comparison, metric: str) -> list[float]:
        """Of the arms compared, one a seed that has both."""
        names = [comparison.arm, comparison.than, *comparison.beyond]
        columns = [self.values(experiment, experiment.arms[name], metric) for name in names]
        if comparison.beyond:
            columns = [[a - b for a, b in zip(*columns[i : i + 2], strict=True)] for i in (0, 2)]
        pairs = [a - b for a, b in zip(*columns, strict=True)]
        return [d for d in pairs if math.isfinite(d)]

    def verdict(self, experiment: Experiment, comparison: Comparison) -> str:
        """UserError for a figure that no training has."""
        metric = experiment.metric(comparison)
        found = self.differences(experiment, comparison, metric)
        if not found and not self.missing and metric not in TIMES:  # those may be of other machines: not taken
            pair = f"{comparison.arm} and {comparison.than}"
            raise UserError(f"“{experiment.title}” compares {metric} of {pair}: no seed has it of both")
        return verdict(mean_of(found), comparison.margin) if len(found) >= LEAST_SEEDS else "undecided"


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
    scale, made = results.scale, commit()
    lines = [
        "# The claims, on the sample",
        "",
        f"Made by `{command}`: {_many(len(results.done), 'training')} of small encoders on sample videos (handwritten "
        f"digits that move, each with a sound of its own), {_many(scale.epochs, 'epoch')} and "
        f"{_many(scale.solves, 'labelling')} each, but where more are told. avssl {__version__}"
        f"{f', commit {made}' if made else ''}, {results.here}.",
        "",
        f"Seed{'s' * (len(results.seeds) > 1)} {', '.join(map(str, results.seeds))}{_more(results)}, of the videos and "
        "of the training alike. Figures are of the test split, in %, mean ± half of the 95 % interval over seeds "
        "(Student's t); clusters are those of the head chosen without classes, unless said. Differences are paired by "
        "seed. A difference *holds* where its interval is above the margin, which is zero unless said, *does not hold* "
        f"where it is below, and is *undecided* otherwise, and for fewer than {LEAST_SEEDS} seeds. A claim holds where "
        "all the differences that decide it hold, and does not where one does not.",
        "",
    ]
    told = []
    elsewhere = Counter(done.machine for done in results.done.values() if done.machine != results.here)
    for machine, count in elsewhere.items():
        told += [
            f"Done on another machine: {_many(count, 'training')} ({machine or 'of which nothing is known'}). The "
            "core-seconds that they took are not compared."
        ]
    commits = Counter(done.commit for done in results.done.values())
    if commits.keys() - {made}:
        each = ", ".join(f"{c or 'an unknown one'} ({n})" for c, n in commits.most_common())
        told += [f"Commits that the trainings were done with: {each}."]
    untimed = sum(
        done.machine == results.here and not math.isfinite(done.figures.get(f"training/{CORE_SECONDS}", math.nan))
        for done in results.done.values()
    )
    if untimed:
        told += [f"Stopped and taken up again, so that its time is not known: {_many(untimed, 'training')}."]
    if results.missing:
        told += [
            f"Not done yet: {_many(results.missing, 'training')}. What needs them has the fewer seeds that it says."
        ]
    lines += [line for sentence in told for line in (sentence, "")]
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
        seeds = max(sum(map(math.isfinite, results.values(experiment, arm, m))) for m in experiment.metrics)
        rows.append([name, _options(experiment, arm), str(seeds), *cells])
    return markdown_table(["arm", "training", "seeds", *experiment.metrics], rows)


def _more(results: Results) -> str:
    more = results.all_seeds()[len(results.seeds) :]
    return f" (and {', '.join(map(str, more))} where more of them are told)" if more else ""


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _number(mean: Mean, metric: str, sign: str = "") -> str:
    if metric not in TIMES:
        return mean.percent(sign)
    return f"{mean.value:{sign}.0f}" + (f" ± {mean.half:.0f}" if math.isfinite(mean.half) else "")


def _options(experiment: Experiment, arm: Arm) -> str:
    sample = [f"{k}={v}".lower() for k, v in {**experiment.sample, **arm.sample}.items()]
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
        by = experiment.metric(c)
        found = {m: results.differences(experiment, c, m) for m in experiment.metrics}
        cells = [_number(mean_of(d), m, "+") if d else "" for m, d in found.items()]
        cells = [f"**{cell}**" if cell and m == by else cell for cell, m in zip(cells, found, strict=True)]
        decided = results.verdict(experiment, c)
        told = f"**{decided}**" if c.decides else f"{decided} (aside)"
        rows.append([_name(c), str(len(found[by])), *cells, f"{100 * c.margin:g}", told])
    return markdown_table(["difference", "seeds", *experiment.metrics, "margin", "verdict by the bold figure"], rows)


def _deciding(results: Results, experiment: Experiment) -> str:
    told = []
    for c in experiment.compare:
        metric = experiment.metric(c)
        found = results.differences(experiment, c, metric)
        if c.decides and found:
            aside = [f"margin {100 * c.margin:g}"] if c.margin else []
            aside += [_many(len(found), "seed")] if len(found) != len(results.seeds) else []
            by = f", {metric}" if metric != experiment.metrics[0] else ""
            bracket = f" ({', '.join(aside)})" if aside else ""
            told.append(f"{_name(c)}{by}: {_number(mean_of(found), metric, '+')}{bracket}")
    return "; ".join(told)
