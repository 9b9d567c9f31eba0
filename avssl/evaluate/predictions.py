"""One deterministic pass over a split: what each modality says of every video."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from ..clips.dataset import Batch, ClipDataset, Failure
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.device import autocast
from ..models import MultiStream
from ..selflabel.labeller import evidence
from .centre_clips import centre_clips

GREY = 32  # px, side of the pictures for the raw-pixel floor


@dataclass
class Predictions:
    """Of N videos by H heads; a video that could not be decoded has label -1 and confidence NaN.

    `labels` int32 and `confidence` float32, [N, H] for each of "joint", "video" and "audio": argmax_k of p_v·p_a, p_v
    and p_a (spec §6), and the probability of that label, for joint after normalisation over clusters. A modality that
    the model does not label alone is not there; of a single one, joint is its own.
    """

    labels: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    failures: list[Failure]
    raw_pixels: np.ndarray | None = None
    """float32 [N, T, 32, 32], grey, where asked for"""
    raw_spectrograms: np.ndarray | None = None
    """float32 [N, mels, frames], where asked for"""
    sums: np.ndarray | None = None
    """float64 [K, D], where asked for: each video's features, of length 1 by modality and side by side, summed by the
    joint label of a head"""
    counts: np.ndarray | None = None
    """int64 [K]: the videos of each sum"""
    score: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """float32 [N]: how far the modalities are of one opinion, see `agreement_score`; NaN where there is no label"""


@torch.no_grad()
def predict(
    model: MultiStream,
    dataset: ClipDataset,
    config: ClipConfig,
    device: torch.device,
    precision: str = "auto",
    workers: int = 0,
    raw: bool = False,
    summed: int | None = None,
    modalities: Sequence[str] | None = None,
    text: str = "labelling",
) -> Predictions:
    """Labels of every video of `dataset` from one centre clip each, in evaluation mode; with `summed`, the features'
    sums by that head's clusters. `modalities`: what to label by, of what the model encodes; default all. `text` is
    beside the progress bar; empty is none."""
    model.eval()
    transform = DeviceTransform(config, device)
    videos = len(dataset)
    labels: dict[str, np.ndarray] = {}
    confidence: dict[str, np.ndarray] = {}
    failures: list[Failure] = []
    pixels: dict[int, np.ndarray] = {}
    spectrograms: dict[int, np.ndarray] = {}
    result = Predictions(labels, confidence, failures, score=np.full(videos, np.nan, np.float32))
    for batch in centre_clips(dataset, device, workers, text, failures):
        clips = transform(batch, None if raw else modalities or list(model.encoders))
        with autocast(device, precision):
            features = model.encode(clips)
        logits = cluster_logits(model, features)
        found = _labels(model, logits)
        result.score[batch.index.numpy()] = agreement_score(logits).cpu().numpy()
        if summed is not None:
            side = torch.cat([F.normalize(x.float()) for x in features.values()], 1).double().cpu().numpy()
            if result.sums is None or result.counts is None:
                clusters = model.clusters
                result.sums, result.counts = np.zeros((clusters, side.shape[1])), np.zeros(clusters, np.int64)
            joint = found["joint"][0][summed].cpu().numpy()
            np.add.at(result.sums, joint, side)
            np.add.at(result.counts, joint, 1)
        for name, (best, sure) in found.items():
            if name not in labels:
                labels[name] = np.full((videos, len(best)), -1, np.int32)
                confidence[name] = np.full((videos, len(best)), np.nan, np.float32)
            labels[name][batch.index] = best.T.cpu().numpy()
            confidence[name][batch.index] = sure.T.cpu().numpy()
        if raw:
            for i, grey, log_mel in zip(batch.index.tolist(), _grey(batch), clips["audio"][:, 0].cpu(), strict=True):
                pixels[i], spectrograms[i] = grey, log_mel.numpy()
    if raw and pixels:
        result.raw_pixels = np.stack([pixels[i] for i in sorted(pixels)])
        result.raw_spectrograms = np.stack([spectrograms[i] for i in sorted(spectrograms)])
    return result


def head_labels(
    model: MultiStream, clips: dict[str, torch.Tensor], device: torch.device, precision: str
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Labels int64 [H, B] and their probability of clips, by evidence: joint, and each modality that is labelled alone.

    Call it in evaluation mode, without gradients.
    """
    with autocast(device, precision):
        features = model.encode(clips)
    return _labels(model, cluster_logits(model, features))


def cluster_logits(model: MultiStream, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Features [B, D] by modality, of any precision → logits float32 [H, B, K], whatever autocast says.

    bfloat16 has three digits: of two clusters that are nearly as likely its rounding chooses.
    """
    features = {name: x.float() for name, x in features.items()}
    with torch.autocast(next(iter(features.values())).device.type, enabled=False):
        return model.cluster(features)


def agreement_score(logits: dict[str, torch.Tensor]) -> torch.Tensor:
    """float [B]: log Σ_k p_v·p_a, the mean over heads, of logits [H, B, K] by modality: high where both modalities are
    sure of one cluster. Of a single modality log Σ_k p². At most 0."""
    return evidence(logits).logsumexp(-1).mean(0)


def _labels(model: MultiStream, logits: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    alone = {} if model.sharing == "concat" else {name: z.float().log_softmax(-1) for name, z in logits.items()}
    found = {}
    for name, log_p in {"joint": evidence(logits), **alone}.items():
        best = log_p.softmax(-1).max(-1)
        found[name] = best.indices, best.values
    return found


def _grey(batch: Batch) -> np.ndarray:
    """float32 [B, T, 32, 32]"""
    grey = batch.clips["video"].float().mean(-1)
    return torch.nn.functional.interpolate(grey, size=(GREY, GREY), mode="area").numpy()
