"""Agreement of clusters with classes. All measures of a labelling come from one contingency table.

The protocol is that of SeLaVi (arXiv 2006.13662, section 4.1 and appendix). Two things differ from its code: the
Hungarian accuracy needs one pass over the labels, and the reported head is chosen without classes (`head_choice`), not
by its NMI with the classes, which the method must not know.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..core.errors import UserError
from .head_choice import COST, HeadChoice, choose_head
from .information import (
    adjusted_rand,
    contingency,
    entropy,
    normalised_and_adjusted_information,
    normalised_information,
)


@dataclass(frozen=True)
class ClusteringMetrics:
    """Measures of one labelling against classes. They are NaN if no video has both a label and a class."""

    nmi: float  # mutual information over the arithmetic mean of both entropies
    ami: float  # the same, adjusted for chance
    ari: float  # adjusted Rand index
    accuracy: float  # under the best one-to-one matching of clusters to classes (Hungarian)
    entropy: float  # of the classes in a cluster, nats, unweighted mean over non-empty clusters
    purity: float  # fraction of the largest class in a cluster, unweighted mean over non-empty clusters
    used: int  # non-empty clusters
    clusters: int  # K
    videos: int  # with a label and a class
    excluded: int  # videos whose label or class is missing (-1)

    def to_dict(self) -> dict[str, float | int | None]:
        """The measures for JSON: NaN is None."""
        return _without_nan(asdict(self))


def clustering_metrics(labels: np.ndarray, classes: np.ndarray, clusters: int | None = None) -> ClusteringMetrics:
    """Compare a labelling with classes (protocol of SeLaVi, section 4.1).

    NMI, AMI and ARI equal scikit-learn's. K may differ from the number of classes; videos in clusters or classes
    without a match count as errors in the accuracy.

    Args:
        labels: int [N], -1 for a video that could not be decoded.
        classes: int [N], -1 for a video without a known class.
        clusters: K; by default the largest label plus one.

    Raises:
        UserError: lengths differ, or a label is not below K.
    """
    labels, classes = np.asarray(labels), np.asarray(classes)
    if labels.shape != classes.shape or labels.ndim != 1:
        raise UserError(
            f"labels and classes must be lists of equal length, not of shapes {labels.shape} and {classes.shape}"
        )
    clusters = _clusters(labels, clusters)
    counted = (labels >= 0) & (classes >= 0)
    videos = int(counted.sum())
    if videos == 0:
        return ClusteringMetrics(*(math.nan,) * 6, used=0, clusters=clusters, videos=0, excluded=len(labels))
    table = contingency(labels[counted], classes[counted])
    sizes = table.sum(1)
    shares = table / sizes[:, None]
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    nmi, ami = normalised_and_adjusted_information(table)
    return ClusteringMetrics(
        nmi=nmi,
        ami=ami,
        ari=adjusted_rand(table),
        accuracy=float(matched / videos),
        entropy=float(-np.sum(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares)), axis=1).mean()),
        purity=float(shares.max(1).mean()),
        used=len(sizes),
        clusters=clusters,
        videos=videos,
        excluded=len(labels) - videos,
    )


@dataclass(frozen=True)
class HeadFigures:
    """Measures of one head's labels from one kind of evidence. `metrics` is None for data without classes."""

    head: int
    used: int  # non-empty clusters
    size_entropy: float  # of the cluster sizes, nats; log K if all sizes are equal
    metrics: ClusteringMetrics | None


@dataclass(frozen=True)
class ClusteringTable:
    """Measures by evidence and head, and the reported head. `clustering_table` makes it."""

    clusters: int
    videos: int  # rows
    undecodable: int  # rows with the label -1, which no measure includes
    unclassified: int  # rows with labels but without a class, which no measure against classes includes
    evidence: dict[str, list[HeadFigures]]
    transport_cost: list[float] | None  # [H]
    chosen_head: int | None  # chosen without classes
    chosen_by: str  # the measure: agreement, stability or cost; empty with one head, or if none is chosen
    chosen_values: list[float | None] | None  # [H], the measure of each head
    collapsed: list[str] | None  # [H], how each head has collapsed, or ""; None if that is unknown
    agreement: list[float] | None  # [H], fraction of videos whose video-only and audio-only labels are equal
    agreement_nmi: list[float] | None  # [H], NMI of these labels, which does not depend on the clusters' numbers
    floors: dict[str, list[tuple[str, HeadFigures]]] = field(default_factory=dict)
    """Measures of k-means by its input, each with a description of that input."""
    files: int | None = None  # files that the rows belong to, if some have several windows

    @property
    def has_classes(self) -> bool:
        return any(figures.metrics is not None for heads in self.evidence.values() for figures in heads)

    def oracle_head(self, evidence: str) -> int | None:
        """The head with the best NMI. It needs the classes, so it is an upper bound, not a result of the run."""
        scored = [
            (f.metrics.nmi, f.head) for f in self.evidence[evidence] if f.metrics and not math.isnan(f.metrics.nmi)
        ]
        return max(scored, key=lambda pair: pair[0])[1] if scored else None

    def summary(self, evidence: str) -> dict[str, tuple[float, float]]:
        """The mean and the sample standard deviation (NaN for one head) over the heads, by measure."""
        columns: dict[str, list[float]] = {}
        for figures in self.evidence[evidence]:
            for name, value in figure_row(figures).items():
                columns.setdefault(name, []).append(value)
        return {name: mean_sd(values) for name, values in columns.items()}

    def to_dict(self) -> dict:
        """The table for JSON: NaN is None. `oracle_by_nmi` is the head of `oracle_head`."""
        out = {k: _without_nan(v) for k, v in asdict(self).items() if k not in ("evidence", "floors")}
        out["evidence"] = {
            name: {
                "heads": [_without_nan(asdict(figures)) for figures in heads],
                "mean": {k: _without_nan(mean) for k, (mean, _) in self.summary(name).items()},
                "sd": {k: _without_nan(sd) for k, (_, sd) in self.summary(name).items()},
                "chosen": None if self.chosen_head is None else _without_nan(asdict(heads[self.chosen_head])),
                "oracle_by_nmi": None
                if (best := self.oracle_head(name)) is None
                else _without_nan(asdict(heads[best])),
            }
            for name, heads in self.evidence.items()
        }
        return out


