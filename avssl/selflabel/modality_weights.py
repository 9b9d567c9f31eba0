"""How much each modality counts in the joint evidence, found without labels (`labelling.modality_weights=auto`).

Two things let one modality drag the other down. Its log probabilities may be spread wider, because its features are
easier to learn by heart, so that it outvotes the other: each modality's evidence is scaled to the same spread. And it
may tell nothing: k-means of features with clusters finds the same ones in each half of the videos, better than in noise
of the same covariance (`metrics.repeatability`). A modality whose clusters repeat much less than the other's loses its
weight, unless the other predicts it (`metrics.relatedness`): with few videos, clusters of many features do not repeat.
No figure asks the heads what they know of the videos that they were trained on: a head that has learnt noise by heart
is sure of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from ..core.collectives import broadcast_from_rank0, gather, gather_sizes, rank
from ..metrics.relatedness import relatedness
from ..metrics.repeatability import repeatability

ByModality = dict[str, torch.Tensor]

SAMPLED = 2000
"""Most videos that k-means is repeated on."""

SILENT, FULL = 0.1, 0.4
"""A modality whose labels repeat less than `SILENT` times as well as the best one's has weight 0; from `FULL` on it
has all of its weight; between them the weight grows in proportion."""

NOTHING = 0.03
"""Where no modality's clusters repeat better than this, nothing says which one to trust: all have their weight."""

RELATED = 4.0
"""From this `metrics.relatedness` on, two modalities know of each other, and neither is noise."""

LITTLE = 0.25
"""A modality says little if its labels repeat less than this times as well as the other's."""

SMOOTHING = 0.5
"""Share of the weights of the pass before that is kept."""


def repeatabilities(
    index: torch.Tensor, features: ByModality, clusters: int, videos: int, seed: int
) -> dict[str, float]:
    """`repeatability` of each modality, from at most `SAMPLED` videos, the same for any number of processes.

    Where two modalities know of each other, each is at least `LITTLE` times the other's: half of its weight.

    The first process computes it, with the features of all of them.

    Args:
        index: the videos of this process, int64 [n].
        features: float [n, D] by modality.
        clusters: K.
        videos: of all processes, whether they could be decoded or not.
        seed: of the draw of videos and of k-means.
    """
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(videos)[:SAMPLED])
    rows = torch.isin(index, drawn).nonzero().squeeze(1)
    rows = rows[index[rows].argsort()]
    sizes = gather_sizes(len(rows), torch.device("cpu"))
    sample = [gather(x[rows].float().cpu(), sizes) for x in features.values()]
    found = torch.zeros(len(sample), dtype=torch.float64)
    if rank() == 0:
        found = torch.tensor([repeatability(x.numpy(), clusters, seed) for x in sample], dtype=torch.float64)
        if len(sample) == 2 and relatedness(sample[0].numpy(), sample[1].numpy(), seed) > RELATED:
            found = found.clamp(min=LITTLE * float(found.max()))
    return dict(zip(features, broadcast_from_rank0(found).tolist(), strict=True))


def weigh_anew(
    weights: ByModality,
    heads: Iterable[tuple[int, Iterable[ByModality]]],
    repeats: Mapping[str, float],
    kept: float,
    all_reduce: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Put new weights into `weights`, float32 [H] by modality.

    Args:
        weights: those of the pass before.
        heads: numbers of heads, each with its logits [b, K] by modality, block by block.
        repeats: `repeatability` by modality.
        kept: share of the weights before that is kept.
        all_reduce: sums a tensor over the processes, each of which holds some of the videos.
    """
    for head, blocks in heads:
        sums, videos = evidence_sums(blocks, list(repeats))
        total = all_reduce(torch.tensor([*sums.values(), videos], dtype=torch.float64)).tolist()
        spreads = {name: x / max(1.0, total[-1]) for name, x in zip(sums, total[:-1], strict=True)}
        for name, weight in weights_from(repeats, spreads).items():
            weights[name][head] = kept * weights[name][head] + (1 - kept) * weight


def evidence_sums(blocks: Iterable[ByModality], modalities: Sequence[str]) -> tuple[dict[str, float], int]:
    """Of one head's logits [b, K] by modality, block by block: by modality the sum over videos of the deviation of
    log p over the clusters; and the number of videos."""
    sums = dict.fromkeys(modalities, 0.0)
    videos = 0
    for logits in blocks:
        deviations = {name: logits[name].float().log_softmax(-1).std(-1, unbiased=False) for name in modalities}
        for name, deviation in deviations.items():
            sums[name] += float(deviation.double().sum())
        videos += len(deviations[modalities[0]])
    return sums, videos


def weights_from(repeats: Mapping[str, float], spreads: Mapping[str, float]) -> dict[str, float]:
    """The weight of each modality; they sum to the number of modalities.

    Args:
        repeats: `repeatability` by modality.
        spreads: mean deviation of log p over the clusters by modality.

    Where no modality's labels repeat, only the spreads count.
    """
    best = max(repeats.values())
    gates = (
        dict.fromkeys(repeats, 1.0)
        if best < NOTHING
        else {name: min(1.0, max(0.0, (x / best - SILENT) / (FULL - SILENT))) for name, x in repeats.items()}
    )
    widest = max(spreads.values())
    raw = {name: gate / max(spreads[name], 0.05 * widest, 1e-12) for name, gate in gates.items()}
    return {name: len(raw) * x / sum(raw.values()) for name, x in raw.items()}
