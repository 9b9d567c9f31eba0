"""How good a run's labels are, compared with k-means on the features of its encoders and on raw inputs."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..evaluate.predictions import Predictions
from ..metrics.clustering import ClusteringTable, head_figures
from ..metrics.floors import raw_kmeans_labels
from ..metrics.repeatability import adjusted_information, repeatability
from ..metrics.worth import BOTH, MARGIN, Worth, kmeans_floors, worth
from ..train.weak_modality import weak_line

KEPT = 5000
"""Most videos of a split whose features are used."""

HEADS, KMEANS, RAW = "heads", "k-means", "raw"


def kept_rows(videos: int, seed: int) -> np.ndarray:
    """The videos of a split whose features are kept: all, or `KEPT` random ones; int64 [n], ascending."""
    return np.sort(np.random.default_rng(seed).permutation(videos)[:KEPT]).astype(np.int64)


def worth_of_labels(
    reported: Predictions,
    fitted: Predictions,
    ids: np.ndarray | None,
    head: int,
    clusters: int,
    stability: float | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Measures of a head's labels of the reported videos, and of k-means, for `clustering.json`.

    Args:
        reported: predictions of the reported split, with the features of some videos.
        fitted: predictions of the training split, whose features k-means is fitted to; the heads were trained on the
            same videos.
        ids: classes of the reported split, int64 [N], -1 if unknown; None without classes.
        head: the number of the head.
        clusters: K, of the heads and of k-means.
        stability: AMI of the head's labels from two augmented passes, if it is known.
        seed: random seed of k-means and of the folds.

    Returns:
        None if no video has features, or there are fewer than two clusters. Else `labellings`, each with its kind
        (heads; k-means of features; k-means of raw inputs), its source and its measures; `agreement`, the AMI of the
        labels from video and from audio; `stability`; `repeats` of each modality's features; and `looks_better`, the
        baselines that look better than the joint labels.
    """
    features, rows = usable(reported)
    fit, _ = usable(fitted)
    if clusters < 2 or not len(rows) or any(len(x) < clusters for x in fit.values()):
        return None
    classes = None if ids is None else ids[rows]
    found: list[tuple[str, str, np.ndarray]] = [
        (HEADS, name, labels[rows, head]) for name, labels in reported.labels.items()
    ]
    found += [(KMEANS, name, x) for name, x in kmeans_floors(fit, features, clusters, seed).items()]
    if (raw := raw_of(reported, rows)) is not None:
        found += [(RAW, name, x) for name, x in raw_kmeans_labels(*raw, clusters, seed).items()]
    figures = [(kind, name, labels, worth(labels, features, classes, seed)) for kind, name, labels in found]
    by_modality = {name: x for kind, name, x in found if kind == HEADS and name != "joint"}
    agreement = adjusted_information(*by_modality.values()) if len(by_modality) == 2 else None
    joint = figures[0][3]
    better = [[kind, name] for kind, name, _, w in figures if kind != HEADS and w.predicted > joint.predicted + MARGIN]
    return {
        "videos": len(rows),
        "fitted_on": len(next(iter(fit.values()))),
        "agreement": agreement,
        "stability": stability,
        "repeats": {name: repeatability(x, clusters, seed) for name, x in fit.items()},
        "labellings": [
            {"kind": kind, "from": name, **_figures(w)} for kind, name, _, w in figures
        ],
        "looks_better": better,
        "floors": {(kind, name): labels for kind, name, labels in found if kind != HEADS},
    }  # fmt: skip


def usable(predicted: Predictions) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The features of the kept videos that could be decoded, [n, D] by modality, and these videos, int64 [n]."""
    if predicted.kept is None or not predicted.features:
        return {}, np.empty(0, np.int64)
    good = np.logical_and.reduce([np.isfinite(x).all(1) for x in predicted.features.values()])
    return {name: x[good] for name, x in predicted.features.items()}, predicted.kept[good]


def raw_of(predicted: Predictions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The raw pixels and spectrograms of some decodable videos, int64 [n]; None if they were not requested."""
    if predicted.raw_pixels is None or predicted.raw_spectrograms is None:
        return None
    decoded = np.flatnonzero(predicted.labels["joint"][:, 0] >= 0)
    at = np.searchsorted(decoded, rows)
    return predicted.raw_pixels[at], predicted.raw_spectrograms[at]


def with_floors(table: ClusteringTable, found: dict[str, Any], ids: np.ndarray | None, kept: np.ndarray) -> Any:
    """The table with rows for the baselines of `worth_of_labels`, which are moved out of `found`."""
    floors: dict[str, list[Any]] = {}
    for (kind, name), labels in found.pop("floors").items():
        classes = None if ids is None or not (ids >= 0).any() else ids[kept]
        floors.setdefault(kind, []).append((name, head_figures(0, labels, classes, table.clusters)))
    return replace(table, floors=floors)


def worth_lines(found: Mapping[str, Any], weights: list[str]) -> list[str]:
    """The measures as sentences.

    Args:
        found: the result of `worth_of_labels`.
        weights: the run's `labelling.modality_weights`.
    """
    rows = {(row["kind"], row["from"]): row for row in found["labellings"]}
    parts = [f"{kind} {name} {100 * row['predicted']:.0f}" for (kind, name), row in rows.items()]
    lines = [f"how well each modality predicts the labels of other videos, mean AMI in %: {', '.join(parts)}"]
    if (agreement := found["agreement"]) is not None:
        stable = found["stability"]
        rest = "" if stable is None else f"; of the joint labels in two augmented passes {stable:.0%}"
        lines.append(f"agreement (AMI) of the labels from video with those from audio {agreement:.0%}{rest}")
    if found["looks_better"]:
        kind, name = max(found["looks_better"], key=lambda pair: rows[tuple(pair)]["predicted"])
        of = f"raw {name}" if kind == RAW else {BOTH: "both modalities"}.get(name, name)
        figures = f"{100 * rows[kind, name]['predicted']:.0f} against {100 * rows[HEADS, 'joint']['predicted']:.0f}"
        lines.append(
            f"warning: k-means of {of} looks better than these labels ({figures}): train longer, or start from "
            "pretrained encoders"
        )
    return lines + [line for line in [weak_line(found["repeats"], weights)] if line]


def _figures(found: Worth) -> dict[str, Any]:
    values = asdict(found)
    return {"predicted": found.predicted, "by_modality": values["by_modality"], **(values["metrics"] or {})}
