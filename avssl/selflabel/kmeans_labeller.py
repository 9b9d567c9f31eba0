"""Labelling by k-means instead of transport: DeepCluster (Caron et al. 2018), and XDC (Alwassel et al. 2020)."""

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from ..core.collectives import broadcast_from_rank0, gather, gather_sizes, rank
from ..metrics.neighbours import unit
from .alignment import align, common_numbering
from .labeller import UNLABELLED, Labeller, PassFeatures
from .memory import ByModality
from .sinkhorn import Transport

MINIBATCH_ABOVE = 20_000
"""Videos above which k-means takes mini-batches."""


class KMeansLabeller(Labeller):
    """k-means on features of unit length, side by side where there are two modalities; a seed for each head.

    New clusters take the numbers of the old ones that they agree with best (a linear assignment), so that a head's
    outputs keep their meaning: DeepCluster starts its classifier anew instead. The transport's marginal has no part.
    """

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        index = outputs.index - self.rows.start
        labels, cost = self.cluster(outputs.features, head, index, self.labels)
        self.labels[index, head] = labels
        return Transport(labels.long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def cluster(
        self, features: ByModality, head: int, index: torch.Tensor, table: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """int32 [n], numbered as the rows `index` of `table` [N, H], and the mean squared distance to the centres.

        The features of all processes come together, and the first clusters them.
        """
        sizes = gather_sizes(len(index), index.device)
        x = torch.cat([gather(torch.from_numpy(unit(f.float().cpu().numpy())), sizes) for f in features.values()], 1)
        before = gather(table[index, head].long(), sizes)
        labels, cost = torch.empty(len(x), dtype=torch.int32), torch.zeros(1, dtype=torch.float64)
        if rank() == 0:
            labels, cost[0] = self.kmeans(x.numpy(), before, head)
        start = sum(sizes[: rank()])
        return broadcast_from_rank0(labels)[start : start + len(index)], float(broadcast_from_rank0(cost))

    def kmeans(self, x: np.ndarray, before: torch.Tensor, head: int) -> tuple[torch.Tensor, float]:
        """The same, of all rows: x [N, D] and their labels `before`, int64 [N]."""
        x = x - x.mean(0, dtype=np.float64).astype(np.float32)  # 2 x·c − |c|² loses nearly alike rows' difference
        kind = KMeans if len(x) <= MINIBATCH_ABOVE else MiniBatchKMeans
        clusters = min(self.config.clusters, len(x))
        seed = (self.seed * 1000 + self.done * 100 + head) % 2**32  # scikit-learn takes 32 bits
        found = kind(clusters, n_init=1, random_state=seed).fit(x)
        labels = torch.from_numpy(found.labels_).long()
        if bool((before != UNLABELLED).all()):
            one_hot = torch.eye(self.config.clusters)
            labels = align(one_hot[before], one_hot[labels]).argsort()[labels]
        return labels.int(), float(found.inertia_ / len(x))


class CrossModalLabeller(KMeansLabeller):
    """XDC: each modality's heads are to predict the k-means clusters of the other's features."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.labels_audio = self.labels.clone()

    def numbering(self) -> torch.Tensor:
        tables = self.table("video"), self.table("audio")
        return common_numbering(*tables, self.config.clusters, self.all_reduce)

    def table(self, modality: str) -> torch.Tensor:
        return self.labels_audio if modality == "video" else self.labels

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        index = outputs.index - self.rows.start
        parts = {name: self.cluster({name: x}, head, index, table) for (name, x), table in zip(
            outputs.features.items(), (self.labels, self.labels_audio), strict=True)}  # fmt: skip
        self.labels[index, head], self.labels_audio[index, head] = (p[0] for p in parts.values())
        cost = sum(p[1] for p in parts.values()) / 2
        return Transport(self.labels[index, head].long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def row_state(self) -> ByModality:
        return super().row_state() | {"labels_audio": self.labels_audio}

    def load_row_state(self, tables: ByModality) -> None:
        super().load_row_state(tables)
        self.labels_audio.copy_(tables["labels_audio"])
