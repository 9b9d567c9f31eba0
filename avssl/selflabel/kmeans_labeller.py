"""Labels from k-means instead of transport: DeepCluster (Caron et al. 2018) and XDC (Alwassel et al. 2020)."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F

from ..core.collectives import broadcast_from_rank0, gather, gather_sizes, rank, sum_over_processes
from ..metrics.lloyd import lloyd
from ..metrics.neighbours import unit
from .alignment import align, best_permutation, common_numbering
from .labeller import UNLABELLED, Labeller, PassFeatures
from .memory import ByModality
from .sinkhorn import Transport

TOGETHER_ABOVE = 20_000
"""Number of videos above which all processes compute k-means together."""


class KMeansLabeller(Labeller):
    """Labels from k-means on features of unit length, concatenated for two modalities. Each head has its own seed.

    New clusters get the numbers of the old clusters that they agree with best (a linear assignment), so that a head's
    outputs keep their meaning; DeepCluster resets its classifier instead. The marginal of the transport is not used.

    Few videos without a GPU are clustered by scikit-learn in the first process, others by all processes together.
    """

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        index = outputs.index - self.rows.start
        labels, cost = self.cluster(outputs.features, head, index, self.labels, outputs.device)
        self.labels[index, head] = labels
        return Transport(labels.long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def cluster(
        self, features: ByModality, head: int, index: torch.Tensor, table: torch.Tensor, device: torch.device
    ) -> tuple[torch.Tensor, float]:
        """Cluster the videos of all processes.

        Args:
            features: float [n, D] by modality.
            head: the number of the head.
            index: the rows of the videos in `table`, int64 [n].
            table: the previous labels, int32 [N, H], whose numbering is kept.
            device: the device to compute on.

        Returns:
            The labels, int32 [n], and the mean squared distance to the centres.
        """
        sizes = gather_sizes(len(index), index.device)
        if together(sum(sizes), device):
            return self.cluster_together(features, head, table[index, head].long(), device)
        x = torch.cat([gather(torch.from_numpy(unit(f.float().cpu().numpy())), sizes) for f in features.values()], 1)
        before = gather(table[index, head].long(), sizes)
        labels, cost = torch.empty(len(x), dtype=torch.int32), torch.zeros(1, dtype=torch.float64)
        if rank() == 0:
            labels, cost[0] = self.kmeans(x.numpy(), before, head)
        start = sum(sizes[: rank()])
        return broadcast_from_rank0(labels)[start : start + len(index)], float(broadcast_from_rank0(cost))

    def kmeans(self, x: np.ndarray, before: torch.Tensor, head: int) -> tuple[torch.Tensor, float]:
        """Cluster all rows x, float [N, D], with previous labels int64 [N]. Returns what `cluster` returns."""
        x = x - x.mean(0, dtype=np.float64).astype(
            np.float32
        )  # otherwise rounding in 2 x·c − |c|² hides small differences
        clusters = min(self.config.clusters, len(x))
        fitted = KMeans(clusters, n_init=1, random_state=self.seed_of(head)).fit(x)
        labels = torch.from_numpy(fitted.labels_).long()
        if bool((before != UNLABELLED).all()):
            one_hot = torch.eye(self.config.clusters)
            labels = align(one_hot[before], one_hot[labels]).argsort()[labels]
        return labels.int(), float(fitted.inertia_ / len(x))

    def cluster_together(
        self, features: ByModality, head: int, before: torch.Tensor, device: torch.device
    ) -> tuple[torch.Tensor, float]:
        """`cluster`, for previous labels int64 [n]. Each process keeps its own videos."""
        clusters = self.config.clusters
        x = torch.cat([_unit(f.to(device)) for f in features.values()], 1)
        sums = sum_over_processes(x.sum(0, dtype=torch.float64))
        videos = int(sum_over_processes(torch.tensor([len(x)])))
        x -= (sums / videos).float()  # otherwise rounding in 2 x·c − |c|² hides small differences
        found = lloyd(x, min(clusters, videos), self.seed_of(head))
        labels = found.labels.cpu()
        if not int(sum_over_processes((before == UNLABELLED).sum())):
            agreement = sum_over_processes(torch.bincount(before * clusters + labels, minlength=clusters**2))
            labels = best_permutation(agreement.view(clusters, clusters).double()).argsort()[labels]
        return labels.int(), found.inertia / videos

    def seed_of(self, head: int) -> int:
        return (self.seed * 1000 + self.done * 100 + head) % 2**32  # scikit-learn accepts 32 bits


def together(videos: int, device: torch.device) -> bool:
    """Whether all processes compute k-means of so many videos together, and not scikit-learn in the first one."""
    return videos > TOGETHER_ABOVE or device.type == "cuda"


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of unit length, float32; rows of zeros stay zero. The first division keeps squares from overflowing."""
    x = x.float()
    return F.normalize(x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny), dim=1)


class CrossModalLabeller(KMeansLabeller):
    """XDC: each modality's heads predict the k-means clusters of the other modality's features."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.labels_audio = self.labels.clone()

    def numbering(self) -> torch.Tensor:
        tables = self.table("video"), self.table("audio")
        return common_numbering(*tables, self.config.clusters, self.all_reduce)

    def table_name(self, modality: str) -> str:
        return "labels_audio" if modality == "video" else "labels"

    def table(self, modality: str) -> torch.Tensor:
        return self.labels_audio if modality == "video" else self.labels

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        index = outputs.index - self.rows.start
        results = [self.cluster({name: x}, head, index, table, outputs.device) for (name, x), table in zip(
            outputs.features.items(), (self.labels, self.labels_audio), strict=True)]  # fmt: skip
        self.labels[index, head], self.labels_audio[index, head] = (labels for labels, _ in results)
        cost = sum(cost for _, cost in results) / 2
        return Transport(self.labels[index, head].long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def row_state(self) -> ByModality:
        return super().row_state() | {"labels_audio": self.labels_audio}

    def load_row_state(self, tables: ByModality) -> None:
        super().load_row_state(tables)
        self.labels_audio.copy_(tables["labels_audio"])
