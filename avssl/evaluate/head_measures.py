"""Measures of a run's heads without classes, from its checkpoint or from a pass over its training videos."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import ClipDataset, Pass
from ..clips.loader import load, pass_requests
from ..clips.stored_clips import StoredClips
from ..clips.transform import DeviceTransform
from ..config import LabellingConfig
from ..core.atomic import write_json
from ..core.checkpoint_file import digest
from ..core.errors import UserError
from ..core.progress import track
from ..core.untrusted import read_json
from ..metrics.head_choice import AGREEMENT, COST, STABILITY, HeadChoice, choose_head
from ..metrics.information import contingency
from ..runs.open import Source
from ..runs.stored import refuse_table, stored_clips
from ..selflabel.head_opinions import Opinion, adjusted_information, collapse, spread_of
from ..videos.index import read_index, splits, training_split
from .predictions import features_of, labels_of

FILE = "heads.json"
"""The file in a run's folder with the measures of a pass over its training videos."""

VIDEOS = 2000
"""Most training videos in such a pass."""

FRESH = 1_000_000
"""Number of the first of these passes. No run has as many labelling passes, so their clips are new."""

BATCH = 64


def chosen_head(source: Source, device: torch.device, workers: int = 0) -> HeadChoice:
    """The head that represents a model, chosen without classes (see `avssl.metrics.heads`).

    The heads of a run are measured on its training videos when it is first opened, and its folder stores the measures.
    If the videos are missing, the agreement at the last labelling pass, which the checkpoint contains, decides; for a
    run of an older version, the transport cost decides.
    """
    model = source.model
    heads = 0 if model is None else model.cluster_head_count
    if model is None or not heads:
        return HeadChoice(None)
    if source.labelling is None or not source.labeller:
        return choose_head(heads, {})
    labeller, labelling = source.labeller, source.labelling
    measures = {name: x.double().numpy() for name, x in labeller.get("measures", {}).items() if x.isfinite().all()}
    if STABILITY not in measures and heads > 1:  # a single head needs no choice
        measures |= _measured(source, heads, device, workers) or {}
    if "spread" not in measures:
        measures |= _of_labels(labeller)
    costs = labeller.get("costs")
    return choose_head(
        heads,
        {**measures, COST: None if costs is None else costs.numpy()},
        collapsed_heads(measures, asked_clusters(labelling, labeller.get("marginals"))),
    )


def agreement_choice(labels: dict[str, np.ndarray]) -> HeadChoice:
    """The head whose modalities agree most on the given videos, for weights without a run.

    Args:
        labels: labels by evidence, int [N, H], -1 for a video without one.
    """
    measures = opinions_of(labels, int(max(x.max(initial=0) for x in labels.values())) + 1)
    return choose_head(labels["joint"].shape[1], measures)


def collapsed_heads(measures: dict[str, np.ndarray], asked: np.ndarray) -> list[str]:
    """How each head has collapsed, or "" for a head that has not.

    Args:
        measures: measures by name, [H], NaN if unknown.
        asked: the number of clusters that each head should use, [H].
    """

    def value(name: str, head: int) -> float | None:
        x = measures.get(name)
        return None if x is None or not np.isfinite(x[head]) else float(x[head])

    return [
        collapse(
            Opinion(float(measures["spread"][head]), value(AGREEMENT, head), value("together", head)),
            float(asked[head]),
            value("ami", head),
        )
        for head in range(len(asked))
    ]


def asked_clusters(labelling: LabellingConfig, marginals: torch.Tensor | None) -> np.ndarray:
    """The number of clusters that each head should use, [H]: see `Labeller.asked`."""
    if marginals is None or labelling.marginal == "empirical":
        return np.full(labelling.heads, float(labelling.clusters))
    return np.array([spread_of(masses.numpy()) for masses in marginals])


def opinions_of(labels: dict[str, np.ndarray], clusters: int) -> dict[str, np.ndarray]:
    """Measures of labels, [H] each: spread, and with both modalities also agreement and togetherness.

    Args:
        labels: labels by evidence, int [N, H], -1 for a video without one.
        clusters: the number of clusters, K.
    """
    labelled = (labels["joint"] >= 0).all(1)
    joint = labels["joint"][labelled]
    measures = {"spread": np.array([spread_of(np.bincount(x, minlength=clusters)) for x in joint.T])}
    if {"video", "audio"} <= labels.keys():
        video, audio = labels["video"][labelled].astype(np.int64), labels["audio"][labelled].astype(np.int64)
        pairs = (video * clusters + audio).T
        tables = [np.bincount(x, minlength=clusters**2).reshape(clusters, clusters) for x in pairs]
        measures[AGREEMENT] = np.array([adjusted_information(table) for table in tables])
        measures["together"] = np.array([np.diag(table).max() / max(1, table.sum()) for table in tables])
    return measures


