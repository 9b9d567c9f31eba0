"""One deterministic pass over a split: the labels of every video from each modality and from both."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from ..clips.dataset import Batch, ClipDataset, Failure
from ..clips.stored_clips import StoredClips
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.device import autocast
from ..models import MultiStream
from ..selflabel.labeller import evidence
from .centre_clips import centre_clips

GREY = 32  # side of the grey frames for k-means on raw pixels, px


@dataclass
class Predictions:
    """The labels of N videos by H heads. A video that could not be decoded has label -1 and confidence NaN.

    `labels` int32 and `confidence` float32, both [N, H], are by evidence: "joint", "video" and "audio". A label is
    argmax_k of p_v·p_a, p_v or p_a; its confidence is its probability, for joint after normalisation over clusters.
    With `MultiStream.modality_weights`, joint is argmax of the product of powers. A modality from which the model
    cannot label is missing. With a single modality, joint is the label from it.
    """

    labels: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    failures: list[Failure]
    raw_pixels: np.ndarray | None = None
    """Grey frames, float32 [N, T, 32, 32], if requested."""
    raw_spectrograms: np.ndarray | None = None
    """Spectrograms, float32 [N, mels, frames], if requested."""
    sums: np.ndarray | None = None
    """Sums of the videos' features over the joint labels of a head, float64 [K, D], if requested. Features of each
    modality are scaled to unit length and concatenated."""
    counts: np.ndarray | None = None
    """Number of videos in each sum, int64 [K]."""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """Features of the videos `kept`, float32 [n, D] by modality, if requested; NaN for a failed video."""
    kept: np.ndarray | None = None
    """The videos whose features are kept, int64 [n]."""
    score: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """The agreement of the modalities (see `agreement_score`), float32 [N]; NaN without a label."""


@torch.no_grad()
def predict(
    model: MultiStream,
    dataset: ClipDataset | StoredClips,
    config: ClipConfig,
    device: torch.device,
    precision: str = "auto",
    workers: int = 0,
    raw: bool = False,
    summed: int | None = None,
    modalities: Sequence[str] | None = None,
    text: str = "labelling",
    kept: np.ndarray | None = None,
) -> Predictions:
    """Label every video from its centre clip, in evaluation mode.

    Args:
        model: encoders and heads.
        dataset: the videos, or their stored features.
        config: the clips.
        device, precision: where and in which number format to encode.
        workers: number of decoding processes.
        raw: also return grey frames and spectrograms.
        summed: also sum the features over the clusters of this head.
        modalities: the modalities to label from; default: all that the model encodes.
        text: name of the progress bar; empty for none.
        kept: also return the features of these videos, int64 [n], ascending.
    """
    model.eval()
    transform = DeviceTransform(config, device)
    failures: list[Failure] = []
    collector = Collector(len(dataset), model.clusters, summed, kept)
    names = modalities or list(model.encoders)
    for batch in centre_clips(dataset, device, workers, text, failures):
        wanted = Wanted(raw, summed is not None, kept)
        collector.add(batch_labels(model, batch, transform, device, precision, names, wanted))
    return collector.result(failures)


@dataclass(frozen=True)
class Wanted:
    """What to compute of each video beside its labels."""

    raw: bool = False
    """Grey frames and spectrograms."""
    unit: bool = False
    """The features to sum: of each modality scaled to unit length, and concatenated."""
    kept: np.ndarray | None = None
    """The videos whose features are kept, int64 [n], ascending."""


@torch.no_grad()
def batch_labels(
    model: MultiStream,
    batch: Batch,
    transform: DeviceTransform,
    device: torch.device,
    precision: str,
    modalities: Sequence[str],
    wanted: Wanted,
) -> dict[str, np.ndarray]:
    """What a pass computes of a batch of B videos, as arrays for a `Collector`.

    `rows` int64 [B], `score` float32 [B]; by evidence, `label_joint` int32 and `confidence_joint` float32, [B, H]; if
    wanted, `unit` float32 [B, D], `kept` int64 [b] and their features `kept_video` float32 [b, D], and `pixels` and
    `spectrograms`.
    """
    clips = transform(batch, None if wanted.raw else list(modalities))
    features = features_of(model, batch, clips, device, precision)
    logits = cluster_logits(model, features)
    rows = batch.index.numpy().astype(np.int64)
    arrays: dict[str, np.ndarray] = {"rows": rows}
    arrays |= {"score": agreement_score(logits, model.modality_weights).cpu().numpy().astype(np.float32)}
    for name, (best, probability) in _labels(model, logits).items():
        arrays[f"label_{name}"] = best.T.cpu().numpy().astype(np.int32)
        arrays[f"confidence_{name}"] = probability.T.cpu().numpy().astype(np.float32)
    if wanted.unit:
        arrays["unit"] = torch.cat([F.normalize(x.float()) for x in features.values()], 1).cpu().numpy()
    if wanted.kept is not None:
        local = np.isin(rows, wanted.kept)
        arrays["kept"] = rows[local]
        arrays |= {f"kept_{name}": x.float().cpu().numpy()[local] for name, x in features.items()}
    if wanted.raw:
        arrays |= {"pixels": _grey(batch), "spectrograms": clips["audio"][:, 0].cpu().numpy()}
    return arrays


class Collector:
    """Collects the arrays of `batch_labels`, of batches or files of videos in ascending order.

    Args:
        videos: the number of videos, N.
        clusters: the number of clusters, K.
        summed: sum the features over the clusters of this head; None: do not.
        kept: the videos whose features are kept.
    """

    def __init__(self, videos: int, clusters: int, summed: int | None = None, kept: np.ndarray | None = None):
        self.videos, self.clusters, self.summed = videos, clusters, summed
        self.found = Predictions({}, {}, [], kept=kept, score=np.full(videos, np.nan, np.float32))
        self.raw: dict[str, list[np.ndarray]] = {"pixels": [], "spectrograms": []}

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        """Add the arrays of some videos."""
        found, rows = self.found, arrays["rows"]
        found.score[rows] = arrays["score"]
        for name, x in arrays.items():
            kind, _, of = name.partition("_")
            if kind == "label":
                self._place(found.labels, of, rows, x, -1)
            elif kind == "confidence":
                self._place(found.confidence, of, rows, x, np.nan)
            elif kind == "kept" and of and found.kept is not None:
                if of not in found.features:
                    found.features[of] = np.full((len(found.kept), x.shape[1]), np.nan, np.float32)
                found.features[of][np.searchsorted(found.kept, arrays["kept"])] = x
            elif name in self.raw:
                self.raw[name].append(x)
        if self.summed is not None:
            unit, joint = arrays["unit"].astype(np.float64), arrays["label_joint"][:, self.summed]
            if found.sums is None or found.counts is None:
                found.sums = np.zeros((self.clusters, unit.shape[1]))
                found.counts = np.zeros(self.clusters, np.int64)
            np.add.at(found.sums, joint, unit)  # video after video, so that the size of a batch changes no digit
            np.add.at(found.counts, joint, 1)

    def _place(self, table: dict[str, np.ndarray], name: str, rows: np.ndarray, x: np.ndarray, empty: float) -> None:
        if name not in table:
            table[name] = np.full((self.videos, x.shape[1]), empty, x.dtype)
        table[name][rows] = x

    def result(self, failures: list[Failure]) -> Predictions:
        """The predictions of all videos, with those that failed."""
        found = self.found
        found.failures = failures
        if self.raw["pixels"]:
            found.raw_pixels = np.concatenate(self.raw["pixels"])
            found.raw_spectrograms = np.concatenate(self.raw["spectrograms"])
        return found


def features_of(
    model: MultiStream, batch: Batch, clips: dict[str, torch.Tensor], device: torch.device, precision: str
) -> dict[str, torch.Tensor]:
    """The features for the heads, [B, D] by modality: of clips, or the stored features of the batch."""
    with autocast(device, precision):
        if batch.features:
            return model.adapt({name: x.to(device) for name, x in batch.features.items()})
        return model.encode(clips)


def head_labels(
    model: MultiStream, clips: dict[str, torch.Tensor], device: torch.device, precision: str
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Labels of clips, int64 [H, B], and their probabilities, by evidence: joint, and from each modality alone.

    Call it in evaluation mode and without gradients.
    """
    with autocast(device, precision):
        features = model.encode(clips)
    return labels_of(model, features)


