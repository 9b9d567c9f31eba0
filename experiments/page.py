"""The page of the experiments: claims with their verdicts, then tables and paired differences of each."""

import math
from collections import Counter
from pathlib import Path

from avssl import __version__
from avssl.core.report import markdown_table
from avssl.metrics.intervals import Mean, mean_of
from experiments.experiment import MARGIN, Arm, Comparison, Experiment
from experiments.significance import LEVEL, alike
from experiments.trained import CORE_SECONDS, TIMES, commit
from experiments.verdicts import LEAST_SEEDS, Decided, Results, claim_verdict, decide, weakest

MIXED, ADDED, CHANGED, ALIKE = "†", "‡", "§", "¶"

VERBS = {
    "holds": ("holds", "hold"),
    "does not hold": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
}
"""Each verdict as the verb of one claim, and of several."""


def page(results: Results, command: str, pictures: dict[str, Path]) -> list[str]:
    """The page, as Markdown. `pictures`: by experiment, relative to the page."""
    decided = decide(results)
    lines = ["# The papers' claims, on the sample", "", _answer(decided), ""]
    if any(_marks(e) for e in results.experiments.values()):
        lines += [
            "**These experiments will be repeated, under a plan that is fixed before the first training.** Parts of "
            f"the present ones were chosen after results were known ({ADDED}, {CHANGED}). Such parts decide nothing "
            "here.",
            "",
        ]
    rows = [_claim(e, decided[name]) for name, e in results.experiments.items()]
    heads = ["claim", "its least certain comparison", "difference, points ± 95 % interval", "p, Holm", "verdict"]
    lines += [*markdown_table(heads, rows), "", *_footnotes(results)]
    lines += ["", "## How a verdict is made", "", *_rules(results, decided), "", "## What was trained", ""]
    lines += _trained(results, command)
    for name, e in results.experiments.items():
        marks = "".join(f" {mark}" for mark in _marks(e))
        lines += ["", f"## {e.title}", "", e.claim, *(["", e.about] if e.about else []), "", *_values(results, e)]
        lines += ["", f"![{e.title}]({pictures[name].as_posix()})"] if name in pictures else []
        lines += ["", *_differences(results, e, decided[name]), ""]
        lines += [f"The claim: **{claim_verdict(decided[name])}**{marks}."]
        lines += ["", f"{CHANGED} Changed after results were known: {e.changed}."] if e.changed else []
        lines += ["", e.note] if e.note else []
    return lines


def _answer(decided: dict[str, list[Decided]]) -> str:
    """What the page asks, and how many claims have which verdict."""
    counts = Counter(claim_verdict(d) for d in decided.values())
    found = " and ".join(
        f"{counts[v]} {one if counts[v] == 1 else more}" for v, (one, more) in VERBS.items() if counts[v]
    )
    return (
        "Do the claims of the SeLaVi and GDT papers hold for small encoders on the sample? Each claim compares ways to "
        f"train, by [rules](#how-a-verdict-is-made) that give it a verdict. Of {_many(len(decided), 'claim')}, {found}."
    )


def slug(title: str) -> str:
    """A heading's anchor, as Markdown renderers make it."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return "-".join(kept.split())


def _claim(experiment: Experiment, decided: list[Decided]) -> list[str]:
    """A claim's row of the first table."""
    told = f"{claim_verdict(decided)}{''.join(f' {m}' for m in _marks(experiment))}"
    claim = f"[{experiment.title}](#{slug(experiment.title)}): {experiment.claim}"
    if not decided:
        return [claim, "", "", "", told]
    d = weakest(decided)
    test = f"{_name(d.comparison)}: {d.metric}" + (" (non-inferiority)" if d.comparison.non_inferior else "")
    return [claim, test, _difference(d), _p(d.adjusted), f"**{told}**"]


def _marks(experiment: Experiment) -> list[str]:
    """What a reader of the claim's verdict has to know."""
    added = any(experiment.arms[name].more_seeds for c in experiment.compare if c.decides for name in (c.arm, c.than))
    return [ADDED] * added + [CHANGED] * bool(experiment.changed)


