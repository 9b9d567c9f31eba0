"""How often each pair of labels occurs, over all processes. Only pairs that occur are kept, because a table of all
pairs of 10,000 clusters has 800 MB."""

from dataclasses import dataclass

import numpy as np
import torch

from ..core.collectives import gather, gather_sizes, sum_over_processes, world_size
from ..metrics.information import information_of_pairs, normalised_of_pairs


@dataclass
class PairCounts:
    """Pairs of labels (k, c) of K clusters each, as k · K + c, int64 [P] ascending, and their numbers of videos, int64
    [P]; the same in all processes."""

    codes: np.ndarray
    counts: np.ndarray
    clusters: int

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def sizes(self) -> np.ndarray:
        """The number of videos of each first label that occurs, ascending by label."""
        return _sums(self.codes // self.clusters, self.counts)

    @property
    def other_sizes(self) -> np.ndarray:
        """The same for the second label."""
        return _sums(self.codes % self.clusters, self.counts)

    def most_alike(self) -> float:
        """The largest fraction of the videos whose labels are both the same k."""
        alike = self.counts[self.codes // self.clusters == self.codes % self.clusters]
        return float(alike.max(initial=0) / max(1, self.counts.sum()))

    def normalised(self) -> float:
        """The NMI of the labels."""
        return normalised_of_pairs(self.sizes, self.other_sizes, self.counts)

    def adjusted(self) -> float:
        """The AMI of the labels. It is 0, not 1, if one of them has a single cluster, because such labels carry no
        information."""
        sizes, others = self.sizes, self.other_sizes
        if min(len(sizes), len(others)) <= 1:
            return 0.0
        return float(information_of_pairs(sizes, others, self.counts)[1])


def count_pairs(first: torch.Tensor, second: torch.Tensor, clusters: int) -> PairCounts:
    """Count the pairs of labels int64 [n] of this process's videos. All processes call this together."""
    codes, counts = (x.cpu() for x in (first * clusters + second).unique(return_counts=True))
    if world_size() > 1:
        sizes = gather_sizes(len(codes), codes.device)
        if 2 * sum(sizes) < clusters**2:
            both = gather(torch.stack([codes, counts], 1), sizes)
            codes, place = both[:, 0].unique(return_inverse=True)
            counts = torch.zeros_like(codes).index_add_(0, place, both[:, 1])
        else:
            table = torch.zeros(clusters**2, dtype=torch.int64)
            table[codes] = counts
            table = sum_over_processes(table)
            codes = table.nonzero().squeeze(1)
            counts = table[codes]
    return PairCounts(codes.numpy(), counts.numpy(), clusters)


def _sums(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    values, place = np.unique(labels, return_inverse=True)
    sums = np.zeros(len(values), dtype=np.int64)
    np.add.at(sums, place, counts)
    return sums
