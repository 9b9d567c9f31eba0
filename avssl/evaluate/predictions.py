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
    videos = len(dataset)
    labels: dict[str, np.ndarray] = {}
    confidence: dict[str, np.ndarray] = {}
    failures: list[Failure] = []
    pixels: dict[int, np.ndarray] = {}
    spectrograms: dict[int, np.ndarray] = {}
    result = Predictions(labels, confidence, failures, kept=kept, score=np.full(videos, np.nan, np.float32))
    for batch in centre_clips(dataset, device, workers, text, failures):
        clips = transform(batch, None if raw else modalities or list(model.encoders))
        features = features_of(model, batch, clips, device, precision)
        logits = cluster_logits(model, features)
        by_evidence = _labels(model, logits)
        result.score[batch.index.numpy()] = agreement_score(logits, model.modality_weights).cpu().numpy()
        if kept is not None:
            _keep(result.features, features, kept, batch.index.numpy())
        if summed is not None:
            both = torch.cat([F.normalize(x.float()) for x in features.values()], 1).double().cpu().numpy()
            if result.sums is None or result.counts is None:
                clusters = model.clusters
                result.sums, result.counts = np.zeros((clusters, both.shape[1])), np.zeros(clusters, np.int64)
            joint = by_evidence["joint"][0][summed].cpu().numpy()
            np.add.at(result.sums, joint, both)
            np.add.at(result.counts, joint, 1)
        for name, (best, probability) in by_evidence.items():
            if name not in labels:
                labels[name] = np.full((videos, len(best)), -1, np.int32)
                confidence[name] = np.full((videos, len(best)), np.nan, np.float32)
            labels[name][batch.index] = best.T.cpu().numpy()
            confidence[name][batch.index] = probability.T.cpu().numpy()
        if raw:
            for i, grey, log_mel in zip(batch.index.tolist(), _grey(batch), clips["audio"][:, 0].cpu(), strict=True):
                pixels[i], spectrograms[i] = grey, log_mel.numpy()
    if raw and pixels:
        result.raw_pixels = np.stack([pixels[i] for i in sorted(pixels)])
        result.raw_spectrograms = np.stack([spectrograms[i] for i in sorted(spectrograms)])
    return result


def features_of(
    model: MultiStream, batch: Batch, clips: dict[str, torch.Tensor], device: torch.device, precision: str
) -> dict[str, torch.Tensor]:
    """The features for the heads, [B, D] by modality: of clips, or the stored features of the batch."""
    with autocast(device, precision):
        if batch.features:
            return model.adapt({name: x.to(device) for name, x in batch.features.items()})
        return model.encode(clips)


def _keep(table: dict[str, np.ndarray], features: dict[str, torch.Tensor], kept: np.ndarray, index: np.ndarray) -> None:
    """Put the features of the videos `index` into the rows of `table` that keep them."""
    local = np.isin(index, kept)
    for name, x in features.items():
        if name not in table:
            table[name] = np.full((len(kept), x.shape[1]), np.nan, np.float32)
        table[name][np.searchsorted(kept, index[local])] = x.float().cpu().numpy()[local]


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