def _footnotes(results: Results) -> list[str]:
    """What the marks mean that are on the page."""
    told = {
        f"{MIXED} (k of n)": "In k of the n seeds, the compared trainings ran with different or unknown commits, or on "
        "different machines.",
        ADDED: "Seeds were added after results of the planned ones were known. Only the planned seeds decide. The "
        "claim's table also has the figures with all seeds, without a test.",
        CHANGED: "Something else was changed after results of the claim were known; its section says what. The claim "
        "stays undecided, whatever its p-value: only new seeds can test it.",
        ALIKE: "The difference is the same for every seed, for example because both arms reach 100 %. Without a spread "
        "there is no test, so it decides nothing.",
    }
    experiments = results.experiments.values()
    on_page = {mark for e in experiments for mark in _marks(e)}
    on_page |= {MIXED for e in experiments for c in e.compare if results.mixed(e, c, results.all_seeds())}
    on_page |= {ALIKE for e in experiments for c in e.compare if _alike([*results.pairs(e, c, e.metric(c)).values()])}
    return [line for mark, text in told.items() if mark[0] in on_page for line in (f"{mark}: {text}", "")][:-1]


def _rules(results: Results, decided: dict[str, list[Decided]]) -> list[str]:
    count, margin = sum(map(len, decided.values())), f"{100 * MARGIN:g}"
    return [
        "- An *arm* is one way to train and to get labels or features. A *difference* is between two arms, paired by "
        "seed, in percentage points. Its interval is an unadjusted 95 % confidence interval over seeds (Student's t).",
        "- *Superiority* asks if the difference is above 0. It tests claims that something is better, more or faster.",
        f"- *Non-inferiority* asks if the difference is above -{margin} points. It tests claims that little is lost. "
        f"The margin is always {margin} points. An arm that passes may still be worse, by less than that.",
        f"- p-values are from two-sided paired t-tests, adjusted by Holm's method for {_the(count)} that "
        f"{'decides' if count == 1 else 'decide'} on this page. A result is *shown* if the adjusted p-value is below "
        f"{LEVEL:g} and at least {LEAST_SEEDS} seeds have both arms.",
        "- A comparison *holds* if the difference is shown to be above 0 or the margin, *does not hold* if it is shown "
        "to be below, and is *undecided* otherwise.",
        "- A claim *holds* if all its deciding comparisons hold, *does not hold* if one of them does not, and is "
        "*undecided* otherwise. The other comparisons are reported without a test.",
        "- Both sides of a comparison are selected in the same way: the head chosen without classes, or the mean over "
        "all heads. k-means is the mean over its starts, so it is compared with the mean over heads.",
    ]


def _the(count: int) -> str:
    return "the one comparison" if count == 1 else f"all {count} comparisons"


def _trained(results: Results, command: str) -> list[str]:
    scale, made = results.scale, commit()
    lines = [
        f"Written by `{command}`, avssl {__version__}{f', commit {made}' if made else ''}, from "
        f"{_many(len(results.done), 'training')} of small encoders on sample videos (moving handwritten digits, each "
        f"with its own audio). Unless stated otherwise, each training has {_many(scale.epochs, 'epoch')} and "
        f"{_many(scale.solves, 'labelling')}. "
        f"Seed{'s' * (len(results.seeds) > 1)} {', '.join(map(str, results.seeds))}{_more(results)}; a seed "
        "sets both the videos and the training. Figures are of the test split, in %: mean ± half of the unadjusted "
        "95 % interval over the planned seeds.",
    ]
    machines = Counter(done.machine for done in results.done.values())
    if len(machines) > 1:
        each = "; ".join(f"{m or 'an unknown one'} ({n})" for m, n in machines.most_common())
        lines += [f"Machines of the trainings: {each}. Core-seconds are of the first alone."]
    elif results.timed_on:
        lines += [f"Machine of the trainings: {results.timed_on}."]
    commits = Counter(done.commit for done in results.done.values())
    if commits.keys() - {made}:
        each = ", ".join(f"{c or 'an unknown one'} ({n})" for c, n in commits.most_common())
        lines += [f"Commits of the trainings: {each}."]
    untimed = sum(not math.isfinite(d.figures.get(f"training/{CORE_SECONDS}", math.nan)) for d in results.done.values())
    if untimed:
        lines += [f"Interrupted and resumed, so their time is unknown: {_many(untimed, 'training')}."]
    if results.missing:
        lines += [f"Not done yet: {_many(results.missing, 'training')}. Comparisons that need them have fewer seeds."]
    return [line for paragraph in lines for line in (paragraph, "")][:-1]


