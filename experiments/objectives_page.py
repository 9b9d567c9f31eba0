"""The page of the objectives: what each learns, its margin over untrained encoders, and what a step takes."""

import statistics
from collections.abc import Sequence
from typing import Any

from avssl import __version__
from avssl.core.report import markdown_table
from avssl.metrics.intervals import Mean, mean_of
from experiments.trained import commit

COLUMNS = ("digit", "direction")
VIEWS = ("video", "audio")
PROBES = ("linear", "5-NN")

UNTRAINED, REFERENCE = "untrained", "simclr"
"""What each method is compared with: by what it learns, and by the seconds of a step."""

FALLING = "arrow, falling videos"
"""A reversed falling digit looks like a rising one. With both in the data, the direction of time cannot be seen. So
`arrow` is also trained on falling videos alone."""

BY = dict.fromkeys(["arrow", FALLING, "gdt, reversal distinct", "order", "pace", "sync"], "direction")
"""The column that a method is to know better than untrained encoders do; the digit for all others. A question about
time need not teach the digit."""

REASONS = {
    "simclr": "Two augmentations of the same frames also share their background, which is larger than the digit and "
    "tells videos apart as well. With audio (`simclr_av`) only the digit is common to both.",
    "sela": "The labels come from the frames alone, and follow the background. With audio (`selavi`) they become the "
    "digits.",
    "xdc": "Each modality is taught the k-means of the other. The first clusters are those of random features, so it "
    "depends on the seed whether both find the digits.",
    "npid": "Every video is a class of its own, and its key is as old as an epoch, which is 12 steps here.",
    "dino": "It has far fewer steps than a teacher needs. Each seed is better, but by amounts that differ.",
    "pace": "The speed of a clip can be told from the motion of the background too, in audio from its pitch.",
    "context": "Only the strokes of the digit have a place: the background drifts, and has no up and down. The patches "
    "of frames of 36 px have 8 px. Tried with another seed, in vain: frames of 60 px and twice the clips (accuracy of "
    "the digit 21.0 %), and a classifier with batch norm.",
    "sync": "Alone, without contrast, the accuracy of its question stayed at a half (another seed).",
}
"""Why a method may not be better, from what was seen with other seeds."""

Found = dict[tuple[str, int], dict[str, Any]]
"""The figures of each run, by (method, seed)."""


def better(margin: Mean) -> bool:
    """Whether a mean difference, paired by seed, is above zero by more than half of its 95 % interval.

    One seed has no interval, and shows nothing.
    """
    return margin.value - margin.half > 0


def page(
    found: Found, methods: Sequence[str], seeds: Sequence[int], command: str, settings: dict[str, Any]
) -> list[str]:
    """The page, as Markdown."""
    said = [
        "# Every objective, on the sample", "",
        "What does each [objective](../guides/objectives.md) teach small encoders, when all see the same clips? The "
        "videos are those of `avssl sample` with a direction: a digit rises or falls, and so does the pitch of its "
        "audio.", "",
        *rules(seeds, command, settings), "",
        "## Which are better than untrained encoders", "", *verdicts(found, methods, seeds),
        *explained(found, methods, seeds),
    ]  # fmt: skip
    for column in COLUMNS:
        chance = {"digit": 10, "direction": 50}[column]
        said += ["", f"## The {column}", "", f"Accuracy in % on the test split; chance is {chance}.", ""]
        heads = [f"{view}, {probe}" for view in VIEWS for probe in PROBES]
        names = [f"{view}/{column}, {probe}" for view in VIEWS for probe in PROBES]
        rows = [[method, *(cell(values(found, method, seeds, name)) for name in names)] for method in methods]
        said += markdown_table(["method", *heads], rows)
    said += ["", "## Clusters, and the seconds of a step", "", *costs(found, methods, seeds)]
    return said


