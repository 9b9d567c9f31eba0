"""What the heads themselves say of the videos at a labelling: whether the modalities agree, and whether clusters died.

The transport gives every cluster its videos even where a model has collapsed, so that is seen in the heads' own most
probable clusters, not in the labels that they are given.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..metrics.information import entropy, normalised_and_adjusted_information
from .sinkhorn import joint_evidence

ByModality = dict[str, torch.Tensor]

MIN_SPREAD = 0.25
"""A head has collapsed whose videos spread over fewer than this share of the clusters that they were asked to fill."""

ALONE = 1.1
"""... or over fewer clusters than this: of few clusters a quarter is less than one."""

ONE = 0.9
"""... or of whose videos both modalities, each alone, put more than this share into one and the same cluster."""

LOST = 0.05
"""... or whose labels have less AMI than this with those of the labelling before."""

FEW_CLUSTERS, ONE_CLUSTER, UNRELATED = "few clusters", "one cluster", "unrelated labels"


@dataclass
class Opinion:
    """One head's own labels, the most probable cluster of every video."""

    spread: float
    """Clusters that the joint labels are spread over: the exponential of the entropy of their sizes, 1 to K."""
    agreement: float | None
    """AMI of the labels by video alone and by audio alone; None where the head does not label by two modalities."""
    together: float | None
    """Share of the videos that both modalities put into one and the same cluster, the largest such."""


def opinion(
    blocks: Iterable[ByModality],
    clusters: int,
    apart: bool,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
    numbering: torch.Tensor | None = None,
) -> Opinion:
    """Of one head.

    Args:
        blocks: logits [b, K] by modality of all videos, block by block.
        clusters: K.
        apart: whether the modalities are labelled each alone too.
        all_reduce: sums a tensor over the processes that hold some of the videos each.
        numbering: int64 [K], the audio's cluster that is cluster k of the video; None where the numbers are common.
    """
    sizes = torch.zeros(clusters, dtype=torch.int64)
    pairs = torch.zeros(clusters**2 if apart else 0, dtype=torch.int64)
    for logits in blocks:
        if apart:
            video, audio, *others = logits.values()
            audio = audio if numbering is None else audio[:, numbering.to(audio.device)]
            joint = joint_evidence(video, audio, *others)
            pairs += torch.bincount(video.argmax(1) * clusters + audio.argmax(1), minlength=clusters**2).cpu()
        else:
            joint = next(iter(logits.values()))
        sizes += torch.bincount(joint.argmax(1), minlength=clusters).cpu()
    sizes = all_reduce(sizes)
    agreement = together = None
    if apart:
        table = all_reduce(pairs).reshape(clusters, clusters).numpy()
        agreement = adjusted_information(table)
        together = float(np.diag(table).max() / max(1, table.sum()))
    return Opinion(spread_of(sizes.numpy()), agreement, together)


def spread_of(sizes: np.ndarray) -> float:
    """Clusters that videos are spread over, from the sizes [K]: the exponential of their entropy; 0 for no videos."""
    return math.exp(entropy(sizes)) if sizes.sum() else 0.0


def adjusted_information(table: np.ndarray) -> float:
    """AMI of two labellings from their counts [K, C]; 0, not 1, where one of them is a single cluster: two labellings
    of one cluster agree, and say nothing."""
    table = table[table.any(1)][:, table.any(0)]
    return 0.0 if table.size == 0 or 1 in table.shape else float(normalised_and_adjusted_information(table)[1])


def collapse(opinion: Opinion, asked: float, ami: float | None) -> str:
    """Which way a head has collapsed; empty where it has not.

    Args:
        opinion: the head's.
        asked: clusters that the sizes asked for spread over.
        ami: of its labels with those of the labelling before; None for the first.
    """
    if asked < 2:
        return ""
    if opinion.together is not None and opinion.together > ONE:
        return ONE_CLUSTER
    if opinion.spread < max(ALONE, MIN_SPREAD * asked):
        return FEW_CLUSTERS
    return UNRELATED if ami is not None and ami < LOST else ""