def mean_sd(values: list[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation, which is NaN for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def figure_row(figures: HeadFigures) -> dict[str, float]:
    """A head's measures by name, in the order of the printed table."""
    names = ("nmi", "ami", "ari", "accuracy", "purity", "entropy")
    scores = {name: getattr(figures.metrics, name) for name in names} if figures.metrics else {}
    return {**scores, "used": float(figures.used), "size_entropy": figures.size_entropy}


def clustering_table(
    labels: Mapping[str, np.ndarray],
    classes: np.ndarray | None = None,
    transport_cost: np.ndarray | None = None,
    clusters: int | None = None,
    choice: HeadChoice | None = None,
) -> ClusteringTable:
    """Measures of every head for every kind of evidence, and the head to report, which is chosen without classes.

    Args:
        labels: by evidence ("joint", "video", "audio"), int [N, H]; -1 for a video that could not be decoded.
        classes: int [N], -1 if unknown; None for data without classes.
        transport_cost: of each head's last labelling pass, [H].
        clusters: K; by default the largest label plus one.
        choice: the head to report; by default the only one, or the one of lowest transport cost if costs are given.

    Raises:
        UserError: shapes differ, or a label is not below K.
    """
    arrays = {name: np.asarray(array) for name, array in labels.items()}
    if not arrays or len({a.shape for a in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 2:
        shapes = {name: a.shape for name, a in arrays.items()}
        raise UserError(f"labels must all have the same shape (videos, heads), not {shapes}")
    videos, heads = next(iter(arrays.values())).shape
    if classes is not None and np.shape(classes) != (videos,):
        raise UserError(f"classes must be one per video: {np.shape(classes)} for {videos} videos")
    if transport_cost is not None and np.shape(transport_cost) != (heads,):
        raise UserError(f"transport costs must be one per head: {np.shape(transport_cost)} for {heads} heads")
    choice = choice or choose_head(heads, {} if transport_cost is None else {COST: transport_cost})
    clusters = _clusters(np.concatenate([a.ravel() for a in arrays.values()]), clusters)

    decodable = np.logical_and.reduce([(a >= 0).all(1) for a in arrays.values()])
    truth = None if classes is None or not (np.asarray(classes) >= 0).any() else np.asarray(classes)
    evidence = {}
    for name, array in arrays.items():
        evidence[name] = [head_figures(h, array[:, h], truth, clusters) for h in range(heads)]

    agreement = agreement_nmi = None
    if {"video", "audio"} <= arrays.keys():
        video, audio = arrays["video"][decodable], arrays["audio"][decodable]
        agreement = [float((video[:, h] == audio[:, h]).mean()) if len(video) else math.nan for h in range(heads)]
        agreement_nmi = [
            normalised_information(contingency(video[:, h], audio[:, h])) if len(video) else math.nan
            for h in range(heads)
        ]
    return ClusteringTable(
        clusters=clusters,
        videos=videos,
        undecodable=int((~decodable).sum()),
        unclassified=0 if truth is None else int((decodable & (truth < 0)).sum()),
        evidence=evidence,
        transport_cost=None if transport_cost is None else [float(cost) for cost in transport_cost],
        chosen_head=choice.head,
        chosen_by=choice.by,
        chosen_values=choice.values,
        collapsed=choice.collapsed,
        agreement=agreement,
        agreement_nmi=agreement_nmi,
    )


def head_figures(head: int, labels: np.ndarray, classes: np.ndarray | None, clusters: int) -> HeadFigures:
    """Measures of the labels of one head, int [N], with or without classes int [N]."""
    sizes = np.bincount(labels[labels >= 0], minlength=clusters)
    metrics = None if classes is None else clustering_metrics(labels, classes, clusters)
    return HeadFigures(head, int((sizes > 0).sum()), entropy(sizes), metrics)


def _clusters(labels: np.ndarray, clusters: int | None) -> int:
    largest = int(labels.max(initial=-1))
    if clusters is not None and largest >= clusters:
        raise UserError(f"label {largest} is not one of {clusters} clusters (0 to {clusters - 1})")
    return largest + 1 if clusters is None else clusters


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
