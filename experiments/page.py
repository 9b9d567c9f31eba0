"""The page of the experiments: claims with their verdicts, then tables, paired differences and a picture of each."""

import math
from collections import Counter
from pathlib import Path

from avssl import __version__
from avssl.core.report import markdown_table
from avssl.metrics.intervals import Mean, mean_of
from experiments.plan import TIMES, Arm, Claim, Comparison
from experiments.provenance import PlanHistory
from experiments.selection import measured_name
from experiments.significance import EQUIVALENT, FAILS, HOLDS, UNDECIDED
from experiments.trained import commit
from experiments.verdicts import (
    LEAST_SEEDS,
    Decided,
    Results,
    by_set,
    claim_verdict,
    decide,
    verdict_of_all,
    weakest,
    without_spread,
)

VERBS = {
    HOLDS: ("holds", "hold"), FAILS: ("does not hold", "do not hold"), UNDECIDED: ("is undecided", "are undecided"),
}  # fmt: skip
"""Each verdict as the verb of one claim, and of several."""

ALIKE = "¶"


def page(results: Results, command: str, pictures: dict[str, Path], history: PlanHistory, plan: str) -> list[str]:
    """The page, as Markdown.

    Args:
        results: what was found.
        command: what wrote it.
        pictures: by claim, relative to the page.
        history: what git knows of the plan.
        plan: the plan's digest at the first training.
    """
    decided = decide(results)
    deciding = [name for name in results.claims if name not in results.exploratory]
    rows = [_row(results, name, decided) for name in deciding]
    lines = ["# The methods' claims, on small data", "", _answer(decided, deciding), ""]
    lines += markdown_table(["claim", "figure", "verdict"], rows) if rows else []
    lines += ["", *_planned(results, history, plan), "", "## How a verdict is made", "", *_rules(results)]
    lines += ["", "## What was trained", "", *_trained(results, command)]
    for name in deciding:
        lines += _section(results, name, [d for d in decided if d.claim == name], pictures)
    if results.exploratory:
        lines += ["", "# Exploratory", ""]
        lines += ["What is here decides nothing: it has no test and no verdict. Intervals are not adjusted.", ""]
        told = [
            [f"[{results.claim(n).title}](#{slug(results.claim(n).title)})", why]
            for n, why in results.exploratory.items()
        ]
        lines += markdown_table(["looked at", "why it decides nothing"], told)
        for name in results.exploratory:
            lines += _section(results, name, [], pictures)
    if results.plan.not_decidable:
        lines += ["", "# Not decidable here", ""]
        told = [[results.claim(n).claim, needs] for n, needs in results.plan.not_decidable.items()]
        lines += markdown_table(["claim", "what it would need"], told)
    return lines


def _answer(decided: list[Decided], names: list[str]) -> str:
    """What the page asks, and how many claims have which verdict."""
    if not names:
        return "Nothing on this page is decided: see [Exploratory](#exploratory)."
    counts = Counter(verdict_of_all([*by_set(decided, name).values()]) for name in names)
    found = " and ".join(
        f"{counts[v]} {one if counts[v] == 1 else more}" for v, (one, more) in VERBS.items() if counts[v]
    )
    return (
        "Do the claims hold for small encoders on small data? Each was written down with its measure, margin and seeds "
        f"before the first training. Of {_many(len(names), 'claim')}, {found}."
    )


def slug(title: str) -> str:
    """A heading's anchor, as Markdown renderers make it."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return "-".join(kept.split())


def _row(results: Results, name: str, decided: list[Decided]) -> list[str]:
    """A claim's row of the first table: on each data set, its least certain comparison."""
    claim, figures = results.claim(name), []
    for of in by_set(decided, name):
        rests = weakest([d for d in decided if (d.claim, d.data) == (name, of)])
        figures.append(f"{of}: {_name(rests.comparison)} {_difference(claim, rests)}")
    said, sentence = claim_verdict(by_set(decided, name)), _sentence(claim, by_set(decided, name))
    return [f"[{claim.title}](#{slug(claim.title)}): {sentence}", "; ".join(figures), f"**{said}**"]


def _sentence(claim: Claim, verdicts: dict[str, str]) -> str:
    """The claim; it begins with the data that it holds on, if that is not all."""
    holding = [of for of, verdict in verdicts.items() if verdict == HOLDS]
    if holding and (len(holding) < len(verdicts) or len(claim.data) == 1):
        return f"On {' and '.join(holding)} alone: {claim.claim}"
    return claim.claim