@torch.no_grad()
def labels_of_passes(
    source: Source, rows: pa.Table, device: torch.device, workers: int = 0
) -> list[dict[str, np.ndarray]]:
    """Labels of a run's videos in two passes with different augmentations, which no labelling pass used.

    Returns:
        For each pass, labels by evidence, int32 [N, H], -1 for videos that failed; empty if all videos failed.
    """
    assert source.model is not None
    assert source.data is not None
    model, names = source.model.to(device).eval(), list(source.model.encoders)
    dataset: ClipDataset | StoredClips | None = stored_clips(source, rows, names, several=True)
    if dataset is None:
        refuse_table(source, "compare two clips of a video")
        dataset = ClipDataset(rows, source.data.root, source.clip, modalities=names)
    transform = DeviceTransform(source.clip, device)
    requests = [[*pass_requests(len(dataset), BATCH, Pass.LABEL, FRESH + number)] for number in range(2)]
    passes: list[dict[str, np.ndarray]] = [{}, {}]
    batches = load(dataset, [*requests[0], *requests[1]], workers, pin=device.type == "cuda")
    for number, batch in enumerate(track(batches, "measuring heads", 2 * len(requests[0]))):
        labels = passes[number // len(requests[0])]
        if not len(batch.index):
            continue
        features = features_of(model, batch, transform(batch, names), device, source.precision)
        for name, (best, _) in labels_of(model, features).items():
            labels.setdefault(name, np.full((len(dataset), len(best)), -1, np.int32))
            labels[name][batch.index.numpy()] = best.T.cpu().numpy()
    return passes if all(passes) else []


def stability_of(passes: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The AMI of the joint labels of two passes, [H]."""
    first, second = (labels["joint"] for labels in passes)
    both = (first >= 0).all(1) & (second >= 0).all(1)
    pairs = zip(first[both].T, second[both].T, strict=True)
    return np.array([adjusted_information(contingency(*pair)) for pair in pairs])


def _of_labels(labeller: dict[str, Any]) -> dict[str, np.ndarray]:
    """The spread of a checkpoint's training labels. They come from the transport, which hides some collapses."""
    labels = labeller["labels"].numpy()
    return {"spread": np.array([spread_of(np.bincount(x[x >= 0])) for x in labels.T])}


def _measured(source: Source, heads: int, device: torch.device, workers: int) -> dict[str, np.ndarray] | None:
    """Measures from the run's training videos, or from the file of an earlier pass; None if the videos are missing."""
    assert source.model is not None
    if source.data is None:
        return None
    path = Path(source.name) / FILE
    key = [digest(source.model), source.data.index, VIDEOS]
    if (kept := _read(path, key, heads)) is not None:
        return kept
    try:
        rows = read_index(source.data.index, training_split(source.data, splits(source.data.index)))
        if rows.num_rows > VIDEOS:
            rows = rows.take(np.linspace(0, rows.num_rows - 1, VIDEOS).astype(np.int64))
        passes = labels_of_passes(source, rows, device, workers)
    except UserError:
        return None
    if not passes or not (passes[0]["joint"] >= 0).any():
        return None
    measures = opinions_of(passes[0], source.model.clusters) | {STABILITY: stability_of(passes)}
    with suppress(OSError, UserError):  # in a read-only run folder, heads are measured each time
        write_json(path, {"key": key, **measures})
    return measures


def _read(path: Path, key: list[Any], heads: int) -> dict[str, np.ndarray] | None:
    """The measures in the file; None if it is missing, damaged, or belongs to other weights or videos."""
    try:
        kept = read_json(path)
        if kept.pop("key") != key:
            return None
        measures = {name: np.array(values, dtype=float) for name, values in kept.items()}
    except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    names = {"spread", AGREEMENT, "together", STABILITY}
    valid = all(x.shape == (heads,) and np.isfinite(x).all() for x in measures.values())
    return measures if valid and {"spread", STABILITY} <= measures.keys() <= names else None
