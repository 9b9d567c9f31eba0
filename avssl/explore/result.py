"""The short result of `avssl clusters`: a table of the chosen head, and one line."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ..config import ClustersConfig
from ..core.errors import UserError
from ..core.plurals import counted, many, out_of
from ..core.screen import Console, unsigned_zero
from ..core.untrusted import is_number, read_json
from ..metrics.clustering import ClusteringTable
from .table import print_table
from .worth import worth_lines

COLUMNS = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "accuracy": "accuracy", "purity": "purity"}
FLOORS = ("pixels", "log_mel", "both")


@dataclass(frozen=True)
class ClusterResult:
    """The figures of the labels of the reported split, as fractions from 0 to 1; None is unknown."""

    split: str
    videos: int
    clusters: int
    used_clusters: int
    chosen_head: int
    nmi: float | None = None
    ami: float | None = None
    ari: float | None = None
    accuracy: float | None = None
    purity: float | None = None
    raw_kmeans_nmi: float | None = None
    """Of k-means on raw pixels and spectrograms, the better of the three."""
    agreement: float | None = None
    """Share of videos whose labels from video alone and from audio alone are equal."""
    mean_confidence: float | None = None

    def line(self, next_command: str) -> str:
        """The result in one line: `7 of 8 clusters used · NMI 75.6 (raw k-means 21.0) · open the page: avssl open`."""
        parts = [f"{self.used_clusters} of {many(self.clusters, 'cluster')} used"]
        if self.nmi is not None:
            raw = "" if self.raw_kmeans_nmi is None else f" (raw k-means {_percent(self.raw_kmeans_nmi)})"
            parts.append(f"NMI {_percent(self.nmi)}{raw}")
        else:
            if self.mean_confidence is not None:
                parts.append(f"mean confidence {_percent(self.mean_confidence)} %")
            if self.agreement is not None:
                parts.append(f"video and audio agree on {_percent(self.agreement)} %")
        return " · ".join([*parts, next_command])


def result_of(
    table: ClusteringTable, split: str, floors: Mapping[str, float] | None, confidence: np.ndarray | None
) -> ClusterResult:
    """The result of a split.

    Args:
        table: its figures.
        split: its name.
        floors: NMI of k-means on raw inputs, if it is known.
        confidence: of the chosen head's joint labels, float [N], NaN for a video that could not be decoded.
    """
    head = table.chosen_head or 0
    figures = table.evidence["joint"][head]
    metrics = {} if figures.metrics is None else figures.metrics.to_dict()
    known = None if confidence is None else confidence[np.isfinite(confidence)]
    return ClusterResult(
        split=split,
        videos=table.videos,
        clusters=table.clusters,
        used_clusters=figures.used,
        chosen_head=head,
        **{name: metrics.get(name) for name in COLUMNS},  # type: ignore[arg-type]
        raw_kmeans_nmi=max(floors.values()) if floors else None,
        agreement=None if table.agreement is None else _number(table.agreement[head]),
        mean_confidence=None if known is None or not len(known) else float(known.mean()),
    )


def print_figures(
    config: ClustersConfig,
    table: ClusteringTable,
    split: str,
    console: Console,
    found: dict[str, Any] | None,
    weights: list[str],
    raw: dict[str, float] | None,
) -> None:
    """Print the figures of the reported split: those of the chosen head, or of every head with `details`.

    Args:
        config: the options of the command.
        table: the figures.
        split: the reported split.
        console: where to print.
        found: the result of `judge`. Without `details`, only its warnings are printed.
        weights: the run's `labelling.modality_weights`.
        raw: NMI of k-means on raw inputs, if it is known.
    """
    lines = [] if found is None else worth_lines(found, weights)
    console.print()
    if not config.details:
        print_short(table, console, split)
        for line in lines:
            if line.startswith("warning"):
                console.print(line, markup=False)
        return
    print_table(table, console, split)
    for line in lines:
        console.print(line, markup=False)
    if raw:
        console.print(
            f"k-means on raw inputs, NMI: raw pixels {100 * raw['pixels']:.1f} %, raw spectrograms "
            f"{100 * raw['log_mel']:.1f} %, both {100 * raw['both']:.1f} %",
        )


def print_short(table: ClusteringTable, console: Console, split: str) -> None:
    """Print the figures of the chosen head against the classes; without classes, the number of videos alone."""
    videos = counted(table.videos, table.files or table.videos)
    console.print(f"{split}: {videos}, {many(table.clusters, 'cluster')}", style="bold", markup=False)
    if table.undecodable:
        undecodable = out_of(table.undecodable, table.videos, table.files or table.videos)
        console.print(f"{undecodable} could not be decoded and are not counted", markup=False)
    if not table.has_classes:
        return
    head = table.chosen_head or 0
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for i, heading in enumerate(["labels from", *(f"{name} %" for name in COLUMNS.values()), "clusters used"]):
        grid.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for evidence, heads in table.evidence.items():
        metrics = heads[head].metrics
        values = [math.nan if metrics is None else getattr(metrics, name) for name in COLUMNS]
        grid.add_row(evidence, *map(_percent, values), str(heads[head].used))
    console.print(grid)
    if table.unclassified:
        console.print(f"{table.unclassified:,} have no class, and are not in these figures")


def known_floors(path: Path, run: str, split: str, table: ClusteringTable, index: Path) -> dict[str, float] | None:
    """The NMI of k-means on raw inputs that an earlier call wrote for the same videos; None if there is none.

    Args:
        path: the earlier `clustering.json`, which may be missing or damaged.
        run: the run folder.
        split: the split.
        table: its figures now.
        index: the file of the split in the index. If it is newer than `path`, the videos may have changed.
    """
    with suppress(OSError, UserError, KeyError, TypeError):
        if os.stat(index).st_mtime > os.stat(path).st_mtime:
            return None
        before: dict[str, Any] = read_json(path)
        figures = before[split]
        same = figures["videos"] == table.videos and figures["undecodable"] == table.undecodable
        if before["run"] == run and same and table.has_classes:
            floors = {name: figures["floors"][name] for name in FLOORS}
            return floors if all(map(is_number, floors.values())) else None
    return None


def document(config: ClustersConfig, page: Path) -> dict[str, Any]:
    """What `avssl clusters json=true` prints: the result, fractions from 0 to 1, and where everything is."""
    content = read_json(Path(config.out) / "clustering.json")
    return {
        "run": config.run,
        "step": content.get("step"),
        "out": config.out,
        "page": str(page),
        "labelled": config.labelled if config.names else None,
        **content.get("result", {}),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else unsigned_zero(f"{100 * value:.1f}")
