"""The weight of each modality in the joint evidence, estimated without classes (`labelling.modality_weights=auto`).

One modality can harm the other in two ways. First, its log probabilities may have a larger spread, because its features
are easier to memorise, so that it outvotes the other. Each modality's evidence is therefore scaled to the same spread.
Second, it may be uninformative. If features form clusters, k-means finds the same ones in each half of the videos,
better than in noise of the same covariance (`metrics.repeatability`). A modality whose clusters repeat much less than
the other's loses its weight, unless the other predicts it (`metrics.relatedness`), because with few videos, clusters of
many features do not repeat. No measure uses the heads' confidence on their training videos, because a head that has
memorised noise is confident too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from ..core.collectives import broadcast_from_rank0, gather, gather_sizes, rank
from ..metrics.relatedness import relatedness
from ..metrics.repeatability import repeatability

ByModality = dict[str, torch.Tensor]

SAMPLED = 2000
"""Most videos for the repetitions of k-means."""

SILENT, FULL = 0.1, 0.4
"""A modality whose repeatability is below `SILENT` times the best one's has weight 0; from `FULL` times on it has its
full weight; in between, the weight grows linearly."""

NOTHING = 0.03
"""If no modality's repeatability exceeds this, none is more reliable than the others, and all keep their weight."""

RELATED = 4.0
"""From this `metrics.relatedness` on, two modalities are related, so that neither is noise."""

LITTLE = 0.25
"""A modality is unreliable if its repeatability is below this times the other's."""

SMOOTHING = 0.5
"""Fraction of the previous pass's weights in the new ones."""


def repeatabilities(
    index: torch.Tensor, features: ByModality, clusters: int, videos: int, seed: int
) -> dict[str, float]:
    """`repeatability` of each modality, from at most `SAMPLED` videos, the same for any number of processes.

    If two modalities are related, each value is at least `LITTLE` times the other's, which gives half of the weight.

    The first process computes the values from the features of all processes.

    Args:
        index: the videos of this process, int64 [n].
        features: float [n, D] by modality.
        clusters: K.
        videos: number of videos of all processes, decodable or not.
        seed: random seed of the draw of videos and of k-means.
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
    """Update `weights`, float32 [H] by modality, in place.

    Args:
        weights: the weights of the previous pass.
        heads: numbers of heads, each with its logits [b, K] by modality, block by block.
        repeats: `repeatability` by modality.
        kept: fraction of the previous weights in the new ones.
        all_reduce: sums a tensor over the processes, each of which has some of the videos.
    """
    for head, blocks in heads:
        sums, videos = evidence_sums(blocks, list(repeats))
        total = all_reduce(torch.tensor([*sums.values(), videos], dtype=torch.float64)).tolist()
        spreads = {name: x / max(1.0, total[-1]) for name, x in zip(sums, total[:-1], strict=True)}
        for name, weight in weights_from(repeats, spreads).items():
            weights[name][head] = kept * weights[name][head] + (1 - kept) * weight


def evidence_sums(blocks: Iterable[ByModality], modalities: Sequence[str]) -> tuple[dict[str, float], int]:
    """From one head's logits [b, K] by modality, block by block: for each modality, the sum over videos of the
    deviation of log p over the clusters; and the number of videos."""
    sums: dict[str, torch.Tensor | float] = dict.fromkeys(modalities, 0.0)
    videos = 0
    for logits in blocks:
        deviations = {name: logits[name].float().log_softmax(-1).std(-1, unbiased=False) for name in modalities}
        for name, deviation in deviations.items():
            sums[name] += deviation.double().sum()  # on the device until the end
        videos += len(deviations[modalities[0]])
    return {name: float(x) for name, x in sums.items()}, videos


def weights_from(repeats: Mapping[str, float], spreads: Mapping[str, float]) -> dict[str, float]:
    """The weight of each modality; they sum to the number of modalities.

    Args:
        repeats: `repeatability` by modality.
        spreads: mean deviation of log p over the clusters, by modality.

    If no modality's labels repeat, only the spreads matter.
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
