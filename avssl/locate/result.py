"""What `avssl locate` prints."""

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from ..core.plurals import many
from ..core.screen import Console, unsigned_zero
from ..metrics.intervals import Mean
from .measures import CENTRE, FIGURES, OTHER, OWN, audio_sentence

HEADINGS = {
    "ciou": "cIoU %", "auc": "AUC %", "ciou_adaptive": "adaptive\ncIoU %", "auc_adaptive": "adaptive\nAUC %",
}  # fmt: skip


def print_measures(found: Mapping[str, Any], split: str, console: Console) -> None:
    """Print the figures of `measure`.

    Args:
        found: the figures.
        split: the split that they are of.
        console: where to print.
    """
    console.print()
    what = f"{split}: {many(found['moments'], 'moment')} of {many(found['videos'], 'video')} with true boxes"
    console.print(what, style="bold", markup=False)
    if not found.get("rows"):
        return
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for i, heading in enumerate(["heat maps from", *HEADINGS.values()]):
        grid.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for name, figures in found["rows"].items():
        grid.add_row(name, *(_percent(figures[key]) for key in FIGURES))
    for name, figures in found.get("published", {}).items():
        if "ciou" in figures:
            cells = (f"{100 * figures[key]:.1f}" if key in figures else "" for key in FIGURES)
            grid.add_row(f"published: {name}", *cells)
    console.print(grid)
    for line in measure_lines(found):
        console.print(line, markup=False)


def measure_lines(found: Mapping[str, Any]) -> list[str]:
    """The figures below the table, as sentences."""
    lines = [sentence] if (sentence := audio_sentence(dict(found))) else []
    if precision := found.get("boxes"):
        lines.append(
            f"boxes alone, without clusters: AP {100 * precision['ap50']:.1f} % at IoU 0.5, "
            f"{100 * precision['ap30']:.1f} % at 0.3"
        )
    if universal := found.get("universal"):
        names = {"other": OTHER}
        parts = (f"{names.get(name, name)} {100 * value:.1f} %" for name, value in universal["pia"].items())
        areas = (f"{names.get(name, name)} {100 * value:.1f} %" for name, value in universal["auc_n"].items())
        lines.append(f"share of the frame that lights up under other audio (pIA, best 0): {', '.join(parts)}")
        lines.append(f"the same over all thresholds (AUC_N, best 100): {', '.join(areas)}")
    if negatives := found.get("negatives"):
        ours = f"AP {100 * negatives['ap']:.1f} %, max-F1 {100 * negatives['max_f1']:.1f} %"
        lines.append(f"with {many(negatives['moments'], 'moment')} in which nothing sounds: {ours}")
    for name, figures in found.get("published", {}).items():
        if "ap" in figures:
            lines.append(f"published: {name}: AP {100 * figures['ap']:.1f} %, max-F1 {100 * figures['max_f1']:.1f} %")
    if objects := found.get("interactive"):
        lines.append(_interactive_line(objects))
    elif several := found.get("several_sounding"):
        lines.append(
            f"{many(several, 'moment')} with several sounding objects: IIoU is not measured, because it needs the "
            "audio of each object alone"
        )
    return lines


def _interactive_line(found: Mapping[str, Any]) -> str:
    """IIoU beside its controls: `each of two objects with a sound of its class: IIoU 62.0 % (sounds swapped …)`."""
    number = "two" if found["objects"] == 2 * found["pictures"] else "several"
    own, swapped, centre = (100 * of["iiou"] for of in (found, found["swapped"], found["centre"]))
    lacking = (
        f"; {found['lacking']:,} more lack a video in which one of them sounds alone" if "lacking" in found else ""
    )
    return (
        f"each of {number} objects with a sound of its class: IIoU {own:.1f} % (sounds swapped {swapped:.1f} %, "
        f"{CENTRE} {centre:.1f} %), {many(found['pictures'], 'picture')}{lacking}"
    )


def result_line(figures: Mapping[str, Any], next_command: str) -> str:
    """The result in one line: `240 boxes in 60 videos · cIoU 83.1 (audio of another video 31.0, …) · …`."""
    parts = [f"{many(figures['boxes'], 'box')} in {many(figures['videos'], 'video')}"]
    rows = (figures.get("measures") or {}).get("rows", {})
    if OWN in rows:
        beside = ((name, rows[name]) for name in (OTHER, CENTRE) if name in rows)
        others = ", ".join(f"{name} {_value(row['ciou'])}" for name, row in beside)
        parts.append(f"cIoU {_value(rows[OWN]['ciou'])} ({others})")
    return " · ".join([*parts, next_command])


def _percent(mean: Mapping[str, float] | None) -> str:
    return "–" if mean is None else unsigned_zero(Mean(mean["mean"], mean["half"]).percent())


def _value(mean: Mapping[str, float] | None) -> str:
    return "–" if mean is None or math.isnan(mean["mean"]) else f"{100 * mean['mean']:.1f}"
