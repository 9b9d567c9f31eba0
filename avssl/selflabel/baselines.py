"""Labelling by k-means instead of transport: DeepCluster (Caron et al. 2018), and XDC (Alwassel et al. 2020)."""

import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from .alignment import align
from .labeller import UNLABELLED, Labeller, Outputs
from .sinkhorn import Transport

MANY = 20_000
"""Videos above which k-means takes mini-batches."""


class KMeansLabeller(Labeller):
    """k-means on features of unit length, side by side where there are two modalities; a seed for each head.

    New clusters take the numbers of the old ones that they agree with best (a linear assignment), so that a head's
    outputs keep their meaning: DeepCluster starts its classifier anew instead. The transport's marginal has no part.
    """

    def solve_head(self, head: int, outputs: Outputs) -> Transport:
        index = outputs.index - self.rows.start
        labels, cost = self.cluster(outputs.features, head, index, self.labels)
        self.labels[index, head] = labels
        return Transport(labels.long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def cluster(
        self, features: dict[str, torch.Tensor], head: int, index: torch.Tensor, table: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """int32 [n], numbered as the rows `index` of `table` [N, H], and the mean squared distance to the centres."""
        x = torch.cat([torch.nn.functional.normalize(f.float().cpu(), dim=1) for f in features.values()], 1).numpy()
        kind = KMeans if len(x) <= MANY else MiniBatchKMeans
        clusters = min(self.config.clusters, len(x))
        seed = (self.seed * 1000 + self.done * 100 + head) % 2**32  # scikit-learn takes 32 bits
        found = kind(clusters, n_init=1, random_state=seed).fit(x)
        labels, before = torch.from_numpy(found.labels_).long(), table[index, head].long()
        if bool((before != UNLABELLED).all()):
            one_hot = torch.eye(self.config.clusters)
            labels = align(one_hot[before], one_hot[labels]).argsort()[labels]
        return labels.int(), float(found.inertia_ / len(x))


class CrossModalLabeller(KMeansLabeller):
    """XDC: each modality's heads are to predict the k-means clusters of the other's features."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.labels_audio = self.labels.clone()

    def targets(self, index: torch.Tensor, modality: str) -> torch.Tensor:
        return (self.labels_audio if modality == "video" else self.labels)[index - self.rows.start].T.long()

    def solve_head(self, head: int, outputs: Outputs) -> Transport:
        index = outputs.index - self.rows.start
        parts = {name: self.cluster({name: x}, head, index, table) for (name, x), table in zip(
            outputs.features.items(), (self.labels, self.labels_audio), strict=True)}  # fmt: skip
        self.labels[index, head], self.labels_audio[index, head] = (p[0] for p in parts.values())
        cost = sum(p[1] for p in parts.values()) / 2
        return Transport(self.labels[index, head].long(), torch.zeros(self.config.clusters), cost, 1, 0.0)

    def state_dict(self) -> dict:
        return super().state_dict() | {"labels_audio": self.labels_audio}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.labels_audio.copy_(state["labels_audio"])
