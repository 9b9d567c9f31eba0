"""The page of localisation: how often the sound is found, beside controls, and a detector on its boxes."""

from collections.abc import Callable, Sequence
from typing import Any

from avssl import __version__
from avssl.core.report import markdown_table
from avssl.metrics.intervals import Mean, mean_of
from experiments.trained import commit

JOINT, ALONE, WEAK = "localisation and labels", "localisation alone", "contrast of whole clips"

OWN_CLUSTERS, OWN_CLASSES, TRUE_CLASSES = (
    "own boxes and clusters", "own boxes and true classes", "true boxes and classes",
)  # fmt: skip
"""What the detectors are trained on."""

OWN, OTHER, CENTRE = "own audio", "audio of another video", "centre of the frame"
"""Rows of `avssl locate`."""

FIGURES = {
    "ciou": "cIoU", "auc": "AUC", "ciou_adaptive": "adaptive cIoU", "auc_adaptive": "adaptive AUC",
}  # fmt: skip

REACHED, CENTRE_MOST, RATIO = 0.8, 0.4, 0.9
"""What was asked before the first run: cIoU of the first arm, at most of the centre, and the detector's AP at IoU 0.5
on its own boxes and clusters, as a share of that on true boxes and classes."""

Found = dict[tuple[str, int], dict[str, Any]]
"""The figures of each run, by (arm, seed)."""


def page(found: Found, arms: Sequence[str], seeds: Sequence[int], command: str, settings: dict[str, Any]) -> list[str]:
    """The page, as Markdown."""
    made = commit()
    said = [
        "# Where the sound is, on the sample", "",
        "In each video two digits move, and one of them sounds. Nothing but the audio says which one. Do the heat maps "
        "find it, and is a detector as good on the boxes of `avssl locate` and the run's clusters as on true ones?", "",
        f"- Written by `{command}`, avssl {__version__}{f', commit {made}' if made else ''}. The arms, the measures, "
        "the seeds and what counts as reached were fixed before the first run.",
        f"- {settings['train']} training videos a class, {settings['clips']:,} clips a run, the encoders and clips of "
        "`experiment=tiny_localisation`, without mirrored frames.",
        f"- Figures are of {settings['test']} test videos a class: mean ± half of the 95 % interval over {len(seeds)} "
        f"seeds ({', '.join(map(str, seeds))}), in %.",
        "- cIoU is the share of moments whose top half of the pixels overlaps the true box with an IoU of at least "
        "0.5, as published; the adaptive form takes as many pixels as the box has.", "",
        "## Reached?", "", *verdicts(found, arms, seeds), "",
        "## Heat maps", "", *heat_maps(found, arms, seeds), "",
        "## Two objects", "", *two_objects(found, arms, seeds), "",
        "## The detector", "", *detectors(found, arms, seeds), "",
        "## Cost", "", *costs(found, arms, seeds),
    ]  # fmt: skip
    return said


def of_row(found: Found, arm: str, seeds: Sequence[int], row: str, key: str = "ciou") -> Mean:
    """A figure of a row of `avssl locate`, over seeds."""
    return mean_of([found[arm, s]["located"]["rows"][row][key]["mean"] for s in seeds])


