"""What is known of a run's heads without classes: from its checkpoint, or from a pass over its training videos."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import ClipDataset, Pass
from ..clips.loader import load, pass_requests
from ..clips.transform import DeviceTransform
from ..config import LabellingConfig
from ..core.atomic import write_json
from ..core.errors import UserError
from ..core.progress import track
from ..core.untrusted import read_json
from ..metrics.head_choice import AGREEMENT, COST, STABILITY, HeadChoice, choose_head
from ..metrics.information import contingency
from ..runs.open import Source
from ..selflabel.head_opinions import Opinion, adjusted_information, collapse, spread_of
from ..videos.index import read_index, splits, training_split
from .features import digest
from .predictions import head_labels

FILE = "heads.json"
"""In a run's folder: what a pass over its training videos found."""

VIDEOS = 2000
"""Training videos that such a pass looks at, at most."""

FRESH = 1_000_000
"""Labelling passes with this number or more are of no training: clips that no labels were found from."""

BATCH = 64


def chosen_head(source: Source, device: torch.device, workers: int = 0) -> HeadChoice:
    """The head of a model that stands for it, see `heads`.

    A run of several heads is measured on its training videos when it is first opened; the result is kept in its
    folder. Without those videos the agreement at its last labelling decides, which its checkpoint holds, and the
    transport cost of one of an older version.
    """
    model = source.model
    heads = 0 if model is None else model.cluster_head_count
    if model is None or not heads:
        return HeadChoice(None)
    if source.labelling is None or not source.labeller:
        return choose_head(heads, {})
    labeller, labelling = source.labeller, source.labelling
    known = {name: x.double().numpy() for name, x in labeller.get("measures", {}).items() if x.isfinite().all()}
    if STABILITY not in known and heads > 1:  # an only head is not worth the passes
        known |= _measured(source, heads, device, workers) or {}
    if "spread" not in known:
        known |= _of_labels(labeller)
    costs = labeller.get("costs")
    return choose_head(
        heads,
        {**known, COST: None if costs is None else costs.numpy()},
        collapsed_heads(known, asked_clusters(labelling, labeller.get("marginals"))),
    )


def agreement_choice(labels: dict[str, np.ndarray]) -> HeadChoice:
    """By agreement on the videos at hand, for weights that come without a run: labels by evidence, int [N, H], -1 where
    a video has none."""
    known = opinions_of(labels, int(max(x.max(initial=0) for x in labels.values())) + 1)
    return choose_head(labels["joint"].shape[1], known)


def collapsed_heads(measures: dict[str, np.ndarray], asked: np.ndarray) -> list[str]:
    """Which way each head has collapsed, or "": measures [H] by name, NaN where one is not known; clusters asked for,
    [H]."""

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
    """Clusters that each head's videos were asked to spread over, [H]: see `Labeller.asked`."""
    if marginals is None or labelling.marginal == "empirical":
        return np.full(labelling.heads, float(labelling.clusters))
    return np.array([spread_of(masses.numpy()) for masses in marginals])


def opinions_of(labels: dict[str, np.ndarray], clusters: int) -> dict[str, np.ndarray]:
    """Spread, and agreement and togetherness where both modalities are labelled, [H] each, of labels by evidence, int
    [N, H], -1 where a video has none."""
    known = (labels["joint"] >= 0).all(1)
    joint = labels["joint"][known]
    found = {"spread": np.array([spread_of(np.bincount(x, minlength=clusters)) for x in joint.T])}
    if {"video", "audio"} <= labels.keys():
        video, audio = labels["video"][known].astype(np.int64), labels["audio"][known].astype(np.int64)
        pairs = (video * clusters + audio).T
        tables = [np.bincount(x, minlength=clusters**2).reshape(clusters, clusters) for x in pairs]
        found[AGREEMENT] = np.array([adjusted_information(table) for table in tables])
        found["together"] = np.array([np.diag(table).max() / max(1, table.sum()) for table in tables])
    return found


@torch.no_grad()
def labels_of_passes(
    source: Source, rows: pa.Table, device: torch.device, workers: int = 0
) -> list[dict[str, np.ndarray]]:
    """Labels int32 [N, H] by evidence, -1 for videos that failed, of a run's videos in two passes that are augmented
    differently, and as no labelling was."""
    assert source.model is not None
    assert source.data is not None
    model, names = source.model.to(device).eval(), list(source.model.encoders)
    dataset = ClipDataset(rows, source.data.root, source.clip, modalities=names)
    transform = DeviceTransform(source.clip, device)
    requests = [[*pass_requests(len(dataset), BATCH, Pass.LABEL, FRESH + number)] for number in range(2)]
    found: list[dict[str, np.ndarray]] = [{}, {}]
    batches = load(dataset, [*requests[0], *requests[1]], workers, pin=device.type == "cuda")
    for number, batch in enumerate(track(batches, "measuring heads", 2 * len(requests[0]))):
        labels = found[number // len(requests[0])]
        if not len(batch.index):
            continue
        for name, (best, _) in head_labels(model, transform(batch, names), device, source.precision).items():
            labels.setdefault(name, np.full((len(dataset), len(best)), -1, np.int32))
            labels[name][batch.index.numpy()] = best.T.cpu().numpy()
    return found if all(found) else []


def stability_of(passes: list[dict[str, np.ndarray]]) -> np.ndarray:
    """AMI of the joint labels of two passes, [H]."""
    one, other = (labels["joint"] for labels in passes)
    both = (one >= 0).all(1) & (other >= 0).all(1)
    pairs = zip(one[both].T, other[both].T, strict=True)
    return np.array([adjusted_information(contingency(*pair)) for pair in pairs])


def _of_labels(labeller: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the training labels of a checkpoint tell: those of the transport, which hides some collapses."""
    labels = labeller["labels"].numpy()
    return {"spread": np.array([spread_of(np.bincount(x[x >= 0])) for x in labels.T])}


def _measured(source: Source, heads: int, device: torch.device, workers: int) -> dict[str, np.ndarray] | None:
    """From the run's training videos, or the file that an earlier pass over them left; None where they are gone."""
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
    found = opinions_of(passes[0], source.model.clusters) | {STABILITY: stability_of(passes)}
    with suppress(OSError, UserError):  # a run that may only be read: measured anew each time
        write_json(path, {"key": key, **found})
    return found


def _read(path: Path, key: list[Any], heads: int) -> dict[str, np.ndarray] | None:
    """What such a file holds; None for one that is missing, damaged, or of other weights or videos."""
    try:
        kept = read_json(path)
        if kept.pop("key") != key:
            return None
        found = {name: np.array(values, dtype=float) for name, values in kept.items()}
    except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    names = {"spread", AGREEMENT, "together", STABILITY}
    whole = all(x.shape == (heads,) and np.isfinite(x).all() for x in found.values())
    return found if whole and {"spread", STABILITY} <= found.keys() <= names else None
