"""`avssl summary`: several runs (seeds, say) side by side."""

import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import SummaryConfig
from ..errors import UserError


def run(config: SummaryConfig) -> dict[str, float]:
    """Print the joint labels' NMI of each run's head chosen without labels, and their min, median and max.

    Returns these three. UserError for a folder without `clusters/clustering.json`, or without classes.
    """
    if not config.runs:
        raise UserError("runs is needed: the run folders, as runs=[runs/a,runs/b]")
    console = Console(highlight=False)
    found = {}
    for folder in config.runs:
        figures = _figures(Path(folder))
        found[folder] = _chosen_nmi(figures, folder)
        floors = figures.get("floors") or {}
        against = "".join(f"  {name.replace('_', '-')} k-means {value:.3f}" for name, value in floors.items())
        console.print(f"{folder}  NMI {found[folder]:.3f}{against}", soft_wrap=True, markup=False)
    values = list(found.values())
    result = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    console.print("NMI " + "  ".join(f"{name} {value:.3f}" for name, value in result.items()))
    return result


def _figures(folder: Path) -> dict[str, Any]:
    path = folder / "clusters" / "clustering.json"
    try:
        figures = json.loads(path.read_text())
        return figures[figures["reported"]]
    except FileNotFoundError:
        raise UserError(f"no {path}: run `avssl clusters run={folder}` first") from None
    except (ValueError, KeyError):
        raise UserError(f"{path} is damaged: run `avssl clusters run={folder}` again") from None


def _chosen_nmi(figures: dict[str, Any], folder: str) -> float:
    metrics = figures["evidence"]["joint"]["heads"][figures["chosen_head"] or 0].get("metrics")
    if metrics is None:
        raise UserError(f"{folder} has no NMI: its videos have no classes")
    return float(metrics["nmi"])