def verdicts(found: Found, arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """What was asked, the figure, and whether it is reached."""
    if JOINT not in arms:
        return [f"`{JOINT}` was not trained."]
    own, centre = of_row(found, JOINT, seeds, OWN), of_row(found, JOINT, seeds, CENTRE)
    margin = mean_of([ciou(found, JOINT, s, OWN) - ciou(found, JOINT, s, OTHER) for s in seeds])
    rows = [
        [f"cIoU of {JOINT}: {100 * REACHED:.0f} %", own.percent(), word_of(own.value >= REACHED)],
        [f"cIoU of the centre: under {100 * CENTRE_MOST:.0f} %", centre.percent(), word_of(centre.value < CENTRE_MOST)],
        [
            "own audio above the audio of another video, outside the interval", margin.percent("+"),
            word_of(margin.value - margin.half > 0),
        ],
    ]  # fmt: skip
    if ALONE in arms:
        labels = paired(found, JOINT, ALONE, seeds)
        rows.append([
            "labels improve it: above localisation alone, outside the interval", labels.percent("+"),
            word_of(labels.value - labels.half > 0),
        ])  # fmt: skip
    for beside in (TRUE_CLASSES, OWN_CLASSES):
        ratio = mean_of([share(found[JOINT, s]["detected"], beside) for s in seeds])
        rows.append([
            f"detector's AP at IoU 0.5, {OWN_CLUSTERS} ÷ {beside}: {RATIO}", f"{ratio.value:.2f} ± {ratio.half:.2f}",
            word_of(ratio.value >= RATIO),
        ])  # fmt: skip
    return markdown_table(["asked", "found", "reached"], rows)


def word_of(holds: bool) -> str:
    return "**yes**" if holds else "no"


def ciou(found: Found, arm: str, seed: int, row: str = OWN) -> float:
    """cIoU of a row of `avssl locate`."""
    return found[arm, seed]["located"]["rows"][row]["ciou"]["mean"]


def paired(found: Found, arm: str, other: str, seeds: Sequence[int]) -> Mean:
    """cIoU of an arm minus that of another, paired by seed."""
    return mean_of([ciou(found, arm, s) - ciou(found, other, s) for s in seeds])


def share(detected: dict[str, Any], beside: str) -> float:
    """AP of the detector on own boxes and clusters as a share of that of another."""
    own, true = (detected[name]["class_ap"]["0.5"] for name in (OWN_CLUSTERS, beside))
    return own / true if true else float("nan")


def heat_maps(found: Found, arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The rows of `avssl locate` for each arm; the controls that do not depend on the arm once."""
    rows = []
    for arm in arms:
        names = [*found[arm, seeds[0]]["located"]["rows"]]
        for name in names:
            if name in (OWN, OTHER) or arm == arms[0]:
                cells = [of_row(found, arm, seeds, name, key).percent() for key in FIGURES]
                rows.append([arm if name in (OWN, OTHER) else "–", name, *cells])
    said = markdown_table(["run", "heat maps from", *FIGURES.values()], rows)
    boxes = [
        [arm, *(mean_of([found[arm, s]["located"]["boxes"][iou] for s in seeds]).percent() for iou in ("ap50", "ap30"))]
        for arm in arms
    ]
    return [*said, "", *markdown_table(["boxes alone, without classes", "AP, IoU 0.5", "AP, IoU 0.3"], boxes)]


def two_objects(found: Found, arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """IIoU of each arm, beside its controls; a dash for runs that were located before it was measured."""
    figures: dict[str, Callable[[dict[str, Any]], float]] = {
        "IIoU": lambda of: of["iiou"], "IAUC": lambda of: of["iauc"], "each alone, cIoU": lambda of: of["ciou"],
        "sounds swapped, IIoU": lambda of: of["swapped"]["iiou"], "centre, IIoU": lambda of: of["centre"]["iiou"],
    }  # fmt: skip
    rows = []
    for arm in arms:
        measured = [found[arm, s]["located"].get("interactive") for s in seeds]
        cells = [
            "–" if None in measured else mean_of([figure(of) for of in measured if of is not None]).percent()
            for figure in figures.values()
        ]
        rows.append([arm, *cells])
    what = (
        "A picture counts if both of its digits are found, each with a sound of its class: the silent one with the "
        "audio of another video in which its digit sounds."
    )
    return [what, "", *markdown_table(["run", *figures], rows)]


def detectors(found: Found, arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Average precision of both detectors."""
    if JOINT not in arms:
        return [f"Trained from `{JOINT}` only."]
    rows = []
    for name in found[JOINT, seeds[0]]["detected"]:
        cells = [
            mean_of([found[JOINT, s]["detected"][name][kind][iou] for s in seeds]).percent()
            for kind in ("class_ap", "ap")
            for iou in ("0.5", "0.3")
        ]
        rows.append([name, *cells])
    heads = ["trained on", "AP50, by class", "AP30, by class", "AP50, without classes", "AP30, without classes"]
    published = "Published (Afouras et al., VGG-Sound, their own boxes with true classes): 39.4 against 42.9."
    what = (
        "Own boxes are those of what sounds, and of the silent objects that `avssl locate` finds with the sounds of "
        "their clusters from other videos. All three are trained for the same steps, with the same options."
    )
    return [what, "", *markdown_table(heads, rows), "", published]


def costs(found: Found, arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Seconds of a step, beside those of plain contrast."""
    rows = []
    for arm in arms:
        step = mean_of([found[arm, s]["step_seconds"] for s in seeds]).value
        cells = [f"{step:.3f}"]
        if WEAK in arms:
            ratio = mean_of([found[arm, s]["step_seconds"] / found[WEAK, s]["step_seconds"] for s in seeds]).value
            cells.append(f"{ratio:.2f} ×")
        minutes = mean_of([found[arm, s]["train_seconds"] / 60 for s in seeds]).value
        rows.append([arm, *cells, f"{minutes:.1f}"])
    heads = ["run", "seconds a step", *([f"of {WEAK}'s"] if WEAK in arms else []), "minutes of training"]
    return [*markdown_table(heads, rows), "", "Runs side by side share the cores."]