def _planned(results: Results, history: PlanHistory, plan: str) -> list[str]:
    """The commits of the plan and of the results, and whether the plan was changed in between."""
    commits = sorted({done.commit or "an unknown one" for done in results.done.values()})
    told = f"- The plan is `experiments/plan.yaml`, last changed in commit {history.commit} of {history.date}"
    if not history.commit:
        told = "- The plan is `experiments/plan.yaml`, which is in no commit"
    if history.changed and history.commit:
        told += ", and changed since"
    lines = [f"{told}. Its digest at the first training was {plan}.", f"- The results are of {', '.join(commits)}."]
    other = sorted({done.plan for done in results.done.values()} - {plan})
    changed = [name for name, why in results.exploratory.items() if "after the first training" in why]
    if other:
        lines.append(f"- Some trainings are of another plan ({', '.join(o or 'unknown' for o in other)}).")
    if changed:
        lines.append(f"- **The plan was changed after the first training**: {', '.join(changed)} decide nothing.")
    elif not other:
        lines.append("- What decides was not changed after the first training.")
    return lines


def _rules(results: Results) -> list[str]:
    plan = results.plan
    sets = Counter(name for name, _, _ in plan.deciding(results.voices))
    return [
        "- An *arm* is one way to train and to get labels or features. A *difference* is between two arms, paired by "
        "seed, in points. A seed sets the videos and the training.",
        "- *Superiority* asks if the difference is above the margin, by a two-sided paired t-test. A negative margin "
        "is what may be lost (non-inferiority). An *equivalence test* asks if the difference is within ± the margin, "
        "by two one-sided t-tests.",
        f"- p-values are adjusted by Holm's method for all {results.family} comparisons that the plan lets decide, of "
        f"{_many(len(sets), 'claim')}, also for those that are not on this page. A result is *shown* if the adjusted "
        f"p-value is below {plan.level:g}, with {LEAST_SEEDS} seeds or more. Intervals of what decides have the "
        "confidence that this asks of them, so they are wider than 95 %.",
        "- A comparison *holds* if what it claims is shown, *does not hold* if its interval lies on the other side of "
        "the margin, and is *undecided* otherwise. A claim holds on a data set if all its comparisons do, and does not "
        "hold if one of them does not.",
        "- Each claim is decided on each data set by itself. It holds *on both* only if it does on each.",
        "- Labels are selected alike on both sides: *chosen* takes one of six heads without classes, or one of six "
        "starts of k-means by the lowest inertia; *mean* is over all of them.",
        *(f"- {rule}" for rule in plan.excluded),
    ]


def _trained(results: Results, command: str) -> list[str]:
    made = commit()
    seeds = sorted({seed for name in results.claims for seed in results.seeds[name]})
    between = f" with seeds from {seeds[0]} to {seeds[-1]}" if seeds else ""
    lines = [
        f"Written by `{command}`, avssl {__version__}{f', commit {made}' if made else ''}, from "
        f"{_many(len(results.done), 'training')} of small encoders{between}. *sample* "
        "is `avssl sample`: handwritten digits over clutter, each with an instrument. *typefaces* is `python -m "
        "experiments typefaces`: printed, bent digits over noise, each with a synthetic word; held-out videos have "
        "other typefaces and voices. *voices* is the sample with recorded words. Figures are of held-out videos, in %: "
        "mean ± half of the unadjusted 95 % interval over seeds."
    ]
    machines = Counter(done.machine or "an unknown one" for done in results.done.values())
    lines += [
        f"{'Machine' if len(machines) == 1 else 'Machines'}: {'; '.join(f'{m} ({n})' for m, n in machines.items())}."
    ]
    untimed = sum(not math.isfinite(d.figures.get("training/seconds", math.nan)) for d in results.done.values())
    if untimed:
        lines += [f"Interrupted and resumed, so that their time is unknown: {_many(untimed, 'training')}."]
    if results.missing:
        lines += [f"Not done yet: {_many(results.missing, 'training')}. Comparisons that need them have fewer seeds."]
    return [line for paragraph in lines for line in (paragraph, "")][:-1]


def _section(results: Results, name: str, decided: list[Decided], pictures: dict[str, Path]) -> list[str]:
    """All that is known of a claim; its first sentence says on which data it holds."""
    claim, verdicts = results.claim(name), by_set(decided, name)
    said = f"exploratory ({results.exploratory[name]})" if name in results.exploratory else claim_verdict(verdicts)
    lines = ["", f"## {claim.title}", "", _sentence(claim, verdicts), "", f"**Verdict: {said}.**"]
    lines += ["", claim.about] if claim.about else []
    for of in results.sets(name):
        lines += ["", f"### {claim.title}: {of}", "", *_values(results, name, of)]
        lines += ["", *_differences(results, name, of, [d for d in decided if d.data == of])]
    lines += ["", claim.note] if claim.note else []
    lines += ["", f"![{claim.title}]({pictures[name].as_posix()})"] if name in pictures else []
    return lines