def rules(seeds: Sequence[int], command: str, settings: dict[str, Any]) -> list[str]:
    """How the figures come about, as a list."""
    made = commit()
    of = f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    return [
        f"- Written by `{command}`, avssl {__version__}{f', commit {made}' if made else ''}. The measure, the seeds, "
        "the number of clips and the rule for *better* were fixed before the first run.",
        f"- Each run sees {settings['clips']:,} clips, one per video and batch, of {settings['train']} training videos "
        "per class; the encoders, the clips, the batch of 32 and the optimiser are the same "
        "for all, but for what a method's preset sets itself (`pace` hears audio at 16 kHz).",
        f"- Figures are of {settings['test']} test videos a class: mean ± half of the 95 % interval over {of}. "
        "Probes are of frozen features of one central clip: logistic regression, and the vote of 5 neighbours.",
        "- *Margin* is the linear probe's accuracy minus that of the untrained encoders of the same seed, in points. A "
        "method is *better* if the lower end of the margin's interval is above 0. The intervals are not adjusted for "
        "the number of methods.",
        "- A method that encodes only frames has no figures for audio.",
    ]


def verdicts(found: Found, methods: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The margins of the linear probe, and whether a method knows its column better than untrained encoders."""
    rows = []
    for method in methods:
        if method == UNTRAINED:
            continue
        margins = {
            (column, view): margin(found, method, seeds, f"{view}/{column}, linear")
            for column in COLUMNS
            for view in VIEWS
        }
        by, marks = BY.get(method, COLUMNS[0]), better_views(found, method, seeds)
        told = f"**yes**, by {' and '.join(marks)}" if marks else "no"
        rows.append([method, by, told, *("–" if m is None else signed(m) for m in margins.values())])
    heads = [f"{column}, {view}" for column in COLUMNS for view in VIEWS]
    return markdown_table(["method", "judged by", "better", *(f"margin: {head}" for head in heads)], rows)


def explained(found: Found, methods: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Why those methods that are not better may not be; nothing with a single seed, which has no interval."""
    if len(seeds) < 2:
        return []
    known = [method for method in methods if method in REASONS and not better_views(found, method, seeds)]
    if not known:
        return []
    text = "Those that are not shown to be better, and what may be the reason (not tested):"
    return ["", text, "", *(f"- `{method}`: {REASONS[method]}" for method in known)]


def better_views(found: Found, method: str, seeds: Sequence[int]) -> list[str]:
    """The modalities from which a method knows its column better than untrained encoders do."""
    column = BY.get(method, COLUMNS[0])
    margins = {view: margin(found, method, seeds, f"{view}/{column}, linear") for view in VIEWS}
    return [view for view, of in margins.items() if of is not None and better(of)]


def signed(mean: Mean) -> str:
    """A margin in points; bold where it is better."""
    return f"**{mean.percent('+')}**" if better(mean) else mean.percent("+")


def margin(found: Found, method: str, seeds: Sequence[int], name: str) -> Mean | None:
    """A figure minus that of the untrained encoders, paired by seed; None where the method has no such figure."""
    pairs = [(figure(found, method, s, name), figure(found, UNTRAINED, s, name)) for s in seeds]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_of(differences) if differences else None


def costs(found: Found, methods: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """NMI of the labels with the digits, and seconds of a step, in themselves and relative to SimCLR's."""
    rows = []
    for method in methods:
        if method == UNTRAINED:
            continue
        times = {s: found[method, s]["step_seconds"] for s in seeds}
        ratios = [times[s] / found[REFERENCE, s]["step_seconds"] for s in seeds]
        step = f"{statistics.median(times.values()):.3f}"
        rows.append([method, cell(values(found, method, seeds, "NMI")), step, f"{statistics.median(ratios):.2f} ×"])
    said = markdown_table(["method", "NMI of its clusters, %", "seconds a step", f"of {REFERENCE}'s"], rows)
    return [
        *said,
        "",
        "Seconds are the median over the run's steps, then over seeds; runs side by side share the cores.",
    ]


def values(found: Found, method: str, seeds: Sequence[int], name: str) -> list[float]:
    """A figure of every seed that has it."""
    return [x for s in seeds if (x := figure(found, method, s, name)) is not None]


def figure(found: Found, method: str, seed: int, name: str) -> float | None:
    return found[method, seed]["figures"].get(name)


def cell(of: list[float]) -> str:
    return mean_of(of).percent() if of else "–"
