"""Labels from k-means instead of transport: DeepCluster (Caron et al. 2018) and XDC (Alwassel et al. 2020)."""

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
"""Number of videos above which k-means uses mini-batches."""


class KMeansLabeller(Labeller):
    """Labels from k-means on features of unit length, concatenated for two modalities. Each head has its own seed.

    New clusters get the numbers of the old clusters that they agree with best (a linear assignment), so that a head's
    outputs keep their meaning; DeepCluster resets its classifier instead. The marginal of the transport is not used.
    """

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        index = outputs.index - self.rows.start
        labels, cost = self.cluster(outputs.features, head, index, self.labels)
        self.labels[index, head] = labels
        return Transport(labels.long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def cluster(
        self, features: ByModality, head: int, index: torch.Tensor, table: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """Cluster videos. The first process clusters the features of all processes.

        Args:
            features: float [n, D] by modality.
            head: the number of the head.
            index: the rows of the videos in `table`, int64 [n].
            table: the previous labels, int32 [N, H], whose numbering is kept.

        Returns:
            The labels, int32 [n], and the mean squared distance to the centres.
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
        """Cluster all rows x, float [N, D], with previous labels int64 [N]. Returns what `cluster` returns."""
        x = x - x.mean(0, dtype=np.float64).astype(
            np.float32
        )  # otherwise rounding in 2 x·c − |c|² hides small differences
        kind = KMeans if len(x) <= MINIBATCH_ABOVE else MiniBatchKMeans
        clusters = min(self.config.clusters, len(x))
        seed = (self.seed * 1000 + self.done * 100 + head) % 2**32  # scikit-learn accepts 32 bits
        fitted = kind(clusters, n_init=1, random_state=seed).fit(x)
        labels = torch.from_numpy(fitted.labels_).long()
        if bool((before != UNLABELLED).all()):
            one_hot = torch.eye(self.config.clusters)
            labels = align(one_hot[before], one_hot[labels]).argsort()[labels]
        return labels.int(), float(fitted.inertia_ / len(x))


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
        results = [self.cluster({name: x}, head, index, table) for (name, x), table in zip(
            outputs.features.items(), (self.labels, self.labels_audio), strict=True)]  # fmt: skip
        self.labels[index, head], self.labels_audio[index, head] = (labels for labels, _ in results)
        cost = sum(cost for _, cost in results) / 2
        return Transport(self.labels[index, head].long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def row_state(self) -> ByModality:
        return super().row_state() | {"labels_audio": self.labels_audio}

    def load_row_state(self, tables: ByModality) -> None:
        super().load_row_state(tables)
        self.labels_audio.copy_(tables["labels_audio"])