def _values(results: Results, name: str, of: str) -> list[str]:
    """The arms' figures, for each way in which their labels are selected."""
    claim, rows = results.claim(name), []
    for arm_name, arm in claim.arms.items():
        for select in claim.selections(arm_name):
            figure = claim.figure(arm, select)
            found = [[v for v in results.values(name, arm, of, m, figure) if math.isfinite(v)] for m in claim.measures]
            cells = [_number(mean_of(v), m) if v else "" for v, m in zip(found, claim.measures, strict=True)]
            rows.append([arm_name, _selected(arm, select), _options(claim, arm), str(max(map(len, found))), *cells])
    return markdown_table(["arm", "labels", "training", "seeds", *claim.measures], rows)


def _selected(arm: Arm, select: str) -> str:
    if arm.best:
        return "best"
    return select if measured_name(arm.of, select) != arm.of or arm.of.startswith(("joint", "k-means")) else ""


def _differences(results: Results, name: str, of: str, decided: list[Decided]) -> list[str]:
    """Every comparison; those that decide are tested."""
    claim, rows = results.claim(name), []
    tested = {id(d.comparison): d for d in decided}
    for c in claim.compare:
        measure, d = claim.measure(c), tested.get(id(c))
        pairs = [*results.pairs(name, c, of).values()]
        if d is None:
            figure = f"{_number(mean_of(pairs), measure, '+')}{_mark(pairs)}" if pairs else ""
            rows.append([_name(c), measure, c.select, str(len(pairs)), figure, *([""] * 3), "not tested"])
            continue
        cells = [f"**{_difference(claim, d)}**", _test(claim, c), _p(d.p), _p(d.adjusted), f"**{d.verdict}**"]
        rows.append([_name(c), measure, c.select, str(len(pairs)), *cells])
    heads = ["difference", "measure", "labels", "seeds", "points", "test", "p", "p, Holm", "verdict"]
    lines = markdown_table(heads, rows)
    if any(ALIKE in cell for row in rows for cell in row):
        lines += ["", f"{ALIKE}: The difference is the same for every seed, so there is nothing to test with."]
    return lines


def _test(claim: Claim, c: Comparison) -> str:
    unit = f" {claim.measure(c)}" if claim.measure(c) in TIMES else ""
    if c.direction == EQUIVALENT:
        return f"equivalence test, ± {c.margin:g}{unit}"
    return f"{'non-inferiority' if c.margin < 0 else 'superiority'}, above {c.margin:g}{unit}"


def _difference(claim: Claim, d: Decided) -> str:
    """Of the measure that decides: its mean, and the interval that decides."""
    if not d.differences:
        return "no seeds"
    measure = claim.measure(d.comparison)
    scale, unit = (1.0, f" {measure}") if measure in TIMES else (100.0, "")
    low, high = (scale * end for end in d.interval)
    ends = f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else ""
    return f"{scale * mean_of(d.differences).value + 0.0:+.1f}{ends}{unit}{_mark(d.differences)}"


def _mark(differences: list[float]) -> str:
    return f" {ALIKE}" if without_spread(differences) else ""


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _number(mean: Mean, measure: str, sign: str = "") -> str:
    if measure not in TIMES:
        return mean.percent(sign)
    return f"{mean.value:{sign}.0f}" + (f" ± {mean.half:.0f}" if math.isfinite(mean.half) else "")


def _options(claim: Claim, arm: Arm) -> str:
    sample = [f"{k}={v}".lower() for k, v in {**claim.sample, **arm.sample}.items()]
    told = " ".join(f"`{w}`" for w in [*claim.train, *arm.train])
    told += f", {arm.longer:g} × as long" if arm.longer != 1 else ""
    told += f", on videos of `{' '.join(sample)}`" if sample else ""
    told += f", digits {', '.join(map(str, arm.digits))}" if arm.digits else ""
    told += f", {arm.few} videos a class" if arm.few else ""
    told += ", joined" * arm.joined + ", noisy" * arm.noisy
    told += f", from “{arm.start}”" if arm.start else ""
    return f"{told}, before training" if arm.untrained else told


def _name(c: Comparison) -> str:
    pair = f"{c.arm} − {'' if c.times == 1 else f'{c.times:g} × '}{c.than}"
    return f"({pair}) − ({' − '.join(c.beyond)})" if c.beyond else pair
