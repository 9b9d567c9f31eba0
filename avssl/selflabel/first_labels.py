"""The first labels of a run, from k-means instead of untrained heads, because labels that begin as noise stay noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans

from ..core.collectives import broadcast_from_rank0, gather, gather_sizes, rank, rank_slice
from ..metrics.lloyd import lloyd
from .kmeans_labeller import together
from .labeller import ByModality, PassFeatures

MOST_VIDEOS = 50_000
"""Most videos that k-means is fitted to, drawn at random; all videos are labelled."""

STARTS = 4
"""Number of starts of k-means, of which the best is used."""

PROTOTYPES = 5
"""Prototypes per cluster, for `labelling.first=prototypes`."""


@dataclass
class Centres:
    """The centres of k-means, float32 [P, D], relative to the mean of all videos, float32 [D]; the cluster of each
    centre, int64 [P]; and the mean squared distance of a video to its nearest centre."""

    places: torch.Tensor
    middle: torch.Tensor
    clusters: torch.Tensor
    spread: float

    def logits(self, x: torch.Tensor, clusters: int) -> torch.Tensor:
        """The negative squared distance of x, float [n, D], to the nearest centre of each cluster, divided by the mean
        squared distance: float [n, K]."""
        far = torch.cdist(x - self.middle.to(x.device), self.places.to(x.device)).square()
        nearest = far.new_full((len(x), clusters), torch.inf)
        nearest.scatter_reduce_(1, self.clusters.to(x.device).expand(len(x), -1), far, "amin")
        if clusters > len(self.places):  # fewer videos than clusters: clusters without a centre are far from all videos
            nearest = nearest.where(nearest.isfinite(), far.amax(1, keepdim=True))
        return -nearest / self.spread


def first_pass(
    outputs: PassFeatures,
    method: str,
    clusters: int,
    seeds: dict[int, int],
    embed: Callable[[ByModality], ByModality] | None = None,
    weights: Callable[[int], ByModality | None] = lambda head: None,
) -> PassFeatures:
    """The features of a pass, with logits from k-means, which has another seed for each head.

    Features of each modality are scaled to unit length, multiplied by the root of their weight and concatenated, so
    that squared distances have the weights of the joint evidence. All processes call this together, and k-means uses a
    sample of all videos.

    Args:
        outputs: the features of the pass, for this process's videos.
        method: kmeans, or prototypes: `PROTOTYPES` · K centres, merged into K clusters by Ward's method.
        clusters: K.
        seeds: random seed by head; `logits` works for these heads.
        embed: maps features by modality to the vectors to cluster; by default the features themselves.
        weights: weight of each modality for a head, scalars; None if they are equal.

    Returns:
        The same videos, with logits from k-means for one modality named "both".
    """

    def place(features: ByModality) -> torch.Tensor:
        parts = features if embed is None else embed(features)
        units = [torch.nn.functional.normalize(x.float().to(outputs.device), dim=1) for x in parts.values()]
        return torch.cat(units, 1) / len(units) ** 0.5

    x = _sample(outputs, place, min(seeds.values()))
    empty = {name: part[:0] for name, part in outputs.features.items()}
    widths = {name: part.shape[1] for name, part in (empty if embed is None else embed(empty)).items()}
    scales = {head: _scale(weights(head), widths) for head in seeds}
    centres = {
        head: _fitted(_scaled(x, scales[head]), method, clusters, seed, outputs.device) for head, seed in seeds.items()
    }

    def logits(head: int, features: ByModality) -> ByModality:
        return {"both": centres[head].logits(_scaled(place(features), scales[head]), clusters)}

    return PassFeatures(outputs.index, outputs.features, logits, outputs.device)


def _scale(weights: ByModality | None, widths: Mapping[str, int]) -> torch.Tensor | None:
    """The root of the modality's weight for each clustered column, float32 [D]; None for equal weights."""
    if weights is None or len(widths) < 2:
        return None
    return torch.cat([weights[name].float().sqrt().cpu().expand(width) for name, width in widths.items()])


def _scaled(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    return x if scale is None else x * scale.to(x.device)


def _sample(outputs: PassFeatures, place: Callable[[ByModality], torch.Tensor], seed: int) -> torch.Tensor:
    """The vectors to cluster of at most `MOST_VIDEOS` videos of all processes, float32 [n, D]: the same videos in the
    same order for any number of processes."""
    sizes = gather_sizes(len(outputs.index), outputs.index.device)
    drawn = np.sort(np.random.default_rng(seed).permutation(sum(sizes))[:MOST_VIDEOS])
    start = sum(sizes[: rank()])
    rows = torch.from_numpy(drawn[(drawn >= start) & (drawn < start + sizes[rank()])] - start)
    parts = [place({name: x[block] for name, x in outputs.features.items()}).cpu() for block in rows.split(4096)]
    if not parts:  # an empty tensor of the right width
        parts = [place({name: x[:0] for name, x in outputs.features.items()}).cpu()]
    return gather(torch.cat(parts))


def _fitted(x: torch.Tensor, method: str, clusters: int, seed: int, device: torch.device) -> Centres:
    """The centres of all rows of x, float32 [N, D], which every process has. Many rows, or those of a GPU, are
    clustered by all processes together, few by scikit-learn in the first one."""
    count = min(len(x), clusters * (PROTOTYPES if method == "prototypes" else 1))
    places, groups = torch.zeros(count, x.shape[1]), torch.arange(count)
    spread = torch.zeros(1, dtype=torch.float64)
    middle = x.mean(0, dtype=torch.float64).float()  # otherwise rounding in 2 x·c − |c|² hides small differences
    if together(len(x), device):
        part = rank_slice(len(x))
        found = lloyd((x[part.start : part.stop] - middle).to(device), count, seed, STARTS)
        places, inertia = found.centres.cpu(), found.inertia
    elif rank() == 0:
        fitted = KMeans(count, n_init=STARTS, random_state=seed % 2**32).fit((x - middle).numpy())
        places, inertia = torch.from_numpy(fitted.cluster_centers_.astype(np.float32)), fitted.inertia_
    if rank() == 0:
        if count > clusters:
            joined = AgglomerativeClustering(clusters, linkage="ward").fit(places.numpy())
            groups = torch.from_numpy(joined.labels_.astype(np.int64))
        spread[0] = max(inertia / len(x), 1e-12)
    places, middle, groups = (broadcast_from_rank0(each) for each in (places, middle, groups))
    return Centres(places, middle, groups, float(broadcast_from_rank0(spread)))