def labels_of(model: MultiStream, features: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The same from features [B, D] by modality."""
    return _labels(model, cluster_logits(model, features))


def cluster_logits(model: MultiStream, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits float32 [H, B, K] of features [B, D] by modality, in float32 even under autocast.

    bfloat16 has three digits, so its rounding would decide between two almost equally likely clusters.
    """
    features = {name: x.float() for name, x in features.items()}
    with torch.autocast(next(iter(features.values())).device.type, enabled=False):
        return model.cluster(features)


def weighted_evidence(logits: dict[str, torch.Tensor], weights: dict[str, torch.Tensor] | None) -> torch.Tensor:
    """The joint evidence, float [H, B, K], from logits [H, B, K] by modality, with a weight per head, [H]."""
    by_head = weights and {name: x.to(next(iter(logits.values())).device)[:, None, None] for name, x in weights.items()}
    return evidence(logits, by_head)


def agreement_score(logits: dict[str, torch.Tensor], weights: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """The agreement of the modalities: log Σ_k p_v·p_a, mean over heads, float [B], at most 0.

    It is high if both modalities are confident of the same cluster. For a single modality it is log Σ_k p².

    Args:
        logits: logits [H, B, K] by modality.
        weights: the powers of p_v and p_a, [H] by modality; None: all are 1.
    """
    return weighted_evidence(logits, weights).logsumexp(-1).mean(0)


def _labels(model: MultiStream, logits: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    alone = {} if model.sharing == "concat" else {name: z.float().log_softmax(-1) for name, z in logits.items()}
    labels = {}
    for name, log_p in {"joint": weighted_evidence(logits, model.modality_weights), **alone}.items():
        best = log_p.softmax(-1).max(-1)
        labels[name] = best.indices, best.values
    return labels


def _grey(batch: Batch) -> np.ndarray:
    """Small grey frames, float32 [B, T, 32, 32]."""
    grey = batch.clips["video"].float().mean(-1)
    return torch.nn.functional.interpolate(grey, size=(GREY, GREY), mode="area").numpy()