def _values(results: Results, experiment: Experiment) -> list[str]:
    """The arms' figures."""
    rows = []
    for name, arm in experiment.arms.items():
        found = [[v for v in results.values(experiment, arm, m) if math.isfinite(v)] for m in experiment.metrics]
        cells = [_number(mean_of(v), m) if v else "" for v, m in zip(found, experiment.metrics, strict=True)]
        rows.append([name, _options(experiment, arm), str(max(map(len, found))), *cells])
    return markdown_table(["arm", "training", "seeds", *experiment.metrics], rows)


def _differences(results: Results, experiment: Experiment, decided: list[Decided]) -> list[str]:
    """Every comparison; the bold figure of those that decide is tested."""
    rows = []
    tested = iter(decided)
    for c in experiment.compare:
        row = _figures(results, experiment, c, results.seeds, c.decides)
        if not c.decides:
            rows.append([*row, "", "", "", "not tested"])
            continue
        d = next(tested)
        test = "non-inferiority" if c.non_inferior else "superiority"
        said = f"**{d.verdict}**{f' {CHANGED}' if experiment.changed else ''}"
        rows.append([*row, test, _p(d.p), _p(d.adjusted), said])
        added = _figures(results, experiment, c, results.all_seeds())
        if results.pairs(experiment, c, d.metric, results.all_seeds()).keys() - {*results.seeds}:
            rows.append([f"the same, with added seeds {ADDED}", *added[1:], "", "", "", "not tested"])
    return markdown_table(
        ["difference, points", "seeds", *experiment.metrics, "test", "p", "p, Holm", "verdict"], rows
    )  # fmt: skip


def _figures(
    results: Results, experiment: Experiment, c: Comparison, seeds: list[int], bold: bool = False
) -> list[str]:
    """The name of a comparison, its seeds, and its difference by each metric; that which it is about has the marks."""
    found = {m: results.pairs(experiment, c, m, seeds) for m in experiment.metrics}
    cells = {m: _number(mean_of([*pairs.values()]), m, "+") if pairs else "" for m, pairs in found.items()}
    by = experiment.metric(c)
    if cells[by]:
        figure = f"**{cells[by]}**" if bold else cells[by]
        cells[by] = figure + _caveats([*found[by].values()], results.mixed(experiment, c, found[by]))
    return [_name(c), str(len(found[by])), *cells.values()]


def _difference(d: Decided) -> str:
    """Of the measure that decides, with its unit and marks."""
    if not d.differences:
        return "no seeds"
    unit = f" {d.metric}" if d.metric in TIMES else ""
    return f"{_number(mean_of(d.differences), d.metric, '+')}{unit}{_caveats(d.differences, d.mixed)}"


def _caveats(differences: list[float], mixed: int) -> str:
    """The marks of a figure."""
    told = f" {MIXED} ({mixed} of {len(differences)})" if mixed else ""
    return told + (f" {ALIKE}" if _alike(differences) else "")


def _alike(differences: list[float]) -> bool:
    return len(differences) >= LEAST_SEEDS and alike(differences)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _more(results: Results) -> str:
    more = results.all_seeds()[len(results.seeds) :]
    return f" were planned; {', '.join(map(str, more))} were added to some arms" if more else ""


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
