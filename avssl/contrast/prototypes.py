"""Prototypes for contrast (PCL, Li et al., ICLR 2021): k-means of all embeddings, at several numbers of clusters.

    ProtoNCE = InfoNCE + mean over clusterings of  −log softmax over prototypes (<z, c> / φ_c) at the video's own
    φ_c = Σ_z ‖z − centre‖ / (n_c · log(n_c + 10)), clipped to its 10th and 90th percentile, times τ / their mean

φ is the concentration of a prototype: embeddings of a loose cluster are pulled less towards it. The released training
compares each embedding with the batch's own prototypes and a draw of others; `released_logits` has that form.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..core.collectives import gather_sizes, sum_over_processes
from ..metrics.lloyd import lloyd

NO_PROTOTYPE = -1
"""In place of a prototype's number: the video was not clustered."""

SMOOTHING = 10
"""α, which keeps the concentration of small clusters from being extreme."""

PERCENTILES = (0.1, 0.9)


class Prototypes(NamedTuple):
    """The prototypes of one clustering, the same in all processes."""

    directions: torch.Tensor
    """Centres of unit length, float32 [K, D]."""
    concentration: torch.Tensor
    """φ, float32 [K]; its mean is about the temperature."""


class Clustering(NamedTuple):
    """What `find_prototypes` returns."""

    prototypes: Prototypes
    numbers: torch.Tensor
    """The prototype of each row of this process, int64 [n]."""
    sizes: torch.Tensor
    """Rows of all processes by prototype, int64 [K], on the CPU."""
    inertia: float
    """The mean squared distance of a row to its centre."""


@dataclass
class PrototypeReport:
    """The measures of one clustering of all videos, for the log: lists by number of clusters, by modality."""

    clusters: list[int]
    """The numbers of clusters."""
    inertia: dict[str, list[float]]
    """The mean squared distance of a video's embedding, of unit length, to its centre."""
    largest: dict[str, list[float]]
    """The fraction of videos in the largest cluster."""
    empty: dict[str, list[int]]
    """The number of clusters without a video."""


@torch.no_grad()
def find_prototypes(z: torch.Tensor, clusters: int, seed: int, temperature: float) -> Clustering:
    """Cluster the embeddings of all processes, which call this together (PCL §3.3).

    Args:
        z: embeddings of this process, of unit length, float32 [n, D], on any device.
        clusters: K; fewer prototypes are found if there are fewer rows.
        seed: random seed of the first centres.
        temperature: τ, the mean of φ.

    Raises:
        ValueError: in all processes alike, for NaN or infinite values.
    """
    rows = sum(gather_sizes(len(z), z.device))
    mean = (sum_over_processes(z.sum(0, dtype=torch.float64)) / max(1, rows)).float()
    # without their mean, because rounding would hide differences that are small beside it
    found = lloyd(z - mean, min(clusters, rows), seed)
    centres = found.centres + mean
    distances, sizes = distances_to(z, centres, found.labels)
    directions = F.normalize(centres, dim=1)
    prototypes = Prototypes(directions, concentration(distances, sizes, temperature))
    return Clustering(prototypes, found.labels, sizes.long().cpu(), found.inertia / max(1, rows))


def distances_to(z: torch.Tensor, centres: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of distances ‖z − centre‖ to each centre, and the number of its rows, float64 [K], over all processes.

    Args:
        z: rows of this process, float [n, D].
        centres: float [K, D].
        numbers: the centre of each row, int64 [n].
    """
    apart = torch.cat(
        [
            (rows - centres[to]).double().norm(dim=1)
            for rows, to in zip(z.split(65_536), numbers.split(65_536), strict=True)
        ]
    )
    # on the CPU, whose additions have one order
    both = torch.zeros(2, len(centres), dtype=torch.float64)
    both.index_add_(1, numbers.cpu(), torch.stack([apart, torch.ones_like(apart)]).cpu())
    both = sum_over_processes(both.to(z.device))
    return both[0], both[1]


def concentration(distances: torch.Tensor, sizes: torch.Tensor, temperature: float) -> torch.Tensor:
    """φ of each prototype, float32 [K] (PCL eq. 12).

    A cluster of fewer than two members has no spread, and gets the largest φ. If no cluster has any, all get τ.

    Args:
        distances: sums of distances to the centres, float64 [K].
        sizes: numbers of members [K].
        temperature: τ.
    """
    phi = distances / (sizes.clamp(min=1) * (sizes + SMOOTHING).log())
    phi = torch.where(sizes > 1, phi, torch.where(sizes > 1, phi, 0).max())
    low, high = torch.quantile(phi, phi.new_tensor(PERCENTILES))
    phi = phi.clamp(low, high)
    mean = phi.mean()
    scaled = torch.where(mean > 0, phi * (temperature / mean.clamp(min=1e-300)), temperature)
    # identical members: a softmax of φ = 0 would divide by it
    return scaled.clamp(min=temperature * 1e-3).float()


def prototype_loss(unit: torch.Tensor, prototypes: Prototypes, numbers: torch.Tensor) -> torch.Tensor:
    """−log softmax(<z, c> / φ) at each embedding's own prototype, averaged over embeddings: a scalar (PCL eq. 11).

    Args:
        unit: embeddings of unit length, float [M, D].
        prototypes: K prototypes.
        numbers: the prototype of each embedding, int64 [M]; an embedding with `NO_PROTOTYPE` contributes 0.
    """
    with torch.autocast(unit.device.type, enabled=False):
        directions, phi = prototypes
        logits = unit @ (directions / phi[:, None]).T
        each = F.cross_entropy(logits, numbers, ignore_index=NO_PROTOTYPE, reduction="none")
    return each.sum() / max(1, len(unit))


def released_logits(
    unit: torch.Tensor, prototypes: Prototypes, numbers: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """The logits of PCL's released training, float [B, B + r]; row b's own prototype is column b.

    The columns are the batch's own prototypes, in its order, so that two embeddings of one cluster are each other's
    negatives, and then others.

    Args:
        unit: embeddings of unit length, float [B, D].
        prototypes: K prototypes.
        numbers: the prototype of each embedding, int64 [B].
        negatives: prototypes that no embedding of the batch has, int64 [r].
    """
    columns = torch.cat([numbers, negatives])
    return unit @ prototypes.directions[columns].T / prototypes.concentration[columns]
