"""Measures of the heads' own labels at a labelling pass, which show whether modalities agree and clusters have died.

The transport fills every cluster, even if a model has collapsed. A collapse therefore shows in the heads' own most
probable clusters, not in the labels from the transport.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..metrics.information import entropy, normalised_and_adjusted_information
from .pairs import count_pairs
from .sinkhorn import joint_evidence

ByModality = dict[str, torch.Tensor]

MIN_SPREAD_SHARE = 0.25
"""A head has collapsed if its effective number of clusters is below this fraction of the requested one,"""

MIN_CLUSTERS = 1.1
"""or below this number (with few clusters, a quarter is less than one),"""

MAX_TOGETHER = 0.9
"""or if both modalities, each alone, put more than this fraction of the videos into the same cluster,"""

MIN_AMI = 0.05
"""or if its labels have a lower AMI than this with those of the previous labelling pass."""

FEW_CLUSTERS, ONE_CLUSTER, UNRELATED = "few clusters", "one cluster", "unrelated labels"


@dataclass
class Opinion:
    """Measures of one head's own labels, which are the most probable cluster of every video."""

    spread: float
    """Effective number of clusters of the joint labels: the exponential of the entropy of their sizes, 1 to K."""
    agreement: float | None
    """AMI between the labels from video alone and from audio alone; None without two modalities."""
    together: float | None
    """Largest fraction of the videos that both modalities put into the same cluster; None without two modalities."""


def opinion(
    blocks: Iterable[ByModality],
    clusters: int,
    per_modality: bool,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
    numbering: torch.Tensor | None = None,
    weights: ByModality | None = None,
) -> Opinion:
    """The measures of one head's own labels.

    Args:
        blocks: logits [b, K] by modality of all videos, block by block.
        clusters: K.
        per_modality: also label from each modality alone.
        all_reduce: sums a tensor over the processes, each of which has some of the videos.
        numbering: int64 [K], the audio cluster that is cluster k of the video; None if both use the same numbers.
        weights: weight of each modality in the joint evidence, scalars; None: all are 1.
    """
    labels: list[torch.Tensor] = []
    alone: list[tuple[torch.Tensor, torch.Tensor]] = []
    for logits in blocks:
        if per_modality:
            if numbering is not None:
                logits = logits | {"audio": logits["audio"][:, numbering.to(logits["audio"].device)]}
            video, audio, *_ = logits.values()
            joint = joint_evidence(
                *logits.values(), weights=None if weights is None else [weights[name] for name in logits]
            )
            alone.append((video.argmax(1), audio.argmax(1)))
        else:
            joint = next(iter(logits.values()))
        labels.append(joint.argmax(1))
    none = torch.empty(0, dtype=torch.int64)
    sizes = all_reduce(torch.bincount(torch.cat(labels or [none]), minlength=clusters).cpu())
    agreement = together = None
    if per_modality:
        video, audio = (torch.cat(each) for each in zip(*(alone or [(none, none)]), strict=True))
        pairs = count_pairs(video, audio, clusters)
        agreement, together = pairs.adjusted(), pairs.most_alike()
    return Opinion(spread_of(sizes.numpy()), agreement, together)


def spread_of(sizes: np.ndarray) -> float:
    """The effective number of clusters: exp of the entropy of `sizes` [K]; 0 without videos."""
    return math.exp(entropy(sizes)) if sizes.sum() else 0.0


def adjusted_information(table: np.ndarray) -> float:
    """The AMI of two labellings from their table of counts [K, C]. It is 0, not 1, if one of them has a single cluster,
    because such labels carry no information."""
    table = table[table.any(1)][:, table.any(0)]
    return 0.0 if table.size == 0 or 1 in table.shape else float(normalised_and_adjusted_information(table)[1])


def collapse(opinion: Opinion, expected_spread: float, ami: float | None) -> str:
    """The kind of collapse of a head; empty if it has not collapsed.

    Args:
        opinion: the measures of the head's own labels.
        expected_spread: the effective number of clusters of the requested sizes.
        ami: AMI of its labels with those of the previous labelling pass; None for the first pass.
    """
    if expected_spread < 2:
        return ""
    if opinion.together is not None and opinion.together > MAX_TOGETHER:
        return ONE_CLUSTER
    if opinion.spread < max(MIN_CLUSTERS, MIN_SPREAD_SHARE * expected_spread):
        return FEW_CLUSTERS
    return UNRELATED if ami is not None and ami < MIN_AMI else ""
