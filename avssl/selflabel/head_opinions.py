"""The heads' own labels of the videos at a labelling pass: do the modalities agree, and have clusters died?

The transport fills every cluster, even where a model has collapsed. A collapse therefore shows in the heads' own most
probable clusters, not in the labels from the transport.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..metrics.information import entropy, normalised_and_adjusted_information
from .sinkhorn import joint_evidence

ByModality = dict[str, torch.Tensor]

MIN_SPREAD_SHARE = 0.25
"""A head has collapsed if its videos spread over less than this share of the clusters that they should fill,"""

MIN_CLUSTERS = 1.1
"""or over fewer clusters than this (of few clusters, a quarter is less than one),"""

MAX_TOGETHER = 0.9
"""or if both modalities, each alone, put more than this share of the videos into one and the same cluster,"""

MIN_AMI = 0.05
"""or if its labels have a lower AMI than this with those of the labelling pass before."""

FEW_CLUSTERS, ONE_CLUSTER, UNRELATED = "few clusters", "one cluster", "unrelated labels"


@dataclass
class Opinion:
    """Figures of one head's own labels, which are the most probable cluster of every video."""

    spread: float
    """Number of clusters that the joint labels spread over: the exponential of the entropy of their sizes, 1 to K."""
    agreement: float | None
    """AMI of the labels by video alone and by audio alone; None without two modalities."""
    together: float | None
    """Largest share of the videos that both modalities put into one and the same cluster; None as above."""


def opinion(
    blocks: Iterable[ByModality],
    clusters: int,
    per_modality: bool,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
    numbering: torch.Tensor | None = None,
    weights: ByModality | None = None,
) -> Opinion:
    """The opinion of one head.

    Args:
        blocks: logits [b, K] by modality of all videos, block by block.
        clusters: K.
        per_modality: label by each modality alone too.
        all_reduce: sums a tensor over the processes, each of which holds some of the videos.
        numbering: int64 [K], the audio cluster that is cluster k of the video; None where they have the same numbers.
        weights: of each modality in the joint evidence, scalars; None: all are 1.
    """
    sizes = torch.zeros(clusters, dtype=torch.int64)
    pairs = torch.zeros(clusters**2 if per_modality else 0, dtype=torch.int64)
    for logits in blocks:
        if per_modality:
            if numbering is not None:
                logits = logits | {"audio": logits["audio"][:, numbering.to(logits["audio"].device)]}
            video, audio, *_ = logits.values()
            joint = joint_evidence(
                *logits.values(), weights=None if weights is None else [weights[name] for name in logits]
            )
            pairs += torch.bincount(video.argmax(1) * clusters + audio.argmax(1), minlength=clusters**2).cpu()
        else:
            joint = next(iter(logits.values()))
        sizes += torch.bincount(joint.argmax(1), minlength=clusters).cpu()
    sizes = all_reduce(sizes)
    agreement = together = None
    if per_modality:
        table = all_reduce(pairs).reshape(clusters, clusters).numpy()
        agreement = adjusted_information(table)
        together = float(np.diag(table).max() / max(1, table.sum()))
    return Opinion(spread_of(sizes.numpy()), agreement, together)


def spread_of(sizes: np.ndarray) -> float:
    """The number of clusters that videos spread over: exp of the entropy of `sizes` [K]; 0 without videos."""
    return math.exp(entropy(sizes)) if sizes.sum() else 0.0


def adjusted_information(table: np.ndarray) -> float:
    """The AMI of two labellings from their table of counts [K, C]. It is 0, not 1, where one of them has a single
    cluster, because such labels carry no information."""
    table = table[table.any(1)][:, table.any(0)]
    return 0.0 if table.size == 0 or 1 in table.shape else float(normalised_and_adjusted_information(table)[1])


def collapse(opinion: Opinion, expected_spread: float, ami: float | None) -> str:
    """The kind of collapse of a head; empty where it has not collapsed.

    Args:
        opinion: of the head.
        expected_spread: the number of clusters that the requested sizes spread over.
        ami: of its labels with those of the labelling pass before; None for the first pass.
    """
    if expected_spread < 2:
        return ""
    if opinion.together is not None and opinion.together > MAX_TOGETHER:
        return ONE_CLUSTER
    if opinion.spread < max(MIN_CLUSTERS, MIN_SPREAD_SHARE * expected_spread):
        return FEW_CLUSTERS
    return UNRELATED if ami is not None and ami < MIN_AMI else ""
